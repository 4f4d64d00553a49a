"""Named shared memory: files that are trusted, mapped, grown within limits, and given back."""
