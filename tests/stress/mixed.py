"""A mixed load that may go on for ever: what outsiders do in a soak.

python -m tests.stress.mixed WHAT INSTANCE STOP QUEUE... does it until the first byte of the file STOP is not 0, and
prints how many items it added or took. A process of its own: one that was forked shares its parent's memory, and seems
to have more of its own whenever that one writes there.
"""

from __future__ import annotations

import itertools
import mmap
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import HANG
from tests.stress.books import DEEP, length_of
from tests.support.clients import attach

if TYPE_CHECKING:
    from collections.abc import Sequence

_TURN = 200  # calls until a queue is let go and attached again
_KEYS = 500  # so that a queue with unique keys replaces some
_BURST = 5_000  # items, now and then
_EVERY = 40  # turns


def produce(instance: str, queues: Sequence[str], stop: mmap.mmap) -> int:
    """Add small and large items, in bursts now and then; returns how many."""
    numbers = itertools.count()
    added = 0
    for turn in itertools.count(1):
        for name in queues:
            with attach(name, instance, lock_timeout=HANG) as queue:
                burst = not turn % _EVERY
                for number in itertools.islice(numbers, _BURST if burst else _TURN):
                    if stop[0]:
                        return added
                    if not burst and len(queue) > DEEP:
                        time.sleep(0.002)
                        continue
                    added += queue.add(f"{os.getpid()}:{number % _KEYS}", "x" * length_of(number)) == 1
                time.sleep(0.01)
    raise AssertionError


def consume(instance: str, queues: Sequence[str], stop: mmap.mmap) -> int:
    """Take items, look at some, ask for counters; returns how many were taken."""
    taken = 0
    while True:
        for name in queues:
            with attach(name, instance, lock_timeout=HANG) as queue:
                for _ in range(_TURN):
                    item = queue.fetch(0.005)
                    taken += item is not None
                    if item is None and stop[0]:
                        break
                queue.peek(3)
                queue.stats()
        if stop[0]:
            return taken


def main(what: str, instance: str, stop: str, *queues: str) -> None:
    """Do it."""
    with Path(stop).open("r+b") as file, mmap.mmap(file.fileno(), 1) as byte:
        sys.stdout.write("begins\n")
        sys.stdout.flush()
        count = produce(instance, queues, byte) if what == "produce" else consume(instance, queues, byte)
        sys.stdout.write(f"{count}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
