"""The logs of format 5, the next one: plain, keyed, compaction, verify. `kemi.queue.queue` does not use them yet."""
