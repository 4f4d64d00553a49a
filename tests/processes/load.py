"""Producers and consumers, the same in a thread, a forked process and an unrelated one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kemi.queue.log.core import ADDED
from tests.processes.ledger import number_of, value_of

if TYPE_CHECKING:
    from kemi.queue.client.api import QueueClient
    from kemi.queue.queue import Queue
    from tests.processes.ledger import Mark

END = "end"
PATIENCE = 240.0  # seconds that all of it may take on a busy machine


def length_of(number: int) -> int:
    """Return the length of a producer's item: mostly small, some that cross a chunk, few larger than one."""
    if number % 1009 == 1008:
        return 600_000
    return 30_000 if number % 97 == 96 else 100


def produce(queue: Queue | QueueClient, producer: str, count: int) -> int:
    """Add the items of one producer; returns how many were taken in."""
    return sum(queue.add(producer, value_of(number, length_of(number))) == ADDED for number in range(count))


def consume(queue: Queue | QueueClient, timeout: float) -> list[Mark]:
    """Take items until an end mark comes. timeout: of each fetch, 0 for one that never waits."""
    taken: list[Mark] = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        item = queue.fetch(timeout)
        if item is None:
            time.sleep(0)
            continue
        if item.key == END:
            return taken
        taken.append((item.key, number_of(item.value)))
    msg = f"no end mark came; {len(taken)} items did"
    raise TimeoutError(msg)
