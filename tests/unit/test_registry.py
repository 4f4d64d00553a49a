"""The instance's own segment: owner, and the memory of all queues together."""

from __future__ import annotations

from typing import Any

import pytest

from kemi.errors import ConfigError, InstanceInUse, SegmentMissing
from kemi.owner import Owner, this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.format import layout
from kemi.queue.format.layout import CHUNK
from kemi.queue.log.core import ADDED, NO_MEMORY
from kemi.queue.queue import Queue
from tests.unit.children import child

LIMIT = 1 << 30
DEAD = this_process()._replace(pid=(1 << 22) + 1)
QUARTER = "x" * (CHUNK // 4)


@pytest.fixture
def registry(instance: str) -> Registry:
    """Return the registry of a new instance."""
    return Registry.create(instance, this_process(), LIMIT)


def test_what_is_attached_is_what_was_made(instance: str, registry: Registry) -> None:
    """Owner and limit are seen by another process."""
    other = Registry.attach(instance)
    assert (other.owner(), other.max_memory, other.memory()) == (this_process(), LIMIT, 0)
    registry.set_max_memory(5)
    assert other.max_memory == 5


def test_memory_is_that_of_all_queues(registry: Registry) -> None:
    """Of the first ones and of the later ones, which few instances have."""
    lines = [registry.open_line(1 << number % 7) for number in range(100)]
    assert registry.memory() == sum(1 << number % 7 for number in range(100))
    for line in lines[:99]:
        registry.set_line(line, 0)
    assert registry.memory() == 1 << 99 % 7
    registry.set_line(lines[99], 0)
    registry.set_line(lines[3], 5)
    assert registry.memory() == 5


def test_there_is_none(instance: str) -> None:
    """An instance that does not exist cannot be attached."""
    with pytest.raises(SegmentMissing, match=instance):
        Registry.attach(instance)


def test_there_is_one_already(instance: str, registry: Registry) -> None:
    """An instance is made once."""
    with pytest.raises(FileExistsError):
        Registry.create(instance, this_process(), LIMIT)
    assert registry.segment.is_current()


def test_a_living_owner_keeps_it(instance: str) -> None:
    """The error names its pid, the file, and the parameter that helps; nothing is changed."""
    with child(lambda: Registry.create(instance, this_process(), LIMIT)) as pid:
        registry = Registry.attach(instance)
        with pytest.raises(InstanceInUse, match=rf"in use by pid {pid}, .*\(/dev/shm/mqk.{instance}\).*\"instance\""):
            registry.claim(this_process(), 5)
        assert (registry.owner().pid, registry.max_memory) == (pid, LIMIT)
    registry.claim(this_process(), 5)
    assert registry.owner() == this_process()


def test_a_dead_owner_is_followed(instance: str) -> None:
    """The new owner, its limit, and no memory until the queues are taken over."""
    old = Registry.create(instance, DEAD, LIMIT)
    old.open_line(4096)
    registry = Registry.attach(instance)
    registry.claim(this_process(), 5)
    assert (registry.owner(), registry.max_memory, registry.memory()) == (this_process(), 5, 0)


def test_lines(registry: Registry) -> None:
    """Each queue has its own; a line that was closed is used again."""
    assert [registry.open_line(10), registry.open_line(20), registry.open_line(30)] == [0, 1, 2]
    registry.set_line(1, 0)
    assert registry.open_line(5) == 1
    registry.grow(1, 100)
    registry.shrink(2, 30)
    assert registry.memory() == 10 + 105


def test_too_many_queues(registry: Registry) -> None:
    """There is a last line, and what comes then is an error that says how many are possible."""
    for number in range(layout.QUOTA_ENTRIES):
        registry._table[number] = 1
    with pytest.raises(ConfigError, match="4096 queues at most"):
        registry.open_line(1)


@pytest.mark.parametrize(("limit", "grown"), [(99, False), (100, True)])
def test_growth_up_to_the_limit(registry: Registry, limit: int, grown: bool) -> None:
    """What would be too much is refused, and not counted."""
    registry.set_max_memory(limit)
    registry.open_line(40)
    line = registry.open_line(20)
    assert registry.grow(line, 40) is grown
    assert registry.memory() == (100 if grown else 60)


def test_a_limit_that_was_lowered(registry: Registry) -> None:
    """Who holds more keeps it, and gets no more."""
    line = registry.open_line(100)
    registry.set_max_memory(50)
    assert not registry.grow(line, 1)
    assert registry.memory() == 100


# --- the memory of real queues ----------------------------------------------------------------------------------------


def queue_of(instance: str, registry: Registry, name: str = "q") -> Queue:
    """Make a queue that may grow far."""
    return Queue.create(instance, name, window=64 << 20, registry=registry)


def burst(queue: Queue, items: int = 200, left: int = 0) -> None:
    """Fill many chunks and empty them again, but for the last items."""
    for number in range(items):
        assert queue.add(str(number), QUARTER) == ADDED
    for _ in range(items - left):
        assert queue.pop()


def test_what_is_counted_is_what_is_held(instance: str, registry: Registry) -> None:
    """After any growing and shrinking, for two queues."""
    queues = [queue_of(instance, registry, name) for name in "ab"]
    for queue in queues:
        burst(queue, left=13)
        assert registry.memory() == sum(one.stats().memory for one in queues)
    queues[0].remove()
    assert registry.memory() == queues[1].stats().memory


def test_queues_share_the_limit(instance: str, registry: Registry) -> None:
    """One that is full keeps the other from growing, and gives it room when it is drained."""
    one, other = queue_of(instance, registry, "a"), queue_of(instance, registry, "b")
    registry.set_max_memory(registry.memory() + 10 * CHUNK)
    while one.add("k", QUARTER) == ADDED:
        pass
    assert registry.memory() <= registry.max_memory
    outcomes = [other.add("k", QUARTER) for _ in range(5)]
    assert outcomes[-1] == NO_MEMORY
    assert other.stats().refused
    while one.pop():
        pass
    assert other.add("k", QUARTER) == ADDED


def test_recovery_after_a_burst(instance: str, registry: Registry) -> None:
    """A recovery gives no memory back that had been given back before: counts never go below nothing."""
    queue = queue_of(instance, registry)
    burst(queue, left=2)
    queue.handle.recover()
    assert len(queue) == 2
    assert registry.memory() == queue.stats().memory


def test_a_queue_that_was_closed_by_its_server_can_be_drained(instance: str, registry: Registry) -> None:
    """Who has it open takes what is left of it, and no other queue's memory is counted for it."""
    queue = queue_of(instance, registry)
    for number in range(200):
        queue.add(str(number), QUARTER)
    consumer = Queue.attach(instance, "q", Registry.attach(instance))
    queue.remove()
    other = queue_of(instance, registry, "other")
    assert [int(item.key) for item in iter(consumer.fetch, None)] == list(range(200))
    assert registry.memory() == other.stats().memory


def test_a_queue_of_a_dead_server_can_be_drained(instance: str) -> None:
    """A consumer outlives its server; when the next server does not define the queue, its memory counts for nothing."""
    old = Registry.create(instance, DEAD, LIMIT)
    queue = Queue.create(instance, "q", window=64 << 20, registry=old, owner=DEAD)
    for number in range(200):
        queue.add(str(number), QUARTER)
    consumer = Queue.attach(instance, "q", Registry.attach(instance))
    registry = Registry.attach(instance)
    registry.claim(this_process(), LIMIT)
    other = queue_of(instance, registry, "other")
    assert [int(item.key) for item in iter(consumer.fetch, None)] == list(range(200))
    assert registry.memory() == other.stats().memory


def test_a_queue_that_cannot_be_made(instance: str, registry: Registry) -> None:
    """Its line is closed again, and the error says which limit it was."""
    registry.set_max_memory(1)
    with pytest.raises(MemoryError, match=r"no memory for the first .* max_memory is reached"):
        queue_of(instance, registry)
    assert registry.memory() == 0
    assert list(registry._table[:2]) == [0, 0]


def test_an_owner_is_three_numbers(registry: Registry) -> None:
    """What is stored is what was given."""
    registry.segment.words[layout.W_OWNER_START] = (1 << 64) - 1
    assert registry.owner() == Owner(this_process().pid, (1 << 64) - 1, this_process().namespace)


def test_a_line_says_whose_it_is_before_it_is_taken(registry: Registry) -> None:
    """A kill between the two leaves a line that is free, not one that counts for another queue."""
    holders: list[int] = []

    class Table(list[int]):
        """The table of bytes; each store sees who the line is for."""

        def __setitem__(self, where: Any, value: Any) -> None:
            holders.append(registry.holder(where))
            super().__setitem__(where, value)

    registry.set_line(registry.open_line(5, 1), 0)
    registry._table = Table(registry._table)  # type: ignore[assignment]
    line = registry.open_line(7, 4711)
    assert (holders, registry._table[line]) == ([4711], 7)


@pytest.mark.parametrize("line", [layout.QUOTA_ENTRIES, (1 << 64) - 1])
def test_a_queue_whose_line_there_is_not_is_not_counted(instance: str, registry: Registry, line: int) -> None:
    """A wild store hit its number: it goes on, and ends."""
    queue = queue_of(instance, registry)
    queue._u64[layout.W_QUOTA_ENTRY] = line
    held = registry.memory()
    burst(queue)
    queue.handle.work(queue.handle.recover)
    queue.remove()
    assert registry.memory() == held


def test_a_line_that_a_wild_store_hit_is_a_limit_that_was_reached(instance: str, registry: Registry) -> None:
    queue = queue_of(instance, registry)
    registry._table[0] = (1 << 64) - 1
    outcomes = {queue.add("k", QUARTER) for _ in range(20)}
    assert NO_MEMORY in outcomes


@pytest.mark.parametrize("word", [layout.W_CAPACITY, layout.W_HEAP_AT])
def test_a_queue_that_would_hold_more_than_a_number_can_say_is_counted_so(
    instance: str, registry: Registry, word: int
) -> None:
    """A wild store hit what its size is made of."""
    queue = queue_of(instance, registry)
    queue._u64[word] = (1 << 64) - 1
    queue.handle.work(queue.handle.recover)
    assert registry.memory() == (1 << 64) - 1
