"""Rings whose keys are unique, on plain memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kemi.queue import layout
from kemi.queue.layout import CHUNK, CHUNK_MASK, CHUNK_ROOM
from kemi.queue.ring import ADDED, FULL, KEPT, NO_MEMORY
from tests.unit.plain import Pair, Plain, drain, fill, put, sized, take

KEEP_OLDEST, KEEP_NEWEST = 1, 2


def test_the_oldest_stays() -> None:
    """Addmode 1: a second item of a key is not added, and nothing changes."""
    plain = Plain(KEEP_OLDEST)
    ring = plain.watched()
    fill(ring, (b"a", b"1"), (b"b", b"2"))
    before = plain.save()
    assert put(ring, b"a", b"3") == KEPT
    assert plain.save() == before
    assert take(ring) == (b"a", b"1")
    assert put(ring, b"a", b"3") == ADDED
    assert plain.check() == [(b"b", b"2"), (b"a", b"3")]


def test_the_newest_stays_and_goes_to_the_end() -> None:
    """Addmode 2: the older item of the key is gone, and counted as replaced."""
    plain = Plain(KEEP_NEWEST)
    ring = plain.watched()
    fill(ring, (b"a", b"1"), (b"b", b"2"), (b"", b""), (b"a", b"3"), (b"", b"4"))
    assert plain.check() == [(b"b", b"2"), (b"a", b"3"), (b"", b"4")]
    assert plain.words[layout.W_REPLACED] == 2


def test_a_limit_counts_what_is_alive() -> None:
    """A replacement is measured by what it adds; the dead record does not count."""
    plain = Plain(KEEP_NEWEST)
    ring = plain.watched()
    fill(ring, sized(64, b"a"), sized(64, b"b"))

    def within(item: Pair, limit: int) -> int:
        data = layout.RECORD.pack(24 + len(item[0] + item[1]), len(item[0]), len(item[1]), 0, 0.0) + b"".join(item)
        return ring.append_within(data, len(data), limit)

    assert within(sized(72, b"a"), 135) == FULL
    assert within(sized(72, b"a"), 136) == ADDED
    assert ring.used_bytes() == 136
    plain.check()


@pytest.mark.parametrize("step", [64, 2000, CHUNK_ROOM, 2 * CHUNK_ROOM + 64, 4 * CHUNK_ROOM])
@pytest.mark.parametrize("before", [64, CHUNK_ROOM - 1000, CHUNK_ROOM - 16])
def test_a_record_of_any_length_is_replaced_in_the_middle(before: int, step: int) -> None:
    """Its neighbours stay, its chunks go, and no dead record crosses a border."""
    plain = Plain(KEEP_NEWEST, chunks=16)
    ring = plain.watched()
    fill(ring, sized(before, b"a"), sized(step, b"b"), sized(300_000, b"c"), sized(64, b"b"))
    assert plain.check() == [sized(before, b"a"), sized(300_000, b"c"), sized(64, b"b")]
    assert len(plain.chain()) <= 4
    assert drain(ring) == [sized(before, b"a"), sized(300_000, b"c"), sized(64, b"b")]
    plain.check()


@pytest.mark.parametrize("size", [24, 300, 30_000])
def test_one_old_key_does_not_hold_up_the_dead(size: int) -> None:
    """One key is never fetched, ten others are replaced 100,000 times (or as many megabytes): memory stays small."""
    plain = Plain(KEEP_NEWEST, chunks=40)
    ring = plain.ring()
    fill(ring, (b"old", b"value"))
    most = 0
    value = bytes(size)
    for number in range(100_000 if size < 1000 else 5_000):
        assert put(ring, b"%d" % (number % 10), value) == ADDED
        if not number % 100:
            most = max(most, len(plain.memory.chunks))
    assert len(plain.check()) == 11
    live = -(-ring.used_bytes() // CHUNK)
    assert most <= live + 6


def test_old_keys_far_apart_do_not_hold_up_the_dead() -> None:
    """One key that stays in each chunk that was ever written: the chunks become few, because neighbours merge."""
    plain = Plain(KEEP_NEWEST, chunks=60)
    ring = plain.ring()
    for number in range(200):
        fill(ring, sized(1000, b"stays%d" % number), sized(CHUNK_ROOM // 2, b"x"), sized(CHUNK_ROOM // 2, b"y"))
    plain.check()
    # On average a chunk is at least an eighth full.
    assert len(plain.chain()) <= 8 * ring.used_bytes() // CHUNK_ROOM + 2
    assert len(drain(ring)) == 202
    plain.check()


def test_no_memory_for_a_merge_is_no_error() -> None:
    """Without a free chunk neighbours stay as they are, and everything goes on."""
    plain = Plain(KEEP_NEWEST)
    ring = plain.watched()
    big = CHUNK_ROOM - 64
    fill(ring, *(item for number in range(3) for item in (sized(64, b"s%d" % number), sized(big, b"b%d" % number))))
    plain.memory.limit = len(plain.memory.chunks)
    assert all(put(ring, b"b%d" % number) == ADDED for number in range(3))
    plain.check()


@pytest.mark.parametrize("addmode", [KEEP_OLDEST, KEEP_NEWEST])
@pytest.mark.parametrize("step", [64, CHUNK_ROOM, 2 * CHUNK_ROOM + 1000])
def test_recover_buries_one_of_two_twins(addmode: int, step: int) -> None:
    """Of a replacement that was not finished, addmode 1 keeps the older item and addmode 2 the newer."""
    plain = Plain(addmode)
    fill(plain.ring(), sized(64, b"a"), sized(step, b"k"), sized(64, b"b"), sized(step, b"t"), sized(64, b"c"))
    first, second = [at for at in plain.ring().scan() if bytes(plain.buffer[at + 24 : at + 25]) in b"kt"]
    plain.buffer[second + 24 : second + 25] = b"k"
    plain.watched().recover()
    contents = plain.check()
    assert [key for key, _ in contents] == ([b"a", b"k", b"b", b"c"] if addmode == 1 else [b"a", b"b", b"k", b"c"])
    offsets = list(plain.ring().scan())
    assert (first in offsets, second in offsets) == ((True, False) if addmode == 1 else (False, True))


def test_head_passes_the_dead() -> None:
    """Dead records at the head are passed with their chunks, whatever is behind them."""
    plain = Plain(KEEP_NEWEST)
    ring = plain.watched()
    fill(ring, *(sized(CHUNK_ROOM // 2, b"%d" % number) for number in range(6)))
    fill(ring, *((b"%d" % number, b"") for number in range(5)))
    assert plain.words[layout.W_HEAD] & ~CHUNK_MASK == plain.chain()[0]
    assert take(ring) == sized(CHUNK_ROOM // 2, b"5")
    plain.check()


KEYS = st.sampled_from([b"", b"a", b"b", b"c", b"long" * 10, b"d"])
STEPS = st.sampled_from([72, 96, 4096, 60_000, 130_000, CHUNK_ROOM - 16, CHUNK_ROOM, CHUNK_ROOM + 40, 600_000])


@given(st.sampled_from([KEEP_OLDEST, KEEP_NEWEST]), st.lists(st.one_of(st.tuples(KEYS, STEPS), st.none()), max_size=40))
def test_any_program(addmode: int, program: list[tuple[bytes, int] | None]) -> None:
    """Appends and pops (None) in any order give what a list with unique keys gives."""
    plain = Plain(addmode, chunks=30)
    ring = plain.watched()
    model: list[Pair] = []
    for call in program:
        if call is None:
            assert take(ring) == (model.pop(0) if model else None)
            continue
        item = sized(call[1], call[0])
        old = next((pair for pair in model if pair[0] == item[0]), None)
        outcome = put(ring, *item)
        assert outcome in ((KEPT,) if old and addmode == KEEP_OLDEST else (ADDED, NO_MEMORY))
        if outcome == ADDED:
            model = [pair for pair in model if pair != old] + [item]
        assert plain.check() == model
    ring.recover()
    assert plain.check() == model
    assert drain(ring) == model
