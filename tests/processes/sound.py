"""Is a queue sound? Everything that is kept twice must agree, and it must go on working like a plain list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kemi.queue.format.statistics import numbers_of
from kemi.queue.log.core import ADDED, KEPT
from tests.processes.serve import file_sizes, items, registry_of

if TYPE_CHECKING:
    from kemi.queue.queue import Queue

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
    stats = queue.stats()
    content = items(queue)
    memory = file_sizes(queue)[1]
    books: dict[str, tuple[object, object]] = {
        "what verify finds": (queue.handle.work(queue.handle.verify), []),
        "size and items": (stats.size, len(content)),
        "added - removed and items": (
            stats.added - stats.fetched - stats.dropped - stats.replaced - stats.reserved - stats.expired,
            len(content),
        ),
        "counters below zero": (any(value < 0 for value in numbers_of(stats).values() if value is not None), False),
        "memory of the file": (memory, stats.memory),
        "entry in the instance's quota": (registry_of(queue).memory(), memory),
    }
    return [f"{name}: {pair}" for name, pair in books.items() if pair[0] != pair[1]]


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
