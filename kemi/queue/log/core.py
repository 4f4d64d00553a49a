# SPDX-License-Identifier: GPL-2.0-or-later
"""What a plain and a keyed log have in common: cursors, chunks of the log, and what leaves it at its head.

A log HAS one of these. All of it is called with the queue's lock held. Every change that is more than one store is an
operation of the journal, in this frame, where a raised exception leaves PENDING for `recover`:

    plan = core.begin()
    ...                    # chunks are allocated and freed, memory that nothing leads to is filled, stores are planned
    core.commit(plan)      # or core.abandon(), when there is no memory

Whoever holds the lock calls `recover` before it gives the lock back after an exception, and again if that raises; and
whoever takes the lock calls it when FLAGS has PENDING, or the last holder died. So the next operation always begins on
the state before the one that was broken off, or on the state after it.
"""

from __future__ import annotations

import struct
import time
from bisect import bisect_left
from typing import NamedTuple

from kemi.errors import CorruptedError
from kemi.queue.format.geometry import find_wrong
from kemi.queue.format.layout import (
    C_DETACHED,
    C_FIRST,
    C_HELD,
    CHUNK_HEAD,
    POSITION_WORDS,
    POSITIONS,
    POSITIONS_AT,
    R_ADDED,
    STEP_MASK,
    W_ADDED,
    W_BURIED,
    W_BYTE_LIMIT,
    W_CHUNKS,
    W_DEAD,
    W_HEAD,
    W_HEAD_ODD,
    W_HELD_BYTES,
    W_HIGH_WATER,
    W_MEASURED,
    W_POPPED,
    W_RECOVERED,
    W_RETURNED,
    W_SIZE_LIMIT,
    W_TAIL,
    W_WAITED,
    W_WAITED_SUM,
    WAITED_BOUNDS,
    Mapping,
)
from kemi.queue.format.outcome import AddResult
from kemi.queue.store.chunks import Chunks, Memory
from kemi.queue.store.inflight import Entry, Holder, InFlight
from kemi.queue.store.journal import Journal, Plan
from kemi.queue.store.records import Records

ADDED, KEPT, NO_MEMORY = AddResult.ADDED, AddResult.KEPT, AddResult.NO_MEMORY
TOO_LARGE, FULL = AddResult.TOO_LARGE, AddResult.FULL

MEASURE_BYTES = 1 << 16  # that hot fetches take before the time in the queue is measured again
_LONGEST_WAIT = 1e9  # seconds
_WORD = (1 << 64) - 1
_SHORT_WAIT = WAITED_BOUNDS[0]
_added = struct.Struct(f"={R_ADDED}xd").unpack_from
_chunk_head = struct.Struct("=8Q").pack
_now = time.time


class Delivery(NamedTuple):
    """A record that is held: what `ack` and `nack` want to see."""

    number: int  # of the in-flight entry
    seq: int
    turn: int = 1  # which of its deliveries this is
    deliveries: int = 1  # how many of them count, with this one

    @classmethod
    def of(cls, entry: Entry) -> Delivery:
        """Return what an entry that is held is now."""
        return cls(entry.number, entry.seq, entry.turn, entry.deliveries)


class Position(NamedTuple):
    """How far a stream was relayed to this queue, committed with the item that came from there."""

    place: int  # of POSITIONS
    source: int  # what the relay calls the stream; 0 = none
    major: int
    minor: int


def _check_geometry(mapping: Mapping) -> None:
    """Raise CorruptedError for a segment whose parts do not fit together."""
    if wrong := find_wrong(mapping.u64, len(mapping.u64) * 8):
        raise CorruptedError(wrong)


class Core:
    """The parts of one log, and what is the same for all logs."""

    def __init__(self, mapping: Mapping, memory: Memory) -> None:
        _check_geometry(mapping)
        self.mapping = mapping
        self._u64 = mapping.u64
        self.journal = Journal(mapping)
        self.chunks = Chunks(mapping, memory)
        self.records = Records(mapping, self.chunks)
        self.in_flight = InFlight(mapping)
        _check_geometry(mapping)  # once more: a wild store may have come between that look and what the parts read

    # --- operations ---------------------------------------------------------------------------------------------------

    def begin(self) -> Plan:
        """Begin an operation."""
        self.journal.begin()
        return Plan(self.mapping)

    def commit(self, plan: Plan) -> None:
        """Do an operation."""
        self.journal.commit(plan)
        freed = self.chunks.settle(committed=True)
        self.journal.close()
        self.chunks.trim(freed)
        self.journal.end()

    def abandon(self) -> None:
        """Do nothing after all: there is no memory."""
        freed = self.chunks.settle(committed=False)
        self.chunks.trim(freed, scarce=True)
        self.journal.end()

    def redo(self) -> None:
        """Do the first half of a recovery; `end_recovery` is the second."""
        committed = self.journal.redo(self.chunks.has_memory)
        self.chunks.recover(committed=committed)
        self.journal.close()

    def end_recovery(self) -> None:
        """All is as it must be."""
        self._u64[W_RECOVERED] = self._u64[W_RECOVERED] + 1
        self.journal.end()

    # --- looking ------------------------------------------------------------------------------------------------------

    def tail(self) -> int:
        """Offset behind the last record."""
        return int(self._u64[W_TAIL + (self._u64[W_ADDED] & 1)])

    def head(self) -> int:
        """Offset of the oldest record."""
        return int(self._u64[W_HEAD + (self._u64[W_POPPED] & 1)])

    def ends(self, plan: Plan) -> tuple[int, int]:
        """Return the chunks in which HEAD and TAIL will be."""
        head = plan.u64(W_HEAD + (plan.u64(W_POPPED) & 1))
        tail = plan.u64(W_TAIL + (plan.u64(W_ADDED) & 1))
        return head & ~self.chunks.mask, tail & ~self.chunks.mask

    def in_log(self) -> int:
        """Return how many records are in the log. Raises CorruptedError for a number that cannot be."""
        items: int = self._u64[W_ADDED] - self._u64[W_POPPED] - self._u64[W_BURIED]
        if not 0 <= items <= self.chunks.count * self.chunks.room >> 3:
            raise CorruptedError(f"{items} records are said to be in the log")
        return items

    def size(self) -> int:
        """Items that nobody holds. Without the lock it is never too small by an item that is there all the time."""
        removed = self._u64[W_POPPED] + self._u64[W_BURIED]
        items = self._u64[W_ADDED] - removed + self._u64[W_RETURNED]
        return int(min(max(0, items), self.chunks.count << self.chunks.bits))

    def used_bytes(self) -> int:
        """Bytes of all records that are in the log or in flight."""
        mask = self.chunks.mask
        between = (self._u64[W_CHUNKS] - 1) * self.chunks.room + (self.tail() & mask) - (self.head() & mask)
        return int(between - self._u64[W_DEAD] + self._u64[W_HELD_BYTES])

    def is_full(self, more: int) -> bool:
        """Return True if so many bytes more are against the byte limit."""
        limit = self._u64[W_BYTE_LIMIT]
        return bool(limit and self.used_bytes() + more > limit)

    def can_start_over(self) -> bool:
        """Return True if the log is empty and nothing in its only chunk is in flight, so that it may begin anew."""
        chunk = self.tail() & ~self.chunks.mask
        return not self.in_log() and self.head() & ~self.chunks.mask == chunk and not self._u64[(chunk >> 3) + C_HELD]

    def excess(self, more: int) -> int:
        """Items beyond the size limit when there are so many more."""
        limit = self._u64[W_SIZE_LIMIT]
        return max(0, self.size() + more - int(limit)) if limit else 0

    def measure(self, record: bytes) -> None:
        """Count how long a record that leaves at the head was in the queue, for all that left since the last one.

        Single stores, of which a kill may leave one out.
        """
        u64 = self._u64
        popped = u64[W_POPPED]
        left = popped - u64[W_MEASURED]
        if left <= 0:
            return
        waited = _now() - _added(record)[0]
        word = W_WAITED
        if not 0.0 <= waited <= _LONGEST_WAIT:
            waited = 0.0  # the system's clock was set
        elif waited > _SHORT_WAIT:
            word += bisect_left(WAITED_BOUNDS, waited)
        u64[word] = u64[word] + left & _WORD
        u64[W_WAITED_SUM] = u64[W_WAITED_SUM] + int(waited * 1e6) * left & _WORD
        u64[W_MEASURED] = popped

    # --- growing ------------------------------------------------------------------------------------------------------

    def start_chunk(self, chunk: int, following: int, previous: int, first: int) -> None:
        """Write the head of a chunk that was taken."""
        self.mapping.bytes[chunk : chunk + CHUNK_HEAD] = _chunk_head(following, previous, 0, first, 0, 0, 0, 0)

    def first_record(self, chunk: int, at: int) -> None:
        """Note where the first record begins in a chunk that was taken."""
        self._u64[(chunk >> 3) + C_FIRST] = at

    def position(self, plan: Plan, position: Position | None) -> None:
        """Store how far a stream was relayed, with what the plan adds. Raises ValueError for a wrong place."""
        if position is None:
            return
        if not 0 <= position.place < POSITIONS:
            raise ValueError(f"place={position.place}: a queue has the positions of {POSITIONS} streams")
        word = (POSITIONS_AT >> 3) + position.place * POSITION_WORDS
        plan[word], plan[word + 1], plan[word + 2] = position.source, position.major, position.minor

    def position_of(self, source: int) -> Position | None:
        """How far a stream was relayed; None if it has no place, and there is none for it.

        With major and minor 0 where nothing came from there yet.
        """
        found = self.positions()
        free = set(range(POSITIONS)) - {position.place for position in found}
        for position in found:
            if position.source == source:
                return position
        return Position(min(free), source, 0, 0) if free else None

    def positions(self) -> list[Position]:
        """How far each stream was relayed."""
        first = POSITIONS_AT >> 3
        rows = [self._u64[first + n * POSITION_WORDS : first + n * POSITION_WORDS + 3] for n in range(POSITIONS)]
        return [Position(place, *row) for place, row in enumerate(rows) if row[0]]

    # --- what leaves the log at its head ------------------------------------------------------------------------------

    def take(self, plan: Plan, at: int, length: int, holder: Holder | None, filler: int = 0) -> int:
        """Move HEAD past the record at `at`: it is gone, or a holder has it then.

        filler: a chunk of which HEAD leaves the unused end first. Returns the number of the in-flight entry, 0 without
        a holder; -1 if there is no entry.
        """
        popped = plan.u64(W_POPPED)
        span = self.records.span(at, length, plan)
        number = 0
        if holder:
            number = self.in_flight.alloc(plan, at, popped + 1, holder)
            if number < 0:
                return number
            plan.add(W_HELD_BYTES, length)
            for chunk in span.ends():
                plan.add((chunk >> 3) + C_HELD, 1)
        else:
            for chunk in span.middle:
                self.chunks.free(chunk)
        head = self.records.after(span, plan)
        left = [chunk for chunk in (filler, *span.ends()) if chunk not in (0, head & ~self.chunks.mask)]
        for chunk in left:
            self._detach(plan, chunk)
        if left:
            plan.add(W_CHUNKS, -len(left) - len(span.middle))
        plan[W_HEAD_ODD - (popped & 1)] = head
        plan[W_POPPED] = popped + 1
        high = self._u64[W_ADDED] - popped - self._u64[W_BURIED]
        if high > self._u64[W_HIGH_WATER]:
            plan[W_HIGH_WATER] = high
        return number

    def leave(self, plan: Plan, chunk: int) -> int:
        """HEAD leaves a chunk in which nothing is alive. Returns the next one."""
        following = self.records.next_chunk(chunk, plan)
        self._detach(plan, chunk)
        plan.add(W_CHUNKS, -1)
        return following

    def _detach(self, plan: Plan, chunk: int) -> None:
        """Take a chunk out of the log; it stays in use while records in it are in flight."""
        if plan.u64((chunk >> 3) + C_HELD):
            plan[(chunk >> 3) + C_DETACHED] = 1
        else:
            self.chunks.free(chunk)

    def release(self, plan: Plan, entry: Entry) -> None:
        """Forget what is in flight: its entry, and the chunks that are in use for it alone."""
        length = self.records.step_at(entry.at) & STEP_MASK
        span = self.records.span(entry.at, length)
        self.in_flight.free(plan, entry)
        plan.add(W_HELD_BYTES, -length)
        for chunk in span.middle:
            self.chunks.free(chunk)
        for chunk in span.ends():
            word = chunk >> 3
            if not plan.add(word + C_HELD, -1) and plan.u64(word + C_DETACHED):
                self.chunks.free(chunk)
