"""A queue's lock, held for the time of a block."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from kemi.queue.mutex import Mutex, unlock

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def locked(mutex: Mutex) -> Iterator[None]:
    """Hold a lock. (What the package itself does is `section.hold`, which frees it whatever a signal handler does.)"""
    mutex.take()
    try:
        yield
    finally:
        unlock(mutex.ref)
