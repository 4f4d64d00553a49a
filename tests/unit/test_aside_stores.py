"""Every store of reserve, done and give back is a place to die: no item is lost, none is there twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kemi.errors import DamagedRing
from kemi.queue.aside import Aside, Holder, Slot
from kemi.queue.layout import CHUNK_ROOM
from kemi.queue.ring import Ring
from tests.unit.plain import Died, Pair, Plain, Stores, drain, fill, pair, put, sized
from tests.unit.test_stores import deaths

if TYPE_CHECKING:
    from collections.abc import Callable

ROOM = CHUNK_ROOM
ME = Holder(4711, 123456, 4026531836)

State = tuple[list[Pair], list[tuple[Pair, int]]]  # what can be taken; what is reserved, with its deliveries


def reserve(ring: Ring) -> Slot | None:
    """Reserve the oldest, as a queue does."""
    returned = ring.returned()
    return ring.hold(returned[0], ME) if returned else ring.set_aside(ME)


def reserved(ring: Ring) -> list[Slot]:
    """Return what is reserved."""
    return [slot for slot in ring.aside.slots() if not slot.returned]


def take(ring: Ring) -> Pair | None:
    """Take the oldest, as a queue does."""
    returned = ring.returned()
    record = ring.discard(returned[0]) if returned else ring.take()
    return None if record is None else pair(record)


def call(ring: Ring, what: str) -> None:
    """Make one call: `reserve`, `done N`, `back N`, `take`, `drop`, or `add KEY STEP`."""
    name, *arguments = what.split()
    if name == "add":
        put(ring, *sized(int(arguments[1]), arguments[0].encode()))
    elif name in ("done", "back"):
        slot = reserved(ring)[int(arguments[0])]
        (ring.finish if name == "done" else ring.put_back)(slot)
    else:
        calls: dict[str, Callable[[], object]] = {
            "reserve": lambda: reserve(ring),
            "take": lambda: take(ring),
            "drop": ring.drop,
            "recover": ring.recover,
        }
        calls[name]()


class Operation(NamedTuple):
    """What is there, and what a process was doing when it was killed; calls are separated by commas."""

    steps: list[int]  # of the records that are appended first, with the keys 0, 1, 2, ...
    before: str
    run: str
    addmode: int = 0


def calls(ring: Ring, run: str) -> None:
    """Make some calls."""
    for what in filter(None, run.split(", ")):
        call(ring, what)


ANY_MODE = {
    "reserve a small item": Operation([64, 64], "", "reserve"),
    "reserve the only one": Operation([64], "", "reserve"),
    "reserve to the chunk's end": Operation([ROOM, 64], "", "reserve"),
    "reserve over the chunk's end": Operation([ROOM - 640, 6400, 64], "take", "reserve"),
    "reserve behind a filler": Operation([ROOM - 16, 64, 64], "take", "reserve"),
    "reserve over many chunks": Operation([640, 3 * ROOM, 64], "take", "reserve"),
    "reserve the last one, far from the front": Operation([ROOM] * 5 + [640], "take, " * 5, "reserve"),
    "reserve beside another": Operation([64, 64, 64], "reserve", "reserve"),
    "reserve what was returned": Operation([64, 64], "reserve, back 0", "reserve"),
    "reserve what was returned over chunks": Operation([ROOM - 640, 6400, 64], "take, reserve, back 0", "reserve"),
    "done": Operation([64, 64], "reserve", "done 0"),
    "done, nothing else there": Operation([64], "reserve", "done 0"),
    "done, its chunk left by HEAD": Operation([64, ROOM - 64, 64], "reserve, take", "done 0"),
    "done over many chunks": Operation([640, 3 * ROOM, ROOM, 64], "take, reserve, take", "done 0"),
    "done, another in its chunk": Operation([64, 64, ROOM - 128, 64], "reserve, reserve, take", "done 0"),
    "done twice": Operation([64, ROOM - 64, ROOM, 64], "reserve, reserve, take", "done 1, done 0"),
    "done after the return to the front": Operation([ROOM] * 5 + [640], "take, " * 5 + "reserve", "done 0"),
    "back": Operation([64, 64], "reserve", "back 0"),
    "back, nothing else there": Operation([64], "reserve", "back 0"),
    "back in the other order": Operation([64, 64, 64], "reserve, reserve", "back 0, back 0"),
    "take what was returned": Operation([64, 64], "reserve, back 0", "take"),
    "take what was returned over chunks": Operation([ROOM - 640, 6400, ROOM, 64], "take, reserve, back 0", "take"),
    "drop what was returned": Operation([64, 64], "reserve, back 0", "drop"),
    "take beside a reserved one": Operation([64, ROOM, 64], "reserve", "take"),
    "add beside a reserved one": Operation([64], "reserve", "add new 640"),
    "add to a chunk that is kept": Operation([64], "reserve", f"add new {ROOM}"),
    "recover": Operation([64, ROOM, 64], "reserve, reserve, back 1", "recover"),
}
KEYED = {
    "add a key that is reserved (1)": Operation([64, 64], "reserve", "add 0 64", 1),
    "add a key that is reserved (2)": Operation([64, 64], "reserve", "add 0 64", 2),
    "add a key that was returned (1)": Operation([64, 64], "reserve, back 0", "add 0 64", 1),
    "add a key that was returned (2)": Operation([64, 64], "reserve, back 0", "add 0 72", 2),
    "back beside a newer one (1)": Operation([64, 64], "reserve, add 0 72", "back 0", 1),
    "back beside a newer one (2)": Operation([64, 64], "reserve, add 0 72", "back 0", 2),
    "back beside an older one (1)": Operation([64], "reserve, add 0 72, reserve, back 0", "back 0", 1),
    "back beside an older one (2)": Operation([64], "reserve, add 0 72, reserve, back 0", "back 0", 2),
    "back beside a newer returned one (1)": Operation([64], "reserve, add 0 72, reserve, back 1", "back 0", 1),
    "back beside a newer returned one (2)": Operation([64], "reserve, add 0 72, reserve, back 1", "back 0", 2),
    "the head's chunk merges": Operation([64, 64, ROOM - 128, 64, ROOM - 64, 64], "reserve, add 4 64", "add 2 64", 2),
    "what crosses is kept by a merge": Operation(
        [ROOM - 1000, 3000, 64, ROOM - 3000, 64, ROOM - 64, 64], "take, reserve, add 5 64", "add 3 64", 2
    ),
}
OPERATIONS = {
    **{f"{name} ({mode})": each._replace(addmode=mode) for mode in (0, 2) for name, each in ANY_MODE.items()},
    **KEYED,
}


def state(plain: Plain) -> State:
    """Return what is there, after everything else is compared with it."""
    return plain.check(), plain.reserved()


def prepared(operation: Operation) -> Plain:
    """Return the memory before the operation."""
    plain = Plain(operation.addmode)
    ring = plain.watched()
    fill(ring, *(sized(step, b"%d" % number) for number, step in enumerate(operation.steps)))
    calls(ring, operation.before)
    plain.check()
    return plain


def states(operation: Operation) -> list[State]:
    """Return the states before the operation, and after each call of it."""
    plain = prepared(operation)
    found = [state(plain)]
    for what in operation.run.split(", "):
        call(plain.ring(), what)
        found.append(state(plain))
    return found


def go_on(plain: Plain) -> None:
    """Use the ring further: finish every other, give back the rest, and take everything."""
    ring = plain.watched()
    for number, slot in enumerate(reserved(ring)):
        if number % 2:
            ring.finish(slot)
            plain.check()
    back = [pair(ring.record_at(slot.at)) for slot in reserved(ring)]
    before = plain.contents()
    for slot in reversed(reserved(ring)):
        ring.put_back(slot)
        plain.check()
    if not plain.addmode:
        assert sorted(plain.contents()) == sorted(before + back)
        turns = [slot.turn for slot in ring.returned()]
        assert turns == sorted(turns)
    more = [sized(64, b"x"), sized(ROOM, b"y"), sized(2 * ROOM + 64, b"z")]
    fill(ring, *more)
    model = plain.check()
    assert model[-3:] == more
    taken = []
    while (item := take(ring)) is not None:
        taken.append(item)
    assert taken == model
    assert state(plain) == ([], [])


def recovered(plain: Plain, allowed: list[State]) -> None:
    """Recover as the next process does; the state is one of those that are allowed."""
    plain.watched().recover()
    assert state(plain) in allowed


def survive(operation: Operation, *, torn: bool = False) -> None:
    """Die at every store of an operation and recover."""
    allowed = states(operation)
    plain = prepared(operation)
    for _ in deaths(plain, lambda ring: calls(ring, operation.run), torn=torn):
        recovered(plain, allowed)
        go_on(plain)
    assert state(plain) == allowed[-1]


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_nothing_is_lost_whenever_a_process_dies(operation: Operation, torn: bool) -> None:
    """The items, and who has them, are those of before or after; counters, chunks and links agree; all goes on."""
    survive(operation, torn=torn)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_a_death_in_the_recovery_too(operation: Operation, stress: bool) -> None:
    """Who recovers may be killed at any store as well; the next one recovers from that."""
    allowed = states(operation)
    plain = prepared(operation)
    for number in deaths(plain, lambda ring: calls(ring, operation.run)):
        if stress or number % 7 == 3:
            left = plain.save()
            for _ in deaths(plain, lambda ring: ring.recover()):
                recovered(plain, allowed)
            plain.load(left)


def put_early(self: Aside, number: int, at: int, holder: Holder) -> None:
    """Count the state before the holder: wrong."""
    del holder
    self._store(number, 1 << 48 | at | 1)


def give_early(self: Ring, slot: Slot) -> None:
    """Give the chunks before the slot is free: wrong."""
    chunks = self._chunks_of(slot.at)
    for chunk in chunks[:-1]:
        self.chunks.give(chunk)
    self.aside.drop(slot)


@pytest.mark.parametrize(
    ("owner", "method", "wrong", "name"),
    [
        (Aside, "put", put_early, "reserve a small item (0)"),
        (Ring, "finish", give_early, "done over many chunks (0)"),
        (Ring, "_kept", lambda _: set(), "take beside a reserved one (0)"),
        (Aside, "count", lambda _: None, "back (0)"),
        (Ring, "_sound_slots", lambda self: ([], self.aside.slots()), "reserve a small item (0)"),
    ],
    ids=["no books", "chunks before the commit", "chunks not kept", "not counted", "void slots kept"],
)
def test_this_test_can_fail(
    monkeypatch: pytest.MonkeyPatch, owner: type, method: str, wrong: object, name: str
) -> None:
    """The same check finds an order of stores that is wrong, and a rule that is not kept."""
    monkeypatch.setattr(owner, method, wrong)
    with pytest.raises((AssertionError, DamagedRing, ValueError)):
        survive(OPERATIONS[name])


STEPS = st.sampled_from([64, 640, 60_000, 130_000, ROOM - 16, ROOM, ROOM + 40, 600_000])
ADD = st.tuples(st.sampled_from("abcd"), STEPS).map(lambda item: f"add {item[0]} {item[1]}")
CALLS = st.one_of(
    ADD, ADD, st.sampled_from(["reserve", "reserve", "take", "drop"]),
    st.tuples(st.sampled_from(["done", "back"]), st.integers(0, 3)).map(lambda item: f"{item[0]} {item[1]}"),
)  # fmt: skip


def possible(plain: Plain, what: str) -> bool:
    """Say whether a call means something now."""
    return not what.startswith(("done", "back")) or int(what.split()[1]) < len(plain.reserved())


@given(st.sampled_from([0, 1, 2]), st.lists(st.tuples(CALLS, st.integers(0, 40), st.integers(0, 60)), max_size=30))
def test_any_program_with_any_deaths(addmode: int, program: list[tuple[str, int, int]]) -> None:
    """Each call of a random program may die at a random store, and the recovery from it as well."""
    plain = Plain(addmode, chunks=40)
    for what, last, recovery in program:
        if not possible(plain, what):
            continue
        before, saved = state(plain), plain.save()
        call(plain.ring(), what)
        allowed = [before, state(plain)]
        plain.load(saved)
        plain.memory.stores = Stores(last)
        try:
            call(plain.watched(), what)
        except Died:
            plain.memory.stores = Stores(recovery)
            try:
                plain.watched().recover()
            except Died:
                plain.memory.stores = Stores()
                plain.watched().recover()
        plain.memory.stores = Stores()
        assert state(plain) in allowed
    go_on(plain)
    assert drain(plain.watched()) == []
