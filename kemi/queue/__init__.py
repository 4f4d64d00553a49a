# SPDX-License-Identifier: GPL-2.0-or-later
"""Queues in shared memory. Nothing here knows Kamailio."""
