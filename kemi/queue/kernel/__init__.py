"""The optional kernel in C, and which one is used."""
