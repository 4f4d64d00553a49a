"""A queue in shared memory against a plain list, by random programs."""

from __future__ import annotations

import os
from itertools import count

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.format.item import encode
from kemi.queue.format.layout import CHUNK_ROOM
from kemi.queue.log.core import ADDED, FULL, KEPT, NO_MEMORY
from kemi.queue.queue import Queue
from tests.locked import locked
from tests.unit.children import killed_after

DROPS = 64  # that one add makes at most
LIMIT = 6 << 20  # bytes for the instance
_numbers = count()

KEYS = st.sampled_from(["", "a", "b", "c", "d", "\udcff", "\ud800", "é" * 40])
SIZES = st.sampled_from([0, 1, 50, 50, 50, 5000, 60_000, 130_000, CHUNK_ROOM - 32, CHUNK_ROOM - 24, 300_000])
LIMITS = st.tuples(st.sampled_from([0, 0, 1, 3, 10]), st.sampled_from([0, 0, 0, 200, 100_000]))


def step(key: str, value: str) -> int:
    """Return the bytes of an item's record."""
    key_bytes, value_bytes, _ = encode(key, value)
    return len(key_bytes) + len(value_bytes) + 31 & -8


class Model(RuleBasedStateMachine):
    """Every call is made on the queue and on a list."""

    @initialize(addmode=st.sampled_from([0, 1, 2]), limits=LIMITS)
    def start(self, addmode: int, limits: tuple[int, int]) -> None:
        """Make the queue."""
        self.instance = f"unit-model-{os.getpid()}-{next(_numbers)}"
        self.registry = Registry.create(self.instance, this_process(), LIMIT)
        self.addmode, (self.size_limit, self.byte_limit) = addmode, limits
        self.queue = Queue.create(
            self.instance, "q", window=LIMIT, addmode=addmode, size_limit=limits[0], byte_limit=limits[1],
            registry=self.registry,
        )  # fmt: skip
        self.items: list[tuple[str, str]] = []
        self.counts = dict.fromkeys(("added", "fetched", "dropped", "replaced", "refused"), 0)

    @rule(key=KEYS, size=SIZES)
    def add(self, key: str, size: int) -> None:
        """Add an item; memory may be at its end, everything else is foreseen."""
        value = (key[:1] or "-") * size if key not in ("\udcff", "\ud800") else "x" * size
        outcome = self.queue.add(key, value)
        same = [item for item in self.items if item[0] == key] if self.addmode else []
        if same and self.addmode == 1:
            assert outcome == KEPT
            return
        used = sum(step(*item) for item in self.items if item not in same) + step(key, value)
        if self.byte_limit and self.addmode and used > self.byte_limit:
            assert outcome == FULL
        if outcome in (FULL, NO_MEMORY):
            assert outcome == NO_MEMORY or self.byte_limit
            self.counts["refused"] += 1
            return
        assert outcome == ADDED
        assert not self.byte_limit or used <= self.byte_limit
        self.counts["added"] += 1
        self.counts["replaced"] += len(same)
        self.items = [item for item in self.items if item not in same] + [(key, value)]
        if self.size_limit:
            excess = min(max(0, len(self.items) - self.size_limit), DROPS)
            self.counts["dropped"] += excess
            del self.items[:excess]

    @rule(timeout=st.sampled_from([0, 0, 0, 0.001]))
    def fetch(self, timeout: float) -> None:
        """Take the oldest."""
        item = self.queue.fetch(timeout)
        assert (None if item is None else (item.key, item.value)) == (self.items[0] if self.items else None)
        if self.items:
            self.counts["fetched"] += 1
            del self.items[0]

    @rule(number=st.integers(0, 5))
    def peek(self, number: int) -> None:
        """Look at the oldest."""
        assert [(item.key, item.value) for item in self.queue.peek(number)] == self.items[:number]

    @rule(limits=LIMITS)
    def set_limits(self, limits: tuple[int, int]) -> None:
        """Change the limits."""
        self.queue.set_limits(*limits)
        self.size_limit, self.byte_limit = limits

    @rule()
    def reopen(self) -> None:
        """Use the queue as another process does."""
        self.queue.close()
        self.registry = Registry.attach(self.instance)
        self.queue = Queue.attach(self.instance, "q", self.registry)

    @rule()
    def recover(self) -> None:
        """Repair what is sound."""
        with locked(self.queue._mutex):
            self.queue.handle.recover()

    @precondition(lambda self: self.items)
    @rule()
    def drain(self) -> None:
        """Take everything."""
        while self.items:
            self.fetch(0)

    @rule()
    def die(self) -> None:
        """Let a process be killed that holds the lock."""
        killed_after(self.queue._mutex.take)

    @invariant()
    def agree(self) -> None:
        """Size and statistics are those of the model, and memory is what is counted."""
        if not hasattr(self, "items"):
            return
        assert len(self.queue) == len(self.items)
        stats = self.queue.stats()
        assert {name: getattr(stats, name) for name in self.counts} == self.counts
        assert (stats.size, stats.size_limit, stats.byte_limit) == (
            len(self.items),
            self.size_limit or None,
            self.byte_limit or None,
        )
        assert stats.memory == self.registry.memory() <= LIMIT
        if self.addmode or not self.items:
            assert stats.bytes == sum(step(*item) for item in self.items)

    def teardown(self) -> None:
        """Compare the contents, and remove the queue."""
        if not hasattr(self, "items"):
            return
        try:
            assert [(item.key, item.value) for item in self.queue.peek(10_000)] == self.items
            self.drain_all()
        finally:
            self.queue.remove()
            self.registry.segment.unlink()
            self.queue.close()

    def drain_all(self) -> None:
        """Take everything, and see that memory is given back."""
        while self.items:
            self.fetch(0)
        assert self.queue.stats().memory < 2 << 20


def test_a_queue_is_a_list(stress: bool) -> None:
    """Any program of calls has the same results as with a plain list."""
    examples, steps = (500, 100) if stress else (30, 30)
    profile = settings(settings(), max_examples=examples, stateful_step_count=steps)
    run_state_machine_as_test(Model, settings=profile)
