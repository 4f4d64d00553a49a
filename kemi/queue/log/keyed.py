# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of addmode 1 and 2: each key once. Addmode 1 keeps the oldest item of a key, addmode 2 the newest.

Records lie in the order in which they were added, as in the plain log, with the key index beside them; what leaves in
the middle becomes a tombstone (see `compaction`). A record ends in the chunk in which it begins, unless it is longer
than a chunk: then it begins one. `append` of a new key and `pop` are the hot ones, and have a short way without the
journal, in which two things have to happen that no one store can do:

    append: PENDING | record behind TAIL, its link | word of TAIL | ADDED + 1, which commits | the bucket's link | FLAGS
    pop:    PENDING | the link to the record | word of HEAD | POPPED + 1, which commits | FLAGS

Broken off, the first leaves the last record, the second the first record of the log outside the index, and no other.
Recovery looks both up, and inserts what is missing: where the last one begins is in the word of TAIL that does not
count. `replace`, an append whose key an older record of the log has, is a list of the journal, spelled out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from typing import final

from kemi.errors import CorruptedError
from kemi.queue.format.keyhash import KeyHash
from kemi.queue.format.layout import (
    C_DEAD,
    C_FIRST,
    C_NEXT,
    CHUNK_HEAD,
    JOURNAL_AT,
    MAX_STEP,
    PENDING,
    R_KEY,
    R_LINK,
    RECORD_HEAD,
    STEP_MASK,
    TOMBSTONE,
    U32,
    W_ADDED,
    W_ADDMODE,
    W_BURIED,
    W_CHUNKS,
    W_COMMIT,
    W_DEAD,
    W_FLAGS,
    W_HEAD,
    W_HEAD_ODD,
    W_HIGH_WATER,
    W_POPPED,
    W_RETURNED,
    W_TAIL,
    W_TAIL_ODD,
    W_TARGET,
    Mapping,
)
from kemi.queue.format.outcome import AddResult
from kemi.queue.log import delivery
from kemi.queue.log.compaction import Compaction
from kemi.queue.log.core import ADDED, FULL, KEPT, MEASURE_BYTES, NO_MEMORY, TOO_LARGE, Core, Position
from kemi.queue.log.keyed_head import KEEP_OLDEST, KeyedHead
from kemi.queue.store.chunks import Memory
from kemi.queue.store.journal import Plan
from kemi.queue.store.keyindex import SPARSE, KeyIndex
from kemi.queue.sync.handlers import is_from_handler

_MAX_DROPS = 64  # items that one add drops at most, when the size limit was lowered
_key_length = struct.Struct("=4xI").unpack_from
_replacement = struct.Struct("=12Q").pack
_REPLACEMENT_END = JOURNAL_AT + 12 * 8


@final
class KeyedLog:
    """A log that holds each key once."""

    # Queues spell out no short way of this log, as they do of the plain one.
    tail_low = tail_end = head_low = head_end = 0

    def __init__(self, mapping: Mapping, memory: Memory, key_hash: KeyHash) -> None:
        self.core = core = Core(mapping, memory)
        self._bytes, self._u64, self._u32 = mapping
        self.index = KeyIndex(mapping, core.chunks, core.records, key_hash)
        self.compaction = Compaction(core, self.index)
        self.head = head = KeyedHead(core, self.index, self.compaction)
        self.next, self.fetch, self.drop_aged = head.next, head.fetch, head.drop_aged
        self.reserve_oldest = head.reserve_oldest
        self.reserve, self.hold, self.nack = head.reserve, head.hold, head.nack
        self.ack = partial(delivery.ack, self.core)
        self._mode: int = self._u64[W_ADDMODE]
        self._base, self._room, self._chunk = core.chunks.base, core.chunks.room, ~core.chunks.mask
        self._enough_dead = 0  # bytes of tombstones for which compaction was not due, at the last look
        self._tail_low = self._tail_end = self._head_low = self._head_end = 0

    def format(self) -> bool:
        """Make an empty log of a zeroed segment whose geometry is written. False if there is no memory."""
        core = self.core
        plan = core.begin()
        chunk = core.chunks.alloc()
        if not chunk or not self.index.format(plan):
            core.abandon()
            return False
        core.start_chunk(chunk, 0, 0, chunk + CHUNK_HEAD)
        plan[W_TAIL] = plan[W_HEAD] = chunk + CHUNK_HEAD
        plan[W_CHUNKS] = 1
        core.commit(plan)
        return True

    def recover(self) -> None:
        """Finish what was broken off, or undo it. Raises CorruptedError."""
        core, u64 = self.core, self._u64
        core.redo()
        if core.in_log():
            head = core.head()
            if not core.records.step_at(head) & TOMBSTONE:  # at one, no pop was under way
                self.index.mend(head)
            last, tail = u64[W_TAIL_ODD - (u64[W_ADDED] & 1)], core.tail()
            chunk = tail & ~core.chunks.mask
            if chunk + CHUNK_HEAD <= last < tail and not core.records.step_at(last) & TOMBSTONE:
                self.index.mend(last)
        core.end_recovery()

    # --- append -------------------------------------------------------------------------------------------------------

    def append(self, record: bytes, step: int) -> AddResult:
        """Append a record of `step` bytes. Returns ADDED, KEPT, NO_MEMORY or TOO_LARGE."""
        u64, u32 = self._u64, self._u32
        place, old, lead = self.index.seek(record[RECORD_HEAD : RECORD_HEAD + _key_length(record)[0]])
        if old:
            return KEPT if self._mode == KEEP_OLDEST else self._replace(record, step, old, lead)
        added = u64[W_ADDED]
        odd = added & 1
        at = u64[W_TAIL + odd]
        end = at + step
        if not (self._tail_low <= at and end < self._tail_end):
            room = self._make_room(step)
            return self.append(record, step) if room else self.append_with(record, step)
        self._bytes[at : at + len(record)] = record
        u32[(at >> 2) + R_LINK] = u32[place]
        flags = u64[W_FLAGS]
        u64[W_FLAGS] = flags | PENDING
        u64[W_TAIL_ODD - odd] = end
        u64[W_ADDED] = added + 1  # commit
        u32[place] = at - self._base >> 3
        u64[W_FLAGS] = flags
        if added - u64[W_POPPED] - u64[W_BURIED] + u64[W_RETURNED] >= self.index.count:
            self._split()
        return ADDED

    def _make_room(self, step: int) -> bool:
        """Have TAIL in a chunk with room for a record. False if it needs more than a chunk, or there is no memory."""
        core = self.core
        low, end = core.chunks.bounds(core.tail(), "TAIL")
        if core.tail() + step >= end:
            if step >= core.chunks.room:
                return False
            plan = core.begin()
            if core.can_start_over():
                self._plan_start_over(plan, low)
            elif not self._plan_grow(plan, 1):
                core.abandon()
                return False
            core.commit(plan)
            low, end = core.chunks.bounds(core.tail(), "TAIL")
        self._tail_end = 0  # nothing lies within, should a signal handler raise before both are known
        self._tail_low = low
        self._tail_end = end
        self._enough_dead = self.compaction.enough()
        return True

    def _plan_start_over(self, plan: Plan, start: int) -> None:
        """Have the chunk with HEAD and TAIL, in which nothing is alive, begin anew."""
        word = start - CHUNK_HEAD >> 3
        plan.add(W_DEAD, -plan.u64(word + C_DEAD))
        plan[word + C_DEAD] = 0
        plan[word + C_FIRST] = start
        plan[W_HEAD + (plan.u64(W_POPPED) & 1)] = plan[W_TAIL + (plan.u64(W_ADDED) & 1)] = start

    def _plan_grow(self, plan: Plan, count: int) -> list[int]:
        """Put chunks behind the one with TAIL, whose rest becomes a tombstone; TAIL is at the first one's beginning."""
        core = self.core
        fresh = core.chunks.alloc_many(count)
        if not fresh:
            return []
        tail = core.tail()
        here = tail & ~core.chunks.mask
        left = here + core.chunks.size - tail
        self._u32[tail >> 2] = TOMBSTONE | left  # behind TAIL: nobody reads it yet
        for chunk, before, behind in zip(fresh, [here, *fresh], [*fresh[1:], 0]):
            core.start_chunk(chunk, behind, before, chunk + CHUNK_HEAD if before == here else 0)
        plan[(here >> 3) + C_NEXT] = fresh[0]
        plan.add(W_CHUNKS, count)
        plan.add(W_DEAD, left)
        dead = plan.add((here >> 3) + C_DEAD, left)
        if dead == core.chunks.room and here != core.head() & ~core.chunks.mask:
            self.compaction.unlink(plan, here)
        plan[W_TAIL + (plan.u64(W_ADDED) & 1)] = fresh[0] + CHUNK_HEAD
        return fresh

    def _replace(self, record: bytes, step: int, old: int, lead: int) -> AddResult:
        """Append a record whose key an older one has, which becomes a tombstone."""
        u64, u32 = self._u64, self._u32
        half = old >> 2
        length = u32[half]
        added = u64[W_ADDED]
        odd = added & 1
        at = u64[W_TAIL + odd]
        end = at + step
        if not (self._tail_low <= at and end < self._tail_end):
            if not self._make_room(step):
                return self.append_with(record, step)
            # The chunk with the old one may have left the chain meanwhile, but the old one is where it was.
            return self._replace(record, step, old, lead)
        word = ((old & self._chunk) >> 3) + C_DEAD
        dead = u64[word] + length
        if dead >= self._room:  # its chunk has nothing else alive; or it was returned: RETURNED is more than any room
            return self.append_with(record, step)
        self._bytes[at : at + len(record)] = record
        u32[(at >> 2) + R_LINK] = u32[half + R_LINK]
        u64[W_TAIL_ODD - odd] = end
        added += 1
        link = at - self._base >> 3
        buried, dead_in_all = u64[W_BURIED] + 1, u64[W_DEAD] + length
        length |= TOMBSTONE
        try:
            packed = _replacement(
                W_ADDED, added, U32 + lead, link, U32 + half, length, W_BURIED, buried, word, dead, W_DEAD, dead_in_all
            )
        except struct.error as error:
            if is_from_handler(error):
                raise
            raise CorruptedError(f"an append would count {added}, {buried}, {dead} and {dead_in_all}") from None
        flags = u64[W_FLAGS]
        u64[W_FLAGS] = flags | PENDING
        self._bytes[JOURNAL_AT:_REPLACEMENT_END] = packed
        u64[W_COMMIT] = 6  # pairs: commit
        u64[W_ADDED] = added
        u32[lead] = link
        u32[half] = length
        u64[W_BURIED] = buried
        u64[word] = dead
        u64[W_DEAD] = dead_in_all
        u64[W_COMMIT] = 0
        u64[W_FLAGS] = flags
        if dead_in_all > self._enough_dead or u64[W_TARGET]:
            self._compact(step)
        return ADDED

    def _compact(self, step: int) -> None:
        """Let compaction do what is due, after an append of `step` bytes."""
        if self.compaction.is_due(self._u64[W_DEAD]):
            self.compaction.step(step)
        else:
            self._enough_dead = self.compaction.enough()

    def append_with(self, record: bytes, step: int, position: Position | None = None) -> AddResult:
        """As `append`, by the journal: within the limits of the queue, and with a stream's position."""
        core, index = self.core, self.index
        if step > MAX_STEP or step > core.chunks.count * core.chunks.room:
            return TOO_LARGE
        place, old, lead = index.seek(record[RECORD_HEAD : RECORD_HEAD + _key_length(record)[0]])
        if old and self._mode == KEEP_OLDEST:
            return self._keep(position)
        length = core.records.step_at(old) & STEP_MASK if old else 0
        if core.is_full(step - length):
            return FULL
        excess = core.excess(int(not old))
        if excess > 0:
            self.head.skip_tombstones()
        plan = core.begin()
        at = self._plan_append(plan, record, step)
        if not at:
            core.abandon()
            return self.append_with(record, step, position) if self.head.leaves_chunk() else NO_MEMORY
        core.position(plan, position)
        if old:
            index.replace(plan, lead, old, at)
            self.head.plan_discard(plan, old, length)
        else:
            index.insert(plan, place, at)
            if excess > 0:
                self.head.plan_drop(plan)
                excess -= 1
        core.commit(plan)
        self.head.drop(min(excess, _MAX_DROPS))
        self._tidy(step)
        return ADDED

    def _tidy(self, step: int) -> None:
        """What an append of `step` bytes brings with it."""
        if self.core.in_log() + self._u64[W_RETURNED] > self.index.count:
            self._split()
        self._compact(step)

    def _keep(self, position: Position | None) -> AddResult:
        """Nothing is appended; the position counts."""
        if position:
            plan = self.core.begin()
            self.core.position(plan, position)
            self.core.commit(plan)
        return KEPT

    def _plan_append(self, plan: Plan, record: bytes, step: int) -> int:
        """Write a record where nobody reads it yet. Returns its offset; 0 if there is no memory."""
        core = self.core
        room = core.chunks.room
        at = core.tail()
        _, end = core.chunks.bounds(at, "TAIL")
        if at + step < end:
            self._bytes[at : at + len(record)] = record
            behind = at + step
        else:
            fresh = self._plan_grow(plan, step // room + 1)
            if not fresh:
                return 0
            at = fresh[0] + CHUNK_HEAD
            for number, chunk in enumerate(fresh):
                part = record[number * room : (number + 1) * room]
                self._bytes[chunk + CHUNK_HEAD : chunk + CHUNK_HEAD + len(part)] = part
            behind = fresh[-1] + CHUNK_HEAD + step % room
            if len(fresh) > 1:
                self.core.first_record(fresh[-1], behind)
        added = plan.u64(W_ADDED)
        plan.pop(W_TAIL + (added & 1), None)  # TAIL moves by the other word, with ADDED
        plan[W_TAIL_ODD - (added & 1)] = behind
        plan[W_ADDED] = added + 1
        return at

    def _split(self) -> None:
        """Open a bucket for more items."""
        plan = self.core.begin()
        if self.index.plan_split(plan):
            self.core.commit(plan)
        else:
            self.core.abandon()

    # --- what leaves at the head --------------------------------------------------------------------------------------

    def pop(self) -> bytes | None:
        """Take the oldest record of the log; None if there is none. What is returned comes by `fetch`."""
        u64, u32 = self._u64, self._u32
        popped = u64[W_POPPED]
        items = u64[W_ADDED] - popped - u64[W_BURIED]
        odd = popped & 1
        head = u64[W_HEAD + odd]
        if not (0 < items <= u64[W_HIGH_WATER] and self._head_low <= head < self._head_end):
            return self._pop_slow()
        half = head >> 2
        end = head + u32[half]
        key_end = head + RECORD_HEAD + u32[half + R_KEY]
        if not head + RECORD_HEAD <= key_end <= end < self._head_end:
            return self.pop() if self.head.skip_within(head) else self._pop_slow()
        record: bytes = self._bytes[head:end]
        lead = self.index.place(record[RECORD_HEAD : key_end - head])
        link = head - self._base >> 3
        if u32[lead] != link:
            lead = self.index.lead_from(lead, link)
        flags = u64[W_FLAGS]
        u64[W_FLAGS] = flags | PENDING
        u32[lead] = u32[half + R_LINK]
        u64[W_HEAD_ODD - odd] = end
        u64[W_POPPED] = popped + 1  # commit
        u64[W_FLAGS] = flags
        if items * SPARSE < self.index.spare:
            self.head.join(items - 1)
        return record

    def _pop_slow(self) -> bytes | None:
        found = self.head.oldest()
        if found is None:
            return None
        core, u64 = self.core, self._u64
        u64[W_HIGH_WATER] = max(u64[W_HIGH_WATER], core.in_log())
        at, length = found
        low, high = core.chunks.bounds(at, "HEAD")
        self._head_end = 0  # as in `_make_room`
        self._head_low = low
        # Not the last four bytes: nothing ends there, and behind what a wild store makes begin there may be no memory.
        self._head_end = min(high - 4, at + max(MEASURE_BYTES, length + 1))
        if at + length < high:
            if RECORD_HEAD + self._u32[(at >> 2) + R_KEY] > length:
                raise CorruptedError(f"the key of the record at {at} is longer than the record")
            popped = self.pop()
            if popped is not None:
                core.measure(popped)
            return popped
        record = core.records.read(found[0])
        plan = core.begin()
        self.head.plan_take(plan, *found, None)
        core.commit(plan)
        core.measure(record)
        self.head.join(core.in_log())
        return record

    # --- looking ------------------------------------------------------------------------------------------------------

    def scan(self) -> Iterator[int]:
        """Offsets of the records of the log, from the oldest on."""
        core = self.core
        at, tail = core.head(), core.tail()
        for _ in range(core.chunks.count * core.chunks.room >> 3):
            if at == tail:
                return
            step = core.records.step_at(at)
            if not step & TOMBSTONE:
                yield at
            at = core.records.after(core.records.span(at, step & STEP_MASK))
        raise CorruptedError("the records do not end at TAIL")
