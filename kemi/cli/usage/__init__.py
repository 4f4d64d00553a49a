# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be said on the command line, and what its exit codes say."""
