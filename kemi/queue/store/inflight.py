# SPDX-License-Identifier: GPL-2.0-or-later
"""In-flight entries: which records left the log and are not done, who holds them, and when they are delivered again.

A record stays where it lies; its entry leads to it. An entry is in one of three states:

    free      AT = 0; in the free list, or never used (from W_FRESH_ENTRY on)
    held      AT != 0, POSITION = 0: a process has it, whose life lock is HOLDER
    returned  AT != 0, POSITION = its place in the heap: somebody may have it once DUE has come

The heap orders the returned entries by (due, seq), so the next one is found without a search, and those that are due at
once come in the order in which they left the log. Holding and freeing touch a fixed number of words; the heap touches
two words for each of its levels, of which there are 12 at most.

Whoever shows the number, seq and turn of a held entry has the delivery that it names: a seq is never used again, and
each delivery counts DELIVERIES up, its turn. UNCOUNTED says how many of these do not count against a limit.

What is called with a plan adds stores to it; the rest only looks. Called with the queue's lock held, but for `holders`,
which may then name a process that never was, and misses none that is dead.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Collection, Container
from itertools import compress
from typing import NamedTuple

from kemi.errors import CorruptedError
from kemi.queue.format.layout import (
    E_AT,
    E_DELIVERIES,
    E_DUE,
    E_HOLDER,
    E_NAMESPACE,
    E_NEXT_FREE,
    E_PID,
    E_POSITION,
    E_SEQ,
    E_START,
    E_UNCOUNTED,
    ENTRY,
    ENTRY_BYTES,
    ENTRY_WORDS,
    FETCH_IN_FLIGHT,
    U32,
    W_CAPACITY,
    W_ENTRIES_AT,
    W_FLAGS,
    W_FREE_ENTRY,
    W_FRESH_ENTRY,
    W_HEAP_AT,
    W_IN_FLIGHT,
    W_RETURNED,
    Mapping,
)
from kemi.queue.store.journal import Plan

_MAX_DELIVERIES = (1 << 32) - 1


class Holder(NamedTuple):
    """A process that holds items: the number of its life lock counts, the rest is for people."""

    life: int
    pid: int
    start: int
    namespace: int


class Entry(NamedTuple):
    """An entry in use, as it is now."""

    number: int
    at: int  # offset of the record
    seq: int
    due: int  # monotonic ns; 0 = at once
    holder: Holder  # who holds it, or held it last
    turn: int  # deliveries, each of them
    position: int  # in the heap; 0 = held
    uncounted: int  # deliveries that count for nothing

    @property
    def deliveries(self) -> int:
        """Those that count."""
        return max(0, self.turn - self.uncounted)


class InFlight:
    """The entries of one segment."""

    def __init__(self, mapping: Mapping) -> None:
        self._bytes, self._u64, self._u32 = mapping
        self.capacity: int = self._u64[W_CAPACITY]
        self._rows: int = self._u64[W_ENTRIES_AT] >> 3
        self._heap: int = (self._u64[W_HEAP_AT] >> 2) - 1  # positions begin at 1

    # --- looking ------------------------------------------------------------------------------------------------------

    def row(self, number: int) -> int:
        """Return the u64 word in which an entry begins. Raises CorruptedError for a number that is none."""
        if not 0 <= number < self.capacity:
            raise CorruptedError(f"there is no in-flight entry {number}, only {self.capacity}")
        return self._rows + number * ENTRY_WORDS

    def entry(self, number: int) -> Entry | None:
        """Return an entry; None while it is free."""
        start = self.row(number) * 8
        at, seq, due, life, begun, pid, namespace, turn, position, _, uncounted = ENTRY.unpack(
            self._bytes[start : start + ENTRY_BYTES]
        )
        if not at or number >= self._u64[W_FRESH_ENTRY]:
            return None
        return Entry(number, at, seq, due, Holder(life, pid, begun, namespace), turn, position, uncounted)

    def held(self, number: int, seq: int, turn: int) -> Entry | None:
        """Return the entry if it is still this delivery; None if it is done, given back, or another one."""
        entry = self.entry(number)
        if entry and not entry.position and (entry.seq, entry.turn) == (seq, turn):
            return entry
        return None

    def first(self) -> Entry | None:
        """Return the returned entry that is redelivered next; None if there is none."""
        if not self._u64[W_RETURNED]:
            return None
        entry = self.entry(self._u32[self._heap + 1])
        if entry is None or entry.position != 1:
            raise CorruptedError("the redelivery heap begins with an entry that was not returned")
        return entry

    def first_due(self, now: int) -> Entry | None:
        """As `first`, if its time has come. now: monotonic ns."""
        entry = self.first()
        return entry if entry and entry.due <= now else None

    def count_later(self, now: int) -> int:
        """How many returned entries are not due yet. Also without the lock."""
        if not self._u64[W_RETURNED]:
            return 0
        columns = self._column(E_AT), self._half_column(E_POSITION), self._column(E_DUE)
        return sum(1 for at, position, due in zip(*columns) if at and position and due > now)

    def has_room(self) -> bool:
        """Return True if one more record can be in flight."""
        return bool(self._u64[W_FREE_ENTRY]) or self._u64[W_FRESH_ENTRY] < self.capacity

    def _column(self, field: int) -> list[int]:
        end = self._rows + min(self._u64[W_FRESH_ENTRY], self.capacity) * ENTRY_WORDS
        column: list[int] = self._u64[self._rows + field : end : ENTRY_WORDS].tolist()
        return column

    def _half_column(self, field: int) -> list[int]:
        end = 2 * (self._rows + min(self._u64[W_FRESH_ENTRY], self.capacity) * ENTRY_WORDS)
        column: list[int] = self._u32[2 * self._rows + field : end : 2 * ENTRY_WORDS].tolist()
        return column

    def entries(self) -> list[Entry]:
        """All entries in use, by seq."""
        found = [entry for number, at in enumerate(self._column(E_AT)) if at and (entry := self.entry(number))]
        return sorted(found, key=lambda entry: entry.seq)

    def holders(self) -> Counter[Holder]:
        """Who holds something, and how many items."""
        # In C, and without an object for each: a batch looks here between its items.
        held = map(operator.gt, map(bool, self._column(E_AT)), map(bool, self._half_column(E_POSITION)))
        people = self._half_column(E_PID), self._column(E_START), self._half_column(E_NAMESPACE)
        count = Counter(compress(zip(self._column(E_HOLDER), *people), held))
        return Counter({Holder(*who): number for who, number in count.items()})

    def held_by(self, holders: Collection[Holder], besides: Container[tuple[int, int, int]] = ()) -> list[Entry]:
        """Return what these hold, by seq, but `besides` (number, seq, turn). Without the lock: look again with it."""
        lives = {holder.life for holder in holders}
        columns = self._column(E_AT), self._half_column(E_POSITION), self._column(E_HOLDER)
        deliveries = self._column(E_SEQ), self._half_column(E_DELIVERIES)
        numbers = [
            number
            for number, (at, position, life, *which) in enumerate(zip(*columns, *deliveries))
            if at and not position and life in lives and (number, *which) not in besides
        ]
        entries = [entry for number in numbers if (entry := self.entry(number)) and entry.holder in holders]
        return sorted(entries, key=lambda entry: entry.seq)

    def of_record(self, at: int) -> Entry | None:
        """Return the returned entry of a record."""
        column = self._column(E_AT)
        entry = self.entry(column.index(at)) if at in column else None
        return entry if entry and entry.position else None

    # --- entries ------------------------------------------------------------------------------------------------------

    def alloc(self, plan: Plan, at: int, seq: int, holder: Holder) -> int:
        """Have a holder hold a record, its first delivery. Returns the entry's number; -1 if none is free."""
        number = plan.u64(W_FREE_ENTRY) - 1
        if number >= 0:
            row = self.row(number)
            following = plan.u32(row * 2 + E_NEXT_FREE)
            plan[W_FREE_ENTRY] = following
        else:
            following = 0
            number = plan.u64(W_FRESH_ENTRY)
            if number >= self.capacity:
                return -1
            row = self.row(number)
            plan[W_FRESH_ENTRY] = number + 1
        # Free until AT is stored: nobody reads these yet, but for the way to the next free one, which stays.
        self._bytes[row * 8 : row * 8 + ENTRY_BYTES] = ENTRY.pack(
            0, seq, 0, holder.life, holder.start, holder.pid, holder.namespace, 1, 0, following, 0
        )
        plan[row + E_AT] = at
        plan.add(W_IN_FLIGHT, 1)
        plan[W_FLAGS] = plan.u64(W_FLAGS) | FETCH_IN_FLIGHT
        return number

    def free(self, plan: Plan, entry: Entry) -> None:
        """Forget an entry, whose record is done or elsewhere."""
        if entry.position:
            self._remove(plan, entry)
        row = self.row(entry.number)
        following = plan.u64(W_FREE_ENTRY)
        if following > self.capacity:
            raise CorruptedError(f"the free list of in-flight entries begins with {following}")
        plan[row + E_AT] = 0
        plan[U32 + row * 2 + E_NEXT_FREE] = following
        plan[W_FREE_ENTRY] = entry.number + 1
        if not plan.add(W_IN_FLIGHT, -1):
            plan[W_FLAGS] = plan.u64(W_FLAGS) & ~FETCH_IN_FLIGHT

    def hold(self, plan: Plan, entry: Entry, holder: Holder, *, counted: bool = True) -> Entry:
        """Have a holder hold what was returned. counted: it is one more delivery that counts."""
        self._remove(plan, entry)
        row = self.row(entry.number)
        turn = min(entry.turn + 1, _MAX_DELIVERIES)
        uncounted = min(entry.uncounted + (not counted), _MAX_DELIVERIES)
        plan[row + E_HOLDER] = holder.life
        plan[row + E_START] = holder.start
        plan[U32 + row * 2 + E_PID] = holder.pid
        plan[U32 + row * 2 + E_NAMESPACE] = holder.namespace
        plan[U32 + row * 2 + E_DELIVERIES] = turn
        plan[U32 + row * 2 + E_UNCOUNTED] = uncounted
        return entry._replace(holder=holder, turn=turn, position=0, uncounted=uncounted)

    def give_back(self, plan: Plan, entry: Entry, due: int, *, counted: bool = True) -> None:
        """Have somebody else hold what is held, from `due` on (monotonic ns; 0: at once).

        counted: the delivery that ends so counts.
        """
        row = self.row(entry.number)
        plan[row + E_DUE] = due
        if not counted:
            plan[U32 + row * 2 + E_UNCOUNTED] = min(entry.uncounted + 1, _MAX_DELIVERIES)
        count = plan.add(W_RETURNED, 1)
        if count > self.capacity:
            raise CorruptedError(f"{count} entries are returned, there are only {self.capacity}")
        self._rise(plan, count, entry.number)

    # --- the heap -----------------------------------------------------------------------------------------------------

    def _key(self, plan: Plan, number: int) -> tuple[int, int]:
        row = self.row(number)
        return plan.u64(row + E_DUE), plan.u64(row + E_SEQ)

    def _put(self, plan: Plan, position: int, number: int) -> None:
        plan[U32 + self._heap + position] = number
        plan[U32 + self.row(number) * 2 + E_POSITION] = position

    def _remove(self, plan: Plan, entry: Entry) -> None:
        """Take an entry out of the heap, whose last one fills the gap."""
        count = plan.u64(W_RETURNED)
        if not 1 <= entry.position <= count <= self.capacity:
            raise CorruptedError(f"entry {entry.number} is at {entry.position} in a heap of {count}")
        last = plan.u32(self._heap + count)
        plan[U32 + self.row(entry.number) * 2 + E_POSITION] = 0
        plan[W_RETURNED] = count - 1
        if last != entry.number:
            self._sink(plan, entry.position, last, count - 1)

    def _rise(self, plan: Plan, position: int, number: int) -> None:
        """Put an entry at a place that is open, or above."""
        key = self._key(plan, number)
        while position > 1:
            above = plan.u32(self._heap + position // 2)
            if self._key(plan, above) <= key:
                break
            self._put(plan, position, above)
            position //= 2
        self._put(plan, position, number)

    def _sink(self, plan: Plan, position: int, number: int, count: int) -> None:
        """Put an entry at a place that is open, or below, or above."""
        key = self._key(plan, number)
        while (below := position * 2) <= count:
            child = plan.u32(self._heap + below)
            if below < count:
                other = plan.u32(self._heap + below + 1)
                if self._key(plan, other) < self._key(plan, child):
                    below, child = below + 1, other
            if key <= self._key(plan, child):
                break
            self._put(plan, position, child)
            position = below
        self._rise(plan, position, number)
