# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of records that leave a keyed log in its middle, and of the room that they leave.

A record that is replaced becomes a tombstone where it lies; the dead bytes are counted for each chunk and for all. A
chunk in which nothing is alive leaves the chain with the same commit. When FACTOR times what is alive is dead, each add
moves a few records: a fresh chunk, the target, is put before a chunk that is more than half dead, the source,
and the source's live records are moved to the target, in their order, until the source is empty and leaves the chain.
Then its successor is the source, while that is half dead, too, and there is room.

    chain:  ... <-> target | <-> source | <-> ...
                    moved  |     tombstones, then what is to be moved (from SOURCE_AT on)
                    one tombstone to its end, into which a record is copied before it counts

Moving a record is one commit: the copy counts, the key index leads to it, the original is a tombstone.

A record longer than a chunk begins a chunk, and its last chunk notes where the first record behind it begins
(C_FIRST); such a chunk is no source while the long record lives. Records in flight lie before HEAD, where nothing is
moved. Called with the queue's lock held.
"""

from __future__ import annotations

import struct
from typing import final

from kemi.errors import CorruptedError
from kemi.queue.format.layout import (
    C_DEAD,
    C_FIRST,
    C_NEXT,
    C_PREVIOUS,
    CHUNK_HEAD,
    PENDING,
    STEP_MASK,
    TOMBSTONE,
    U32,
    W_BURIED,
    W_CHUNKS,
    W_DEAD,
    W_FLAGS,
    W_HEAD,
    W_POPPED,
    W_SOURCE_AT,
    W_SWEEP,
    W_TARGET,
    W_TARGET_AT,
)
from kemi.queue.log.core import Core
from kemi.queue.store.journal import Plan
from kemi.queue.store.keyindex import KeyIndex

FACTOR = 2  # so many times of what is alive may be dead
SLACK_CHUNKS = 2  # and so many chunks more
_MAX_MOVES = 16  # records in one add, some 10 µs each
_MAX_PASSED = 256  # tombstones in one add
_MAX_LOOKS = 16  # chunks that are looked at in one add, to find a source
_MIN_TOMBSTONE = 8  # bytes
_MIN_BUDGET = 1024  # bytes to go through in one add
_moved = struct.Struct("=14Q").pack


@final
class Compaction:
    """Tombstones and their removal, of one log."""

    def __init__(self, core: Core, index: KeyIndex) -> None:
        self._core = core
        self._index = index
        self._bytes, self._u64, self._u32 = core.mapping
        self._room = core.chunks.room

    # --- tombstones ---------------------------------------------------------------------------------------------------

    def bury(self, plan: Plan, at: int, length: int) -> None:
        """Make a record of the log a tombstone; the index does not lead to it any more."""
        core = self._core
        span = core.records.span(at, length, plan)
        plan.add(W_BURIED, 1)
        if length < core.chunks.room:
            plan[U32 + (at >> 2)] = TOMBSTONE | length
            self.count_dead(plan, span.first, length)
            return
        # A long one, which begins its first chunk: all chunks that it fills go at once.
        behind = core.records.after(span, plan)
        entered = behind & ~core.chunks.mask
        full = [chunk for chunk in (span.first, *span.middle, span.last) if chunk not in (0, entered)]
        for chunk in full:
            self.forget(plan, chunk)
            core.chunks.free(chunk)
        plan.add(W_CHUNKS, -len(full))
        if at == core.head():
            plan[W_HEAD + (self._u64[W_POPPED] & 1)] = behind
            return
        before = self._previous(plan, span.first)
        plan[(before >> 3) + C_NEXT] = entered
        plan[(entered >> 3) + C_PREVIOUS] = before
        if entered == span.last:
            first = entered + CHUNK_HEAD
            plan[(entered >> 3) + C_FIRST] = first
            plan[U32 + (first >> 2)] = TOMBSTONE | (behind - first)
            self.count_dead(plan, entered, behind - first)

    def count_dead(self, plan: Plan, chunk: int, length: int) -> None:
        """Count more dead bytes in a chunk of the log, which leaves the chain when nothing in it is alive."""
        core = self._core
        plan.add(W_DEAD, length)
        dead = plan.add((chunk >> 3) + C_DEAD, length)
        if dead > core.chunks.room:
            raise CorruptedError(f"{dead} bytes are dead in the chunk at {chunk}, which has {core.chunks.room}")
        if dead == core.chunks.room and chunk not in core.ends(plan):
            self.unlink(plan, chunk)

    def unlink(self, plan: Plan, chunk: int) -> None:
        """Take a chunk in which nothing is alive out of the middle of the chain."""
        before, behind = self._previous(plan, chunk), self._core.records.next_chunk(chunk, plan)
        if plan.u64((behind >> 3) + C_PREVIOUS) != chunk:
            raise CorruptedError(f"the chunk at {behind} does not follow {chunk}")
        plan[(before >> 3) + C_NEXT] = behind
        plan[(behind >> 3) + C_PREVIOUS] = before
        plan.add(W_CHUNKS, -1)
        plan.add(W_DEAD, -plan.u64((chunk >> 3) + C_DEAD))
        self.forget(plan, chunk)
        self._core.chunks.free(chunk)

    def _previous(self, plan: Plan, chunk: int) -> int:
        """Return the chunk before one in the chain."""
        before = self._core.chunks.check_used(plan.u64((chunk >> 3) + C_PREVIOUS), f"the chunk before {chunk}")
        if plan.u64((before >> 3) + C_NEXT) != chunk:
            raise CorruptedError(f"the chunk at {before} is not followed by {chunk}")
        return before

    def forget(self, plan: Plan, chunk: int) -> None:
        """Let nothing here lead to a chunk any more: it leaves the log."""
        if plan.u64(W_TARGET) == chunk:
            plan[W_TARGET] = plan[W_TARGET_AT] = plan[W_SOURCE_AT] = 0
        if plan.u64(W_SWEEP) == chunk:
            plan[W_SWEEP] = 0
        if plan.u64(W_SOURCE_AT) & ~self._core.chunks.mask == chunk:
            plan[W_SOURCE_AT] = 0

    # --- compaction ---------------------------------------------------------------------------------------------------

    def is_due(self, dead: int) -> bool:
        """Return True if `step` has something to do while so many bytes are dead."""
        return bool(self._u64[W_TARGET] or dead > self.enough())

    def enough(self) -> int:
        """How many bytes may be dead in a log of so many chunks."""
        return int((FACTOR * self._u64[W_CHUNKS] + SLACK_CHUNKS) * self._room // (FACTOR + 1))

    def step(self, length: int) -> None:
        """Do a little, after an add of `length` bytes."""
        if self._u64[W_TARGET]:
            self._fill(max(2 * length, _MIN_BUDGET))
        else:
            source = self._find_source()
            if source:
                self._start(source)

    def _ends(self) -> tuple[int, int]:
        """Return the chunks with HEAD and TAIL."""
        return self._core.ends(Plan(self._core.mapping))

    def _is_source(self, chunk: int) -> bool:
        word = chunk >> 3
        return (
            chunk not in self._ends()
            and self._u64[word + C_DEAD] > self._core.chunks.room // 2
            and self._u64[word + C_FIRST] == chunk + CHUNK_HEAD
        )

    def _find_source(self) -> int:
        """Look at the next few chunks."""
        core = self._core
        head, tail = self._ends()
        chunk = self._u64[W_SWEEP]
        chunk = core.chunks.check_used(chunk, "the chunk looked at next") if chunk else head
        for _ in range(_MAX_LOOKS):
            if self._is_source(chunk):
                return int(chunk)
            chunk = 0 if chunk == tail else core.records.next_chunk(chunk)
            self._u64[W_SWEEP] = chunk
            if not chunk:
                break
        return 0

    def _start(self, source: int) -> None:
        """Put an empty target before a source."""
        core = self._core
        plan = core.begin()
        target = core.chunks.alloc()
        if not target:
            core.abandon()
            return
        before = self._previous(plan, source)
        core.start_chunk(target, source, before, target + CHUNK_HEAD)
        room = core.chunks.room
        self._u64[(target >> 3) + C_DEAD] = room
        self._u32[target + CHUNK_HEAD >> 2] = TOMBSTONE | room
        plan[(before >> 3) + C_NEXT] = target
        plan[(source >> 3) + C_PREVIOUS] = target
        plan.add(W_CHUNKS, 1)
        plan.add(W_DEAD, room)
        plan[W_TARGET] = target
        plan[W_TARGET_AT] = target + CHUNK_HEAD
        plan[W_SOURCE_AT] = 0
        core.commit(plan)

    def _stop(self) -> None:
        """Leave the target as it is; one that nothing was moved to leaves the chain."""
        core = self._core
        plan = core.begin()
        target = self._u64[W_TARGET]
        plan[W_TARGET] = plan[W_TARGET_AT] = plan[W_SOURCE_AT] = 0
        if self._u64[(target >> 3) + C_DEAD] == core.chunks.room and target not in self._ends():
            self.unlink(plan, target)
        core.commit(plan)

    def _fill(self, budget: int) -> None:
        """Move some records from the source to the target."""
        core, u64, u32 = self._core, self._u64, self._u32
        target = core.chunks.check_used(u64[W_TARGET], "the target of compaction")
        source = core.records.next_chunk(target)
        if target in self._ends() or not self._is_source(source):
            self._stop()
            return
        at = self._source_at(source)
        moves, passed, end = 0, 0, source + core.chunks.size
        while budget > 0 and moves < _MAX_MOVES and passed < _MAX_PASSED:
            step = u32[at >> 2]
            length = step & STEP_MASK
            budget -= length
            if step & TOMBSTONE:
                passed += 1
                at += length or end  # a wrong one leads out of the chunk
                if at >= end:
                    raise CorruptedError(f"the chunk at {source} has nothing alive behind {at}, and is in the chain")
                continue
            if not self._move(at, core.records.step_at(at), target):
                self._stop()
                return
            moves += 1
            at += length
            if u64[(target >> 3) + C_NEXT] != source:
                return  # that was the last one of the source
        if passed:
            u64[W_SOURCE_AT] = at

    def _source_at(self, source: int) -> int:
        """Return the first record of the source that was not looked at."""
        at: int = self._u64[W_SOURCE_AT] or source + CHUNK_HEAD
        if self._core.chunks.bounds(at, "the place in the source of compaction")[0] != source + CHUNK_HEAD:
            raise CorruptedError(f"compaction is at {at}, which is not in the chunk at {source}")
        return at

    def _move(self, at: int, length: int, target: int) -> bool:
        """Move a record from the source into the tombstone that ends the target. False if there is no room."""
        core = self._core
        source = at & ~core.chunks.mask
        to = self._u64[W_TARGET_AT]
        left = target + core.chunks.size - to - length
        if left < _MIN_TOMBSTONE:
            return False
        if to & ~core.chunks.mask != target or self._u32[to >> 2] != TOMBSTONE | left + length:
            raise CorruptedError(f"compaction fills the chunk at {target} at {to}, where there is no room")
        if self._u64[(source >> 3) + C_DEAD] + length < core.chunks.room:
            self._move_one(at, length, to, left)
            return True
        plan = core.begin()  # the last one of the source, which leaves the chain
        self._bytes[to + 4 : to + length] = self._bytes[at + 4 : at + length]
        self._u32[to + length >> 2] = TOMBSTONE | left
        plan[U32 + (to >> 2)] = length
        plan[U32 + self._index.lead_of(at)] = self._index.link(to)
        plan[U32 + (at >> 2)] = TOMBSTONE | length
        plan.add((target >> 3) + C_DEAD, -length)
        plan.add(W_DEAD, -length)
        plan[W_TARGET_AT] = to + length
        plan[W_SOURCE_AT] = at + length if at + length <= source | core.chunks.mask else 0
        self.count_dead(plan, source, length)
        core.commit(plan)
        return True

    def _move_one(self, at: int, length: int, to: int, left: int) -> None:
        """Move a record that is not the last one of the source: no chunk changes its state. Spelled out."""
        core, u64, u32, index = self._core, self._u64, self._u32, self._index
        shift = core.chunks.bits - 3
        source, target = (at >> shift + 3 << shift) + C_DEAD, (to >> shift + 3 << shift) + C_DEAD
        link, half, origin = index.link(to), to >> 2, at >> 2
        lead = index.lead_from(index.place(core.records.key_at(at)), index.link(at))
        dead_here, dead_there, behind = u64[source] + length, u64[target] - length, at + length
        pairs = (
            *(U32 + half, length, U32 + lead, link, U32 + origin, TOMBSTONE | length),
            *(source, dead_here, target, dead_there, W_TARGET_AT, to + length, W_SOURCE_AT, behind),
        )
        packed = _moved(*pairs)
        flags = u64[W_FLAGS]
        u64[W_FLAGS] = flags | PENDING
        self._bytes[to + 4 : to + length] = self._bytes[at + 4 : behind]
        u32[to + length >> 2] = TOMBSTONE | left
        core.journal.store_list(packed)
        u32[half] = length
        u32[lead] = link
        u32[origin] = TOMBSTONE | length
        u64[source] = dead_here
        u64[target] = dead_there
        u64[W_TARGET_AT] = to + length
        u64[W_SOURCE_AT] = behind
        core.journal.close()
        u64[W_FLAGS] = flags
