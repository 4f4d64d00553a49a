# SPDX-License-Identifier: GPL-2.0-or-later
"""The one lock of a segment, and a piece of work with it held, wherever a signal handler raises."""
