"""A queue's lock held for the time of a block, and an item held for good."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from kemi.queue.lock.mutex import Mutex, unlock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kemi.queue.delivery.reservation import Reservation
    from kemi.queue.delivery.reserved import ReservedItem
    from kemi.queue.queue import Queue

_kept: list[Reservation[ReservedItem | None]] = []


@contextmanager
def locked(mutex: Mutex) -> Iterator[None]:
    """Hold a lock. (What the package itself does is `section.hold`, which frees it whatever a signal handler does.)"""
    mutex.take()
    mutex.held_by[0] = lambda: mutex
    try:
        yield
    finally:
        mutex.held_by[0] = lambda: None
        unlock(mutex.ref)


def reserve_for_good(queue: Queue) -> ReservedItem | None:
    """Reserve an item for as long as this process lives."""
    _kept.append(queue.reserve())
    return _kept[-1].__enter__()
