"""Reservations against plain lists, by random programs: whoever holds, gives back, or dies."""

from __future__ import annotations

import os
from itertools import count
from typing import NamedTuple

import hypothesis.strategies as st
import pytest
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
from kemi.queue.delivery import holding
from kemi.queue.delivery.reservation import Reservation
from kemi.queue.delivery.reserved import ReservedItem
from kemi.queue.format.layout import CHUNK_ROOM, W_QUOTA_ENTRY
from kemi.queue.log.core import ADDED, KEPT
from kemi.queue.queue import Queue
from tests.locked import reserve_for_good
from tests.unit.children import killed_after

LIMIT = 24 << 20
_numbers = count()

KEYS = st.sampled_from(["", "a", "b", "c", "d", "e"])
SIZES = st.sampled_from([0, 1, 50, 50, 5000, 130_000, CHUNK_ROOM - 32, 300_000])


class Entry(NamedTuple):
    """An item that is there to be taken. `deliveries` 0: it was never reserved."""

    turn: int
    item: tuple[str, str]
    deliveries: int = 0


class Model(RuleBasedStateMachine):
    """Every call is made on the queue and on lists."""

    @initialize(addmode=st.sampled_from([0, 1, 2]), most=st.sampled_from([0, 0, 2]), letters=st.booleans())
    def start(self, addmode: int, most: int, letters: bool) -> None:
        """Make the queue, and one for dead letters."""
        self.instance = f"unit-reserve-{os.getpid()}-{next(_numbers)}"
        self.registry = Registry.create(self.instance, this_process(), LIMIT)
        self.addmode, self.most, self.letters = addmode, most, letters
        self.queue = Queue.create(self.instance, "q", window=LIMIT, addmode=addmode, registry=self.registry)
        self.dead = Queue.create(self.instance, "dead", window=LIMIT, registry=self.registry)
        self.queue.set_deliveries(most, "dead" if letters and most else "")
        self.there: list[Entry] = []  # in the order in which it is taken
        self.held: list[tuple[Entry, Reservation[ReservedItem | None]]] = []
        self.letters_there: list[tuple[str, str]] = []
        self.turns = count(1)
        self.lost: list[Entry] = []  # held by the dead, and not yet found

    def _same(self, key: str) -> list[Entry]:
        return [entry for entry in self.there if self.addmode and entry.item[0] == key]

    def _give_back(self, entry: Entry) -> None:
        same = self._same(entry.item[0])
        if same and self.addmode == 1:
            keeps = min([entry, *same], key=lambda each: each.turn)
        elif same:
            keeps = max([entry, *same], key=lambda each: each.turn)
        else:
            keeps = entry
        self.there = sorted([each for each in self.there if each not in same] + [keeps], key=lambda each: each.turn)

    def _expel(self) -> None:
        """Move what was delivered too often."""
        if self.most and self.letters:
            due = [entry for entry in self.there if entry.deliveries >= self.most]
            self.letters_there += [entry.item for entry in due]
            self.there = [entry for entry in self.there if entry not in due]

    def _look(self) -> None:
        """Find what the dead held, as whoever takes an item does."""
        for entry in self.lost:
            self._give_back(entry)
        self.lost = []
        self._expel()

    @rule(key=KEYS, size=SIZES)
    def add(self, key: str, size: int) -> None:
        """Add an item."""
        item = (key, (key or "-") * size)
        same = self._same(key)
        if same and self.addmode == 1:
            assert self.queue.add(*item) == KEPT
            return
        assert self.queue.add(*item) == ADDED
        self.there = [entry for entry in self.there if entry not in same] + [Entry(next(self.turns), item)]

    @rule(timeout=st.sampled_from([0, 0, 0.001]))
    def fetch(self, timeout: float) -> None:
        """Take the oldest."""
        self._look()
        item = self.queue.fetch(timeout)
        expected = self.there.pop(0).item if self.there else None
        assert (None if item is None else (item.key, item.value)) == expected

    @rule(number=st.integers(1, 6))
    def fetch_many(self, number: int) -> None:
        """Take some."""
        self._look()
        items = [(item.key, item.value) for item in self.queue.fetch_many(number)]
        assert items == [entry.item for entry in self.there[:number]]
        del self.there[:number]

    @precondition(lambda self: len(self.held) < 12)
    @rule(timeout=st.sampled_from([0, 0, 0.001]))
    def reserve(self, timeout: float) -> None:
        """Reserve the oldest."""
        self._look()
        block = self.queue.reserve(timeout)
        item = block.__enter__()
        if not self.there:
            assert item is None
            return
        entry = self.there.pop(0)
        assert item is not None
        assert ((item.key, item.value), item.deliveries) == (entry.item, entry.deliveries + 1)
        self.held.append((entry._replace(deliveries=item.deliveries), block))

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 11))
    def done(self, number: int) -> None:
        """Be done with one."""
        _, block = self.held.pop(number % len(self.held))
        block.__exit__(None)

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 11))
    def give_back(self, number: int) -> None:
        """Give one back."""
        entry, block = self.held.pop(number % len(self.held))
        block.__exit__(ValueError)
        self._give_back(entry)
        self._expel()

    @rule(number=st.integers(1, 3))
    def die_holding(self, number: int) -> None:
        """Let a process reserve some, and be killed."""
        self._look()

        def work() -> None:
            for _ in range(number):
                reserve_for_good(self.queue)

        killed_after(work)
        for entry in self.there[:number]:
            self.lost.append(entry._replace(deliveries=entry.deliveries + 1))
        del self.there[:number]

    @rule()
    def die_with_the_lock(self) -> None:
        """Let a process be killed that holds the lock."""
        killed_after(self.queue._mutex.take)

    @rule()
    def adopt(self) -> None:
        """Let a server take the queue over."""
        self.registry.set_line(self.queue.segment.words[W_QUOTA_ENTRY], 0)  # as the new owner of the instance does
        self.queue.adopt(this_process())

    @rule(number=st.integers(0, 5))
    def peek(self, number: int) -> None:
        """Look at the oldest."""
        assert [(item.key, item.value) for item in self.queue.peek(number)] == [e.item for e in self.there[:number]]

    @invariant()
    def agree(self) -> None:
        """Lengths and statistics are those of the model."""
        if not hasattr(self, "there"):
            return
        assert len(self.queue) == len(self.there)
        stats = self.queue.stats()
        assert (stats.size, stats.reserved) == (len(self.there), len(self.held) + len(self.lost))
        assert stats.memory + self.dead.stats().memory == self.registry.memory()
        assert [(item.key, item.value) for item in self.dead.peek(1000)] == self.letters_there
        assert stats.dead_lettered == len(self.letters_there)

    def teardown(self) -> None:
        """Take everything; memory is given back."""
        if not hasattr(self, "there"):
            return
        try:
            while self.held:
                self.give_back(0)
            self._look()
            items = [(item.key, item.value) for item in self.queue.fetch_many(10_000)]
            assert items == [entry.item for entry in self.there]
            assert self.queue.stats().memory < 2 << 20
            assert self.queue.stats().reserved == 0
        finally:
            for queue in (self.queue, self.dead):
                queue.remove()
                queue.close()
            self.registry.segment.unlink()


def test_reservations_are_a_list_too(stress: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any program of calls has the same results as with plain lists."""
    # Each call looks for the dead, also after a look that took long: the garbage of all tests may be collected in it.
    monkeypatch.setattr(holding, "_LOOKS_APART", 0)
    examples, steps = (400, 100) if stress else (40, 40)
    profile = settings(settings(), max_examples=examples, stateful_step_count=steps)
    run_state_machine_as_test(Model, settings=profile)
