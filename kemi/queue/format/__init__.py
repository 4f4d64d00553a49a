"""What lies where in a segment of format 5, the next one: offsets and structs. `queue.py` does not use it yet."""
