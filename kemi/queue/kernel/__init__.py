# SPDX-License-Identifier: GPL-2.0-or-later
"""The optional kernel in C, and which one is used."""
