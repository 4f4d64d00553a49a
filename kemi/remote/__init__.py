# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue of an engine as the processes have it that take from it: what `attach("q", "redis://...")` gives."""
