# SPDX-License-Identifier: GPL-2.0-or-later
"""What leaves a keyed log at its head, and comes back: the oldest record, and what was returned.

Returned records that are due come before all others; of two items of one key, one stays. Called with the queue's lock
held; each change is one commit, where it does not say otherwise.
"""

from __future__ import annotations

import struct
from typing import final

from kemi.errors import CorruptedError
from kemi.queue.format.layout import (
    C_DEAD,
    CHUNK_HEAD,
    PENDING,
    QUESTION,
    R_VALUE,
    RETURNED,
    STEP_MASK,
    TOMBSTONE,
    U32,
    W_ADDMODE,
    W_COMMIT,
    W_DEAD,
    W_DISCARDED,
    W_DROPPED,
    W_EXPIRED,
    W_FLAGS,
    W_HEAD,
    W_MEASURED,
    W_POPPED,
)
from kemi.queue.log import delivery
from kemi.queue.log.compaction import Compaction
from kemi.queue.log.core import Core, Delivery
from kemi.queue.store.inflight import Entry, Holder
from kemi.queue.store.journal import Plan
from kemi.queue.store.keyindex import KeyIndex

KEEP_OLDEST, KEEP_NEWEST = 1, 2
_skip = struct.Struct("=6Q").pack


@final
class KeyedHead:
    """The head of one keyed log."""

    def __init__(self, core: Core, index: KeyIndex, compaction: Compaction) -> None:
        self._core = core
        self._index = index
        self._compaction = compaction
        self._u64, self._u32 = core.mapping.u64, core.mapping.u32
        self._mode: int = self._u64[W_ADDMODE]

    def oldest(self) -> tuple[int, int] | None:
        """Offset and length of the oldest record of the log, at which HEAD is then."""
        core = self._core
        if not core.in_log():
            return None
        self.skip_tombstones()
        at = core.head()
        step = core.records.step_at(at)
        if step & ~STEP_MASK:
            raise CorruptedError(f"the oldest record, at {at}, has the step {step:#x}")
        return at, step

    def skip_tombstones(self) -> None:
        """Have HEAD go past tombstones, one commit for each chunk."""
        core = self._core
        if not core.in_log():
            return
        while True:
            start = core.head()
            core.chunks.bounds(start, "HEAD")
            length = self._tombstones(start)
            if not length:
                return
            if (start + length) & core.chunks.mask:
                self._pass_tombstones(start, length)
                return
            chunk = start & ~core.chunks.mask
            plan = core.begin()
            plan.add(W_DEAD, -length)
            at = core.leave(plan, chunk) + CHUNK_HEAD
            self._compaction.forget(plan, chunk)
            plan[W_HEAD + (plan.u64(W_POPPED) & 1)] = at
            core.commit(plan)

    def skip_within(self, start: int) -> bool:
        """Have HEAD, at `start` in a chunk in use, go past tombstones to a record of that chunk. False: to none."""
        length = self._tombstones(start)
        if not length or not (start + length) & self._core.chunks.mask:
            return False
        self._pass_tombstones(start, length)
        return True

    def _pass_tombstones(self, start: int, length: int) -> None:
        """Have HEAD go from `start` past so many bytes of tombstones, within their chunk."""
        u64, at = self._u64, start + length
        head, in_chunk = W_HEAD + (u64[W_POPPED] & 1), ((start & ~self._core.chunks.mask) >> 3) + C_DEAD
        dead, dead_here = u64[W_DEAD] - length, u64[in_chunk] - length
        packed = _skip(W_DEAD, dead, in_chunk, dead_here, head, at)
        flags = u64[W_FLAGS]
        u64[W_FLAGS] = flags | PENDING
        self._core.journal.store_list(packed)
        u64[W_DEAD] = dead
        u64[in_chunk] = dead_here
        u64[head] = at
        u64[W_COMMIT] = 0
        u64[W_FLAGS] = flags

    def _tombstones(self, start: int) -> int:
        """How long the tombstones are that begin there, in one chunk."""
        u32, at = self._u32, start
        end = (start | self._core.chunks.mask) + 1
        while at < end and (step := u32[at >> 2]) > TOMBSTONE and not step & 7:  # there may be thousands
            at += step - TOMBSTONE
        if at > end:
            raise CorruptedError(f"a tombstone behind the head {start} reaches over the end of its chunk")
        return at - start

    def leaves_chunk(self) -> bool:
        """Have HEAD leave a chunk that has nothing but tombstones. Return True if it did, so that there is memory."""
        before = self._core.head() & ~self._core.chunks.mask
        self.skip_tombstones()
        return bool(self._core.head() & ~self._core.chunks.mask != before)

    def plan_take(self, plan: Plan, at: int, length: int, holder: Holder | None) -> int:
        """As `Core.take`, with what the index and compaction have to do with it."""
        self._index.remove(plan, at)
        if length >= (at | self._core.chunks.mask) + 1 - at:
            span = self._core.records.span(at, length, plan)
            for chunk in (span.first, *span.middle, span.last):
                self._compaction.forget(plan, chunk)
        return self._core.take(plan, at, length, holder)

    def next(self, now: int) -> int:
        """Offset of the record that `fetch` or `reserve` would take; 0 if there is none. now: monotonic ns."""
        entry = self._core.in_flight.first_due(now)
        if entry:
            return entry.at
        found = self.oldest()
        return found[0] if found else 0

    def fetch(self, now: int) -> bytes | None:
        """Take what is returned and due, else the oldest record."""
        core = self._core
        entry = core.in_flight.first_due(now)
        if entry is None:
            found = self.oldest()
            if found is None:
                return None
            record = core.records.read(found[0])
            plan = core.begin()
            self.plan_take(plan, *found, None)
        else:
            record = core.records.read(entry.at)
            plan = core.begin()
            self._index.remove(plan, entry.at)
            core.release(plan, entry)
        core.commit(plan)
        if entry is None:
            core.measure(record)
            self.join(core.in_log())
        return record

    def drop_aged(self, now: int, before: float) -> int:
        """Drop the item that would be taken next, if it was added before then. Returns how many went."""
        core = self._core
        at = self.next(now)
        if not at or not core.records.added_at(at) < before:
            return 0
        plan = core.begin()
        entry = core.in_flight.first_due(now)
        if entry:
            self._index.remove(plan, entry.at)
            core.release(plan, entry)
        else:
            self.plan_take(plan, at, core.records.step_at(at) & STEP_MASK, None)
            plan.add(W_MEASURED, 1)
        plan.add(W_EXPIRED, 1)
        core.commit(plan)
        self.join(core.in_log())
        return 1

    def plan_drop(self, plan: Plan) -> None:
        """Drop the oldest item: a returned one, due or not, before those in the log. HEAD is at a record."""
        core = self._core
        entry = core.in_flight.first()
        if entry:
            self._index.remove(plan, entry.at)
            core.release(plan, entry)
        elif core.in_log():
            at = core.head()
            self.plan_take(plan, at, core.records.step_at(at) & STEP_MASK, None)
            plan.add(W_MEASURED, 1)
        else:
            return
        plan.add(W_DROPPED, 1)

    def drop(self, count: int) -> None:
        """Drop the oldest items."""
        for _ in range(count):
            self.skip_tombstones()
            plan = self._core.begin()
            self.plan_drop(plan)
            self._core.commit(plan)

    def reserve(self, holder: Holder, now: int) -> tuple[Delivery, bytes] | None:
        """Hold what is returned and due, else the oldest record. None if there is none, or no entry for it."""
        core = self._core
        entry = core.in_flight.first_due(now)
        if entry:
            return self.hold(entry, holder)
        found = self.oldest()
        return None if found is None else self._reserve(found, holder)

    def _reserve(self, found: tuple[int, int], holder: Holder) -> tuple[Delivery, bytes] | None:
        core = self._core
        if not core.in_flight.has_room():
            return None
        record = core.records.read_bytes(*found)
        lead, link = self._index.way_to(found[0])
        number = delivery.hold(core, *found, holder, lead, link)
        if number < 0:
            plan = core.begin()
            number = self.plan_take(plan, *found, holder)
            core.commit(plan)
        held = Delivery(number, self._u64[W_POPPED])
        core.measure(record)
        self.join(core.in_log())
        return held, record

    def reserve_oldest(self, holder: Holder) -> tuple[Delivery, bytes] | None:
        """`reserve` of an item that is no question, of a log of which nothing is returned. None where it takes more."""
        found = self.oldest()
        if found is None or self._u32[(found[0] >> 2) + R_VALUE] & QUESTION:
            return None
        return self._reserve(found, holder)

    def hold(self, entry: Entry, holder: Holder, *, counted: bool = True) -> tuple[Delivery, bytes]:
        """Hold what was returned. counted: it is one more delivery."""
        core = self._core
        record = core.records.read(entry.at)
        plan = core.begin()
        self._index.remove(plan, entry.at)
        plan[U32 + (entry.at >> 2)] = self._u32[entry.at >> 2] & ~RETURNED
        entry = core.in_flight.hold(plan, entry, holder, counted=counted)
        core.commit(plan)
        return Delivery.of(entry), record

    def nack(self, held: Delivery, due: int = 0, *, counted: bool = True) -> bool:
        """Return a held record, to be taken from `due` on (see `clock`). counted: the delivery that ends so counts.

        False if it is not this delivery any more, or gave way to another item of its key.
        """
        core, index = self._core, self._index
        entry = core.in_flight.held(*held[:3])
        if entry is None:
            return False
        place, other, lead = index.seek(core.records.key_at(entry.at))
        twin = self._entry_of(other) if other and self._u32[other >> 2] & RETURNED else None
        if other:
            other_is_newer = twin is None or twin.seq > entry.seq
            if other_is_newer == (self._mode == KEEP_NEWEST):
                plan = core.begin()
                core.release(plan, entry)
                plan.add(W_DISCARDED, 1)
                core.commit(plan)
                return False
        if twin:
            # Two commits: what a kill leaves between them is right, too, since the holder gives back, or dies.
            plan = core.begin()
            index.remove(plan, twin.at)
            core.release(plan, twin)
            plan.add(W_DISCARDED, 1)
            core.commit(plan)
        plan = core.begin()
        if other and not twin:
            index.replace(plan, lead, other, entry.at)
            self._compaction.bury(plan, other, core.records.step_at(other) & STEP_MASK)
        else:
            index.insert(plan, place, entry.at)
        plan[U32 + (entry.at >> 2)] = self._u32[entry.at >> 2] | RETURNED
        core.in_flight.give_back(plan, entry, due, counted=counted)
        core.commit(plan)
        return True

    def _entry_of(self, at: int) -> Entry:
        """Return the entry of a returned record."""
        entry = self._core.in_flight.of_record(at)
        if entry is None:
            raise CorruptedError(f"the record at {at} is marked as returned, and no in-flight entry has it")
        return entry

    def plan_discard(self, plan: Plan, at: int, length: int) -> None:
        """Have a record give way to another one of its key, to which the index leads already."""
        if self._u32[at >> 2] & RETURNED:
            self._core.release(plan, self._entry_of(at))
            plan.add(W_DISCARDED, 1)
        else:
            self._compaction.bury(plan, at, length)

    def join(self, items: int) -> None:
        """Close buckets when there are too many."""
        for _ in range(self._index.wanted_joins(items)):
            plan = self._core.begin()
            self._index.plan_join(plan)
            self._core.commit(plan)
