"""What the tests of one queue look at."""

from __future__ import annotations

import pytest

from kemi.queue.queue import Queue
from tests.conftest import SHM

WINDOW = 16 << 20


ADDMODES = pytest.mark.parametrize("addmode", [0, 1, 2])


HUNDRED_K = "x" * 100_000


def contents(queue: Queue) -> list[tuple[str, str]]:
    """Return key and value of all items."""
    return [(item.key, item.value) for item in queue.peek(10_000)]


def sound(queue: Queue) -> None:
    """Check that the counters are those of the contents."""
    stats, items = queue.stats(), queue.peek(10_000)
    assert len(queue) == stats.size == len(items) == stats.added - stats.fetched - stats.dropped - stats.replaced
    assert stats.memory == SHM.joinpath(queue.segment.name).stat().st_blocks * 512
    assert queue.handle.work(queue.handle.verify) == []
