# SPDX-License-Identifier: GPL-2.0-or-later
"""At least once: reserved items, what holds them, and how they are settled."""
