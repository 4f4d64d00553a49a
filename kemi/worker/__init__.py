# SPDX-License-Identifier: GPL-2.0-or-later
"""Workers: consumers that are only their function. Nothing here is loaded by a routing script."""
