"""Queues in shared memory. Nothing here knows Kamailio."""
