# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of addmode 0: records in the order of adding, no lock, no clock, no system call but for memory.

The short way of `append` and `pop` is spelled out a second time where queues add and fetch. It is one commit each:

    append: the record behind TAIL | the word of TAIL that does not count | ADDED + 1, which commits
    pop:    the word of HEAD that does not count | POPPED + 1, which commits

A counter's lowest bit says which of two cursor words counts, so its store changes both. What was stored before it is
behind TAIL, or in a word that does not count: nobody reads it, and the next one stores there anew.

The short way is open while FLAGS allows it and the cursor is in the chunk around which this process last found all
well: `tail_low`, `tail_end`, `head_low` and `head_end` are its bounds. A cursor that is anywhere else, because the log
went on or because the word was overwritten, is checked against the chunk map before anything is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import final

from kemi.queue.format.layout import (
    C_NEXT,
    CHUNK_HEAD,
    FETCH_FLAGS,
    MAX_STEP,
    RECORD_HEAD,
    STEP_MASK,
    TOMBSTONE,
    W_ADDED,
    W_CHUNKS,
    W_FLAGS,
    W_HEAD,
    W_HEAD_ODD,
    W_HIGH_WATER,
    W_POPPED,
    W_TAIL,
    W_TAIL_ODD,
    Mapping,
)
from kemi.queue.format.outcome import AddResult
from kemi.queue.log import delivery
from kemi.queue.log.core import ADDED, FULL, MEASURE_BYTES, NO_MEMORY, TOO_LARGE, Core, Position
from kemi.queue.log.plain_head import PlainHead
from kemi.queue.store.chunks import Memory
from kemi.queue.store.journal import Plan

_MAX_DROPS = 64  # items that one add drops at most, when the size limit was lowered


@final
class PlainLog:
    """A first-in first-out log."""

    def __init__(self, mapping: Mapping, memory: Memory) -> None:
        self.core = Core(mapping, memory)
        self.head = head = PlainHead(self.core)
        self.next, self.fetch, self.drop_aged = head.next, head.fetch, head.drop_aged
        self.reserve_oldest = head.reserve_oldest
        self.reserve, self.hold, self.nack = head.reserve, head.hold, head.nack
        self.ack = partial(delivery.ack, self.core)
        self._bytes, self._u64, self._u32 = mapping
        self.tail_low = self.tail_end = self.head_low = self.head_end = 0

    def format(self) -> bool:
        """Make an empty log of a zeroed segment whose geometry is written. False if there is no memory."""
        core = self.core
        plan = core.begin()
        chunk = core.chunks.alloc()
        if not chunk:
            core.abandon()
            return False
        core.start_chunk(chunk, 0, 0, 0)
        plan[W_TAIL] = plan[W_HEAD] = chunk + CHUNK_HEAD
        plan[W_CHUNKS] = 1
        core.commit(plan)
        return True

    def recover(self) -> None:
        """Finish what was broken off, or undo it. Raises CorruptedError."""
        self.core.redo()
        self.core.end_recovery()

    # --- append -------------------------------------------------------------------------------------------------------

    def append(self, record: bytes, step: int) -> AddResult:
        """Append a record of `step` bytes (its length, rounded up to 8). Returns ADDED, NO_MEMORY or TOO_LARGE."""
        u64 = self._u64
        added = u64[W_ADDED]
        odd = added & 1
        tail = u64[W_TAIL + odd]
        end = tail + step
        if self.tail_low <= tail and end < self.tail_end and not tail & 7:
            self._bytes[tail : tail + len(record)] = record
            u64[W_TAIL_ODD - odd] = end
            u64[W_ADDED] = added + 1  # commit
            return ADDED
        low, high = self.core.chunks.bounds(tail, "TAIL")
        if end < high:
            self.tail_end = 0  # nothing lies within, should a signal handler raise before both are known
            self.tail_low = low
            self.tail_end = high
            return self.append(record, step)
        return self.append_with(record, step)

    def append_with(self, record: bytes, step: int, position: Position | None = None) -> AddResult:
        """As `append`, by the journal: within the limits of the queue, and with a stream's position."""
        core = self.core
        if step > MAX_STEP or step > core.chunks.count * core.chunks.room:
            return TOO_LARGE
        if core.is_full(step):
            return FULL
        excess = core.excess(1)
        plan = core.begin()
        if not self._plan_append(plan, record, step):
            core.abandon()
            return NO_MEMORY
        core.position(plan, position)
        if excess > 0:
            self.head.plan_drop(plan)
        core.commit(plan)
        for _ in range(min(excess, _MAX_DROPS) - 1):
            plan = core.begin()
            self.head.plan_drop(plan)
            core.commit(plan)
        return ADDED

    def _plan_append(self, plan: Plan, record: bytes, step: int) -> bool:
        """Write a record where nobody reads it yet. False if there is no memory."""
        core = self.core
        tail = core.tail()
        _, end = core.chunks.bounds(tail, "TAIL")
        if tail + step < end:
            self._bytes[tail : tail + len(record)] = record
            self._plan_tail(plan, tail + step)
            return True
        if step < core.chunks.room and core.can_start_over():
            start = end - core.chunks.room
            self._bytes[start : start + len(record)] = record
            plan[W_HEAD + (plan.u64(W_POPPED) & 1)] = start
            self._plan_tail(plan, start + step)
            return True
        left = end - tail
        here = left if left >= RECORD_HEAD else 0
        behind = step - here
        room = core.chunks.room
        fresh = core.chunks.alloc_many(behind // room + 1)
        if not fresh:
            return False
        if here:
            self._bytes[tail : tail + min(here, len(record))] = record[:here]
        else:
            self._u32[tail >> 2] = TOMBSTONE | left
        for number, (chunk, following) in enumerate(zip(fresh, [*fresh[1:], 0])):
            core.start_chunk(chunk, following, 0, 0)
            part = record[here + number * room : here + (number + 1) * room]
            self._bytes[chunk + CHUNK_HEAD : chunk + CHUNK_HEAD + len(part)] = part
        plan[((tail & ~core.chunks.mask) >> 3) + C_NEXT] = fresh[0]
        plan.add(W_CHUNKS, len(fresh))
        self._plan_tail(plan, fresh[-1] + CHUNK_HEAD + behind % room)
        return True

    def _plan_tail(self, plan: Plan, end: int) -> None:
        added = plan.u64(W_ADDED)
        plan[W_TAIL_ODD - (added & 1)] = end
        plan[W_ADDED] = added + 1

    def append_run(self, records: list[bytes], first: int) -> int:
        """Append records from `first` on, each as long as its step, in one commit while they fit into the chunk.

        Returns how many were appended; 0 where `append` has to go on.
        """
        u64 = self._u64
        added = u64[W_ADDED]
        odd = added & 1
        tail = u64[W_TAIL + odd]
        _, high = self.core.chunks.bounds(tail, "TAIL")
        count, left = 0, high - tail
        for record in records[first:]:
            left -= len(record)
            if left <= 0:
                break
            count += 1
        if count <= 0:
            return 0
        data = b"".join(records[first : first + count])
        self._bytes[tail : tail + len(data)] = data
        if count & 1:
            u64[W_TAIL_ODD - odd] = tail + len(data)
            u64[W_ADDED] = added + count  # commit
        else:
            self._commit_even(W_TAIL + odd, tail + len(data), W_ADDED, count)
        return count

    def _commit_even(self, cursor: int, offset: int, counter: int, count: int) -> None:
        """Count an even number of records more, which leaves the same word of the cursor in use."""
        plan = self.core.begin()
        plan[cursor] = offset
        plan.add(counter, count)
        self.core.commit(plan)

    # --- what leaves at the head --------------------------------------------------------------------------------------

    def pop(self) -> bytes | None:
        """Take the oldest record of the log; None if there is none. What is returned comes by `fetch`."""
        u64 = self._u64
        popped = u64[W_POPPED]
        items = u64[W_ADDED] - popped
        odd = popped & 1
        head = u64[W_HEAD + odd]
        if 0 < items <= u64[W_HIGH_WATER] and self.head_low <= head < self.head_end:
            end = head + self._u32[head >> 2]
            if head + RECORD_HEAD <= end < self.head_end:
                record: bytes = self._bytes[head:end]
                u64[W_HEAD_ODD - odd] = end
                u64[W_POPPED] = popped + 1  # commit
                return record
        return self._pop_slow()

    def _pop_slow(self) -> bytes | None:
        found = self.head.oldest()
        if found is None:
            return None
        at, length, filler = found
        core, u64 = self.core, self._u64
        low, high = core.chunks.bounds(at, "HEAD")
        if not filler and at + length < high:
            self.head_end = 0  # as in `append`
            self.head_low = low
            self.head_end = min(high, at + max(MEASURE_BYTES, length + 1))
            u64[W_HIGH_WATER] = max(u64[W_HIGH_WATER], core.in_log())
            popped = u64[W_POPPED]
            record: bytes = self._bytes[at : at + length]
            u64[W_HEAD_ODD - (popped & 1)] = at + length
            u64[W_POPPED] = popped + 1  # commit
            core.measure(record)
            return record
        record = core.records.read(at)
        plan = core.begin()
        core.take(plan, at, length, None, filler)
        core.commit(plan)
        core.measure(record)
        return record

    def pop_run(self, count: int) -> list[bytes]:
        """Take up to `count` records that lie within the chunk at HEAD, in one commit.

        None where `pop` or `fetch` has more to do.
        """
        u64, u32 = self._u64, self._u32
        popped = u64[W_POPPED]
        items = u64[W_ADDED] - popped
        at = u64[W_HEAD + (popped & 1)]
        if not 0 < items <= u64[W_HIGH_WATER] or u64[W_FLAGS] >= FETCH_FLAGS:
            return []
        _, high = self.core.chunks.bounds(at, "HEAD")
        ends = [at]
        while len(ends) <= min(count, items) and at + RECORD_HEAD < high:
            end = at + u32[at >> 2]
            if not at + RECORD_HEAD <= end < high:
                break
            ends.append(end)
            at = end
        found = [self._bytes[start:end] for start, end in zip(ends, ends[1:])]
        if len(found) & 1:
            u64[W_HEAD_ODD - (popped & 1)] = ends[-1]
            u64[W_POPPED] = popped + len(found)  # commit
        elif found:
            self._commit_even(W_HEAD + (popped & 1), ends[-1], W_POPPED, len(found))
        if found:
            self.core.measure(found[-1])
        return found

    # --- looking ------------------------------------------------------------------------------------------------------

    def scan(self) -> Iterator[int]:
        """Offsets of the records of the log, from the oldest on."""
        found = self.head.oldest()
        if found is None:
            return
        core = self.core
        at = found[0]
        for left in range(core.in_log(), 0, -1):
            step = core.records.step_at(at)
            if step & TOMBSTONE:
                at = core.records.next_chunk(at & ~core.chunks.mask) + CHUNK_HEAD
                step = core.records.step_at(at)
            yield at
            if left > 1:
                at = core.records.after(core.records.span(at, step & STEP_MASK))
