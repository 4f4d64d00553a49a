"""Marks: where TAIL came into a chunk, and how many items had ever been appended by then. Not for keyed queues.

Between two marks lie as many items as their numbers differ by. So who counts what is left after a kill reads the
records in the first chunk and in the last one, and only the marks of those between. The rules:

- A mark is written before the commit of the append that brings TAIL there, into a chunk that nobody else uses. What a
  killed process did not get to count can not be at odds with it.
- Later the number of all that were appended only changes by an append that was committed and not yet counted, which is
  counted in its mark. A repair that changes it otherwise has read every record, and makes all marks anew. Meanwhile
  there is none, so that a kill in the middle leaves nothing that could be believed.
- A mark is where a record ends, so whoever goes from record to record comes by. Where nothing begins in a chunk,
  because a long record goes through it, it has no mark.
- None is trusted: each is sealed, and what does not fit ends in DamagedRing. Then every record is read after all.

The numbers are kept modulo 2**32: fewer items fit between two marks.
"""

from __future__ import annotations

from typing import NamedTuple

from kemi.errors import DamagedRing
from kemi.queue.layout import (
    CHUNK_HEAD,
    CHUNK_MARK,
    CHUNK_MASK,
    CHUNK_PREVIOUS,
    CHUNK_ROOM,
    CHUNK_SERIAL,
    RECORD_HEAD,
    W_ADDED,
)
from kemi.queue.stream import Stream, Walk

_HALF = (1 << 32) - 1


class Mark(NamedTuple):
    """`serial` items had ever been appended when TAIL stood at `at`."""

    at: int
    serial: int


class Marked(Stream):
    """A stream whose chunks have marks."""

    def _mark(self, at: int, serial: int) -> None:
        """TAIL comes into a chunk here."""
        words, word = self._words, (at & ~CHUNK_MASK) >> 3
        words[word + CHUNK_MARK] = at
        words[word + CHUNK_SERIAL] = _sealed(at, serial)

    def _mark_of(self, chunk: int) -> Mark | None:
        """The mark of a chunk in use; None if it has none."""
        at, seal = self._words[(chunk >> 3) + CHUNK_MARK], self._words[(chunk >> 3) + CHUNK_SERIAL]
        if not seal:
            return None
        serial = seal & _HALF
        if seal != _sealed(at, serial) or at & ~CHUNK_MASK != chunk or at & CHUNK_MASK < CHUNK_HEAD or at & 7:
            raise DamagedRing(f"the chunk at {chunk} has the mark {at}, {seal:#x}, which is none")
        return Mark(at, serial)

    def _forget_marks(self, walk: Walk) -> None:
        """The last one first: without it, none is believed."""
        for chunk in reversed(walk.chunks):
            self._words[(chunk >> 3) + CHUNK_SERIAL] = 0

    def _mark_anew(self, walk: Walk) -> None:
        """Write all that `_walk_by_marks` goes by, the last mark last.

        `walk` has read every record, and all counters are right.
        """
        for before, chunk in zip(walk.chunks, walk.chunks[1:]):
            self._words[(chunk >> 3) + CHUNK_PREVIOUS] = before
        for at, items in walk.entries:
            self._mark(at, self._words[W_ADDED] - walk.items + items)

    def _walk_by_marks(self) -> tuple[Walk, int]:
        """As `_walk`, but what lies between two marks is not read; and how many items it finds to be appended in all.

        Only for what lies in several chunks. Raises DamagedRing where anything does not fit.
        """
        head, tail = self._cursors()
        chunks = self._chain(head & ~CHUNK_MASK, tail & ~CHUNK_MASK)
        marks = [mark for mark in map(self._mark_of, chunks[1:]) if mark]
        if not marks or marks[-1].at & ~CHUNK_MASK != chunks[-1]:
            raise DamagedRing(f"the chunk at {chunks[-1]}, where the tail is, has no mark")
        # One that runs backwards makes this very large.
        between = sum(after.serial - before.serial & _HALF for before, after in zip(marks, marks[1:]))
        if between * RECORD_HEAD > len(chunks) * CHUNK_ROOM:
            raise DamagedRing(f"{between} items are said to be in {len(chunks)} chunks")
        first = self._walk_between(head, marks[0].at)
        last = self._walk_between(marks[-1].at, tail)
        return Walk(first.items + between + last.items, chunks, []), marks[-1].serial + last.items

    def _chain(self, first: int, last: int) -> list[int]:
        """The chunks from one to another; each must be known to the one behind it."""
        chunks = [first]
        while chunks[-1] != last:
            following = self.next_chunk(chunks[-1])
            if self._words[(following >> 3) + CHUNK_PREVIOUS] != chunks[-1] or len(chunks) >= self.chunks.count:
                raise DamagedRing(f"the chunk at {following} does not follow {chunks[-1]}")
            chunks.append(following)
        return chunks


def _sealed(at: int, serial: int) -> int:
    """A number in which any change of it, or of `at`, shows."""
    serial &= _HALF
    return serial | (~(serial ^ at >> 3) & _HALF) << 32
