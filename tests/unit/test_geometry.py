"""Where the parts of a segment lie, and what is found wrong with that in a header."""

from __future__ import annotations

from itertools import product

import pytest

from kemi.queue.format import geometry, layout
from kemi.queue.format.layout import (
    CHUNK_BITS,
    MAX_CAPACITY,
    MIN_CHUNK_BITS,
    W_ADDMODE,
    W_CAPACITY,
    W_CHUNK_BITS,
    W_DATA,
    W_DIRECTORY_AT,
    W_ENTRIES_AT,
    W_HEAP_AT,
    W_MAP_SIZE,
)

ROOM = 1 << 40
PARTS = [W_MAP_SIZE, W_DATA, W_CHUNK_BITS, W_CAPACITY, W_ENTRIES_AT, W_HEAP_AT, W_DIRECTORY_AT]


def header(room: int = 1 << 20, capacity: int = 8, bits: int = CHUNK_BITS, addmode: int = 0) -> list[int]:
    """Return the words of a header in which such a geometry was written."""
    u64 = [0] * (layout.PAGE // 8)
    geometry.write(u64, geometry.geometry(room, keyed=addmode != 0, capacity=capacity, chunk_bits=bits))
    u64[W_ADDMODE] = addmode
    return u64


@pytest.mark.parametrize(
    ("addmode", "capacity", "bits", "room"),
    list(product((0, 1, 2), (1, 2, 1024, MAX_CAPACITY), (MIN_CHUNK_BITS, CHUNK_BITS), (1, 1 << 18, (1 << 30) + 1))),
)
def test_what_was_written_is_sound(addmode: int, capacity: int, bits: int, room: int) -> None:
    """From one entry, and the smallest chunks, to the most of both."""
    u64 = header(room, capacity, bits, addmode)
    assert geometry.find_wrong(u64, ROOM) == ""
    assert geometry.find_wrong(u64, u64[W_MAP_SIZE]) == ""
    assert geometry.find_wrong(u64, u64[W_MAP_SIZE] - 1)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (W_CAPACITY, 0),
        (W_CAPACITY, MAX_CAPACITY + 1),
        (W_CHUNK_BITS, MIN_CHUNK_BITS - 1),
        (W_CHUNK_BITS, CHUNK_BITS + 1),
        (W_CHUNK_BITS, (1 << 64) - 1),
        (W_ADDMODE, 3),
        (W_ADDMODE, (1 << 64) - 1),
    ],
)
def test_a_number_beyond_its_bounds_is_told(word: int, value: int) -> None:
    u64 = header()
    u64[word] = value
    assert geometry.find_wrong(u64, ROOM).startswith("its chunks have 1 << ")


@pytest.mark.parametrize("addmode", [0, 1])
@pytest.mark.parametrize("word", PARTS)
@pytest.mark.parametrize("by", [1, -1, 8, 4096, -4096])
def test_parts_that_do_not_fit_together_are_told(addmode: int, word: int, by: int) -> None:
    """Whichever word is another one than was written."""
    u64 = header(capacity=16, addmode=addmode)
    u64[word] = max(0, u64[word] + by)
    sound = header(capacity=16, addmode=addmode)
    if u64 != sound:
        assert geometry.find_wrong(u64, ROOM)


def test_chunks_that_begin_at_the_end_are_told() -> None:
    u64 = header()
    u64[W_DATA] = u64[W_MAP_SIZE]
    assert geometry.find_wrong(u64, ROOM) == f"it has {u64[W_MAP_SIZE]} bytes, and its chunks begin at {u64[W_DATA]}"


@pytest.mark.parametrize("capacity", [0, -1, MAX_CAPACITY + 1])
def test_no_such_geometry_can_be_made(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"capacity={capacity}: in-flight entries must be 1 to {MAX_CAPACITY}"):
        geometry.geometry(1 << 20, keyed=False, capacity=capacity)


@pytest.mark.parametrize(("addmode", "capacity"), list(product((0, 1), (1, 15, 16, 17, 1024))))
def test_the_parts_lie_one_behind_the_other(addmode: int, capacity: int) -> None:
    """None reaches into the next, and what must have memory from the beginning on ends with the last one."""
    place = geometry.geometry(3 << CHUNK_BITS, keyed=addmode != 0, capacity=capacity)
    chunks = (place.map_size - place.data) >> CHUNK_BITS
    ends = [
        (layout.CHUNK_MAP_AT + chunks, place.entries_at),
        (place.entries_at + capacity * layout.ENTRY_BYTES, place.heap_at),
        (place.heap_at + 4 * capacity, place.directory_at or place.data),
    ]
    if addmode:
        ends.append((place.directory_at + 8 * layout.DIRECTORY_ENTRIES, place.data))
    assert all(end <= following for end, following in ends)
    assert chunks == 3
    u64 = header(3 << CHUNK_BITS, capacity, CHUNK_BITS, addmode)
    fixed = place.fixed_bytes()
    assert ends[-1][0] <= fixed <= place.data
    assert geometry.read(u64).fixed_bytes() == fixed


@pytest.mark.parametrize(
    ("chunks", "keep", "most"),
    [(1, None, 2), (320, None, 10), (5000, None, 32), (5000, 0, 2), (5000, 10 << CHUNK_BITS, 10), (1, 1 << 40, 32)],
)
def test_how_many_chunks_stay(chunks: int, keep: int | None, most: int) -> None:
    place = geometry.geometry(chunks << CHUNK_BITS, keyed=False, keep=keep)
    assert place.most_free == most
    assert place == geometry.geometry(chunks << CHUNK_BITS, keyed=False)._replace(most_free=most)


@pytest.mark.parametrize("wild", [0, 1, layout.MAX_FREE + 1, (1 << 64) - 1])
def test_a_wild_number_of_chunks_that_stay(wild: int) -> None:
    u64 = header(ROOM, 16, CHUNK_BITS, 0)
    u64[layout.W_MOST_FREE] = wild
    assert geometry.find_wrong(u64, ROOM) == f"{wild} free chunks keep their memory, not 2 to 32"
