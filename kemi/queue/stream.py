"""Reading a stream of records through a chain of chunks (see `layout`); nothing here stores anything.

Numbers that lead somewhere (steps, links between chunks) are checked before they are followed, so that a damaged
segment ends in DamagedRing and never in an endless loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from kemi.errors import DamagedRing
from kemi.queue.chunks import Chunks, Memory
from kemi.queue.layout import (
    CHUNK,
    CHUNK_HEAD,
    CHUNK_MASK,
    CHUNK_NEXT,
    CHUNK_ROOM,
    DEAD,
    LENGTH_MASK,
    R_KEY_LENGTH,
    R_VALUE_LENGTH,
    RECORD_HEAD,
    STEP_MASK,
    W_HEAD,
    W_TAIL,
)


class Walk(NamedTuple):
    """What was found between two places, HEAD and TAIL most often."""

    items: int
    chunks: list[int]
    entries: list[tuple[int, int]]  # of each chunk in which a record starts: where the first one does, items before it


class Stream:
    """The records of a segment.

    buffer: bytes-like, writable; slices of it are bytes. words, halves: the same memory as 64- and 32-bit numbers.
    """

    def __init__(self, buffer: Any, words: Any, halves: Any, memory: Memory) -> None:
        self._bytes = buffer
        self._words = words
        self._halves = halves
        self.chunks = Chunks(buffer, words, memory)

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

    def _chunks_of(self, at: int) -> list[int]:
        """The chunks in which the record at `at` has bytes. Any number may be asked, also one from damaged memory."""
        chunk = at & ~CHUNK_MASK
        if not self.chunks.holds(chunk) or at & 7 or not CHUNK_HEAD <= at & CHUNK_MASK <= CHUNK - RECORD_HEAD:
            raise DamagedRing(f"{at}, where a record is set aside, is in no chunk in use")
        step = self._halves[at >> 2]
        self._check_record(at, step)
        chunks = [chunk]
        rest = step - ((at | CHUNK_MASK) + 1 - at)
        while rest > 0:
            chunks.append(self.next_chunk(chunks[-1]))
            if len(chunks) > self.chunks.count:
                raise DamagedRing(f"the chunks after {at} go in a circle")
            rest -= CHUNK_ROOM
        return chunks

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

    def _walk(self) -> Walk:
        """Count from HEAD to TAIL, checking every step."""
        return self._walk_between(*self._cursors())

    def _cursors(self) -> tuple[int, int]:
        """HEAD and TAIL, each of which is in a chunk in use."""
        head, tail = self._words[W_HEAD], self._words[W_TAIL]
        for name, cursor in (("head", head), ("tail", tail)):
            if not self.chunks.holds(cursor & ~CHUNK_MASK) or cursor & CHUNK_MASK < CHUNK_HEAD or cursor & 7:
                raise DamagedRing(f"its {name} cursor {cursor} is in no chunk in use")
        return head, tail

    def _walk_between(self, at: int, end: int) -> Walk:
        """Count from one place in a chunk in use to another, checking every step."""
        chunks = [at & ~CHUNK_MASK]
        entries = [(at, 0)]
        seen = set(chunks)
        items = 0
        while at != end:
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
                entries.append((at, items))
            if at > end and at & ~CHUNK_MASK == end & ~CHUNK_MASK:
                raise DamagedRing(f"a record ends at {at}, behind {end}, where the last one should")
        return Walk(items, chunks, entries)

    def _check_record(self, at: int, step: int) -> None:
        """Do the lengths in a record's head fit its step?"""
        if at & CHUNK_MASK > CHUNK - RECORD_HEAD or step < RECORD_HEAD:
            raise DamagedRing(f"the record at {at} has no room for its head")
        index = at >> 2
        key, value = self._halves[index + R_KEY_LENGTH], self._halves[index + R_VALUE_LENGTH] & LENGTH_MASK
        if RECORD_HEAD + key + value + 7 & -8 != step:
            raise DamagedRing(f"the record at {at} of {step} bytes claims a key of {key} and a value of {value}")
