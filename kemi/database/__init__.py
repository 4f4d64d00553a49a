# SPDX-License-Identifier: GPL-2.0-or-later
"""A database that holds the items of queues while no server runs. Knows rows and bytes; no queue, no Kamailio."""
