"""The chunk map: what an operation takes and leaves, and what recovery makes of it."""

from __future__ import annotations

import pytest

from kemi.errors import CorruptedError
from kemi.queue.format.layout import (
    ABSENT,
    CHUNK_HEAD,
    CHUNK_MAP_AT,
    FREE,
    LEAVING,
    MAX_FREE,
    MIN_FREE,
    TAKEN,
    UNSURE,
    USED,
    W_FREE_CHUNKS,
    W_MAP_SIZE,
)
from kemi.queue.store.chunks import Chunks
from tests.support.crash_points import Segment


def new(chunks: int = 8, limit: int | None = None) -> tuple[Chunks, Segment]:
    segment = Segment(chunks=chunks, limit=limit)
    return Chunks(segment.plain, segment), segment


def use(chunks: Chunks, count: int) -> list[int]:
    taken = chunks.alloc_many(count)
    chunks.settle(committed=True)
    return taken


def test_the_lowest_come_first_and_free_ones_before_new_ones() -> None:
    chunks, segment = new()
    taken = use(chunks, 4)
    assert taken == [chunks.offset(number) for number in range(4)]
    chunks.free(taken[1])
    chunks.settle(committed=True)
    assert segment.states()[:5] == bytes([USED, FREE, USED, USED, ABSENT])
    assert segment.u64[W_FREE_CHUNKS] == 1
    assert use(chunks, 2) == [taken[1], chunks.offset(4)]


def test_a_free_chunk_without_memory_is_not_touched() -> None:
    """A wild store into the map: what takes the chunk would end by SIGBUS."""
    chunks, segment = new()
    use(chunks, 1)
    segment.plain.bytes[CHUNK_MAP_AT + 5] = FREE
    with pytest.raises(CorruptedError, match=rf"a free chunk at {chunks.offset(5)}, where there is no memory"):
        chunks.alloc()


@pytest.mark.parametrize(("committed", "expected"), [(True, [FREE, USED, USED]), (False, [USED, USED, FREE])])
def test_what_is_taken_and_left_follows_from_the_commit(committed: bool, expected: list[int]) -> None:
    for recovers in (False, True):
        chunks, segment = new()
        first, _ = use(chunks, 2)
        chunks.free(first)
        chunks.alloc()
        assert segment.states()[:3] == bytes([LEAVING, USED, TAKEN])
        if recovers:
            Chunks(segment.plain, segment).recover(committed=committed)
        else:
            assert chunks.settle(committed=committed) == 1
        assert segment.states()[:3] == bytes(expected)
        assert segment.u64[W_FREE_CHUNKS] == 1


def test_a_record_begins_at_a_multiple_of_8_in_a_used_chunk_behind_its_head() -> None:
    chunks, segment = new()
    taken = use(chunks, 3)
    chunks.free(taken[1])
    chunks.settle(committed=True)
    places = {at for chunk in (taken[0], taken[2]) for at in range(chunk + CHUNK_HEAD, chunk + chunks.size, 8)}
    around = range(chunks.base - 64, chunks.offset(4) + 64)
    assert {at for at in around if chunks.is_place(at)} == places
    assert not any(chunks.is_place(at) for at in (0, 8, chunks.offset(chunks.count), segment.u64[W_MAP_SIZE], 1 << 63))


def test_without_memory_there_is_none_and_nothing_is_left() -> None:
    chunks, segment = new(limit=2)
    assert chunks.alloc_many(3) == []
    chunks.settle(committed=False)
    chunks.trim(2)
    assert use(chunks, 2) == [chunks.offset(0), chunks.offset(1)]
    assert chunks.alloc() == 0
    assert segment.states() == bytes([USED, USED, 0, 0, 0, 0, 0, 0])


def test_at_the_end_of_the_mapping_there_is_none() -> None:
    chunks, _ = new(chunks=2)
    assert len(use(chunks, 2)) == 2
    assert chunks.alloc() == 0


def test_a_few_free_ones_stay_and_the_highest_go() -> None:
    chunks, segment = new()
    for chunk in use(chunks, 6):
        chunks.free(chunk)
    chunks.trim(chunks.settle(committed=True))
    assert segment.states() == bytes([FREE] * MIN_FREE + [ABSENT] * 6)
    assert len(segment.there) == MIN_FREE
    assert chunks.reserved() == MIN_FREE * chunks.size


@pytest.mark.parametrize(("count", "kept"), [(16, MIN_FREE), (256, 8), (1 << 14, MAX_FREE)])
def test_a_part_of_what_there_may_be_is_kept_and_an_eighth_goes_with_the_first_too_many(count: int, kept: int) -> None:
    chunks, segment = new(count)
    assert chunks.most_free == kept
    taken = use(chunks, kept + 8)
    for chunk in taken[:kept]:
        chunks.free(chunk)
        chunks.trim(chunks.settle(committed=True))
    assert segment.u64[W_FREE_CHUNKS] == segment.states().count(FREE) == kept
    assert segment.states().count(USED) == 8
    chunks.free(taken[kept])
    chunks.trim(chunks.settle(committed=True))
    assert segment.u64[W_FREE_CHUNKS] == segment.states().count(FREE) == kept - kept // 8
    assert segment.states()[: kept - kept // 8] == bytes([FREE]) * (kept - kept // 8)


def test_where_memory_is_scarce_the_fewest_are_kept() -> None:
    """So that others have it; and what was taken for an operation that was not done is given back with them."""
    chunks, segment = new(1024, limit=20)
    for chunk in use(chunks, 10):
        chunks.free(chunk)
    chunks.trim(chunks.settle(committed=True))
    assert segment.states().count(FREE) == 10
    assert chunks.alloc_many(30) == []
    chunks.trim(chunks.settle(committed=False), scarce=True)
    assert segment.states() == bytes([FREE] * MIN_FREE + [ABSENT] * (1024 - MIN_FREE))
    assert segment.u64[W_FREE_CHUNKS] == MIN_FREE


def test_free_ones_are_counted_by_what_an_operation_took_and_left() -> None:
    chunks, segment = new()
    first, second, third = use(chunks, 3)
    chunks.free(first)
    chunks.free(second)
    chunks.settle(committed=True)
    for committed in (False, True):
        chunks.free(third)
        assert len(chunks.alloc_many(3)) == 3
        chunks.settle(committed=committed)
        assert segment.u64[W_FREE_CHUNKS] == segment.states().count(FREE) == (1 if committed else 3)


@pytest.mark.parametrize("wild", [0, 1 << 40, (1 << 64) - 1])
def test_a_wild_number_of_free_ones_is_none(wild: int) -> None:
    chunks, segment = new()
    first, second = use(chunks, 2)
    for chunk in (first, second):
        chunks.free(chunk)
        segment.u64[W_FREE_CHUNKS] = wild
        chunks.settle(committed=True)
        assert 0 <= segment.u64[W_FREE_CHUNKS] <= chunks.count


def test_memory_that_may_be_there_is_given_back() -> None:
    chunks, segment = new()
    use(chunks, 1)
    for there in (False, True):
        segment.memory[CHUNK_MAP_AT + 3] = UNSURE
        if there:
            segment.reserve(chunks.offset(3), chunks.size)
        chunks.recover(committed=False)
        assert segment.states()[3] == ABSENT
        assert chunks.offset(3) not in segment.there


def test_any_number_may_be_asked() -> None:
    chunks, segment = new()
    use(chunks, 1)
    for offset in (0, -1, chunks.base - chunks.size, chunks.base + 8, chunks.offset(1), chunks.offset(99), 1 << 63):
        assert not chunks.is_used(offset)
    assert chunks.is_used(chunks.base)
    assert chunks.has_memory(chunks.base + chunks.size - 1)
    assert not chunks.has_memory(chunks.base + chunks.size)
    assert not chunks.has_memory(segment.place.map_size)
    with pytest.raises(CorruptedError, match="a chunk to be freed is 5, where no chunk in use begins"):
        chunks.free(5)


@pytest.mark.parametrize("inside", [0, 8, 56, 68, 4096])
def test_a_record_can_begin_behind_a_chunks_head_only(inside: int) -> None:
    chunks, _ = new()
    use(chunks, 1)
    assert chunks.bounds(chunks.base + 64, "HEAD") == (chunks.base + 64, chunks.base + 4096)
    with pytest.raises(CorruptedError, match="HEAD is"):
        chunks.bounds(chunks.base + inside, "HEAD")
