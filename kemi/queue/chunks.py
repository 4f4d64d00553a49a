"""Which chunks of a segment are in use: take one, give one back.

One byte a chunk in the chunk map: absent (no memory behind it), free (memory behind it), used. The lowest free chunk
is taken first, so a segment shrinks from its end when a burst is over; a few free ones are kept against coming and
going at a chunk's border. Called with the queue's lock held. Nothing here needs to be undone after a kill: `rebuild`
makes the map anew from what the ring says it uses.

`Memory` is what it asks for memory: the segment behind a limit, or nothing at all in a test.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from kemi.queue.layout import (
    CHUNK,
    CHUNK_ABSENT,
    CHUNK_FREE,
    CHUNK_MASK,
    CHUNK_USED,
    PAGE,
    W_BUCKETS_AT,
    W_DATA,
    W_SPARE,
    W_WINDOW,
    fixed_bytes,
)

SPARES = 2
_ABSENT, _FREE, _USED = bytes([CHUNK_ABSENT]), bytes([CHUNK_FREE]), bytes([CHUNK_USED])


class Memory(Protocol):
    """Where chunks come from."""

    def reserve(self, offset: int, length: int) -> bool:
        """Make memory usable; False if there is none, and then nothing has changed."""

    def release(self, offset: int, length: int) -> None:
        """Give memory back."""

    def truncate(self, length: int) -> None:
        """Nothing behind `length` is in use any more."""

    def account(self, length: int) -> None:
        """After a repair: `length` bytes are reserved in all."""


class Chunks:
    """The chunks of one segment."""

    def __init__(self, buffer: Any, words: Any, memory: Memory) -> None:
        self._bytes = buffer
        self._words = words
        self._memory = memory
        self.base: int = words[W_DATA]
        self.count = (words[W_WINDOW] - self.base) // CHUNK
        self._map = PAGE
        self._map_end = PAGE + self.count
        # The chunk map, to be read by a chunk's number where a call of `holds` costs too much.
        self.map: Any = words[0 : -(-self._map_end // 8)].cast("B")[self._map : self._map_end]

    def offset(self, number: int) -> int:
        """Offset of chunk `number` in the segment."""
        return self.base + number * CHUNK

    def holds(self, offset: int) -> bool:
        """Is this the beginning of a chunk that is in use? Any number may be asked: it may come from damaged memory."""
        number = (offset - self.base) // CHUNK
        if not 0 <= number < self.count or offset & CHUNK_MASK:
            return False
        return bool(self._bytes[self._map + number] == CHUNK_USED)

    def take(self) -> int:
        """Offset of a chunk that is now in use, its contents undefined; 0 if there is no memory."""
        at = self._bytes.find(_FREE, self._map, self._map_end)
        if at >= 0:
            self._words[W_SPARE] -= 1
        else:
            at = self._bytes.find(_ABSENT, self._map, self._map_end)
            if at < 0 or not self._memory.reserve(self.offset(at - self._map), CHUNK):
                return 0
        self._bytes[at] = CHUNK_USED
        return self.offset(at - self._map)

    def give(self, offset: int) -> None:
        """This chunk is not in use any more."""
        at = self._map + (offset - self.base) // CHUNK
        if 0 <= self._bytes.find(_ABSENT, self._map, self._map_end) < at:
            self._release(at)  # there is a lower one to take next time, so that the segment gets shorter
            return
        self._bytes[at] = CHUNK_FREE
        if self._words[W_SPARE] < SPARES:
            self._words[W_SPARE] += 1
        else:
            # The highest goes, so that those which stay are low.
            self._release(self._bytes.rfind(_FREE, self._map, self._map_end))

    def give_back(self, offset: int) -> None:
        """This chunk is not in use any more, and its memory goes back to the system."""
        self._release(self._map + (offset - self.base) // CHUNK)

    def _release(self, at: int) -> None:
        """Give the memory of a chunk back, and end the segment behind its last one."""
        self._bytes[at] = CHUNK_ABSENT
        self._memory.release(self.offset(at - self._map), CHUNK)
        last = max(self._bytes.rfind(state, self._map, self._map_end) for state in (_FREE, _USED))
        self._memory.truncate(self.offset(last - self._map + 1))

    def rebuild(self, used: Iterable[int]) -> None:
        """Repair: exactly the chunks at these offsets are in use; all other memory goes back."""
        fresh = bytearray(self.count)
        for offset in used:
            fresh[(offset - self.base) // CHUNK] = CHUNK_USED
        end = fresh.rfind(_USED) + 1
        self._bytes[self._map : self._map_end] = bytes(fresh)
        self._words[W_SPARE] = 0
        self._memory.truncate(self.offset(end))
        for number in range(end):
            if not fresh[number]:
                self._memory.release(self.offset(number), CHUNK)
        self._memory.account(self.base_bytes() + fresh.count(_USED) * CHUNK)

    def in_use(self) -> int:
        """How many chunks are in use."""
        return bytes(self._bytes[self._map : self._map_end]).count(CHUNK_USED)

    def reserved(self) -> int:
        """Bytes of memory that the segment holds."""
        chunks = bytes(self._bytes[self._map : self._map_end])
        return self.base_bytes() + (chunks.count(_FREE) + chunks.count(_USED)) * CHUNK

    def base_bytes(self) -> int:
        """Bytes reserved before chunk 0."""
        return fixed_bytes(self._words[W_WINDOW], bool(self._words[W_BUCKETS_AT]))
