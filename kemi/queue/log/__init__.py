# SPDX-License-Identifier: GPL-2.0-or-later
"""Order, limits, unique keys and what is in flight, on a plain buffer."""
