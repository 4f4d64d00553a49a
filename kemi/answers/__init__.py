# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions that a routing script asks a worker outside, and how their transactions go on: `ask`, and the answers."""
