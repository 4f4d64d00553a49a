"""The quick repair: it reads no more when there are more items, and makes what a look at all of them makes."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kemi.errors import DamagedRing
from kemi.queue import layout
from kemi.queue.layout import (
    CHUNK,
    CHUNK_HEAD,
    CHUNK_MARK,
    CHUNK_MASK,
    CHUNK_NEXT,
    CHUNK_PREVIOUS,
    CHUNK_ROOM,
    CHUNK_SERIAL,
    W_ADDED,
    W_HEAD,
    W_REMOVED,
    W_TAIL,
)
from kemi.queue.marks import Mark, Marked, _sealed
from kemi.queue.recovery import Recoverable
from kemi.queue.ring import Ring
from tests.unit import test_aside_stores as aside
from tests.unit import test_stores as stores
from tests.unit.plain import Died, Plain, Stores, drain, fill, put, sized, take

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

ROOM = CHUNK_ROOM

Outcome = tuple[bytes, set[int], int]


def never() -> None:
    """Stand for the look at all records where there is no need for it."""
    raise AssertionError("every record was read")


def is_long(plain: Plain) -> bool:
    """Say whether HEAD and TAIL are in different chunks."""
    return bool((plain.words[W_HEAD] ^ plain.words[W_TAIL]) & ~CHUNK_MASK)


def recover_quickly(plain: Plain) -> None:
    """Recover, and fail if every record is read without need."""
    ring = plain.watched()
    if is_long(plain):
        vars(ring)["recover"] = never
    ring.recover_quickly()


def outcome(plain: Plain, recover: Callable[[Plain], object]) -> Outcome | None:
    """Recover; return all that there is then, but for the marks, or None for DamagedRing. Go back to before."""
    before = plain.save()
    try:
        recover(plain)
    except DamagedRing:
        assert plain.save() == before
        return None
    data, chunks, accounted = plain.save()
    plain.load(before)
    without = bytearray(data)
    for chunk in range(plain.words[layout.W_DATA], len(data), CHUNK):
        without[chunk + CHUNK_PREVIOUS * 8 : chunk + CHUNK_HEAD] = bytes(CHUNK_HEAD - CHUNK_PREVIOUS * 8)
    return bytes(without), chunks, accounted


def read_all(plain: Plain) -> None:
    """Recover by a look at all records."""
    plain.watched().recover()


def either(plain: Plain) -> None:
    """Recover as after a kill."""
    plain.watched().recover_quickly()


# --- after any death --------------------------------------------------------------------------------------------------


PLAIN_STORES = {name: each for name, each in stores.OPERATIONS.items() if not each.addmode}
PLAIN_ASIDE = {name: each for name, each in aside.OPERATIONS.items() if not each.addmode}


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
@pytest.mark.parametrize("name", PLAIN_STORES)
def test_it_makes_the_same(name: str, torn: bool) -> None:
    """Whenever a process dies in an append or a pop, both repairs make the same, and the quick one needs no help."""
    operation = PLAIN_STORES[name]
    plain = stores.prepared(operation)
    for _ in stores.deaths(plain, lambda ring: stores.calls(ring, operation.run), torn=torn):
        # What only a repair does leaves no marks meanwhile.
        quick = either if name == "recover" else recover_quickly
        assert outcome(plain, quick) == outcome(plain, read_all) is not None
        quick(plain)
        plain.check()


@pytest.mark.parametrize("name", PLAIN_ASIDE)
def test_it_makes_the_same_of_what_is_set_aside(name: str) -> None:
    """The same for reserve, done, back."""
    operation = PLAIN_ASIDE[name]
    plain = aside.prepared(operation)
    for _ in stores.deaths(plain, lambda ring: aside.calls(ring, operation.run)):
        quick = either if name.startswith("recover") else recover_quickly
        assert outcome(plain, quick) == outcome(plain, read_all) is not None
        quick(plain)
        aside.go_on(plain)


@pytest.mark.parametrize("name", ["append over many chunks (0)", "append behind a dead filler (0)", "recover"])
@pytest.mark.parametrize("repair", [Ring.recover_quickly, Ring.recover], ids=["quick", "all"])
def test_a_death_in_the_repair_too(name: str, repair: Callable[[Ring], None]) -> None:
    """A repair of either kind that is killed at any store leaves what both kinds make the same of."""
    operation = PLAIN_STORES[name]
    plain = stores.prepared(operation)
    for number in stores.deaths(plain, lambda ring: stores.calls(ring, operation.run)):
        if number % 3:
            continue
        left = plain.save()
        for _ in stores.deaths(plain, repair):
            assert outcome(plain, either) == outcome(plain, read_all) is not None
            either(plain)
            plain.check()
        plain.load(left)


STEPS = st.sampled_from([64, 640, 60_000, 130_000, ROOM - 16, ROOM - 8, ROOM, ROOM + 40, 600_000])
CALLS = st.one_of(
    STEPS.map(lambda step: f"add a {step}"), STEPS.map(lambda step: f"add b {step}"),
    st.sampled_from(["reserve", "reserve", "take", "drop"]),
    st.tuples(st.sampled_from(["done", "back"]), st.integers(0, 3)).map(lambda item: f"{item[0]} {item[1]}"),
)  # fmt: skip
DEATHS = st.tuples(CALLS, st.integers(0, 30), st.sampled_from(["quick", "all"]), st.integers(0, 60))


@given(st.lists(DEATHS, max_size=30))
def test_any_program_with_any_deaths(program: list[tuple[str, int, str, int]]) -> None:
    """Calls that die, repairs of both kinds that die, in any order: both repairs make the same of it at any time."""
    plain = Plain(chunks=40)
    for what, last, kind, recovery in program:
        if not aside.possible(plain, what):
            continue
        plain.memory.stores = Stores(last)
        try:
            aside.call(plain.watched(), what)
        except Died:
            plain.memory.stores = Stores()
            expected = outcome(plain, read_all)
            assert outcome(plain, recover_quickly) == expected is not None
            plain.memory.stores = Stores(recovery)
            try:
                (either if kind == "quick" else read_all)(plain)
            except Died:
                plain.memory.stores = Stores()
                assert outcome(plain, either) == outcome(plain, read_all) is not None
                either(plain)
        plain.memory.stores = Stores()
        plain.check()
    aside.go_on(plain)


# --- what is not as it must be ----------------------------------------------------------------------------------------


LENGTHS = [ROOM // 4 & ~7, 640, ROOM + 16, 3 * ROOM, 64, ROOM - 2000, ROOM // 3 & ~7, ROOM - 8, 80, ROOM // 2 & ~7, 64]


def long_ring() -> Plain:
    """Return memory with items over many chunks, the first of which is taken and the next one given back."""
    plain = Plain(chunks=11)
    fill(plain.ring(), *(sized(step, b"%d" % number) for number, step in enumerate(LENGTHS)))
    take(plain.ring())
    aside.calls(plain.ring(), "reserve, reserve, back 0")
    plain.check()
    assert len(plain.chain()) > 6
    return plain


def values(plain: Plain, old: int) -> list[int]:
    """Return numbers that may stand where another one should."""
    changes = [-CHUNK, -ROOM, -1000, -64, -8, -2, -1, 1, 2, 8, 64, 1000, CHUNK, 1 << 32, 1 << 40]
    some = plain.chain()[::3]
    others = [plain.words[(chunk >> 3) + word] for chunk in some for word in range(4)]
    found = {0, (1 << 64) - 1, *some, *others, *(old + change for change in changes)} - {old}
    return sorted(value for value in found if 0 <= value < 1 << 64)


@pytest.mark.parametrize("word", [CHUNK_NEXT, CHUNK_PREVIOUS, CHUNK_MARK, CHUNK_SERIAL])
def test_a_damaged_head_of_a_chunk(word: int) -> None:
    """Whatever one number in the head of any chunk is changed to, the result is that of a look at all records."""
    plain = long_ring()
    for chunk in plain.chain():
        at = (chunk >> 3) + word
        old = plain.words[at]
        for value in values(plain, old):
            plain.words[at] = value
            assert outcome(plain, either) == outcome(plain, read_all)
            plain.words[at] = old


@pytest.mark.parametrize("word", [W_ADDED, W_REMOVED, W_HEAD, W_TAIL])
def test_a_damaged_counter_or_cursor(word: int) -> None:
    """The same for the counters, and for cursors that point to other records."""
    plain = long_ring()
    saved = plain.save()
    old = plain.words[word]
    places = [at for at, _, _ in plain.records()] if word in (W_HEAD, W_TAIL) else []
    for value in [*values(plain, old), *places]:
        plain.words[word] = value
        with suppress(ValueError, OverflowError):  # a counter at its very end
            expected = outcome(plain, read_all)
            assert outcome(plain, either) == expected
            if expected:
                either(plain)
                plain.check()
        plain.load(saved)


@pytest.mark.parametrize("change", [-1000, -3, -2, 2, 3, 1000, 1 << 31])
def test_marks_that_are_wrong_and_look_right(change: int) -> None:
    """A number that is sealed, and not what it should be: the counters tell, in whatever chunk it counts."""
    plain = long_ring()
    for chunk in plain.chain()[1:]:
        mark = plain.ring()._mark_of(chunk)
        if mark is None:
            continue
        plain.ring()._mark(mark.at, mark.serial + change)
        assert outcome(plain, either) == outcome(plain, read_all) is not None
        read_all(plain)
        plain.check()
        assert plain.ring()._mark_of(chunk) == mark
        recover_quickly(plain)


def test_a_mark_that_is_one_item_too_early() -> None:
    """Where a record begins, and nearly what an append leaves that was not counted: the seal tells."""
    plain = Plain()
    fill(plain.ring(), sized(ROOM), sized(ROOM - 16), sized(640), sized(64))
    chunk = plain.chain()[2]
    assert plain.words[(chunk >> 3) + CHUNK_MARK] == chunk + CHUNK_HEAD + 640
    plain.words[(chunk >> 3) + CHUNK_MARK] = chunk + CHUNK_HEAD
    either(plain)
    assert len(plain.check()) == plain.words[W_ADDED] == 4


def test_more_items_than_there_is_room_for() -> None:
    """Marks and counters that agree with one another, and cannot be true."""
    plain = long_ring()
    mark = plain.ring()._mark_of(plain.chain()[-1])
    assert mark is not None
    plain.ring()._mark(mark.at, mark.serial + 1_000_000)
    plain.words[W_ADDED] += 1_000_000
    assert outcome(plain, either) == outcome(plain, read_all) is not None


@pytest.mark.timeout(20)
def test_a_circle_of_chunks_ends() -> None:
    """Chunks that lead back to the first one, and that know one another."""
    plain = long_ring()
    first, second = plain.chain()[:2]
    plain.words[(second >> 3) + CHUNK_NEXT] = first
    plain.words[(first >> 3) + CHUNK_PREVIOUS] = second
    assert outcome(plain, either) is outcome(plain, read_all) is None


@pytest.mark.parametrize("added", [1, -1, 5, -5])
def test_marks_follow_a_counter_that_was_corrected(added: int) -> None:
    """A counter was wrong and a repair has corrected another one: from then on the quick way is right again."""
    plain = long_ring()
    plain.words[W_ADDED] += added
    either(plain)
    contents = plain.check()
    fill(plain.ring(), *(sized(ROOM // 2 & ~7, b"new%d" % number) for number in range(4)))
    recover_quickly(plain)
    assert plain.check()[: len(contents)] == contents
    assert len(drain_all(plain)) == len(contents) + 4


def drain_all(plain: Plain) -> list[Any]:
    """Take everything, also what was given back."""
    ring = plain.ring()
    return list(iter(lambda: aside.take(ring), None))


def test_a_counter_that_is_near_its_end() -> None:
    """The marks' numbers begin anew at 2**32, and nothing comes of it."""
    plain = Plain(chunks=20)
    plain.words[W_ADDED] = plain.words[W_REMOVED] = (1 << 32) - 3
    read_all(plain)
    items = [sized(ROOM // 2 & ~7, b"%d" % number) for number in range(12)]
    fill(plain.ring(), *items)
    assert plain.words[W_ADDED] > 1 << 32
    recover_quickly(plain)
    assert plain.check() == items


def test_a_damaged_record_between_is_found_by_who_comes_to_it() -> None:
    """The quick repair does not see it. The pop that gets there does, and so does a new server."""
    plain = Plain(chunks=20)
    items = [sized(ROOM // 2 & ~7, b"%d" % number) for number in range(12)]
    fill(plain.ring(), *items)
    at = [at for at, _, _ in plain.records()][6]
    plain.halves[at >> 2] = 8
    assert outcome(plain, read_all) is None
    recover_quickly(plain)
    ring = plain.ring()
    assert [take(ring) for _ in range(6)] == items[:6]
    with pytest.raises(DamagedRing):
        ring.pop()


# --- how much it reads ------------------------------------------------------------------------------------------------


class Counted:
    """A view whose reads are counted."""

    def __init__(self, view: Any) -> None:
        self._view = view
        self.reads = 0

    def __getitem__(self, where: Any) -> Any:
        self.reads += 1
        return self._view[where]

    def __setitem__(self, where: Any, value: Any) -> None:
        self._view[where] = value


def reads(plain: Plain, repair: Callable[[Ring], None]) -> int:
    """Return how often a repair reads a number."""
    words, halves = Counted(plain.words), Counted(plain.halves)
    before = plain.save()
    repair(Ring(plain.buffer, words, halves, plain.memory))
    plain.load(before)
    return words.reads + halves.reads


def filled(items: int, step: int) -> Plain:
    """Return memory of many items of one size; of the last of them it was not counted that it came."""
    plain = Plain(chunks=items * step // ROOM + 2)
    ring = plain.ring()
    key, value = sized(step)
    for _ in range(items):
        put(ring, key, value)
    plain.words[W_ADDED] -= 1
    return plain


@pytest.mark.parametrize(("items", "step"), [(200_000, 64), (20_000, 64), (20_000, 1000)])
def test_what_is_read_does_not_grow_with_the_items(items: int, step: int) -> None:
    """Of each record in two chunks three numbers and a few more, and of each chunk a few; not three for each item."""
    plain = filled(items, step)
    chunks = len(plain.chain())
    quick, thorough = (reads(plain, repair) for repair in (Ring.recover_quickly, Ring.recover))
    assert quick < 2 * (ROOM // step + 1) * 4 + 20 * chunks + 2_000
    assert thorough > 3 * items
    recover_quickly(plain)
    assert len(plain.ring()) == items


def test_marks_cost_an_append_nothing() -> None:
    """Only the append that brings TAIL into another chunk stores more than its record, the cursor and the count."""
    plain = Plain()
    ring = plain.watched()
    for number in count():
        plain.memory.stores = Stores()
        tail = plain.words[W_TAIL]
        put(ring, *sized(20_000))
        if (plain.words[W_TAIL] ^ tail) & ~CHUNK_MASK:
            assert number
            break
        assert plain.memory.stores.count == 3


# --- these tests can fail ---------------------------------------------------------------------------------------------


def late_mark(self: Marked, at: int, serial: int) -> None:
    """Count the item that crosses to those behind it: wrong."""
    word = (at & ~CHUNK_MASK) >> 3
    self._words[word + CHUNK_MARK] = at
    self._words[word + CHUNK_SERIAL] = _sealed(at, serial - 1)


def unsealed(self: Marked, chunk: int) -> Mark:
    """Believe everything: wrong."""
    return Mark(self._words[(chunk >> 3) + CHUNK_MARK], self._words[(chunk >> 3) + CHUNK_SERIAL] & 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("owner", "method", "wrong"),
    [
        (Marked, "_mark", late_mark),
        (Marked, "_mark", lambda *_: None),
        (Recoverable, "_put_right", lambda *_: None),
        (Recoverable, "_check_counters", lambda *_: never()),
    ],
    ids=["an item in the wrong chunk", "no marks", "nothing put right", "never quick"],
)
def test_a_fault_is_found(mocker: MockerFixture, owner: type, method: str, wrong: object) -> None:
    """Where marks are wrong or left out, or nothing is done, the walk through all deaths says so."""
    mocker.patch.object(owner, method, wrong)
    with pytest.raises((AssertionError, DamagedRing)):
        test_it_makes_the_same("append over the chunk's end (0)", torn=False)


@pytest.mark.parametrize(
    ("owner", "method", "wrong", "test"),
    [
        (Recoverable, "_check_counters", lambda *_: None, lambda: test_marks_that_are_wrong_and_look_right(2)),
        (Recoverable, "_check_counters", lambda *_: None, lambda: test_a_damaged_counter_or_cursor(W_ADDED)),
        (Marked, "_mark_of", unsealed, lambda: test_a_damaged_head_of_a_chunk(CHUNK_SERIAL)),
        (Marked, "_mark_anew", lambda *_: None, lambda: test_marks_follow_a_counter_that_was_corrected(5)),
        (Ring, "recover_quickly", Ring.recover, lambda: test_what_is_read_does_not_grow_with_the_items(20_000, 64)),
    ],
    ids=["counters not compared", "counters not compared, damaged", "no seal", "marks stay", "all are read"],
)
def test_a_missing_check_is_found(
    mocker: MockerFixture, owner: type, method: str, wrong: object, test: Callable[[], None]
) -> None:
    """Where the quick repair trusts what it must not, the tests above say so."""
    mocker.patch.object(owner, method, wrong)
    with pytest.raises((AssertionError, DamagedRing, ValueError)):
        test()


def test_drained_it_is_as_new() -> None:
    """After a quick repair everything comes out, in order."""
    plain = Plain(chunks=20)
    items = [sized(step, b"%d" % number) for number, step in enumerate(LENGTHS * 2)]
    fill(plain.ring(), *items)
    recover_quickly(plain)
    assert drain(plain.watched()) == items
    assert plain.check() == []
