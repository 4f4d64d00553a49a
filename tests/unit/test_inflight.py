"""In-flight entries: the free list, and the heap against a sorted list."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kemi.errors import CorruptedError
from kemi.queue.format import layout
from kemi.queue.format.layout import MAX_CAPACITY, MAX_PAIRS, W_IN_FLIGHT, W_RETURNED
from kemi.queue.store.inflight import Entry, Holder, InFlight
from kemi.queue.store.journal import Journal, Plan
from tests.support.crash_points import Segment

ME = Holder(7, 100, 200, 300)
OTHER = Holder(8, 101, 201, 301)
AT = 8  # of each record: no part looks at it here


class Entries:
    """The entries of a segment, and what a log does with them."""

    def __init__(self, capacity: int) -> None:
        self.mapping = Segment(capacity=capacity).plain
        self.part = InFlight(self.mapping)
        self.seq = 0
        self.longest = 0

    def run(self, plan: Plan) -> None:
        self.longest = max(self.longest, len(plan))
        journal = Journal(self.mapping)
        journal.begin()
        journal.commit(plan)
        journal.close()
        journal.end()

    def take(self) -> int:
        """Hold a new record; returns its entry's number."""
        plan = Plan(self.mapping)
        self.seq += 1
        number = self.part.alloc(plan, AT, self.seq, ME)
        if number >= 0:
            self.run(plan)
        return number

    def free(self, number: int) -> None:
        entry = self.part.entry(number)
        assert entry
        plan = Plan(self.mapping)
        self.part.free(plan, entry)
        self.run(plan)

    def give_back(self, number: int, due: int, *, counted: bool = True) -> None:
        entry = self.part.entry(number)
        assert entry
        plan = Plan(self.mapping)
        self.part.give_back(plan, entry, due, counted=counted)
        self.run(plan)

    def hold(self) -> int:
        """Hold what is first in the heap."""
        entry = self.part.first()
        assert entry
        plan = Plan(self.mapping)
        held = self.part.hold(plan, entry, OTHER)
        self.run(plan)
        assert self.part.entry(held.number) == held
        assert held.deliveries == entry.deliveries + 1
        return held.number


def test_all_entries_are_used_and_used_again() -> None:
    entries = Entries(3)
    assert [entries.take() for _ in range(4)] == [0, 1, 2, -1]
    assert not entries.part.has_room()
    entries.free(1)
    entries.free(0)
    assert entries.part.has_room()
    assert [entries.take() for _ in range(3)] == [0, 1, -1]
    assert [entry.seq for entry in entries.part.entries()] == [3, 5, 6]


@pytest.mark.parametrize("before", range(3))
def test_a_new_entry_is_the_first_delivery_to_its_holder(before: int) -> None:
    """Whatever was in it before: nothing of that is left."""
    entries = Entries(3)
    for _ in range(before):
        number = entries.take()
        entries.give_back(number, 30, counted=False)
        entries.free(entries.hold())
    number = entries.take()
    assert entries.part.entry(number) == Entry(number, AT, before + 1, 0, ME, 1, 0, 0)


def test_a_delivery_that_does_not_count() -> None:
    """It is one more turn, and not one more delivery; the others' entries stay as they were."""
    entries = Entries(3)
    numbers = [entries.take() for _ in range(3)]
    others = [entries.part.entry(number) for number in (0, 2)]
    entries.give_back(numbers[1], 0, counted=False)
    entry = entries.part.entry(numbers[1])
    assert entry
    assert (entry.turn, entry.uncounted, entry.deliveries) == (1, 1, 0)
    entries.hold()
    entry = entries.part.entry(numbers[1])
    assert entry
    assert (entry.turn, entry.uncounted, entry.deliveries) == (2, 1, 1)
    assert [entries.part.entry(number) for number in (0, 2)] == others


def test_a_delivery_is_known_by_number_seq_and_count() -> None:
    entries = Entries(3)
    number = entries.take()
    assert entries.part.held(number, 1, 1)
    assert entries.part.held(number, 2, 1) is None
    entries.give_back(number, 0)
    assert entries.part.held(number, 1, 1) is None, "given back"
    assert entries.hold() == number
    assert entries.part.held(number, 1, 1) is None, "another's"
    assert entries.part.held(number, 1, 2)
    entries.free(number)
    assert entries.part.held(number, 1, 2) is None
    assert entries.part.entry(number) is None


def test_what_a_holder_holds_is_found() -> None:
    entries = Entries(4)
    numbers = [entries.take() for _ in range(4)]
    entries.give_back(numbers[0], 5)
    entries.give_back(numbers[1], 0)
    assert entries.hold() == numbers[1]
    assert entries.part.holders().keys() == {ME, OTHER}
    assert [entry.number for entry in entries.part.held_by({ME})] == numbers[2:]
    assert [entry.number for entry in entries.part.held_by({OTHER, ME._replace(life=99)})] == [numbers[1]]
    assert entries.part.held_by({ME._replace(life=99)}) == []


def test_what_is_due_comes_when_it_is() -> None:
    entries = Entries(4)
    for due in (30, 10, 20):
        entries.give_back(entries.take(), due)
    assert entries.part.first_due(9) is None
    first = entries.part.first_due(10)
    assert first
    assert first.due == 10


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["take", "free", "back", "back", "hold"]), st.integers(0, 30)), max_size=120))
def test_the_heap_is_a_sorted_list(steps: list[tuple[str, int]]) -> None:
    entries = Entries(16)
    held: list[int] = []
    returned: dict[int, tuple[int, int]] = {}
    for what, number in steps:
        if what == "take" and (taken := entries.take()) >= 0:
            held.append(taken)
        elif what == "back" and held:
            back = held.pop(number % len(held))
            entries.give_back(back, number // 3)
            entry = entries.part.entry(back)
            assert entry
            returned[back] = number // 3, entry.seq
        elif what == "hold" and returned:
            expected = min(returned, key=lambda each: returned[each])
            assert entries.hold() == expected
            held.append(expected)
            del returned[expected]
        elif what == "free" and (held or returned):
            gone = sorted([*held, *returned])[number % (len(held) + len(returned))]
            entries.free(gone)
            returned.pop(gone, None)
            held = [each for each in held if each != gone]
        u64 = entries.mapping.u64
        assert (u64[W_RETURNED], u64[W_IN_FLIGHT]) == (len(returned), len(returned) + len(held))
        assert bool(u64[layout.W_FLAGS] & layout.FETCH_IN_FLIGHT) == bool(held or returned)
    while returned:
        expected = min(returned, key=lambda each: returned[each])
        assert entries.hold() == expected
        del returned[expected]


def test_the_largest_heap_fits_into_the_journal() -> None:
    """With room for what a log stores in the same commit: 22 pairs."""
    entries = Entries(MAX_CAPACITY)
    numbers = [entries.take() for _ in range(MAX_CAPACITY)]
    for number in numbers:
        entries.give_back(number, MAX_CAPACITY - number)  # each rises to the top
    for _ in range(100):
        entries.hold()
    assert entries.longest <= MAX_PAIRS - 14


def test_an_entry_that_there_is_not_is_corruption() -> None:
    entries = Entries(3)
    for number in (-1, 3, 1 << 40):
        with pytest.raises(CorruptedError, match=f"no in-flight entry {number}, only 3"):
            entries.part.entry(number)
