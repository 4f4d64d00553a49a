"""Wild stores into a segment that the kernel works on: errors, or no harm, never a fault or a hang."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
from typing import Any

import pytest

from kemi.errors import MqueueError
from kemi.queue.format import layout
from kemi.queue.kernel import choice
from kemi.queue.queue import Queue
from tests.conftest import CHECKOUT
from tests.unit.test_wild_stores import HEADER, wild

ROUNDS = 120


def words(queue: Any, chance: random.Random) -> int:
    """A word that is in use: of the header, of the head of a chunk, of a record, or of the key index."""
    chunks = queue._log.core.chunks
    used = [chunks.offset(number) for number, state in enumerate(chunks.states()) if state == layout.USED]
    if chance.random() < 0.5 or not used:
        header: int = chance.choice([word for word in HEADER if word != layout.W_MUTEX])
        return header
    at = chance.choice(used) >> 3
    return int(at + chance.choice([*range(60), chance.randrange(chunks.size >> 3)]))


def strike(instance: str, seed: int) -> None:
    """Use a queue, hit a word, go on."""
    chance = random.Random(seed)  # noqa: S311
    queue: Any = Queue.create(instance, "q", window=4 << 20, addmode=seed % 3, lock_timeout=0.1)
    try:
        for _ in range(4):
            use(queue, chance)
            word = words(queue, chance)
            queue._u64[word] = wild(queue._u64[word], chance)
        for _ in range(6):
            use(queue, chance)
    finally:
        queue.segment.unlink()


def use(queue: Any, chance: random.Random) -> None:
    for _ in range(chance.randrange(60)):
        with contextlib.suppress(MqueueError, ValueError, OverflowError, IndexError, MemoryError):
            if chance.random() < 0.6:
                queue.add(f"k{chance.randrange(30)}", "v" * chance.choice([0, 10, 300, 20000]))
            else:
                queue.pop()


def main(instance: str, first: int) -> None:
    signal.alarm(240)
    for seed in range(first, first + ROUNDS):
        strike(f"{instance}-{seed}", seed)
    done, left = choice.lib.calls()
    assert done > left > 0


LONG = [pytest.param(part, marks=pytest.mark.stress) for part in range(2, 60)]


@pytest.mark.parametrize("part", [0, 1, *LONG])
def test_no_fault_and_no_hang(instance: str, part: int) -> None:
    """In a process of its own, which would die of a fault."""
    code = f"from tests.kernel.test_wild import main; main({instance!r}, {part * ROUNDS})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, check=False, capture_output=True, text=True, timeout=280
    )
    assert (done.returncode, done.stderr) == (0, "")
