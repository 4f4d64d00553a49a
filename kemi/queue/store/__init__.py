# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies in the bytes, and how it survives a kill: journal, chunks, records, entries, index."""
