"""Eventcount and life locks of format 5, the next one, which `kemi.queue.queue` does not use yet."""
