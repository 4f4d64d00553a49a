"""Which chunks are in use, free, or given back."""

from __future__ import annotations

import pytest

from kemi.queue import layout
from kemi.queue.chunks import SPARES
from kemi.queue.layout import CHUNK, CHUNK_FREE, CHUNK_USED
from tests.unit.plain import Plain


@pytest.fixture
def plain() -> Plain:
    """Return memory whose chunk 0 is in use."""
    return Plain(chunks=8)


def test_the_lowest_chunk_is_taken_first(plain: Plain) -> None:
    """New chunks come in order, and a hole is filled before the end grows."""
    chunks = plain.ring().chunks
    taken = [chunks.take() for _ in range(4)]
    assert taken == [chunks.offset(number) for number in (1, 2, 3, 4)]
    chunks.give(taken[1])
    chunks.give(taken[0])
    assert [chunks.take(), chunks.take()] == taken[:2]


def test_a_few_chunks_are_kept_and_the_highest_go(plain: Plain) -> None:
    """No more than SPARES stay reserved, low ones, and the segment ends behind the last."""
    chunks = plain.ring().chunks
    taken = [chunks.take() for _ in range(6)]
    for chunk in taken:
        chunks.give(chunk)
    assert plain.mapped(CHUNK_FREE) == set(taken[:SPARES]) == plain.memory.chunks - {chunks.offset(0)}
    assert plain.words[layout.W_SPARE] == SPARES
    assert plain.memory.accounted == chunks.reserved() == chunks.base_bytes() + (1 + SPARES) * CHUNK


@pytest.mark.parametrize("limit", [1, 4])
def test_no_memory_changes_nothing(plain: Plain, limit: int) -> None:
    """Where memory ends, `take` says 0 and all is as it was."""
    chunks = plain.ring().chunks
    plain.memory.limit = limit
    while chunks.take():
        pass
    before = plain.save()
    assert chunks.take() == 0
    assert plain.save() == before
    assert len(plain.mapped(CHUNK_USED)) == limit


def test_the_window_is_the_limit(plain: Plain) -> None:
    """A segment never grows over its window."""
    plain.memory.limit = 1000
    chunks = plain.ring().chunks
    while chunks.take():
        pass
    assert max(plain.mapped(CHUNK_USED)) + CHUNK == len(plain.buffer)


def test_rebuild_makes_the_map_anew(plain: Plain) -> None:
    """Exactly the named chunks are in use; all other memory is given back and accounted for."""
    chunks = plain.ring().chunks
    taken = [chunks.take() for _ in range(6)]
    plain.words[layout.W_SPARE] = 77
    chunks.rebuild([taken[1], taken[3]])
    assert plain.mapped(CHUNK_USED) == {taken[1], taken[3]} == plain.memory.chunks
    assert plain.words[layout.W_SPARE] == 0
    assert plain.memory.accounted == chunks.reserved()


@pytest.mark.parametrize("offset", [0, 1, 1 << 63, (1 << 64) - 8])
def test_any_number_may_be_asked(plain: Plain, offset: int) -> None:
    """`holds` says no to what damaged memory may contain."""
    assert not plain.ring().chunks.holds(offset)


@pytest.mark.parametrize(("shift", "held"), [(0, True), (8, False), (CHUNK, False), (-CHUNK, False)])
def test_only_the_beginning_of_a_used_chunk_holds(plain: Plain, shift: int, held: bool) -> None:
    """Neither the middle of a chunk nor one that is absent counts."""
    chunks = plain.ring().chunks
    assert chunks.holds(chunks.offset(0) + shift) is held
