"""At least once: reserved items, what holds them, and how they are settled."""
