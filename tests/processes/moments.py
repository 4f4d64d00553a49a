"""Every store of a queue as a moment at which something may strike: a kill, a stop, an exception.

In the process that calls `watch`, everything through which a queue writes is wrapped: the bytes, words and half words
of its segment, its entry in the instance's quota, and what it asks of the system. Bytes longer
than one word are one moment more: one half of them may be there and the other not. The end of the lock is a moment too,
so that also what comes after the last store is struck.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Callable

from kemi.queue.kernel import choice
from tests.processes.serve import registry_of
from tests.support.rewire import rewire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kemi.queue.queue import Queue

_WORD = 8


class Moments:
    """Counts moments. At number `at` it calls `strike`, once; 0 is never."""

    def __init__(self, at: int = 0, strike: Callable[[], object] = lambda: None) -> None:
        self.count = 0
        self.struck_at_end = False  # of the lock, by an exception
        self._at = at
        self._strike = strike

    def pass_one(self) -> None:
        self.count += 1
        if self.count == self._at:
            self._strike()

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Make a function that passes a moment before it does its work."""

        def struck(*arguments: object) -> object:
            self.pass_one()
            return function(*arguments)

        return struck

    def at_end(self, unlock: Callable[..., Any]) -> Callable[..., Any]:
        """Make an unlock that passes a moment before it; it is one call of C, so an exception comes only after it."""

        def struck(*arguments: object) -> object:
            try:
                self.pass_one()
            except BaseException:
                self.struck_at_end = True
                raise
            finally:
                result = unlock(*arguments)
            return result

        return struck


class Watched:
    """A buffer whose stores are moments. It is read as it is."""

    def __init__(self, inner: Any, moments: Moments) -> None:
        self._inner = inner
        self._moments = moments

    def __len__(self) -> int:
        return len(self._inner)

    def __getitem__(self, where: Any) -> Any:
        return self._inner[where]

    def __setitem__(self, where: Any, data: Any) -> None:
        self._moments.pass_one()
        if isinstance(where, slice) and len(data) > _WORD:
            half = len(data) // 2
            self._inner[where.start : where.start + half] = data[:half]
            self._moments.pass_one()
        self._inner[where] = data

    def __iter__(self) -> Iterator[Any]:
        return iter(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def watch(queue: Queue, moments: Moments) -> None:
    """Let everything that this queue writes in this process pass `moments`. For the rest of the process's life.

    Also what the native kernel writes, if it is built to be struck.
    """
    if hasattr(choice.lib, "set_hook"):
        choice.lib.set_hook(moments.pass_one)
    rewire(queue, lambda view: Watched(view, moments))
    registry = registry_of(queue)
    registry._table = Watched(registry._table, moments)
    segment: Any = queue.segment
    for name in ("reserve", "release"):
        setattr(segment, name, moments.around(getattr(segment, name)))
    module: Any = sys.modules["kemi.queue.hot"]
    module.unlock = moments.at_end(module.unlock)
    mutex: Any = queue._mutex
    mutex.free = moments.at_end(mutex.free)


def die() -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    """Stop this process until SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)
