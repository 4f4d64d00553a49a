"""Parts of format 5, the next one, which `queue.py` does not use yet: journal, chunks, records, entries, index."""
