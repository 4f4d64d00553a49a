"""Every store is a place to die: after each one the process is gone, and `recover` makes the ring whole."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kemi.errors import DamagedRing
from kemi.queue import layout
from kemi.queue.layout import CHUNK_ROOM, W_ADDED, W_TAIL
from kemi.queue.ring import ADDED, Ring
from tests.unit.plain import Died, Pair, Plain, Stores, drain, fill, put, sized, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

ROOM = CHUNK_ROOM


class Operation(NamedTuple):
    """What is there, and what a process was doing when it was killed."""

    addmode: int
    steps: list[int]  # of the records that are appended first, with the keys 0, 1, 2, ...
    before: list[object]  # calls that are made in peace, see `call`
    run: list[object]  # and those that are not


def call(ring: Ring, what: object) -> None:
    """Append a new item (its step), replace a key by a small item, pop, or recover."""
    if isinstance(what, bytes):
        put(ring, *sized(40, what))
    elif isinstance(what, int):
        put(ring, *sized(what, b"new"))
    else:
        {"pop": ring.pop, "recover": ring.recover}[str(what)]()


def calls(ring: Ring, run: list[object]) -> None:
    """Make some calls."""
    for what in run:
        call(ring, what)


def prepared(operation: Operation, chunks: int = 12) -> Plain:
    """Return the memory before the operation."""
    plain = Plain(operation.addmode, chunks)
    ring = plain.watched()
    fill(ring, *(sized(step, b"%d" % number) for number, step in enumerate(operation.steps)))
    calls(ring, operation.before)
    plain.check()
    return plain


POP = "pop"
APPENDS = {
    "a small item": ([64], 64),
    "to the chunk's end": ([ROOM - 640], 640),
    "over the chunk's end": ([ROOM - 640], 6400),
    "behind a dead filler": ([ROOM - 16], 640),
    "over many chunks": ([640], 3 * ROOM + 640),
    "into an empty ring": ([], 64),
}
POPS: dict[str, tuple[list[int], int]] = {  # and how many are popped before
    "a small item": ([64, 64], 0),
    "to the chunk's end": ([ROOM, 64], 0),
    "over the chunk's end": ([ROOM - 640, 6400, 64], 1),
    "behind a dead filler": ([ROOM - 16, 64, 64], 1),
    "over many chunks": ([640, 3 * ROOM, 64], 1),
    "the last one": ([64], 0),
    "the last one, far from the front": ([ROOM] * 5 + [640], 5),
    "the last one, far, at a chunk's end": ([ROOM] * 5, 4),
}
REPLACED: dict[str, tuple[list[int], list[object], bytes]] = {
    "in the same chunk": ([64, 64, 64], [], b"1"),
    "the head": ([64, 64, 64], [], b"0"),
    "the only one": ([64], [], b"0"),
    "the last one": ([64, ROOM], [], b"1"),
    "a record over two chunks": ([64, ROOM, 64], [], b"1"),
    "a record over four chunks": ([640, 3 * ROOM, 64, ROOM, 64], [], b"1"),
    "a chunk becomes empty": ([ROOM, ROOM, ROOM, 64], [], b"1"),
    "the head's chunk becomes empty": ([ROOM, ROOM, ROOM, 64], [], b"0"),
    "the head merges": ([64, ROOM - 64, 64, ROOM - 64, 64], [b"3"], b"1"),
    "the middle merges": ([ROOM, 64, ROOM - 64, 64, ROOM - 64, 64], [b"4"], b"2"),
    "a merge between records that go on": (
        [ROOM - 1000, 3000, ROOM - 2000, 64, ROOM - 64 - 1000, 3000, 64],
        [b"2"],
        b"4",
    ),
    "neighbours of an empty chunk merge": ([64, ROOM - 64, ROOM, 64, ROOM - 64, 64], [b"1", b"4"], b"2"),
    "a merge after a long record": ([64, 3 * ROOM, 640, ROOM, 64], [b"3"], b"1"),
}
OPERATIONS = {
    **{f"append {name} ({mode})": Operation(mode, steps, [], [new])
       for mode in (0, 2) for name, (steps, new) in APPENDS.items()},
    **{f"append and drop ({mode})": Operation(mode, [64, ROOM], [], [640, POP]) for mode in (0, 2)},
    **{f"pop {name} ({mode})": Operation(mode, steps, [POP] * before, [POP])
       for mode in (0, 2) for name, (steps, before) in POPS.items()},
    **{f"replace, {name}": Operation(2, steps, before, [key]) for name, (steps, before, key) in REPLACED.items()},
    "pop over dead records": Operation(2, [ROOM - 640, 640, 64, 64], [b"1", b"2"], [POP, POP]),
    "keep the oldest": Operation(1, [64, 64], [], [b"0"]),
    "recover": Operation(0, [ROOM, 640, ROOM], [], ["recover"]),
    "recover with keys": Operation(2, [ROOM, 640, ROOM], [b"1"], ["recover"]),
}  # fmt: skip


def deaths(plain: Plain, work: Callable[[Ring], object], *, torn: bool = False) -> Iterator[int]:
    """Do the work, killed after 0, 1, 2, ... stores, each time from the same beginning, until it gets through."""
    saved = plain.save()
    for number in count():
        plain.load(saved)
        plain.memory.stores = Stores(number, torn=torn)
        try:
            work(plain.watched())
        except Died:
            plain.memory.stores = Stores()
            yield number
        else:
            plain.memory.stores = Stores()
            return


def states(operation: Operation, chunks: int = 12) -> list[list[Pair]]:
    """Return the contents before the operation, and after each call of it."""
    plain = prepared(operation, chunks)
    found = [plain.check()]
    for what in operation.run:
        call(plain.ring(), what)
        found.append(plain.check())
    return found


def go_on(plain: Plain, contents: list[Pair], *, backwards: bool) -> None:
    """Use the ring further: what was left behind must not come to light later."""
    ring = plain.watched()
    more = [sized(64, b"x"), sized(ROOM, b"y"), sized(2 * ROOM + 64, b"z")]
    fill(ring, *more)
    model = contents + more
    assert plain.check() == model
    if plain.addmode == 2:
        for key, _ in sorted(contents, reverse=backwards):
            fill(ring, (key, b"again"))
            model = [item for item in model if item[0] != key] + [(key, b"again")]
            assert plain.check() == model
    assert drain(ring) == model
    assert plain.check() == []


def recovered(plain: Plain, allowed: list[list[Pair]]) -> list[Pair]:
    """Recover as the next process does; the contents are one of those that are allowed."""
    before = plain.words[layout.W_HIGH]
    plain.watched().recover()
    contents = plain.check()
    assert contents in allowed
    assert plain.words[layout.W_HIGH] >= max(before, len(contents))
    return contents


def survive(operation: Operation, *, torn: bool = False, chunks: int = 12) -> int:
    """Die at every store of an operation and recover. Returns how many there are."""
    allowed = states(operation, chunks)
    plain = prepared(operation, chunks)
    number = -1
    for number in deaths(plain, lambda ring: calls(ring, operation.run), torn=torn):
        go_on(plain, recovered(plain, allowed), backwards=bool(number % 2))
    assert plain.check() == allowed[-1]
    return number + 1


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_nothing_is_lost_whenever_a_process_dies(operation: Operation, torn: bool) -> None:
    """The items are those of before or after; all counters, chunks and links agree; the ring goes on working.

    torn: half of a long store may have happened.
    """
    survive(operation, torn=torn)


@pytest.mark.parametrize("buckets", [4, 8])
@pytest.mark.parametrize(
    ("items", "run"),
    [(4, [64]), (8, [64]), (12, [POP] * 12), (9, [b"0"]), (20, [POP] * 16)],
    ids=["split", "split over a chunk", "drain", "replace", "join"],
)
def test_a_death_while_the_index_changes(mocker: MockerFixture, buckets: int, items: int, run: list[object]) -> None:
    """Buckets that are divided or joined lose no key."""
    mocker.patch("kemi.queue.index.BUCKETS_PER_CHUNK", buckets)
    assert survive(Operation(2, [64] * items, [], run), chunks=24) > 4


TWICE = ["append over many chunks (0)", "pop the last one, far from the front (2)", "pop over many chunks (0)"]
TWICE += ["replace, a record over four chunks", "replace, a merge between records that go on"]


@pytest.mark.parametrize("name", TWICE)
def test_a_death_in_the_recovery_too(name: str, stress: bool) -> None:
    """Who recovers may be killed at any store as well; the next one recovers from that."""
    operation = OPERATIONS[name]
    allowed = states(operation)
    plain = prepared(operation)
    for number in deaths(plain, lambda ring: calls(ring, operation.run)):
        if stress or not number % 5:
            left = plain.save()
            for _ in deaths(plain, Ring.recover if not operation.addmode else lambda ring: ring.recover()):
                recovered(plain, allowed)
            plain.load(left)


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_a_death_while_memory_ends(chunks: int) -> None:
    """An append that gets only some of its chunks, killed while it takes them or gives them back, has never been."""
    plain = Plain()
    fill(plain.ring(), sized(640))
    plain.memory.limit = chunks
    for _ in deaths(plain, lambda ring: put(ring, *sized(3 * ROOM, b"new"))):
        assert recovered(plain, [[sized(640)]])


def committed_early(self: Ring, data: bytes, step: int) -> int:
    """Append with the cursor before the bytes: wrong."""
    tail = self._words[W_TAIL]
    self._words[W_TAIL] = tail + step
    self._bytes[tail : tail + len(data)] = data
    self._words[W_ADDED] += 1
    return ADDED


def given_early(self: Ring, head: int, step: int) -> None:
    """Leave chunks before HEAD has moved: wrong."""
    end, passed = self.follow(head, step)
    self._words[layout.W_CHUNKS] -= len(passed)
    for chunk in passed:
        self.chunks.give(chunk)
    self._words[layout.W_HEAD] = end


@pytest.mark.parametrize(
    ("method", "wrong", "name"),
    [
        ("append", committed_early, "append a small item (0)"),
        ("_leave", given_early, "pop over many chunks (0)"),
        ("recover", lambda _: None, "pop a small item (0)"),
    ],
    ids=["commit before the bytes", "chunks before the commit", "no recovery"],
)
def test_this_test_can_fail(mocker: MockerFixture, method: str, wrong: object, name: str) -> None:
    """The same check finds an order of stores that is wrong, and a recovery that does nothing."""
    mocker.patch.object(Ring, method, wrong)
    with pytest.raises((AssertionError, DamagedRing)):
        survive(OPERATIONS[name])


KEYS = st.sampled_from([b"", b"a", b"b", b"c", b"d"])
STEPS = st.sampled_from([64, 640, 60_000, 130_000, ROOM - 16, ROOM, ROOM + 40, 600_000])
CALLS = st.tuples(st.one_of(st.tuples(KEYS, STEPS), st.none()), st.integers(0, 40), st.integers(0, 60), st.booleans())


@given(st.sampled_from([0, 1, 2]), st.lists(CALLS, max_size=30))
def test_any_program_with_any_deaths(
    addmode: int, program: list[tuple[tuple[bytes, int] | None, int, int, bool]]
) -> None:
    """Each call of a random program may die at a random store, and the recovery from it as well."""
    plain = Plain(addmode, chunks=30)
    model: list[Pair] = []
    for what, last, recovery, torn in program:
        item = sized(what[1], what[0]) if what else None
        after = model[1:]
        if item:
            old = [pair for pair in model if addmode and pair[0] == item[0]]
            after = model if old and addmode == 1 else [pair for pair in model if pair not in old] + [item]
        plain.memory.stores = Stores(last, torn=torn)
        try:
            ring = plain.watched()
            if item is None:
                taken = take(ring)
                assert taken == (model[0] if model else None)
            else:
                put(ring, *item)
        except Died:
            plain.memory.stores = Stores(recovery)
            try:
                plain.watched().recover()
            except Died:
                plain.memory.stores = Stores()
                plain.watched().recover()
        plain.memory.stores = Stores()
        contents = plain.check()
        assert contents in (model, after)
        model = contents
    assert drain(plain.watched()) == model
