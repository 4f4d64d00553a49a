"""Memory that is no ring: always DamagedRing, never an endless loop, never a touch of what is not reserved."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from kemi.errors import DamagedRing
from kemi.queue import layout
from kemi.queue.layout import CHUNK, CHUNK_MASK, CHUNK_NEXT, CHUNK_ROOM, DEAD, W_HEAD, W_TAIL
from tests.unit.plain import Plain, fill, put, sized

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

ITEMS = [
    sized(step, b"%d" % number) for number, step in enumerate([64, CHUNK_ROOM, 80, 2 * CHUNK_ROOM, CHUNK_ROOM, 48])
]
MANY = 1000  # more than any of these rings can hold

Damage = tuple["Callable[[Plain], None]", str]


def ring_of(addmode: int) -> Plain:
    """Return memory with records that cross every border."""
    plain = Plain(addmode)
    fill(plain.ring(), *ITEMS)
    assert plain.check() == ITEMS
    return plain


def cursor(word: int, change: Callable[[int], int]) -> Callable[[Plain], None]:
    """Damage HEAD or TAIL."""

    def damage(plain: Plain) -> None:
        plain.words[word] = change(plain.words[word])

    return damage


def head_of(number: int, word: int, value: int) -> Callable[[Plain], None]:
    """Damage one of the four numbers in the head of a record."""

    def damage(plain: Plain) -> None:
        at = [at for at, _, _ in plain.records()][number]
        plain.halves[(at >> 2) + word] = value

    return damage


def link(number: int, target: Callable[[Plain, list[int]], int]) -> Callable[[Plain], None]:
    """Damage what a chunk of the chain says of the next one."""

    def damage(plain: Plain) -> None:
        chain = plain.chain()
        plain.words[(chain[number] >> 3) + CHUNK_NEXT] = target(plain, chain)

    return damage


CURSORS: dict[str, Damage] = {
    "head 0": (cursor(W_HEAD, lambda _: 0), "head cursor 0"),
    "head far away": (cursor(W_HEAD, lambda _: 1 << 63), "head cursor"),
    "head at no multiple of 8": (cursor(W_HEAD, lambda at: at + 4), "head cursor"),
    "head in a chunk's head": (cursor(W_HEAD, lambda at: at & ~CHUNK_MASK), "head cursor"),
    "head in an absent chunk": (cursor(W_HEAD, lambda at: at + 9 * CHUNK), "head cursor"),
    "tail 0": (cursor(W_TAIL, lambda _: 0), "tail cursor 0"),
    "tail in an absent chunk": (cursor(W_TAIL, lambda at: at + 4 * CHUNK), "tail cursor"),
    "tail inside a record": (cursor(W_TAIL, lambda at: at - 8), "where the last one should"),
    "tail behind nothing": (cursor(W_TAIL, lambda at: at + 8), "no room for its head"),
}
RECORDS: dict[str, Damage] = {
    "step 0": (head_of(0, 0, 0), "no room for its head"),
    "step 8": (head_of(0, 0, 8), "no room for its head"),
    "step odd": (head_of(0, 0, 65), "claims"),
    "step too long": (head_of(0, 0, 72), "claims"),
    "step over everything": (head_of(0, 0, 1 << 30), "claims"),
    "dead without a step": (head_of(2, 0, DEAD), "impossible length 0"),
    "dead with an odd step": (head_of(2, 0, DEAD | 4), "impossible length 4"),
    "dead over everything": (head_of(2, 0, DEAD | (1 << 31) - 8), "no chunk in use"),
    "key too long": (head_of(1, layout.R_KEY_LENGTH, 1 << 31), "claims a key"),
    "value too long": (head_of(1, layout.R_VALUE_LENGTH, 1 << 29), "and a value of"),
}
CHAIN: dict[str, Damage] = {
    "no next chunk": (link(1, lambda *_: 0), "no chunk in use"),
    "next is absent": (link(1, lambda _, chain: max(chain) + 3 * CHUNK), "no chunk in use"),
    "next is no chunk": (link(1, lambda _, chain: chain[2] + 8), "no chunk in use"),
    "next is far away": (link(1, lambda *_: (1 << 64) - CHUNK), "no chunk in use"),
    "next is itself": (link(1, lambda _, chain: chain[1]), "circle"),
    "next is the one before": (link(2, lambda _, chain: chain[1]), "circle"),
    "next is the first": (link(3, lambda _, chain: chain[0]), "circle"),
}
USE = {**RECORDS, **CHAIN}
ALL = {**CURSORS, **USE}


@pytest.mark.parametrize("addmode", [0, 2])
@pytest.mark.parametrize(("damage", "what"), ALL.values(), ids=ALL.keys())
def test_recover_refuses_and_changes_nothing(addmode: int, damage: Callable[[Plain], None], what: str) -> None:
    """The error says what is wrong, and every byte is as it was."""
    plain = ring_of(addmode)
    damage(plain)
    before = plain.save()
    with pytest.raises(DamagedRing, match=what):
        plain.watched().recover()
    assert plain.save() == before


@pytest.mark.parametrize("addmode", [0, 2])
@pytest.mark.parametrize("damage", [damage for damage, _ in USE.values()], ids=USE.keys())
def test_use_ends(addmode: int, damage: Callable[[Plain], None]) -> None:
    """Appending, scanning and popping end after as many records as there can be, with DamagedRing or without."""
    plain = ring_of(addmode)
    damage(plain)
    ring = plain.watched()
    with suppress(DamagedRing):
        put(ring, b"new", b"value")
        assert len(list(islice(ring.scan(), MANY))) < MANY, "endless"
    with suppress(DamagedRing):
        assert sum(ring.pop() is not None for _ in range(MANY)) < MANY, "endless"


@pytest.mark.parametrize("damage", [damage for damage, _ in CHAIN.values()], ids=CHAIN.keys())
def test_reading_one_record_ends(damage: Callable[[Plain], None]) -> None:
    """A record that goes over many chunks is read to its end or DamagedRing."""
    plain = ring_of(0)
    starts = list(plain.ring().scan())
    damage(plain)
    for at in starts:
        with suppress(DamagedRing):
            assert len(plain.watched().record_at(at)) <= 4 * CHUNK


def most_memory(action: Callable[[], object]) -> int:
    """Return the bytes that an action had at a time at most, and that it ended in DamagedRing."""
    tracemalloc.start()
    try:
        with pytest.raises(DamagedRing):
            action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_giant_in_a_circle_takes_no_memory() -> None:
    """A record claims more than all chunks in use hold, in a chunk that follows itself: nothing is read of it."""
    plain = Plain(0, chunks=400)
    fill(plain.ring(), *ITEMS[:2])
    at = next(plain.ring().scan())
    step = 300 * CHUNK_ROOM
    plain.halves[at >> 2 : (at >> 2) + 3] = memoryview(struct.pack("3I", step, 0, step - layout.RECORD_HEAD)).cast("I")
    link(0, lambda _, chain: chain[0])(plain)
    assert most_memory(lambda: plain.ring().record_at(at)) < 2 * CHUNK
    assert most_memory(plain.ring().pop) < 2 * CHUNK


def test_a_scan_of_a_circle_ends_with_what_is_in_use() -> None:
    """It gives no more records than the chunks in use can hold, however large the segment may grow."""
    plain = Plain(0, chunks=400)
    fill(plain.ring(), *(sized(CHUNK_ROOM, b"%d" % number) for number in range(5)))
    link(1, lambda _, chain: chain[1])(plain)
    seen: list[int] = []
    with pytest.raises(DamagedRing, match="circle"):
        seen.extend(plain.ring().scan())
    assert 2 < len(seen) <= 6


NINTH = (CHUNK_ROOM // 9) & ~7
HEADS: dict[str, tuple[int, Callable[[int], int]]] = {
    "first is nowhere": (layout.CHUNK_FIRST, lambda _: 0),
    "first is before": (layout.CHUNK_FIRST, lambda chunk: chunk - 8),
    "first is in its head": (layout.CHUNK_FIRST, lambda chunk: chunk + 8),
    "first is odd": (layout.CHUNK_FIRST, lambda chunk: chunk + layout.CHUNK_HEAD + 4),
    "first is behind": (layout.CHUNK_FIRST, lambda chunk: chunk + CHUNK + layout.CHUNK_HEAD),
    "first is far behind": (layout.CHUNK_FIRST, lambda chunk: chunk + 3 * CHUNK + 8000),
    "first is outside": (layout.CHUNK_FIRST, lambda _: 1 << 40),
    "previous is nowhere": (layout.CHUNK_PREVIOUS, lambda _: 0),
    "previous is absent": (layout.CHUNK_PREVIOUS, lambda chunk: chunk + 9 * CHUNK),
    "previous is no chunk": (layout.CHUNK_PREVIOUS, lambda chunk: chunk - CHUNK + 8),
    "previous is outside": (layout.CHUNK_PREVIOUS, lambda _: 1 << 40),
    "more is dead": (layout.CHUNK_DEAD, lambda _: CHUNK_ROOM - 8),
    "all is dead": (layout.CHUNK_DEAD, lambda _: CHUNK_ROOM),
    "more is dead than there is": (layout.CHUNK_DEAD, lambda _: CHUNK),
    "nothing is dead": (layout.CHUNK_DEAD, lambda _: 0),
}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("dying", [b"b5", b"c5", b"b7", b"c7"])
@pytest.mark.parametrize(("word", "value"), HEADS.values(), ids=HEADS.keys())
def test_tidying_damaged_chunks(number: int, dying: bytes, word: int, value: Callable[[int], int]) -> None:
    """What a chunk's head says of its records and its neighbour is checked before anything is copied or linked."""
    plain = Plain(2)
    names = [b"%c%d" % (letter, part) for letter in b"abcd" for part in range(9)]
    fill(plain.ring(), *(sized(NINTH, name) for name in names))
    fill(plain.ring(), *((name, b"") for name in names[9:27] if name not in (b"b5", b"c5", b"c7", dying)))
    before = {key: value for key, value in plain.contents() if key != dying}
    chunk = plain.chain()[number]
    plain.words[(chunk >> 3) + word] = value(chunk)
    ring = plain.watched()
    with suppress(DamagedRing):
        put(ring, dying)  # with it two chunks have so little alive that they become one, or one has nothing
    ring.recover()
    assert {key: value for key, value in plain.check() if key != dying} == before


@pytest.mark.timeout(5)
@pytest.mark.parametrize("call", ["append", "pop", "recover"])
def test_a_circle_in_the_key_index_ends(mocker: MockerFixture, call: str) -> None:
    """A record that leads to itself in its bucket is no endless search for another one of that bucket."""
    mocker.patch("kemi.queue.keyhash.function_of", return_value=lambda _, __: bytes(8))
    plain = Plain(2)
    ring = plain.ring()
    fill(ring, (b"a", b""), (b"b", b""))
    for at in ring.scan():
        plain.halves[(at >> 2) + layout.R_LINK] = at >> 3
    calls = {"append": lambda: put(ring, b"c"), "pop": ring.pop, "recover": ring.recover}
    try:
        calls[call]()
    except DamagedRing:
        ring.recover()
    ring.recover()
    plain.check()


def test_a_repair_that_breaks_off_leaves_no_way_to_the_old_index() -> None:
    """Its memory was given back, and who remembers where it was does not go there."""
    plain = Plain(2)
    ring = plain.ring()
    fill(ring, *ITEMS)
    plain.words[layout.W_RECOVERED] = (1 << 64) - 1  # so that counting the repair fails
    with pytest.raises(ValueError, match=r"out of range|invalid value"):
        ring.recover()
    with pytest.raises(DamagedRing, match="the key index claims 0 buckets"):
        put(ring, *ITEMS[0])
