"""A database that holds the items of queues while no server runs. Knows rows and bytes; no queue, no Kamailio."""
