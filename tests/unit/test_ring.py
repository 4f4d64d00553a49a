"""Append, pop, scan and recover on plain memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kemi.queue import layout
from kemi.queue.chunks import SPARES
from kemi.queue.layout import CHUNK_HEAD, CHUNK_MASK, CHUNK_ROOM, MAX_STEP, W_HEAD, W_TAIL
from kemi.queue.ring import ADDED, FULL, NO_MEMORY, TOO_LARGE
from tests.unit.plain import Plain, drain, fill, pair, put, room, sized, take

ADDMODES = pytest.mark.parametrize("addmode", [0, 1, 2])
# Steps around everything where a record meets the end of a chunk.
STEPS = [32, 40, 1000, CHUNK_ROOM - 8, CHUNK_ROOM, CHUNK_ROOM + 8, 2 * CHUNK_ROOM, 3 * CHUNK_ROOM + 64]


def leave_room(plain: Plain, left: int) -> tuple[bytes, bytes]:
    """Append one item so that `left` bytes of the chunk stay free."""
    item = sized(room(plain) - left, b"first")
    fill(plain.watched(), item)
    assert room(plain) == left
    return item


@ADDMODES
def test_a_new_ring_is_empty(plain_of: dict[int, Plain], addmode: int) -> None:
    """No item, and nothing to take."""
    plain = plain_of[addmode]
    assert plain.check() == []
    assert plain.watched().pop() is None
    assert plain.watched().drop() is False
    assert len(plain.ring()) == 0


@pytest.fixture
def plain_of() -> dict[int, Plain]:
    """Return memory for each addmode."""
    return {addmode: Plain(addmode) for addmode in (0, 1, 2)}


@ADDMODES
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("left", [8, 16, 24, 32, 40, CHUNK_ROOM])
def test_every_size_at_every_place(plain_of: dict[int, Plain], addmode: int, left: int, step: int) -> None:
    """A record of any length crosses any chunk border and comes back whole."""
    plain = plain_of[addmode]
    items = [] if left == CHUNK_ROOM else [leave_room(plain, left)]
    items += [sized(step, b"second"), sized(64, b"third")]
    fill(plain.watched(), *items[-2:])
    assert plain.check() == items
    assert drain(plain.watched()) == items
    assert plain.check() == []


@ADDMODES
def test_a_record_that_ends_with_its_chunk(plain_of: dict[int, Plain], addmode: int) -> None:
    """The tail then stands at the beginning of the next chunk, and so does the head after the pop."""
    plain = plain_of[addmode]
    fill(plain.watched(), sized(room(plain)))
    assert plain.words[W_TAIL] & CHUNK_MASK == CHUNK_HEAD
    assert plain.words[layout.W_CHUNKS] == 2
    assert take(plain.watched()) == sized(CHUNK_ROOM)
    assert plain.words[W_HEAD] == plain.words[W_TAIL]
    assert plain.check() == []


@ADDMODES
@pytest.mark.parametrize("left", [8, 16])
def test_a_head_is_never_divided(plain_of: dict[int, Plain], addmode: int, left: int) -> None:
    """Where a record's head has no room, a dead record fills the chunk and the next record begins in the next one."""
    plain = plain_of[addmode]
    leave_room(plain, left)
    fill(plain.watched(), sized(48))
    (at, _, _), (filler, step, dead), (second, _, _) = plain.records()
    assert (step, dead) == (left, True)
    assert filler + left == (at | CHUNK_MASK) + 1
    assert second & CHUNK_MASK == CHUNK_HEAD
    plain.check()


def test_an_item_of_16_mib() -> None:
    """It comes back as it went in, between others, and again when it is appended by another process."""
    plain = Plain(chunks=70)
    items = [sized(40, b"a"), sized((1 << 24) + 32, b"b"), sized(48, b"c")]
    ring = plain.ring()
    for _ in range(2):
        fill(ring, *items)
        assert plain.check() == items
        assert drain(ring) == items
        assert plain.check() == []


@pytest.mark.parametrize("addmode", [0, 2])
@pytest.mark.parametrize("step", [MAX_STEP + 8, 12 * CHUNK_ROOM + 8])
def test_what_can_never_fit_is_too_large(plain_of: dict[int, Plain], addmode: int, step: int) -> None:
    """A record longer than a step or the window can be is refused and changes nothing."""
    plain = plain_of[addmode]
    fill(plain.ring(), sized(64))
    before = plain.save()
    assert plain.watched().append(layout.RECORD.pack(step & ~7, 0, step - 24, 0, 0.0), step) == TOO_LARGE
    assert plain.save() == before


@ADDMODES
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_memory_in_the_middle_of_a_record(plain_of: dict[int, Plain], addmode: int, limit: int) -> None:
    """An append that gets only some of its chunks gives them back, and is as if it had never been."""
    plain = plain_of[addmode]
    fill(plain.ring(), sized(64, b"old"))
    plain.memory.limit = len(plain.memory.chunks) + limit - 1
    assert put(plain.watched(), *sized(3 * CHUNK_ROOM, b"new")) == NO_MEMORY
    assert plain.check() == [sized(64, b"old")]
    plain.memory.limit = 12
    assert put(plain.watched(), *sized(3 * CHUNK_ROOM, b"new")) == ADDED
    assert plain.check() == [sized(64, b"old"), sized(3 * CHUNK_ROOM, b"new")]


@ADDMODES
def test_append_within_a_limit(plain_of: dict[int, Plain], addmode: int) -> None:
    """Up to the limit items are taken, one byte more is FULL and changes nothing."""
    plain = plain_of[addmode]
    ring = plain.watched()

    def append(key: bytes, limit: int) -> int:
        data = layout.RECORD.pack(32, len(key), 0, 0, 0.0) + key
        return ring.append_within(data, 32, limit)

    assert [append(b"a", 64), append(b"b", 64)] == [ADDED, ADDED]
    before = plain.save()
    assert append(b"c", 64 + 31) == FULL
    assert plain.save() == before
    assert append(b"c", 96) == ADDED


def test_memory_is_given_back_while_the_head_moves() -> None:
    """After a burst is drained, no more than the chunk in use and the spare ones are left."""
    plain = Plain(chunks=40)
    items = [sized(60_000, b"%d" % number) for number in range(150)]
    fill(plain.ring(), *items)
    most = len(plain.memory.chunks)
    assert drain(plain.ring()) == items
    plain.check()
    assert most > 30
    assert len(plain.memory.chunks) <= 1 + SPARES


@ADDMODES
@pytest.mark.parametrize("last", [sized(CHUNK_ROOM // 2), sized(CHUNK_ROOM)])
def test_an_empty_ring_returns_to_the_front(
    plain_of: dict[int, Plain], addmode: int, last: tuple[bytes, bytes]
) -> None:
    """Emptied far from the front, it goes on in a low chunk, so that the segment gets short."""
    plain = plain_of[addmode]
    ring = plain.watched()
    fill(ring, *(sized(CHUNK_ROOM, b"%d" % number) for number in range(8)), last)
    drain(ring)
    assert plain.check() == []
    low = plain.ring().chunks.offset(SPARES + 1)
    assert plain.words[W_HEAD] < low
    assert max(plain.memory.chunks) <= low
    fill(ring, last)
    assert plain.check() == [last]


def test_a_ring_near_the_front_stays_where_it_is() -> None:
    """Going empty and full again at one place takes no chunk and gives none."""
    plain = Plain()
    ring = plain.watched()
    for _ in range(3):
        fill(ring, sized(640))
        drain(ring)
    assert plain.words[W_HEAD] == plain.words[W_TAIL] == plain.ring().chunks.offset(0) + CHUNK_HEAD + 3 * 640


def test_high_water_is_known_when_it_goes_down() -> None:
    """The most items there ever were is stored at the latest by the pop that follows."""
    plain = Plain()
    ring = plain.watched()
    fill(ring, *[sized(32)] * 5)
    drain(ring)
    fill(ring, *[sized(32)] * 2)
    drain(ring)
    assert plain.words[layout.W_HIGH] == 5


@ADDMODES
def test_recover_changes_no_item(plain_of: dict[int, Plain], addmode: int) -> None:
    """On a sound ring it only counts itself and gives spare chunks back."""
    plain = plain_of[addmode]
    ring = plain.watched()
    items = [sized(100_000, b"%d" % number) for number in range(12)]
    fill(ring, *items)
    for _ in range(5):
        ring.pop()
    ring.recover()
    assert plain.check() == items[5:]
    assert plain.words[layout.W_RECOVERED] == 1
    assert not plain.words[layout.W_SPARE]


@pytest.mark.parametrize("word", [layout.W_ADDED, layout.W_CHUNKS, layout.W_SPARE, layout.W_DEAD])
@ADDMODES
def test_recover_counts_anew(plain_of: dict[int, Plain], addmode: int, word: int) -> None:
    """A counter one too high or one too low is right again."""
    plain = plain_of[addmode]
    items = [sized(100_000, b"%d" % number) for number in range(6)]
    for wrong in (1, -1):
        fill(plain.ring(), *items)
        plain.words[word] = max(0, plain.words[word] + wrong)
        plain.ring().recover()
        assert plain.check() == items
        assert drain(plain.ring()) == items


SIZES = st.sampled_from([32, 40, 64, 4096, 60_000, CHUNK_ROOM - 16, CHUNK_ROOM, CHUNK_ROOM + 40, 600_000])


@given(st.lists(st.one_of(SIZES, st.just(0)), max_size=40))
def test_any_program(program: list[int]) -> None:
    """Appends (a size) and pops (0) in any order give what a list gives."""
    plain = Plain()
    ring = plain.watched()
    model: list[tuple[bytes, bytes]] = []
    for number, step in enumerate(program):
        if not step:
            assert take(ring) == (model.pop(0) if model else None)
            continue
        item = sized(step, b"%d" % number)
        outcome = put(ring, *item)
        assert outcome in (ADDED, NO_MEMORY)
        if outcome == ADDED:
            model.append(item)
    assert plain.check() == model
    assert [pair(ring.record_at(at)) for at in ring.scan()] == model
