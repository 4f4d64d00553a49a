"""Workers: consumers that are only their function. Nothing here is loaded by a routing script."""
