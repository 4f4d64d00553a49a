"""Order, limits, unique keys and what is in flight, on a plain buffer."""
