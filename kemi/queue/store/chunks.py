# SPDX-License-Identifier: GPL-2.0-or-later
"""Which chunks of a segment are in use: an allocator that survives a kill.

One byte a chunk in the chunk map. An operation (see `journal`) marks what it takes and leaves; what became of it
decides what these marks come to:

    ABSENT --alloc--> UNSURE --memory reserved--> TAKEN --committed--> USED --free--> LEAVING --committed--> FREE
       ^                |                           |                   ^               |                      |
       +---recovery-----+      FREE <--rolled back--+                   +--rolled back--+                      |
       +-------------------memory released----- UNSURE <---trim------------------------------------------------+

The lowest chunk that is free is taken first, so that the used ones gather at the front. Some free ones are kept,
because making memory costs more than all else in growing: see MAX_FREE of the layout. Each mark is one store. `Memory`
is the segment behind the quota of its instance, or nothing at all in a test. Called with the queue's lock held, but
for `is_used`.
"""

from __future__ import annotations

from typing import Any, Protocol

from kemi.errors import CorruptedError
from kemi.queue.format.layout import (
    ABSENT,
    CHUNK_HEAD,
    CHUNK_MAP_AT,
    FREE,
    LEAVING,
    MIN_FREE,
    TAKEN,
    UNSURE,
    USED,
    W_CHUNK_BITS,
    W_DATA,
    W_FREE_CHUNKS,
    W_MAP_SIZE,
    W_MOST_FREE,
    Mapping,
)

_TRIM = 4  # chunks whose memory one operation gives back beside as many as it left itself
_TRIM_SHIFT = 3  # a part of the kept ones goes with the first that is too many, so that not each one is an operation
_STATES = [bytes([state]) for state in range(6)]


class Memory(Protocol):
    """Where chunks come from."""

    def reserve(self, offset: int, length: int) -> bool:
        """Make memory usable, also when it is already; False if there is none, and then nothing has changed."""

    def has(self, offset: int, length: int) -> bool:
        """Return False if touching it could end the process: it lies beyond the end of the file."""

    def release(self, offset: int, length: int) -> None:
        """Give memory back, also when it is not there."""


class Chunks:
    """The chunks of one segment, by the offset of their first byte."""

    def __init__(self, mapping: Mapping, memory: Memory) -> None:
        self._bytes, self._u64, _ = mapping
        self._memory = memory
        self.base: int = self._u64[W_DATA]
        self.bits: int = self._u64[W_CHUNK_BITS] & 63  # a wild one would ask for a number of gigabytes in the next line
        self.size = 1 << self.bits
        self.mask = self.size - 1
        self.room = self.size - CHUNK_HEAD  # bytes for records in a chunk
        self.count = (self._u64[W_MAP_SIZE] - self.base) >> self.bits
        self.most_free = self._u64[W_MOST_FREE]
        self._map_end = CHUNK_MAP_AT + self.count
        self._taken: list[int] = []  # by the operation under way, as offsets in the map
        self._leaving: list[int] = []
        self._reused = 0  # of those that were taken: they were free
        # The chunk map, to be read by a chunk's number where a call of `is_used` costs too much.
        self.map: Any = self._u64[0 : -(-self._map_end // 8)].cast("B")[CHUNK_MAP_AT : self._map_end]

    # --- looking ------------------------------------------------------------------------------------------------------

    def offset(self, number: int) -> int:
        """Offset of chunk `number`."""
        return self.base + (number << self.bits)

    def states(self) -> bytes:
        """Return the chunk map."""
        return bytes(self._bytes[CHUNK_MAP_AT : self._map_end])

    def is_used(self, offset: int) -> bool:
        """Return True if a used chunk begins here. Any number may be asked: it may come from corrupted memory."""
        number = (offset - self.base) >> self.bits
        return not offset & self.mask and 0 <= number < self.count and self.map[number] == USED

    def is_place(self, at: int) -> bool:
        """Return True if a record of a chunk in use may begin there. Any number may be asked."""
        number = (at - self.base) >> self.bits
        return not at & 7 and at & self.mask >= CHUNK_HEAD and 0 <= number < self.count and self.map[number] == USED

    def check_used(self, offset: int, what: str) -> int:
        """Return the offset. Raises CorruptedError unless a used chunk begins there."""
        if not self.is_used(offset):
            raise CorruptedError(f"{what} is {offset}, where no chunk in use begins")
        return offset

    def bounds(self, at: int, what: str) -> tuple[int, int]:
        """Return where the records of the chunk around `at` begin, and where it ends.

        Raises CorruptedError unless the chunk is in use, and a record may begin at `at`.
        """
        chunk = at & ~self.mask
        if at & 7 or at - chunk < CHUNK_HEAD or not self.is_used(chunk):
            raise CorruptedError(f"{what} is {at}, where no record of a chunk in use can begin")
        return chunk + CHUNK_HEAD, chunk + self.size

    def has_memory(self, offset: int) -> bool:
        """Return True if a byte of the segment may be touched."""
        if offset < self.base:
            return offset >= 0
        number = (offset - self.base) >> self.bits
        return number < self.count and self.map[number] in (FREE, USED, TAKEN, LEAVING)

    def reserved(self) -> int:
        """Bytes of memory that the chunks have."""
        states = self.states()
        return int(self.count - states.count(ABSENT) - states.count(UNSURE)) << self.bits

    # --- within an operation ------------------------------------------------------------------------------------------

    def alloc(self) -> int:
        """Take a chunk, whose contents are undefined. Returns its offset; 0 if there is no memory."""
        states = self.states()
        number = states.find(_STATES[FREE])
        if number < 0:
            number = states.find(_STATES[ABSENT])
            if number < 0:
                return 0
            self._bytes[CHUNK_MAP_AT + number] = UNSURE
            if not self._memory.reserve(self.offset(number), self.size):
                self._bytes[CHUNK_MAP_AT + number] = ABSENT
                return 0
        elif not self._memory.has(self.offset(number), self.size):  # found out by SIGBUS otherwise
            raise CorruptedError(f"the chunk map has a free chunk at {self.offset(number)}, where there is no memory")
        else:
            self._reused += 1
        self._bytes[CHUNK_MAP_AT + number] = TAKEN
        self._taken.append(CHUNK_MAP_AT + number)
        return self.offset(number)

    def alloc_many(self, count: int) -> list[int]:
        """Take chunks; none if there is not memory for all, and then `settle` is still to be called."""
        taken = []
        for _ in range(count):
            chunk = self.alloc()
            if not chunk:
                return []
            taken.append(chunk)
        return taken

    def free(self, offset: int) -> None:
        """Leave a chunk."""
        self.check_used(offset, "a chunk to be freed")
        place = CHUNK_MAP_AT + ((offset - self.base) >> self.bits)
        self._bytes[place] = LEAVING
        self._leaving.append(place)

    def settle(self, *, committed: bool) -> int:
        """Give all chunks that were taken and left their final state. Returns how many are free now that were not."""
        if not (self._taken or self._leaving):
            return 0
        taken, self._taken = self._taken, []
        leaving, self._leaving = self._leaving, []
        reused, self._reused = self._reused, 0
        for place in taken:
            self._bytes[place] = USED if committed else FREE
        for place in leaving:
            self._bytes[place] = FREE if committed else USED
        free = len(leaving if committed else taken)
        self._u64[W_FREE_CHUNKS] = min(max(0, self._u64[W_FREE_CHUNKS] + free - reused), self.count)
        return free

    def trim(self, extra: int = 0, *, scarce: bool = False) -> None:
        """Give back the memory of free chunks that are too many: the highest first, `extra` and a few at most.

        scarce: there was no memory, so that no more than the fewest is kept.
        """
        if self._u64[W_FREE_CHUNKS] <= (MIN_FREE if scarce else self.most_free):
            return
        kept = MIN_FREE if scarce else self.most_free - (self.most_free >> _TRIM_SHIFT)
        for _ in range(_TRIM + extra):
            if self._u64[W_FREE_CHUNKS] <= kept:
                return
            number = self.states().rfind(_STATES[FREE])
            if number < 0:
                return
            self._bytes[CHUNK_MAP_AT + number] = UNSURE
            self._u64[W_FREE_CHUNKS] = self._u64[W_FREE_CHUNKS] - 1
            self._release(number)

    def _release(self, number: int) -> None:
        self._memory.release(self.offset(number), self.size)
        self._bytes[CHUNK_MAP_AT + number] = ABSENT

    # --- recovery -----------------------------------------------------------------------------------------------------

    def recover(self, *, committed: bool) -> None:
        """As `settle`, for what an operation left that was broken off, in this process or another one."""
        self._taken, self._leaving, self._reused = [], [], 0
        finals = {TAKEN: USED if committed else FREE, LEAVING: FREE if committed else USED}
        for state, final in finals.items():
            for number in self._in_state(state):
                self._bytes[CHUNK_MAP_AT + number] = final
        for number in self._in_state(UNSURE):  # one at most
            self._release(number)
        self._u64[W_FREE_CHUNKS] = self.states().count(FREE)

    def _in_state(self, state: int) -> list[int]:
        states, mark = self.states(), _STATES[state]
        found = []
        number = states.find(mark)
        while number >= 0:
            found.append(number)
            number = states.find(mark, number + 1)
        return found
