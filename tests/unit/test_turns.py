"""Threads of one process at one queue: who calls all the time keeps nobody waiting."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Callable

import pytest

import mqueue_kemi
from kemi import app
from kemi.errors import Reentered
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.client.attached import queue_in_use as in_use
from kemi.queue.lock import turns
from kemi.queue.lock.mutex import trylock, unlock
from kemi.queue.lock.section import hold
from tests.conftest import HANG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

    from kemi.queue.lock.mutex import Mutex

pytestmark = pytest.mark.python_code


def reserve_and_finish(queue: AttachedQueue) -> None:
    """Take one item, if there is one, in the way that survives a death."""
    if (item := queue.reserve().take()) is not None:
        item.done()


CALLS: dict[str, Callable[[AttachedQueue], object]] = {
    "add": lambda queue: queue.add("k", "v"),
    "add_many": lambda queue: queue.add_many([("k", "v")]),
    "fetch": lambda queue: queue.fetch(),
    "fetch_many": lambda queue: queue.fetch_many(2),
    "reserve": reserve_and_finish,
    "peek": lambda queue: queue.peek(),
    "stats": lambda queue: queue.stats(),
}


@pytest.fixture
def name(instance: str, server: Any) -> str:  # noqa: ARG001 - its instance
    app.modparam("mqueue", "mqueue", "name=q;size=1000")
    mqueue_kemi.mod_init(object())
    return instance


@pytest.fixture
def queue(name: str) -> Iterator[AttachedQueue]:
    with AttachedQueue(name, "q", lock_timeout=HANG) as opened:
        yield opened


@pytest.fixture
def other(name: str) -> Iterator[AttachedQueue]:
    with AttachedQueue(name, "q", lock_timeout=HANG) as opened:
        yield opened


class Busy:
    """A thread that makes a call all the time, and how often it has."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.calls = 0
        self.stopped = False
        self.errors: list[BaseException] = []

    def __enter__(self) -> Busy:
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped = True
        self.thread.join()
        assert self.errors == []

    def _run(self) -> None:
        try:
            while not self.stopped:
                self.call()
                self.calls += 1
        except BaseException as error:  # noqa: BLE001 - the test says it
            self.errors.append(error)


class Waits:
    """How many calls a busy thread made during each wait of the main thread for the lock."""

    def __init__(self, mocker: MockerFixture, busy: Busy) -> None:
        self.seen: list[int] = []
        self.begin: int | None = None
        self.busy = busy
        ask, had = turns.Turns.ask, turns.Turns.had

        def asked(own: turns.Turns) -> None:
            ask(own)
            if self._is_main() and self.begin is None:
                self.begin = busy.calls

        def got(own: turns.Turns) -> None:  # the lock is held
            if self._is_main() and self.begin is not None:
                self.seen.append(busy.calls - self.begin)
                self.begin = None
            had(own)

        mocker.patch.object(turns.Turns, "ask", asked)
        mocker.patch.object(turns.Turns, "had", got)

    @staticmethod
    def _is_main() -> bool:
        return threading.current_thread() is threading.main_thread()


@pytest.mark.parametrize("apart", [False, True], ids=["one object", "two objects"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_busy_thread_lets_others_go_first(
    queue: AttachedQueue,
    other: AttachedQueue,
    mocker: MockerFixture,
    call: Callable[[AttachedQueue], object],
    apart: bool,
) -> None:
    """It ends the call that holds the lock, and makes no other one before whoever waits has had it."""
    mocker.patch.object(turns, "_WISH", HANG)  # however slow the machine is
    queue.add_many([("k", "v")] * 500)
    mine = other if apart else queue
    with Busy(lambda: queue.add("k", "v")) as busy:
        waits = Waits(mocker, busy)
        end = time.monotonic() + HANG
        while len(waits.seen) < 5 and time.monotonic() < end:
            time.sleep(0.0002)  # the other thread is in the middle of a call when this one gets on
            call(mine)
    assert len(waits.seen) >= 5, "it never had to wait"
    assert max(waits.seen) <= 1


def test_two_that_wait_both_have_their_turn(queue: AttachedQueue, other: AttachedQueue) -> None:
    """Three threads that add all the time: none of them is left out."""
    with Busy(lambda: queue.add("k", "v")) as one, Busy(lambda: other.add("k", "v")) as two:
        end = time.monotonic() + HANG
        mine = 0
        while min(one.calls, two.calls, mine) < 500 and time.monotonic() < end:
            mine += bool(queue.add("k", "v"))
    assert min(one.calls, two.calls, mine) >= 500


def test_a_wish_ends_by_itself(queue: AttachedQueue) -> None:
    """Whoever asked and is gone: the next calls wait for a moment at most, and then the way is free."""
    mutex: Mutex = in_use(queue).handle.mutex
    gone = threading.Thread(target=turns.of(mutex._segment.name).ask)
    gone.start()
    gone.join()
    assert mutex.ref is not mutex._in_use
    assert queue.add("k", "v")
    assert mutex.ref is mutex._in_use


def test_who_waits_in_vain_bars_nobody_for_long(mocker: MockerFixture) -> None:
    """It asks again and again, because another process is stopped with the lock: others wait a moment, then try."""
    clock = mocker.patch.object(turns, "time")
    clock.monotonic.return_value = 1000.0
    own = turns.Turns()

    def sleep(seconds: float) -> None:
        clock.monotonic.return_value += seconds
        another = threading.Thread(target=own.ask)
        another.start()
        another.join()

    clock.sleep = sleep
    sleep(0)
    own.give_way()
    assert clock.monotonic.return_value == pytest.approx(1000 + turns._WISH, abs=0.0001)


@pytest.mark.parametrize("ended", [False, True])
def test_a_call_that_found_the_way_barred(queue: AttachedQueue, ended: bool) -> None:
    """It has the lock also when the wish ended between its try and its look at why it failed."""
    mutex: Mutex = in_use(queue).handle.mutex
    mutex.bar()
    code = trylock(mutex.ref)
    if ended:
        mutex.unbar()
    ref = mutex.take_slowly(code)
    try:
        assert mutex.is_mine()
    finally:
        unlock(ref)
    assert not mutex.is_held()


def test_a_wish_of_who_is_interrupted_does_not_bar_its_handler(queue: AttachedQueue, mocker: MockerFixture) -> None:
    """A call in a signal handler, while the thread waits for its turn, does not wait for that turn."""
    mutex: Mutex = in_use(queue).handle.mutex
    turns.of(mutex._segment.name).ask()
    sleep = mocker.patch.object(time, "sleep")
    assert queue.add("k", "v")
    sleep.assert_not_called()
    assert mutex.ref is mutex._in_use


def test_a_call_of_the_holder_is_refused_at_once(queue: AttachedQueue, mocker: MockerFixture) -> None:
    """Another thread asked meanwhile: that changes neither the error, nor that the lock is free in the end."""
    handle = in_use(queue).handle
    mutex: Mutex = handle.mutex

    def work() -> None:
        turns._turns[mutex._segment.name]._waiter = -1
        turns._turns[mutex._segment.name]._until = time.monotonic() + HANG
        mutex.bar()
        with pytest.raises(Reentered):
            queue.add("k", "v")
        mutex.bar()
        with pytest.raises(Reentered):
            queue.stats()
        mutex.bar()

    sleep = mocker.patch.object(time, "sleep")
    hold(mutex, work)
    sleep.assert_not_called()
    assert not mutex.is_held()


@pytest.mark.parametrize("barred", [False, True])
def test_an_exception_under_the_lock_frees_it(queue: AttachedQueue, mocker: MockerFixture, barred: bool) -> None:
    """Also while another thread asks for its turn."""
    own = in_use(queue)
    mutex: Mutex = own.handle.mutex

    def fail(*_: object) -> None:
        if barred:
            mutex.bar()
        raise KeyboardInterrupt

    mocker.patch.object(own._adder, "add_slowly", fail)  # what an add calls in a queue with a limit
    with pytest.raises(KeyboardInterrupt):
        own.add("k", "v")
    assert not mutex.is_held()
    mocker.stopall()
    assert queue.add("k", "v")
    assert len(queue) == 1
