# SPDX-License-Identifier: GPL-2.0-or-later
"""The judge of a segment, which says what contradicts what: it reads, and changes nothing."""
