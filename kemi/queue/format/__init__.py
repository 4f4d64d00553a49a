# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies where in a segment, and an item's bytes: the lowest room, which imports none of the others."""
