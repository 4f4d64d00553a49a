# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading records in a chain of chunks; nothing here stores anything.

A record's head never crosses the end of a chunk. Its payload may: it goes on behind the head of the next chunk. Numbers
that lead somewhere (steps, links between chunks) are checked before they are followed, and every loop ends after as
many turns as there are chunks, so that corrupted memory is a CorruptedError, never a fault or a hang.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from kemi.errors import CorruptedError
from kemi.queue.format.layout import (
    C_NEXT,
    CHUNK_HEAD,
    ENVELOPE_BYTES,
    LENGTH_MASK,
    QUESTION,
    R_ADDED,
    R_KEY,
    R_VALUE,
    RECORD_HEAD,
    STEP_MASK,
    TOMBSTONE,
    Mapping,
)
from kemi.queue.store.chunks import Chunks
from kemi.queue.store.journal import Plan

_seconds = struct.Struct("=d").unpack


class Span(NamedTuple):
    """Where a record lies: the chunks that it begins in, those it fills, the one it ends in (0: it leaves none).

    end: offset behind it, which may be the end of a chunk.
    """

    first: int
    middle: list[int]
    last: int
    end: int

    def ends(self) -> tuple[int, ...]:
        """Return the chunks that it may share with other records."""
        return (self.first, self.last) if self.last else (self.first,)


class Records:
    """The records of one segment, by their offsets."""

    def __init__(self, mapping: Mapping, chunks: Chunks) -> None:
        self._bytes, self._u64, self._u32 = mapping
        self._chunks = chunks

    def next_chunk(self, chunk: int, plan: Plan | None = None) -> int:
        """Return the chunk that follows in the log; with a plan, the one that will."""
        word = (chunk >> 3) + C_NEXT
        if plan is not None and word in plan:
            return plan[word]
        following: int = self._u64[word]
        return self._chunks.check_used(following, f"the chunk behind {chunk}")

    def added_at(self, at: int) -> float:
        """When the record at `at` was added, seconds since the epoch. Raises CorruptedError for what is none."""
        self.step_at(at)
        added: float = _seconds(self._bytes[at + R_ADDED : at + RECORD_HEAD])[0]
        return added

    def step_at(self, at: int) -> int:
        """Length of the record at `at`, in a chunk in use, with its flags. Raises CorruptedError for what is none."""
        _, end = self._chunks.bounds(at, "a record's offset")
        step: int = self._u32[at >> 2]
        length = step & STEP_MASK
        if step & TOMBSTONE:
            if not length or length & 7 or at + length > end:
                raise CorruptedError(f"the tombstone at {at} has {length} bytes")
            return step
        if end - at < RECORD_HEAD:  # behind it there may be no memory
            raise CorruptedError(f"the record at {at} has only {end - at} bytes")
        key, value = self._u32[(at >> 2) + R_KEY], self._u32[(at >> 2) + R_VALUE]
        value = (value & LENGTH_MASK) + (ENVELOPE_BYTES if value & QUESTION else 0)
        if RECORD_HEAD + key + value + 7 & -8 != length:
            raise CorruptedError(f"the record at {at} of {length} bytes claims a key of {key} and a value of {value}")
        return step

    def span(self, at: int, length: int, plan: Plan | None = None) -> Span:
        """Follow `length` bytes from `at` on, which is in a chunk in use; with a plan, as it will be."""
        mask, room = self._chunks.mask, self._chunks.room
        first = chunk = at & ~mask
        left = (at | mask) + 1 - at
        entered: list[int] = []
        while length > left:
            chunk = self.next_chunk(chunk, plan)
            entered.append(chunk)
            if len(entered) > self._chunks.count:
                raise CorruptedError(f"the chunks behind {first} go in a circle")
            length -= left
            at, left = chunk + CHUNK_HEAD, room
        return Span(first, entered[:-1], entered[-1] if entered else 0, at + length)

    def after(self, span: Span, plan: Plan | None = None) -> int:
        """Where the record behind one begins: never at a chunk's end."""
        if span.end & self._chunks.mask:
            return span.end
        return self.next_chunk(span.last or span.first, plan) + CHUNK_HEAD

    def read(self, at: int) -> bytes:
        """Return the whole record at `at`."""
        return self.read_bytes(at, self.step_at(at) & STEP_MASK)

    def read_bytes(self, at: int, length: int) -> bytes:
        """`length` bytes from `at` on."""
        left = (at | self._chunks.mask) + 1 - at
        if length <= left:
            return bytes(self._bytes[at : at + length])
        if length > self._chunks.count * self._chunks.room:
            raise CorruptedError(f"the record at {at} of {length} bytes is longer than all chunks")
        parts = [bytes(self._bytes[at : at + left])]
        chunk = at & ~self._chunks.mask
        length -= left
        while length > 0:
            chunk = self.next_chunk(chunk)
            part = min(length, self._chunks.room)
            parts.append(bytes(self._bytes[chunk + CHUNK_HEAD : chunk + CHUNK_HEAD + part]))
            length -= part
        return b"".join(parts)

    def key_at(self, at: int) -> bytes:
        """Key of the record at `at`."""
        self._chunks.bounds(at, "a record's offset")
        length: int = self._u32[(at >> 2) + R_KEY]
        start = at + RECORD_HEAD
        if start + length <= at | self._chunks.mask:
            return bytes(self._bytes[start : start + length])
        return self.read_bytes(at, RECORD_HEAD + length)[RECORD_HEAD:]
