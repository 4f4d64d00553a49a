"""Is a queue sound? Everything that is kept twice must agree, and it must go on working like a plain list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kemi.queue.layout import (
    BUCKETS_PER_CHUNK,
    CHUNK_FREE,
    CHUNK_USED,
    W_ASIDE,
    W_BUCKETS_AT,
    W_CHUNKS,
    W_GATE,
    W_HIGH,
    W_SPARE,
)
from kemi.queue.ring import ADDED, KEPT
from tests.processes.serve import file_sizes, items, registry_of

if TYPE_CHECKING:
    from mqueue_kemi import Queue

Items = list[tuple[str, str]]

_SMALL, _LARGE, _GIANT = "s" * 50, "l" * 130_000, "g" * 600_000


class Model:
    """What a queue is to its users: a list."""

    def __init__(self, content: Items, addmode: int, size: int) -> None:
        self.items = list(content)
        self.most = len(self.items)
        self._addmode = addmode
        self._size = size

    def add(self, key: str, value: str) -> int:
        twins = [item for item in self.items if item[0] == key] if self._addmode else []
        if twins and self._addmode == 1:
            return KEPT
        self.items = [item for item in self.items if item not in twins] + [(key, value)]
        if self._size:
            self.items = self.items[-self._size :]
        self.most = max(self.most, len(self.items))
        return ADDED

    def pop(self) -> tuple[str, str] | None:
        return self.items.pop(0) if self.items else None


def faults(queue: Queue) -> list[str]:
    """Say which of a queue's books do not agree with one another."""
    ring: Any = queue._ring
    words = queue.segment.words
    stats = queue.stats()
    content = items(queue)
    walk = ring._walk()
    states = [queue.segment.bytes[ring.chunks._map + number] for number in range(ring.chunks.count)]
    indexed = -(-ring._index.count() // buckets_per_chunk()) if words[W_BUCKETS_AT] else 0
    length, memory = file_sizes(queue)
    last = max(number for number, state in enumerate(states) if state)
    books: dict[str, tuple[object, object]] = {
        "size and items": (stats.size, len(content)),
        "added - removed and items": (
            stats.added - stats.fetched - stats.dropped - stats.replaced - stats.reserved,
            len(content),
        ),
        # What a pop compares with: the mark, or 0 while anything is set aside.
        "high water": (words[W_GATE], 0 if words[W_ASIDE] else words[W_HIGH]),
        "counters below zero": (min(stats[:-1]) < 0, False),
        "chunks": (words[W_CHUNKS], len(walk.chunks)),
        "chunk map, used": (states.count(CHUNK_USED), len({*walk.chunks, *ring._kept()}) + indexed),
        "chunk map, free": (states.count(CHUNK_FREE), words[W_SPARE]),
        "memory of the file": (memory, stats.memory),
        "length of the file": (length, ring.chunks.offset(last + 1)),
        "line of the instance": (registry_of(queue).memory(), memory),
    }
    if queue.addmode:
        records = list(ring.scan())
        index = ring._index
        found = [index.find(ring._key_at(at)) for at in records]
        books["live bytes"] = (stats.bytes - ring.aside_bytes(), sum(ring._halves[at >> 2] for at in records))
        books["key index"] = (found, records)
    return [f"{name}: {pair}" for name, pair in books.items() if pair[0] != pair[1]]


def buckets_per_chunk() -> int:
    """Return what the index uses, which a test may have made smaller."""
    from kemi.queue import index

    return getattr(index, "BUCKETS_PER_CHUNK", BUCKETS_PER_CHUNK)


def exercise(queue: Queue, size: int) -> list[str]:
    """Use the queue, beside a list, until it is empty; say where they differ."""
    model = Model(items(queue), queue.addmode, size)
    before = queue.stats().high_water
    keys = [key for key, _ in model.items][:24]
    adds = [(key, value) for key, value in zip(keys[::-2], [_SMALL, _LARGE, _SMALL] * 8)]
    adds += [("x1", _LARGE), ("x2", _LARGE), ("x3", _GIANT), ("x4", _SMALL), ("x3", _SMALL), ("x1", _SMALL)]
    adds += [(key, "again") for key in keys[::2]]
    wrong: list[str] = []
    for number, (key, value) in enumerate(adds):
        outcome = queue.add(key, value)
        if outcome in (ADDED, KEPT) and outcome != model.add(key, value):
            wrong.append(f"add of {key!r} gave {outcome}")
        if number % 4 == 3:
            wrong += _compare(queue, model)
        if wrong:
            return wrong
    wrong += _contents(queue, model) + faults(queue)
    while model.items and not wrong:
        wrong += _compare(queue, model)
    if queue.pop() is not None:
        wrong.append("more came than was there")
    if queue.stats().high_water != max(before, model.most):
        wrong.append(f"at most there were {max(before, model.most)} items, it says {queue.stats().high_water}")
    return wrong + faults(queue)


def _contents(queue: Queue, model: Model) -> list[str]:
    content = items(queue)
    return [] if content == model.items else [f"{brief(content)} is there, not {brief(model.items)}"]


def _compare(queue: Queue, model: Model) -> list[str]:
    item, expected = queue.fetch(), model.pop()
    got = None if item is None else (item.key, item.value)
    return [] if got == expected else [f"{brief([got])} came, not {brief([expected])}"]


def brief(content: list[tuple[str, str] | None] | Items) -> str:
    """Make a text of items that can be read."""
    texts = ["nothing" if item is None else f"{item[0][:12]}={item[1][:6]}({len(item[1])})" for item in content]
    return ", ".join(texts[:8]) + (f" ... ({len(texts)})" if len(texts) > 8 else "")
