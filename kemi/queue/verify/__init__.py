"""The judge of a segment, which says what contradicts what: it reads, and changes nothing."""
