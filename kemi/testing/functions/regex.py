# SPDX-License-Identifier: GPL-2.0-or-later
"""Regular expressions, where the functions of this room have them."""

from kemi.testing.regex import search, substitute

__all__ = ["search", "substitute"]
