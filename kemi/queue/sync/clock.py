# SPDX-License-Identifier: GPL-2.0-or-later
"""The clock of due times, and how long the lock is held.

The clock only goes forward, and says the same in every process of the host, in any namespace. While the machine sleeps
it stands still.
"""

from __future__ import annotations

from time import monotonic_ns

from kemi import timens

MOST_LOCKED = 90_000  # ns that several things are done for with one lock, if none of them takes longer


def now() -> int:
    """Monotonic ns of the host."""
    return monotonic_ns() - timens.shift("monotonic")


class LockTime:
    """Ends a hold of the lock in which several things are done, so that nobody's add waits for all of them."""

    __slots__ = ("_began", "_last", "_longest")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Say that the lock was taken just now."""
        self._began = self._last = monotonic_ns()
        self._longest = 0

    def is_left(self) -> bool:
        """Return True if, after one more thing, there is time for one that takes as long as the longest so far."""
        now = monotonic_ns()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        return now - self._began + self._longest <= MOST_LOCKED
