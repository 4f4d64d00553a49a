# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process outside of the server holds: the Protocol, and the queue of an instance on this host."""
