"""The lock between processes, for the tests of it and of what becomes of it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kemi.errors import SegmentError
from kemi.queue.lock.mutex import Mutex
from tests.conftest import HANG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kemi.queue.shm.segment import Segment


TIMEOUT = 0.2
PROGRESS, REPAIRS, ALLOWED = 60, 61, 62  # free words of the header, for the tests


class Repair:
    """A repair that is counted in the segment, and that fails as long as it is not allowed."""

    def __init__(self, segment: Segment) -> None:
        self.words = segment.words
        self.error: BaseException = SegmentError("cannot be repaired")
        self.words[ALLOWED] = 1

    def __call__(self) -> None:
        """Repair."""
        if not self.words[ALLOWED]:
            raise self.error
        self.words[REPAIRS] += 1


def locked_by(segment: Segment, repair: Repair) -> Mutex:
    """Return the lock as another process has it."""
    return Mutex(segment, TIMEOUT, repair, lambda: int(segment.words[PROGRESS]))


@contextmanager
def takes(least: float = 0.0) -> Iterator[None]:
    """Check that a block takes so many seconds at least, and does not hang."""
    start = time.monotonic()
    yield
    assert least <= time.monotonic() - start < HANG / 2
