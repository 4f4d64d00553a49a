"""Append, pop, scan and recover on a plain writable buffer: no lock, no system call, no clock.

A stream of records through a chain of chunks (see `layout`). The rules:

- Called with the queue's lock held, by one process at a time. A process may be killed between any two stores.
- Commit by the last store: an append is nothing until TAIL moves, a pop is done when HEAD has moved. What comes after
  (counters, chunks given back) is made right by `recover`, which knows only HEAD, TAIL, the chain and the records.
- A store is a slice of ready bytes, or one number of an aligned view. struct.pack_into writes zeros first, which a
  kill would leave behind.
- Numbers that lead somewhere (steps, links between chunks) are checked before they are followed, so that a damaged
  segment ends in DamagedRing and never in an endless loop.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from kemi.errors import DamagedRing
from kemi.queue.chunks import SPARES, Chunks, Memory
from kemi.queue.layout import (
    CHUNK,
    CHUNK_HEAD,
    CHUNK_MASK,
    CHUNK_NEXT,
    CHUNK_PREVIOUS,
    CHUNK_ROOM,
    DEAD,
    LENGTH_MASK,
    MAX_STEP,
    R_KEY_LENGTH,
    R_VALUE_LENGTH,
    RECORD_HEAD,
    STEP_MASK,
    W_ADDED,
    W_CHUNKS,
    W_HEAD,
    W_HIGH,
    W_RECOVERED,
    W_REMOVED,
    W_TAIL,
)

# What became of an append.
ADDED = 1
KEPT = 2  # the key is there already, and its oldest item stays (addmode 1)
NO_MEMORY = 3
TOO_LARGE = 4
FULL = 5  # the queue's own limit in bytes


class Walk(NamedTuple):
    """What `recover` found between HEAD and TAIL."""

    items: int
    chunks: list[int]


class Ring:
    """A first-in first-out ring of records.

    buffer: bytes-like, writable; slices of it are bytes. words, halves: the same memory as 64- and 32-bit numbers.
    """

    def __init__(self, buffer: Any, words: Any, halves: Any, memory: Memory) -> None:
        self._bytes = buffer
        self._words = words
        self._halves = halves
        self.chunks = Chunks(buffer, words, memory)
        # An empty queue whose cursors are behind this goes back to the front, so that the segment can shrink.
        self._far = self.chunks.offset(SPARES + 1)

    # --- the whole ring ---------------------------------------------------------------------------------------------

    def format(self) -> bool:
        """Make an empty ring of a zeroed buffer. False if there is no memory."""
        first = self.chunks.take()
        if not first:
            return False
        self._start_chunk(first, 0)
        self._words[W_CHUNKS] = 1
        self._words[W_HEAD] = self._words[W_TAIL] = first + CHUNK_HEAD
        return True

    def __len__(self) -> int:
        """Items. May be asked without the lock: REMOVED is read first, so it is never too small."""
        removed = self._words[W_REMOVED]
        return min(max(0, int(self._words[W_ADDED] - removed)), sys.maxsize)  # also when damaged, it is a length

    def used_bytes(self) -> int:
        """Bytes between the cursors: all records with their heads."""
        words = self._words
        tail, head = words[W_TAIL] & CHUNK_MASK, words[W_HEAD] & CHUNK_MASK
        return int((words[W_CHUNKS] - 1) * CHUNK_ROOM + tail - head)

    def close(self) -> None:
        """This process is done with it: let go of what leads back here, so that its memory is free at once."""

    # --- append -----------------------------------------------------------------------------------------------------

    def append(self, record: bytes, step: int) -> int:
        """Add a record of `step` bytes (its length, rounded up to 8) behind all others."""
        words = self._words
        tail = words[W_TAIL]
        end = tail + step
        if end > tail | CHUNK_MASK:
            return self._append_across(record, step)
        self._bytes[tail : tail + len(record)] = record
        words[W_TAIL] = end  # commit
        words[W_ADDED] += 1
        return ADDED

    def append_within(self, record: bytes, step: int, limit: int) -> int:
        """`append`, unless the ring would then hold more than `limit` bytes."""
        if self.used_bytes() + step > limit:
            return FULL
        return self.append(record, step)

    def _append_across(self, record: bytes, step: int) -> int:
        """Append a record that reaches the end of the chunk or goes beyond it."""
        if step > MAX_STEP or step > self.chunks.count * CHUNK_ROOM:
            return TOO_LARGE
        tail = self._words[W_TAIL]
        room = (tail | CHUNK_MASK) + 1 - tail
        here = room if room >= RECORD_HEAD else 0  # a record's head is never divided
        behind = step - here
        fresh = self._take_chain(behind // CHUNK_ROOM + 1)
        if not fresh:
            return NO_MEMORY
        if here:
            self._bytes[tail : tail + min(here, len(record))] = record[:here]
        else:
            self._halves[tail >> 2] = DEAD | room
        for number, chunk in enumerate(fresh):
            part = record[here + number * CHUNK_ROOM : here + (number + 1) * CHUNK_ROOM]
            self._bytes[chunk + CHUNK_HEAD : chunk + CHUNK_HEAD + len(part)] = part
        self._link(tail & ~CHUNK_MASK, fresh[0])
        self._words[W_CHUNKS] += len(fresh)
        self._words[W_TAIL] = fresh[-1] + CHUNK_HEAD + behind % CHUNK_ROOM  # commit
        self._words[W_ADDED] += 1
        return ADDED

    def _take_chain(self, count: int) -> list[int]:
        """Chunks in use, linked to one another; none if there is not memory for all."""
        taken: list[int] = []
        for _ in range(count):
            chunk = self.chunks.take()
            if not chunk:
                for unused in reversed(taken):
                    self.chunks.give(unused)
                return []
            self._start_chunk(chunk, taken[-1] if taken else 0)
            taken.append(chunk)
        return taken

    def _start_chunk(self, chunk: int, previous: int) -> None:
        """Write the head of a chunk that becomes the last one."""
        self._bytes[chunk : chunk + CHUNK_HEAD] = bytes(CHUNK_HEAD)
        if previous:
            self._link(previous, chunk)

    def _link(self, chunk: int, following: int) -> None:
        self._words[(following >> 3) + CHUNK_PREVIOUS] = chunk
        self._words[(chunk >> 3) + CHUNK_NEXT] = following

    # --- pop --------------------------------------------------------------------------------------------------------

    def pop(self) -> bytes | None:
        """Take the oldest record; None if there is none."""
        words = self._words
        head = words[W_HEAD]
        tail = words[W_TAIL]
        if head == tail:
            return None
        step = self._halves[head >> 2]
        end = head + step
        if end > head | CHUNK_MASK or step < RECORD_HEAD:
            return self._pop_across()
        record: bytes = self._bytes[head:end]
        words[W_HEAD] = end  # commit
        removed = words[W_REMOVED]
        count = words[W_ADDED] - removed
        if count > words[W_HIGH]:  # noqa: PLR1730 - max() costs a call
            words[W_HIGH] = count  # the most there ever was is always there just before a pop
        words[W_REMOVED] = removed + 1
        if end == tail and end > self._far:
            self._return_to_front()
        return record

    def drop(self) -> bool:
        """Throw the oldest record away; False if there is none."""
        return self.pop() is not None

    def _pop_across(self) -> bytes | None:
        """Pop where there is more to do than to move HEAD: dead records, the end of a chunk."""
        words = self._words
        record = None
        while record is None and words[W_HEAD] != words[W_TAIL]:
            head = words[W_HEAD]
            step = self._halves[head >> 2]
            if step & DEAD:
                self._leave(head, step & STEP_MASK)
                continue
            self._check_record(head, step)
            record = self.read(head, step)
            count = words[W_ADDED] - words[W_REMOVED]
            self._leave(head, step)
            words[W_HIGH] = max(count, words[W_HIGH])
            words[W_REMOVED] += 1
        if words[W_HEAD] == words[W_TAIL] and words[W_HEAD] > self._far:
            self._return_to_front()
        return record

    def _leave(self, head: int, step: int) -> None:
        """Move HEAD behind the record there, and give back the chunks that it leaves."""
        end, passed = self.follow(head, step)
        if end & ~CHUNK_MASK in passed:
            raise DamagedRing(f"the chunks after {head} go in a circle")
        self._words[W_HEAD] = end  # commit
        if passed:
            self._words[W_CHUNKS] -= len(passed)
            for chunk in passed:
                self.chunks.give(chunk)

    def _return_to_front(self) -> None:
        """Empty, and far from the front of the segment: go on in a lower chunk, if there is one."""
        words = self._words
        here = words[W_TAIL]
        chunk = self.chunks.take()
        if not chunk or chunk > here:
            if chunk:
                self.chunks.give(chunk)
            return
        self._start_chunk(chunk, 0)
        # Two cursors cannot move in one store. So TAIL goes first, over a dead record that fills the rest of the chunk.
        self._halves[here >> 2] = DEAD | ((here | CHUNK_MASK) + 1 - here)
        self._link(here & ~CHUNK_MASK, chunk)
        words[W_TAIL] = chunk + CHUNK_HEAD
        words[W_HEAD] = chunk + CHUNK_HEAD
        self.chunks.give_back(here & ~CHUNK_MASK)

    # --- reading ----------------------------------------------------------------------------------------------------

    def follow(self, at: int, length: int) -> tuple[int, list[int]]:
        """Where `length` bytes of the stream after `at` end, and the chunks that are left on the way."""
        passed: list[int] = []
        room = (at | CHUNK_MASK) + 1 - at
        chunk = at & ~CHUNK_MASK
        if not length or length & 7:
            raise DamagedRing(f"a record at {at} has the impossible length {length}")
        while length >= room:
            passed.append(chunk)
            chunk = self.next_chunk(chunk)
            if len(passed) > self.chunks.count:
                raise DamagedRing(f"the chunks after {at} go in a circle")
            length -= room
            at, room = chunk + CHUNK_HEAD, CHUNK_ROOM
        return at + length, passed

    def next_chunk(self, chunk: int) -> int:
        """The chunk that follows in the stream."""
        following: int = self._words[(chunk >> 3) + CHUNK_NEXT]
        if not self.chunks.holds(following):
            raise DamagedRing(f"the chunk at {chunk} is followed by {following}, which is no chunk in use")
        return following

    def read(self, at: int, length: int) -> bytes:
        """`length` bytes of the stream from `at` on."""
        room = (at | CHUNK_MASK) + 1 - at
        if length <= room:
            return bytes(self._bytes[at : at + length])
        if length > self.chunks.in_use() * CHUNK_ROOM:
            raise DamagedRing(f"the record at {at} of {length} bytes is longer than all chunks in use")
        parts = [bytes(self._bytes[at : at + room])]
        chunk = at & ~CHUNK_MASK
        length -= room
        while length > 0:
            chunk = self.next_chunk(chunk)
            part = min(length, CHUNK_ROOM)
            parts.append(bytes(self._bytes[chunk + CHUNK_HEAD : chunk + CHUNK_HEAD + part]))
            length -= part
        return b"".join(parts)

    def scan(self) -> Iterator[int]:
        """Offsets of the records from the oldest on; read them with `record_at`."""
        at, tail = self._words[W_HEAD], self._words[W_TAIL]
        chunks = 1
        while at != tail:
            step = self._halves[at >> 2]
            if not step & DEAD:
                yield at
            at, passed = self.follow(at, step & STEP_MASK)
            chunks += len(passed)
            if passed and chunks > self.chunks.in_use():
                raise DamagedRing(f"the chunks before {at} go in a circle")

    def record_at(self, at: int) -> bytes:
        """The whole record at `at`."""
        step = self._halves[at >> 2]
        self._check_record(at, step)
        return self.read(at, step)

    # --- recovery ---------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Make everything follow from HEAD, TAIL, the chain and the records, after a process died in the middle.

        Raises DamagedRing, having changed nothing, when what lies between the cursors is no ring.
        """
        walk = self._walk()
        words = self._words
        words[(words[W_TAIL] & ~CHUNK_MASK) >> 3] = 0  # a chunk that was linked, but not committed
        words[W_CHUNKS] = len(walk.chunks)
        # One operation at most was under way. It had moved a cursor, but not yet counted.
        if walk.items > words[W_ADDED] - words[W_REMOVED]:
            words[W_ADDED] = words[W_REMOVED] + walk.items
        else:
            words[W_REMOVED] = words[W_ADDED] - walk.items
        words[W_HIGH] = max(words[W_HIGH], walk.items)
        self.chunks.rebuild(walk.chunks)
        words[W_RECOVERED] += 1

    def _walk(self) -> Walk:
        """Count from HEAD to TAIL, checking every step."""
        at, tail = self._words[W_HEAD], self._words[W_TAIL]
        for name, cursor in (("head", at), ("tail", tail)):
            chunk = cursor & ~CHUNK_MASK
            if not self.chunks.holds(chunk) or cursor & CHUNK_MASK < CHUNK_HEAD or cursor & 7:
                raise DamagedRing(f"its {name} cursor {cursor} is in no chunk in use")
        chunks = [at & ~CHUNK_MASK]
        seen = set(chunks)
        items = 0
        while at != tail:
            step = self._halves[at >> 2]
            if not step & DEAD:
                items += 1
                self._check_record(at, step)
            at, passed = self.follow(at, step & STEP_MASK)
            if passed:
                entered = [*passed[1:], at & ~CHUNK_MASK]
                if not seen.isdisjoint(entered) or len(set(entered)) != len(entered):
                    raise DamagedRing(f"the chunks before {at} go in a circle")
                seen.update(entered)
                chunks += entered
            if at > tail and at & ~CHUNK_MASK == tail & ~CHUNK_MASK:
                raise DamagedRing(f"a record ends at {at}, behind the tail {tail}")
        return Walk(items, chunks)

    def _check_record(self, at: int, step: int) -> None:
        """Do the lengths in a record's head fit its step?"""
        if at & CHUNK_MASK > CHUNK - RECORD_HEAD or step < RECORD_HEAD:
            raise DamagedRing(f"the record at {at} has no room for its head")
        index = at >> 2
        key, value = self._halves[index + R_KEY_LENGTH], self._halves[index + R_VALUE_LENGTH] & LENGTH_MASK
        if RECORD_HEAD + key + value + 7 & -8 != step:
            raise DamagedRing(f"the record at {at} of {step} bytes claims a key of {key} and a value of {value}")
