"""Sleeping and waking; whether a process lives."""
