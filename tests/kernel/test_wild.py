"""Wild stores into a segment that the kernel works on: errors, or no harm, never a fault or a hang."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import MqueueError
from kemi.queue.format import layout
from kemi.queue.kernel import choice
from kemi.queue.queue import Queue
from tests.conftest import CHECKOUT
from tests.unit.test_wild_stores import HEADER, wild

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 120


def words(queue: Any, chance: random.Random) -> int:
    """A word that is in use: of the header, an in-flight entry, the head of a chunk, a record, or the key index."""
    chunks = queue._log.core.chunks
    used = [chunks.offset(number) for number, state in enumerate(chunks.states()) if state == layout.USED]
    kind = chance.random()
    if kind < 0.4 or not used:
        header: int = chance.choice([word for word in HEADER if word != layout.W_MUTEX])
        return header
    if kind < 0.6:
        entries = queue._log.core.in_flight.row(0)
        return int(entries + chance.randrange(24) * layout.ENTRY_WORDS + chance.randrange(layout.ENTRY_WORDS))
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
            what, key, value = chance.random(), f"k{chance.randrange(30)}", "v" * chance.choice([0, 10, 300, 20000])
            if what < 0.5:
                queue.add(key, value)
            elif what < 0.8:
                queue.pop()
            elif what < 0.85:
                queue.add_many([(key, value[:300])] * 5)
            elif what < 0.9:
                queue.fetch_many(3)
            else:
                reserve(queue, done=what < 0.98)


def reserve(queue: Any, *, done: bool) -> None:
    """Reserve some items, and settle them."""
    with queue.reserve_many(5) as batch:
        if not done:
            batch.give_back(batch)


def places(queue: Any) -> Iterator[int]:
    """What a wild store may leave where a record is told of: places that are none, or have no room for one."""
    last = queue._log.core.chunks.offset(queue._u64[layout.W_CHUNKS] - 1) + layout.CHUNK
    yield from (0, 8, 1 << 30, 1 << 40, (1 << 64) - 8, last, last - 8, last - 16, last - layout.CHUNK + 4)
    yield queue.segment.window - 8


def settle_strays(instance: str, addmode: int) -> None:
    """Be done with items whose entries lead astray."""
    queue: Any = Queue.create(instance, "q", window=4 << 20, addmode=addmode)
    strays = list(places(queue))
    for number, stray in enumerate(strays):
        for _ in range(3):
            queue.add(f"k{number}", "v")
        item = queue.reserve().take()
        entry = (queue._u64[layout.W_ENTRIES_AT] >> 3) + item._hold.token.number * layout.ENTRY_WORDS
        right, queue._u64[entry] = queue._u64[entry], stray
        with contextlib.suppress(MqueueError):
            item.done()
        queue._u64[entry] = right
    queue.segment.unlink()


def hold_strays(instance: str, addmode: int) -> None:
    """Reserve where the log begins nowhere."""
    queue: Any = Queue.create(instance, "q", window=4 << 20, addmode=addmode)
    for key in "abc":
        queue.add(key, "v")
    word = layout.W_HEAD + (queue._u64[layout.W_POPPED] & 1)
    right = queue._u64[word]
    for stray in places(queue):
        queue._u64[word] = stray
        with contextlib.suppress(MqueueError):
            queue.reserve().take()
        queue._u64[word] = right
    queue.segment.unlink()


def main(instance: str, first: int) -> None:
    signal.alarm(240)
    for seed in range(first, first + ROUNDS):
        strike(f"{instance}-{seed}", seed)
    done, left = choice.lib.calls()
    assert done > left > 0


LONG = [pytest.param(part, marks=pytest.mark.stress) for part in range(2, 60)]


@pytest.mark.parametrize("part", [0, 1, *LONG])
def test_no_fault_and_no_hang(instance: str, part: int) -> None:
    run(f"main({instance!r}, {part * ROUNDS})")


@pytest.mark.parametrize("addmode", [0, 1, 2])
@pytest.mark.parametrize("strays", ["settle_strays", "hold_strays"])
def test_what_leads_astray_is_looked_at_before_it_is_followed(instance: str, strays: str, addmode: int) -> None:
    run(f"{strays}({instance!r}, {addmode})")


def run(call: str) -> None:
    """Call a function of this module in a process of its own, which would die of a fault."""
    code = f"import tests.kernel.test_wild as here; here.{call}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, check=False, capture_output=True, text=True, timeout=280
    )
    assert (done.returncode, done.stderr) == (0, "")
