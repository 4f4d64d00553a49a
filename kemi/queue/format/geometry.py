# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the parts of a queue's segment lie: worked out from few numbers, and checked against them (see `layout`)."""

from __future__ import annotations

from kemi.queue.format.layout import (
    CAPACITY,
    CHUNK_BITS,
    CHUNK_MAP_AT,
    DIRECTORY_ENTRIES,
    ENTRY_BYTES,
    FREE_SHIFT,
    LINE,
    MAX_CAPACITY,
    MAX_FREE,
    MIN_CHUNK_BITS,
    MIN_FREE,
    PAGE,
    W_ADDMODE,
    W_CAPACITY,
    W_CHUNK_BITS,
    W_DATA,
    W_DIRECTORY_AT,
    W_ENTRIES_AT,
    W_HEAP_AT,
    W_MAP_SIZE,
    W_MOST_FREE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple
else:
    from kemi.frozen import NamedTuple

# The words of the header in which it is kept, in the order of the fields of a Geometry.
_WORDS = (W_MAP_SIZE, W_DATA, W_CHUNK_BITS, W_CAPACITY, W_ENTRIES_AT, W_HEAP_AT, W_DIRECTORY_AT, W_MOST_FREE)


class Geometry(NamedTuple):
    """Where the parts of a segment lie."""

    map_size: int
    data: int
    chunk_bits: int
    capacity: int
    entries_at: int
    heap_at: int
    directory_at: int  # 0 = no key index
    most_free: int  # chunks

    def fixed_bytes(self) -> int:
        """Bytes that must have memory from the beginning on: all before chunk 0."""
        if self.directory_at:
            return self.directory_at + DIRECTORY_ENTRIES * 8
        return self.heap_at + -(-self.capacity * 4 // LINE) * LINE


def geometry(
    room: int, *, keyed: bool, capacity: int = CAPACITY, chunk_bits: int = CHUNK_BITS, keep: int | None = None
) -> Geometry:
    """Place the parts of a segment whose chunks may take `room` bytes. Raises ValueError for a wrong capacity.

    keep: bytes that its free chunks may keep; None: a part of the room.
    """
    if not 1 <= capacity <= MAX_CAPACITY:
        raise ValueError(f"capacity={capacity}: in-flight entries must be 1 to {MAX_CAPACITY}")
    chunk = 1 << chunk_bits
    chunks = max(1, -(-room // chunk))
    entries_at = CHUNK_MAP_AT + -(-chunks // PAGE) * PAGE
    heap_at = entries_at + capacity * ENTRY_BYTES
    end = heap_at + -(-capacity * 4 // LINE) * LINE
    directory_at = end if keyed else 0
    if keyed:
        end += DIRECTORY_ENTRIES * 8
    data = -(-end // chunk) * chunk
    most_free = max(MIN_FREE, min(MAX_FREE, chunks >> FREE_SHIFT if keep is None else keep >> chunk_bits))
    return Geometry(data + chunks * chunk, data, chunk_bits, capacity, entries_at, heap_at, directory_at, most_free)


def write(u64: Any, place: Geometry) -> None:
    """Store it in a zeroed header."""
    for word, value in zip(_WORDS, place):
        u64[word] = value


def read(u64: Any) -> Geometry:
    """Return what a header says, whether it is sound or not."""
    return Geometry(*(u64[word] for word in _WORDS))


def find_wrong(u64: Any, room: int) -> str:
    """Return what is wrong with the geometry in a header, "" if it is sound. Reads what is written once, no more.

    room: bytes that can be mapped.
    """
    found, addmode = read(u64), u64[W_ADDMODE]
    bits, capacity = found.chunk_bits, found.capacity
    if not MIN_CHUNK_BITS <= bits <= CHUNK_BITS or not 1 <= capacity <= MAX_CAPACITY or addmode not in (0, 1, 2):
        return f"its chunks have 1 << {bits} bytes, it has {capacity} in-flight entries, and addmode {addmode}"
    if not MIN_FREE <= found.most_free <= MAX_FREE:
        return f"{found.most_free} free chunks keep their memory, not {MIN_FREE} to {MAX_FREE}"
    if not found.data < found.map_size <= room:
        return f"it has {found.map_size} bytes, and its chunks begin at {found.data}"
    right = geometry(found.map_size - found.data, keyed=addmode != 0, capacity=capacity, chunk_bits=bits)
    right = right._replace(most_free=found.most_free)
    return "" if found == right else f"its parts lie at {tuple(found)}, not at {tuple(right)}"
