# SPDX-License-Identifier: GPL-2.0-or-later
"""What leaves a plain log at its head, and comes back: the oldest record, and what was returned.

Returned records that are due come before all others. Called with the queue's lock held; each change is one commit.
"""

from __future__ import annotations

from functools import partial
from typing import Any, final

from kemi.errors import CorruptedError
from kemi.queue.format.layout import (
    CHUNK_HEAD,
    QUESTION,
    R_VALUE,
    RECORD_HEAD,
    STEP_MASK,
    TOMBSTONE,
    W_ADDED,
    W_DROPPED,
    W_EXPIRED,
    W_HEAD,
    W_MEASURED,
    W_POPPED,
)
from kemi.queue.log import delivery
from kemi.queue.log.core import Core, Delivery
from kemi.queue.store.inflight import Entry, Holder
from kemi.queue.store.journal import Plan

_delivery: Any = partial(tuple.__new__, Delivery)  # a third of the price of Delivery(...)
_MAX_AGED = 48  # items that one commit drops: some 60 µs


@final
class PlainHead:
    """The head of one plain log."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._low = self._end = 0  # of the chunk in which a record was reserved last

    def oldest(self) -> tuple[int, int, int] | None:
        """Offset and length of the oldest record of the log, and the chunk whose end is unused before it, or 0."""
        core = self._core
        if not core.in_log():
            return None
        at, filler = core.head(), 0
        step = core.records.step_at(at)
        if step & TOMBSTONE:
            filler = at & ~core.chunks.mask
            at = core.records.next_chunk(filler) + CHUNK_HEAD
            step = core.records.step_at(at)
            if step & TOMBSTONE:
                raise CorruptedError(f"nothing but unused room is at the head, {at}")
        return at, step & STEP_MASK, filler

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
            core.take(plan, found[0], found[1], None, found[2])
        else:
            record = core.records.read(entry.at)
            plan = core.begin()
            core.release(plan, entry)
        core.commit(plan)
        if entry is None:
            core.measure(record)
        return record

    def drop_aged(self, now: int, before: float) -> int:
        """Drop some of the items that would be taken next, as long as they were added before then. Returns how many."""
        core = self._core
        at = self.next(now)
        if not at or not core.records.added_at(at) < before:
            return 0
        plan = core.begin()
        entry = core.in_flight.first_due(now)
        count = 1
        if entry:
            core.release(plan, entry)
        else:
            count = self._plan_drop_run(plan, before)
            if not count:
                found = self.oldest()
                if found is None:
                    raise CorruptedError(f"the item at {at} is in no log")
                count = 1
                core.take(plan, found[0], found[1], None, found[2])
            plan.add(W_MEASURED, count)
        plan.add(W_EXPIRED, count)
        core.commit(plan)
        return count

    def _plan_drop_run(self, plan: Plan, before: float) -> int:
        """Drop records from HEAD on that end in its chunk. Returns how many; 0 where it takes more."""
        core = self._core
        u32 = core.mapping.u32
        at = core.head()
        _, high = core.chunks.bounds(at, "HEAD")
        count, most = 0, min(core.in_log(), _MAX_AGED)
        while count < most and at + RECORD_HEAD < high:
            end = at + u32[at >> 2]
            if not at + RECORD_HEAD <= end < high or not core.records.added_at(at) < before:
                break
            at = end
            count += 1
        if count:
            popped = plan.u64(W_POPPED) + count
            plan[W_HEAD + (popped & 1)] = at
            plan[W_POPPED] = popped
        return count

    def plan_drop(self, plan: Plan) -> None:
        """Drop the oldest item: a returned one, due or not, before those in the log."""
        core = self._core
        entry = core.in_flight.first()
        if entry:
            core.release(plan, entry)
        else:
            found = self.oldest()
            if found is None:
                return
            core.take(plan, found[0], found[1], None, found[2])
            plan.add(W_MEASURED, 1)
        plan.add(W_DROPPED, 1)

    def reserve(self, holder: Holder, now: int) -> tuple[Delivery, bytes] | None:
        """Hold what is returned and due, else the oldest record. None if there is none, or no entry for it."""
        core = self._core
        entry = core.in_flight.first_due(now)
        if entry:
            return self.hold(entry, holder)
        found = self.oldest()
        if found is None or not core.in_flight.has_room():
            return None
        at, length, filler = found
        record = core.records.read_bytes(at, length)
        number = -1 if filler else delivery.hold(core, at, length, holder)
        if number < 0:
            plan = core.begin()
            number = core.take(plan, at, length, holder, filler)
            core.commit(plan)
        core.measure(record)
        return Delivery(number, core.mapping.u64[W_POPPED]), record

    def reserve_oldest(self, holder: Holder) -> tuple[Delivery, bytes] | None:
        """`reserve` of an item that is no question, of a log of which nothing is returned. None where it takes more."""
        core = self._core
        mapping = core.mapping
        u64, u32 = mapping.u64, mapping.u32
        popped = u64[W_POPPED]
        at = u64[W_HEAD + (popped & 1)]
        if u64[W_ADDED] <= popped or not self._low <= at < self._end:
            return self._reserve_first(holder, at)
        half = at >> 2
        end = at + u32[half]
        if not at + RECORD_HEAD <= end < self._end or u32[half + R_VALUE] & QUESTION:
            return None
        record = mapping.bytes[at:end]
        number = delivery.hold(core, at, end - at, holder)
        if number < 0:
            if not core.in_flight.has_room():
                return None
            plan = core.begin()
            number = core.take(plan, at, end - at, holder)
            core.commit(plan)
        core.measure(record)
        return _delivery((number, popped + 1, 1, 1)), record

    def _reserve_first(self, holder: Holder, at: int) -> tuple[Delivery, bytes] | None:
        """`reserve_oldest` in a chunk in which this process was not yet."""
        core = self._core
        if not core.in_log() or self._low <= at < self._end:
            return None
        low, end = core.chunks.bounds(at, "HEAD")
        self._end = 0  # empty, should a signal handler raise between the two
        self._low = low
        self._end = end
        return self.reserve_oldest(holder)

    def hold(self, entry: Entry, holder: Holder, *, counted: bool = True) -> tuple[Delivery, bytes]:
        """Hold what was returned. counted: it is one more delivery."""
        core = self._core
        record = core.records.read(entry.at)
        plan = core.begin()
        entry = core.in_flight.hold(plan, entry, holder, counted=counted)
        core.commit(plan)
        return Delivery.of(entry), record

    def nack(self, held: Delivery, due: int = 0, *, counted: bool = True) -> bool:
        """Return a held record, to be taken from `due` on (see `clock`). False if it is not this delivery any more.

        counted: the delivery that ends so counts.
        """
        entry = self._core.in_flight.held(*held[:3])
        if entry is None:
            return False
        plan = self._core.begin()
        self._core.in_flight.give_back(plan, entry, due, counted=counted)
        self._core.commit(plan)
        return True
