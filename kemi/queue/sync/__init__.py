# SPDX-License-Identifier: GPL-2.0-or-later
"""Sleeping and waking; whether a process lives."""
