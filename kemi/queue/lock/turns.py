# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose turn it is among the threads of one process that use one segment.

A thread that calls all the time holds the lock for most of it. Python switches threads within calls, so whenever
another thread gets on, the lock is held: by a thread that cannot run meanwhile. The other one might find it so for a
second, over and over.

So who waits asks for its turn: the next calls of this process do not find the mutex (`Mutex.ref`), come to the slow
path, and let it go first. A hot path pays nothing for that. A wish ends by itself: the thread that wished may have
been interrupted, or wait for another process.
"""

from __future__ import annotations

import time
import weakref
from _thread import get_ident
from functools import partial
from itertools import count
from typing import Protocol

_WISH = 0.01  # seconds; who waits renews it every millisecond
_BREAK = 0.00005  # seconds without the GIL
_numbers = count()


class Passage(Protocol):
    """A mutex as one handle uses it."""

    def bar(self) -> None:
        """Send the next call to the slow path."""

    def unbar(self) -> None:
        """Let calls take the mutex again."""


class Turns:
    """Of one segment in this process."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._passages: dict[int, weakref.ref[Passage]] = {}
        self._waiter = 0
        self._until = 0.0

    def join(self, passage: Passage) -> None:
        """Have what calls of one more handle go through."""
        number = next(_numbers)
        # It goes by its death, in C: Python would drop what a signal handler raised in a callback of Python code.
        self._passages[number] = weakref.ref(passage, partial(self._passages.pop, number))

    def _present(self) -> list[Passage]:
        return [passage for each in list(self._passages.values()) if (passage := each()) is not None]

    def ask(self) -> None:
        """Let the calling thread have the lock before others of this process begin to take it."""
        self._waiter, self._until = get_ident(), time.monotonic() + _WISH
        for passage in self._present():
            passage.bar()

    def had(self) -> None:
        """Let others go on: the calling thread has the lock."""
        if self._waiter == get_ident():
            self._waiter = 0
            for passage in self._present():
                passage.unbar()

    def give_way(self) -> None:
        """Let another thread that asked have its turn, for a moment at most."""
        end = time.monotonic() + _WISH
        while self._waiter not in (0, get_ident()) and time.monotonic() < min(self._until, end):
            time.sleep(_BREAK)


_turns: dict[str, Turns] = {}


def of(segment: str) -> Turns:
    """Return the turns at a segment's lock, the same ones for all handles of this process."""
    return _turns.setdefault(segment, Turns())
