# SPDX-License-Identifier: GPL-2.0-or-later
"""Named shared memory: files that are trusted, mapped, grown within limits, and given back."""
