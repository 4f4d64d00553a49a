# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of mqueue_kemi. What a script may use is in `mqueue_kemi` itself."""

PART_OF = "mqueue_kemi"  # by which it knows this package from another module of the name
