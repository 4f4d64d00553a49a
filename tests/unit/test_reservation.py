"""A reserved item is done, or given back, at the latest when its reservation dies, wherever a signal handler raises."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, Optional

import pytest

from kemi.errors import LockTimeout, Reentered, SegmentError
from kemi.queue.delivery import hold as hold_module
from kemi.queue.delivery import reservation
from kemi.queue.delivery.hold import DONE, GIVE_BACK, Settlement
from kemi.queue.delivery.reservation import AsyncReservation, Keep, Reservation, _Owned
from kemi.queue.format.layout import W_IN_FLIGHT
from kemi.queue.lock.section import hold
from kemi.queue.queue import Queue
from kemi.queue.store.journal import Journal
from kemi.queue.sync.eventcount import EventCount
from tests.asleep import asleep
from tests.conftest import HANG
from tests.support.waits import until
from tests.unit.children import child, fork, kill, killed_after
from tests.unit.test_hold import Recorder, of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_mock import MockerFixture

    from kemi.queue.delivery.reserved import ReservedItem


class Boom(Exception):
    """What a signal handler raises."""


@pytest.fixture
def queue(instance: str) -> Queue:
    queue = Queue.create(instance, "q", window=16 << 20)
    queue.add("k", "v")
    return queue


def keys(queue: Queue) -> list[str]:
    """Return the keys of what can be taken."""
    return [item.key for item in queue.peek(10)]


def raising_after(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does the same, and then raises as a signal handler would that comes just then."""

    def raising(*arguments: Any) -> Any:
        function(*arguments)
        raise Boom

    return raising


@pytest.mark.python_code
@pytest.mark.parametrize("way", ["reserve_quickly", "reserve"])
def test_just_after_it_was_reserved(queue: Queue, mocker: MockerFixture, way: str) -> None:
    """Nobody knows of it yet: it is given back before the lock is free."""
    if way == "reserve":
        mocker.patch.object(queue.handle.holding, "reserve_quickly", return_value=None)
    mocker.patch.object(queue.handle.holding, way, raising_after(getattr(queue.handle.holding, way)))
    with pytest.raises(Boom), queue.reserve():
        pass
    assert queue.stats().reserved == 0
    assert keys(queue) == ["k"]


def test_just_after_it_was_kept(queue: Queue, mocker: MockerFixture) -> None:
    """The reservation has it, and its block does not begin."""
    block = queue.reserve()
    mocker.patch.object(_Owned, "keep", raising_after(_Owned.keep))
    with pytest.raises(Boom):
        block.__enter__()
    assert keys(queue) == ["k"]


def test_in_the_end_of_its_entry(queue: Queue, mocker: MockerFixture) -> None:
    block = queue.reserve()
    mocker.patch.object(_Owned, "enter", side_effect=Boom)
    with pytest.raises(Boom):
        block.__enter__()
    assert keys(queue) == ["k"]


def test_at_the_first_instruction_of_its_exit(queue: Queue) -> None:
    """The exit does nothing; the item goes back when the reservation dies."""
    block = queue.reserve()
    assert block.__enter__() is not None
    assert keys(queue) == []
    del block
    assert keys(queue) == ["k"]
    assert queue.stats().reserved == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_in_its_exit(queue: Queue, mocker: MockerFixture, when: str) -> None:
    """An exception out of the exit gives the item back, unless it was done already."""
    settle = queue.settle
    done = raising_after(settle) if when == "after" else mocker.Mock(side_effect=Boom)
    mocker.patch.object(queue, "settle", lambda tokens, how: (done if how is DONE else settle)(tokens, how))
    with pytest.raises(Boom), queue.reserve():
        pass
    assert queue.stats().reserved == 0
    assert keys(queue) == ([] if when == "after" else ["k"])


def test_when_even_giving_back_is_broken_off(queue: Queue, mocker: MockerFixture) -> None:
    """Its death tries again."""
    give_back = mocker.patch.object(queue, "settle", side_effect=Boom)
    block = queue.reserve()
    block.__enter__()
    with pytest.raises(Boom):
        block.__exit__(ValueError)
    mocker.stop(give_back)
    del block
    gc.collect()
    assert keys(queue) == ["k"]


# --- whose exception comes out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ours", [LockTimeout("busy"), Reentered("in a handler")], ids=["LockTimeout", "Reentered"])
def test_the_users_exception_wins(queue: Queue, mocker: MockerFixture, ours: Exception) -> None:
    """The lock is not to be had at the end of the block: what was raised in it comes out all the same."""
    work = queue.handle.work
    block = queue.reserve()
    block.__enter__()
    mocker.patch.object(queue.handle, "work", side_effect=ours)
    block.__exit__(ValueError)
    mocker.patch.object(queue.handle, "work", work)
    assert queue.fetch() is not None, "it is given back with the next item that is taken"


def test_an_error_of_ours_comes_out_where_there_is_no_other(queue: Queue) -> None:
    """The block ended well, and the item cannot be marked as done yet: it is told, and made up for."""
    queue._mutex.timeout = 0.05
    block = queue.reserve()
    block.__enter__()
    with child(queue._mutex.take), pytest.raises(LockTimeout):
        block.__exit__(None)
    assert queue.fetch() is None
    assert queue.stats().reserved == 0


def test_a_closed_queue_holds_nothing(queue: Queue, instance: str) -> None:
    """What it held is another's when it is closed in this process; the user's exception comes out."""
    other = Queue.attach(instance, "q")
    block = queue.reserve()
    block.__enter__()
    queue.close()
    assert keys(other) == ["k"]
    block.__exit__(ZeroDivisionError)
    assert keys(other) == ["k"]


# --- at any moment ----------------------------------------------------------------------------------------------------


def test_signals_at_any_moment(instance: str, stress: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No item is lost, none is held on: each was done, or is there to be taken."""
    queue = Queue.create(instance, "r", window=16 << 20)
    total = 200
    queue.add_many([(str(number), "v") for number in range(total)])
    seen: set[str] = set()
    booms, armed = 0, False

    def strike(*_: object) -> None:
        if armed:
            raise Boom

    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    before = signal.signal(signal.SIGALRM, strike)
    try:
        while booms < (4000 if stress else 200):
            try:
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-4), 0.02)  # noqa: S311
                    while True:
                        with queue.reserve() as item:
                            if item is not None:
                                seen.add(item.key)
                                raise KeyError  # so that the items never end
                except KeyError:  # where one more may come
                    armed = False
            except Boom:
                armed = False
                booms += 1
            assert queue.stats().reserved == 0, f"after {booms} exceptions"
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # A block that ended without its own exception is done; there is none.
    assert len(queue) == total
    assert seen


# --- counting and waking ----------------------------------------------------------------------------------------------


def test_the_high_water_mark_of_a_reserve(instance: str) -> None:
    """The most items that there ever were are counted also where they are only ever reserved."""
    queue = Queue.create(instance, "h", window=16 << 20)
    for most in (7, 9):  # the first time there is no entry that was used before
        queue.add_many([("k", "v")] * most)
        for _ in range(most):
            with queue.reserve():
                pass
        assert queue.stats().high_water == most


@pytest.mark.usefixtures("only_called")
def test_a_repair_wakes_all_who_sleep(instance: str) -> None:
    """The dead one may have died before it woke somebody: nobody else would."""
    queue = Queue.create(instance, "w", window=16 << 20)
    sleepers = [fork(lambda: _fetch(queue)) for _ in range(2)]
    try:
        while not all(map(asleep, sleepers)):
            pass

        def add_and_die() -> None:
            queue._mutex.take()
            queue._log.append(_record("a"), 32)
            queue._log.append(_record("b"), 32)

        killed_after(add_and_die)
        queue.handle.wait_until_unlocked()
        assert [os.waitpid(pid, 0)[1] for pid in sleepers] == [0, 0]
    finally:
        for pid in sleepers:
            kill(pid)


def _fetch(queue: Queue) -> None:
    assert queue.fetch(HANG) is not None


def _record(key: str) -> bytes:
    from kemi.queue.adding import record_of

    return record_of(key, "v")


@pytest.mark.parametrize("how", ["collected", "done", "given back"])
def test_what_ends_in_the_middle_of_a_call_ends_with_it(queue: Queue, how: str) -> None:
    """Nobody has to take an item for it: the garbage collector, or a handler, comes while this thread has the lock."""
    reservation = queue.reserve()
    assert reservation.__enter__()
    garbage: list[Any] = [reservation]
    garbage.append(garbage)
    del reservation

    def end() -> None:
        if how == "collected":
            garbage.clear()
            gc.collect()
        else:
            with suppress(Reentered):
                kind = None if how == "done" else Boom
                garbage[0].__exit__(kind)
        assert queue.segment.words[W_IN_FLIGHT] == 1

    hold(queue._mutex, end)
    until(lambda: not queue.stats().reserved)
    assert keys(queue) == ([] if how == "done" else ["k"])


@pytest.mark.usefixtures("only_called")
def test_who_sleeps_hears_of_it(queue: Queue) -> None:
    """Of what came back when this thread's own call had ended."""
    held = [queue.reserve()]
    assert held[0].__enter__()
    pid = fork(lambda: queue.fetch(HANG) or os._exit(3))
    until(lambda: asleep(pid))
    hold(queue._mutex, held.clear)
    assert os.waitpid(pid, 0)[1] == 0


def test_who_was_killed_is_told_from_who_held_an_item_before(queue: Queue) -> None:
    """What a reservation says of its holder is there before it counts: the one before in that place may live."""

    def hold_one() -> None:
        with queue.reserve() as item:
            assert item

    def be_killed() -> None:
        close = Journal.close

        def close_and_die(journal: Journal) -> None:
            close(journal)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(Journal, "close", close_and_die)  # noqa: B010 - a checker takes an assignment amiss
        queue.reserve().__enter__()

    with child(hold_one):
        queue.add("again", "v")
        pid = fork(be_killed)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        item = queue.fetch(HANG)
        assert item
        assert item.key == "again"


@pytest.mark.python_code
@pytest.mark.usefixtures("only_called")
def test_who_repairs_wakes_who_sleeps(queue: Queue) -> None:
    """The one who added was killed with the lock, before it could: nobody else will."""

    def die(*_: object) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def be_killed() -> None:
        setattr(EventCount, "notify", die)  # noqa: B010 - a checker takes an assignment amiss
        queue.add("late", "v")

    assert queue.fetch()
    sleeper = fork(lambda: queue.fetch(HANG) or os._exit(3))
    until(lambda: asleep(sleeper))
    assert os.WTERMSIG(os.waitpid(fork(be_killed), 0)[1]) == signal.SIGKILL
    assert queue.stats().recovered
    assert os.waitpid(sleeper, 0)[1] == 0


# --- what is left of it at its end ------------------------------------------------------------------------------------


@pytest.fixture(params=[0, 1, 2])
def four(instance: str, request: pytest.FixtureRequest) -> Queue:
    """Give a queue of some items."""
    made = Queue.create(instance, "four", window=16 << 20, addmode=request.param)
    made.add_many((str(number), "v") for number in range(4))
    return made


@pytest.mark.parametrize("kind", [None, ZeroDivisionError])
def test_a_block_settles_what_is_left(four: Queue, kind: type[BaseException] | None) -> None:
    """An item that its block gave back stays given back; one that it was done with stays done."""
    block = four.reserve_many(3)
    batch = block.__enter__()
    assert batch[0].give_back()
    assert batch[1].done()
    assert batch.unsettled == [batch[2]]
    block.__exit__(kind)
    assert keys(four) == (["0", "3"] if kind is None else ["0", "2", "3"])


def test_an_item_outlives_its_reservation_and_its_block_does_not(four: Queue) -> None:
    """`take` hands the item over; a reservation that dies in its block gives back what its block still has."""
    item = four.reserve().take()
    assert item is not None
    gc.collect()
    assert not item.settled
    block = four.reserve()
    inside = block.__enter__()
    del block
    assert inside is not None
    assert inside.settled
    assert keys(four) == ["1", "2", "3"]
    item.done()


@pytest.mark.parametrize("from_handler", [False, True])
def test_a_block_whose_end_was_kept_in_mind_undoes_nothing(
    four: Queue, mocker: MockerFixture, from_handler: bool
) -> None:
    """A signal handler's error of the same class says nothing of the kind."""
    mocker.patch.object(reservation, "is_from_handler", return_value=from_handler)
    mocker.patch.object(Queue, "settle", side_effect=LockTimeout("held"))
    undo = mocker.spy(reservation._Owned, "undo")
    with pytest.raises(LockTimeout), four.reserve() as item:
        assert item is not None
    assert undo.called is from_handler


# --- how many it asks for ---------------------------------------------------------------------------------------------


class Shelf:
    """Gives items in portions, notes what it was asked for, and what became of them; an exception is raised in turn."""

    def __init__(self, *portions: int | BaseException | None) -> None:
        self.portions = list(portions)
        self.asked: list[tuple[int, float | None]] = []
        self.source = Recorder()

    def reserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        self.asked.append((count, timeout))
        portion = self.portions.pop(0)
        if isinstance(portion, BaseException):
            raise portion
        for item in of(self.source, *range(portion or 0)):
            keep(item)
        return portion

    async def areserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        return self.reserve_some(count, timeout, keep)


def take_by_call(shelf: Shelf, count: int | None) -> Any:
    return Reservation(shelf, count, 5.0).take()


def take_by_coroutine(shelf: Shelf, count: int | None) -> Any:
    return asyncio.run(AsyncReservation(shelf, count, 5.0).take())


TAKES = pytest.mark.parametrize("take", [take_by_call, take_by_coroutine])
Take = Callable[[Shelf, Optional[int]], Any]


@TAKES
@pytest.mark.parametrize(
    ("count", "portions", "asked", "got"),
    [
        (3, [2, 1], [(3, 5.0), (1, 0.0)], 2 + 1),
        (5, [2, None], [(5, 5.0), (3, 0.0)], 2),
        (5, [2, 0], [(5, 5.0), (3, 0.0)], 2),
        (5, [None], [(5, 5.0)], 0),
        (0, [], [], 0),
    ],
    ids=["full", "no more", "none just now", "nothing", "none wanted"],
)
def test_a_batch_asks_for_what_is_left_and_waits_only_for_its_first_item(
    take: Take, count: int, portions: list[int | None], asked: list[tuple[int, float]], got: int
) -> None:
    shelf = Shelf(*portions)
    batch = take(shelf, count)
    assert (len(batch), shelf.asked) == (got, asked)
    batch.done()


@TAKES
def test_one_item_is_asked_for_where_no_batch_is(take: Take) -> None:
    shelf = Shelf(1)
    item = take(shelf, None)
    assert (item.key, shelf.asked) == ("k", [(1, 5.0)])
    item.done()
    assert take(Shelf(None), None) is None


@TAKES
def test_an_error_after_some_items_came_leaves_them_to_the_block(take: Take) -> None:
    """The next call meets it, too; with nothing in hand it comes out at once."""
    batch = take(Shelf(2, LockTimeout("busy")), 5)
    assert [item.settled for item in batch] == [False, False]
    batch.done()
    with pytest.raises(LockTimeout, match="busy"):
        take(Shelf(LockTimeout("busy")), 5)


@TAKES
@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()], ids=repr)
def test_what_is_no_error_of_ours_gives_all_items_back(take: Take, error: BaseException) -> None:
    shelf = Shelf(2, error)
    with pytest.raises(type(error)):
        take(shelf, 5)
    assert shelf.source.settled == [([0, 1], GIVE_BACK)]


@TAKES
def test_an_error_of_ours_that_a_handler_raised_gives_all_items_back(take: Take, mocker: MockerFixture) -> None:
    mocker.patch.object(reservation, "is_from_handler", return_value=True)
    shelf = Shelf(2, LockTimeout("busy"))
    with pytest.raises(LockTimeout):
        take(shelf, 5)
    assert shelf.source.settled == [([0, 1], GIVE_BACK)]


def test_a_reservation_is_for_one_use() -> None:
    by_call: Reservation[Any] = Reservation(Shelf(1), None, 0.0)
    by_coroutine: AsyncReservation[Any] = AsyncReservation(Shelf(1), None, 0.0)
    by_call.take().done()
    asyncio.run(by_coroutine.take()).done()
    with pytest.raises(RuntimeError, match="a reservation is for one use"):
        by_call.take()
    with pytest.raises(RuntimeError, match="a reservation is for one use"):
        asyncio.run(by_coroutine.take())


# --- the end of a block in asyncio ------------------------------------------------------------------------------------


class Failing(Recorder):
    """Raises its errors first, one at each call."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__()
        self.errors = list(errors)

    def settle(self, tokens: Sequence[Any], how: Settlement) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return super().settle(tokens, how)


def block_in_asyncio(source: Recorder, raised: BaseException | None) -> ReservedItem:
    """Reserve an item of a source for a block that raises something, or not. Return the item."""
    shelf = Shelf(1)
    shelf.source = source
    items: list[ReservedItem] = []

    async def block() -> None:
        taking: AsyncReservation[ReservedItem] = AsyncReservation(shelf, None, 0.0)
        async with taking as item:
            items.append(item)
            if raised:
                raise raised

    expected = raised or next(iter(getattr(source, "errors", [])), None)
    if expected:
        with pytest.raises(type(expected)) as told:
            asyncio.run(block())
        assert told.value is expected
    else:
        asyncio.run(block())
    return items[0]


@pytest.mark.parametrize("raised", [None, ZeroDivisionError()], ids=repr)
def test_a_block_in_asyncio_is_done_or_gives_back(raised: BaseException | None) -> None:
    source = Recorder()
    assert block_in_asyncio(source, raised).settled
    assert source.settled == [([0], GIVE_BACK if raised else DONE)]


@pytest.mark.parametrize("raised", [None, ZeroDivisionError()], ids=repr)
def test_a_lock_that_a_block_in_asyncio_does_not_get_is_made_up_for(raised: BaseException | None) -> None:
    """By its queue; it is told where nothing else is."""
    source = Failing(LockTimeout("busy"))
    assert block_in_asyncio(source, raised).settled
    assert source.settled == []


@pytest.mark.parametrize("raised", [None, ZeroDivisionError()], ids=repr)
def test_what_a_block_in_asyncio_could_not_settle_goes_back(raised: BaseException | None) -> None:
    source = Failing(SegmentError("corrupted"))
    block_in_asyncio(source, raised)
    assert source.settled == [([0], GIVE_BACK)]


@pytest.mark.parametrize("raised", [None, ZeroDivisionError()], ids=repr)
def test_a_handlers_error_at_the_end_of_a_block_in_asyncio_gives_back(
    mocker: MockerFixture, raised: BaseException | None
) -> None:
    """It is one of ours by its class, and says nothing of the item."""
    for module in (reservation, hold_module):
        mocker.patch.object(module, "is_from_handler", return_value=True)
    source = Failing(LockTimeout("busy"))
    block_in_asyncio(source, raised)
    assert source.settled == [([0], GIVE_BACK)]


@pytest.mark.parametrize("raised", [None, ZeroDivisionError()], ids=repr)
def test_a_block_in_asyncio_that_is_cancelled_at_its_end_ends_as_it_ended(raised: BaseException | None) -> None:
    """Done or given back, and the cancellation comes out."""
    source = Failing(asyncio.CancelledError())
    shelf = Shelf(1)
    shelf.source = source

    async def block() -> None:
        async with AsyncReservation(shelf, None, 0.0):
            if raised:
                raise raised

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(block())
    assert source.settled == [([0], GIVE_BACK if raised else DONE)]
