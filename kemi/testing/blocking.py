"""Notices a route that makes its SIP worker wait: a sleep, a socket, a thread of its own."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Iterator

LONGEST = 0.05  # seconds
_SCHEDULED = "/proc/thread-self/schedstat"  # ns on a processor, ns in the queue for one, turns
_ADVICE = "its worker serves no other call meanwhile; put the work into a queue and let another process do it"


class BlockingRoute(UserWarning):
    """A route has waited, or has started a thread."""


@contextlib.contextmanager
def watched(name: str) -> Iterator[None]:
    """Warn if what runs meanwhile waits for more than 50 ms, or starts a thread.

    Waiting is what is left of the time when that on a processor and that in the queue for one are taken away: a busy
    machine makes no route slow.
    """
    before = _times()
    with _threads() as started:
        yield
    if started:
        warnings.warn(
            f"{name} has started a thread ({', '.join(started)}): in a server with threads_mode=0 it does not run once "
            "the route has returned; put the work into a queue and let another process do it",
            BlockingRoute,
            stacklevel=4,
        )
    waited = _waited(before)
    if waited > LONGEST:
        warnings.warn(f"{name} has waited for {waited:.2f} s: {_ADVICE}", BlockingRoute, stacklevel=4)


def _times() -> tuple[int, int, int] | None:
    """Now, time on a processor, time in the queue; ns. None where the kernel does not say."""
    now = time.monotonic_ns()
    try:
        with open(_SCHEDULED, "rb") as file:
            on, queued, _ = map(int, file.read().split())
    except (OSError, ValueError):
        return None
    return (now, on, queued)


def _waited(before: tuple[int, int, int] | None) -> float:
    after = _times()
    if before is None or after is None:
        return 0.0
    total, on, queued = (new - old for new, old in zip(after, before))
    return max(0, total - on - queued) / 1e9


@contextlib.contextmanager
def _threads() -> Iterator[list[str]]:
    """Names of the threads that are started by this one meanwhile."""
    started: list[str] = []
    mine = threading.get_ident()
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if threading.get_ident() == mine:
            started.append(self.name)
        original(self)

    threading.Thread.start = start  # type: ignore[method-assign]
    try:
        yield started
    finally:
        threading.Thread.start = original  # type: ignore[method-assign]
