"""Attach damaged queues and use them: python -m tests.unit.mutate INSTANCE WHERE ADDMODE FIRST END

Prints one line for each mutation before it is tried, and a second one when something came of it that must not: so the
last line tells what a crash came from.
"""

from __future__ import annotations

import faulthandler
import os
import random
import struct
import sys
from contextlib import suppress
from pathlib import Path

from kemi.errors import MqueueError, NoMemory
from kemi.queue.delivery.hold import GIVE_BACK
from kemi.queue.format import layout
from kemi.queue.format.layout import CHUNK, CHUNK_HEAD, CHUNK_MAP_AT, CHUNK_ROOM, PAGE, TOMBSTONE
from kemi.queue.log.core import Delivery
from kemi.queue.queue import Queue
from kemi.queue.shm.naming import path_of, segment_name
from tests.locked import reserve_for_good

MANY = 50  # calls on one queue; more than it has items
PATIENCE = 20  # seconds; a call that takes longer hangs


class Damage:
    """Where bytes may be damaged, and how."""

    def __init__(self, original: bytes, addmode: int) -> None:
        self.original = original
        self.words = memoryview(original).cast("Q")
        self.keyed = addmode != 0
        self.records = [at for at in range(CHUNK, len(original), 8) if original[at + 24 : at + 27] == b"key"]

    def places(self, where: str) -> list[int]:
        """Return the offsets of the numbers in one region that are worth a damage, 4 or 8 bytes each."""
        heads = range(CHUNK, len(self.original), CHUNK)
        entries, heap, directory = self.words[layout.W_ENTRIES_AT], self.words[layout.W_HEAP_AT], self.words[16]
        return {
            "header": [*range(0, layout.W_COMMIT * 8, 8)],
            "journal": [layout.W_FLAGS * 8, *[layout.W_COMMIT * 8] * 4, *range(layout.JOURNAL_AT, 1216 + 64, 8)],
            "in flight": [
                *range(layout.W_IN_FLIGHT * 8, layout.W_HELD_BYTES * 8 + 8, 8),
                *range(entries, entries + 5 * layout.ENTRY_BYTES, 8),
                *range(heap, heap + 16, 8),
            ],
            "cursors": [at * 8 for at in (layout.W_HEAD, layout.W_HEAD_ODD, layout.W_TAIL, layout.W_TAIL_ODD)],
            "lock": [*range(layout.MUTEX_AT, layout.MUTEX_AT + 40, 4)],
            "map": [*range(CHUNK_MAP_AT, PAGE + 8), *range(directory, directory + 128 if self.keyed else 0, 8)],
            "chunks": [at + word * 8 for at in heads for word in range(CHUNK_HEAD // 8)],
            "records": [at + word * 4 for at in self.records for word in range(4)],
        }[where]

    def values(self, old: int) -> list[int]:
        """Return numbers that lead astray."""
        powers = [1 << power for power in range(64)]
        near = [old + change for change in (-CHUNK, -8, -1, 1, 4, 8, 16, CHUNK, CHUNK_ROOM)]
        return [0, *powers, *(power - 1 for power in powers), *near, old | TOMBSTONE, old ^ TOMBSTONE, CHUNK, 2 * CHUNK]

    def make(self, where: str, chance: random.Random) -> tuple[str, bytes]:
        """Return a damaged copy, and what was done to it."""
        data = bytearray(self.original)
        if where == "length":
            length = chance.choice([0, 1, PAGE, CHUNK, len(data)]) + chance.choice([-8, -1, 0, 1, 8, PAGE, 100_000])
            return f"length {length}", bytes(data[: max(0, length)])
        done = []
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            at = chance.choice(self.places(where))
            kind = "=I" if where in ("lock", "records") else "=B" if PAGE <= at < PAGE + 8 else "=Q"
            (old,) = struct.unpack_from(kind, data, at)
            value = chance.choice([*self.values(old), chance.getrandbits(64)]) % (1 << 8 * struct.calcsize(kind))
            data[at : at + struct.calcsize(kind)] = struct.pack(kind, value)
            done.append(f"{at}: {old:#x} -> {value:#x}")
        return "; ".join(done), bytes(data)


def use(queue: Queue) -> None:
    """Call everything, a bounded number of times; only errors of this package may come."""

    def tried(*calls: object) -> None:
        for call in calls:
            assert callable(call)
            with suppress(MqueueError):
                call()

    def reserve() -> None:
        with queue.reserve() as item:
            repr(item)
            if item is not None and item.key.endswith(tuple("13579")):
                raise NoMemory

    tried(queue.__len__, queue.__repr__, queue.stats, queue.undone, reserve, reserve)
    tried(queue.__len__, queue.__repr__, queue.stats, lambda: [repr(item) for item in queue.peek(MANY)])
    tried(lambda: queue.add("new", "value"), lambda: queue.add("new", "x" * 20_000))
    for number in range(MANY):
        tried(lambda: repr(queue.fetch()), lambda number=number: queue.add(f"key{number}", ""))
    tried(lambda: queue.set_limits(2, 0), lambda: queue.add("key1", "x"), lambda: queue.fetch(0.01))
    tried(reserve, reserve, queue.handle.wait_until_unlocked, lambda: queue.fetch_many(2))
    tried(lambda: queue.wait_ready(0.01))
    tried(lambda: queue.adopt(queue.owner()), queue.fetch, lambda: queue.add("key2", "x"), queue.stats)


def attempt(path: Path, instance: str, data: bytes) -> None:
    """Attach a damaged queue and use it; what is refused stays as it is."""
    path.write_bytes(data)
    try:
        queue = Queue.attach(instance, "q", lock_timeout=0.01)
    except MqueueError as error:
        named = str(path) in str(error)
    else:
        use(queue)
        return
    assert named, "the error does not name the file"
    assert path.read_bytes() == data, "what was refused was changed"


def original(instance: str, addmode: int) -> bytes:
    """Return the bytes of a queue with small and large items, dead ones, and a free chunk."""
    Path(path_of(segment_name(instance, "q"))).unlink(missing_ok=True)  # of a process that crashed
    queue = Queue.create(instance, "q", window=16 * CHUNK, addmode=addmode)
    for number in range(12):
        queue.add(f"key{number}", "x" * (number % 4 * 60_000))
    for number in range(8):
        queue.add(f"key{number % 3 + 4}", "x" * number)
        queue.pop()
    for _ in range(3):
        reserve_for_good(queue)
    for entry in queue._log.core.in_flight.entries()[::2]:
        queue.settle([Delivery.of(entry)], GIVE_BACK)
    data = Path(path_of(queue.segment.name)).read_bytes()
    queue.segment.unlink()
    return data


def main(instance: str, where: str, addmode: int, first: int, end: int) -> None:
    """Try mutations number `first` to `end`."""
    damage = Damage(original(instance, addmode), addmode)
    path = Path(path_of(segment_name(instance, "q")))
    for number in range(first, end):
        what, data = damage.make(where, random.Random(f"{where} {addmode} {number}"))  # noqa: S311
        os.write(1, f"{number} {what}\n".encode())
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        try:
            attempt(path, instance, data)
        except Exception as error:  # noqa: BLE001 - each kind is counted
            os.write(1, f"! {type(error).__name__}: {str(error)[:100]!r}\n".encode())
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
