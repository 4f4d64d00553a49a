"""The eventcount of format 5: every order of events of a few processes, and real sleepers by the hundred."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from kemi.queue.format.layout import ADD_LIMITED, ADD_WAITING, W_EVENT, W_FLAGS, W_PRESENT, W_WAITERS, Mapping
from kemi.queue.sync import futex
from kemi.queue.sync.eventcount import EventCount
from tests.asleep import asleep
from tests.conftest import HANG
from tests.support.waits import until
from tests.unit.children import kill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture


def mapping() -> Mapping:
    memory = mmap.mmap(-1, 4096)
    view = memoryview(memory)
    return Mapping(memory, view.cast("Q"), view.cast("I"))


class NoFutex:
    """Nobody sleeps."""

    def wait(self, expected: int, seconds: float) -> bool:
        raise AssertionError((expected, seconds))

    def wake(self, count: int) -> None:
        raise AssertionError(count)


class KernelFutex:
    """A real one."""

    def __init__(self, area: Mapping) -> None:
        self.word = ctypes.c_uint32.from_buffer(area.bytes, W_EVENT * 8)

    def wait(self, expected: int, seconds: float) -> bool:
        return futex.wait(self.word, expected, seconds)

    def wake(self, count: int) -> None:
        futex.wake(self.word, count)


# --- every order of events --------------------------------------------------------------------------------------------

LOOK, ASLEEP, AWAKE, GONE = "look", "asleep", "awake", "gone"


class Waiter(NamedTuple):
    """A consumer that wants one item. woken, timed_out: how its sleep ended."""

    at: str = LOOK
    key: int | None = None
    woken: bool = False


class State(NamedTuple):
    """All there is: the three words, items in the queue, consumers, and wake-ups that producers still owe."""

    words: tuple[int, int, int, int]
    items: int
    waiters: tuple[Waiter, ...]
    adds: int
    owed: tuple[int, ...]


def step_of(state: State) -> tuple[EventCount, Mapping]:
    area = mapping()
    area.u32[W_EVENT * 2], area.u64[W_WAITERS], area.u64[W_PRESENT], area.u64[W_FLAGS] = state.words
    return EventCount(area, NoFutex()), area


def words(area: Mapping) -> tuple[int, int, int, int]:
    return area.u32[W_EVENT * 2], area.u64[W_WAITERS], area.u64[W_PRESENT], area.u64[W_FLAGS]


def look(state: State, number: int, *, gives_up: bool) -> State:
    """Consumer `number` has the lock: it takes an item, or prepares to wait, or gives up."""
    events, area = step_of(state)
    waiter = state.waiters[number]
    items, owed = state.items, state.owed
    if items or gives_up:
        took = items > 0
        items -= took
        if waiter.key is not None and events.cancel_wait(waiter.key, woken=waiter.woken) and not took and items:
            owed += (events.notify(),)
        waiter = Waiter(GONE)
    else:
        key = events.prepare_wait(waiter.key, woken=waiter.woken)
        waiter = Waiter("calls", key)
    return State(words(area), items, change(state, number, waiter), state.adds, tuple(each for each in owed if each))


def change(state: State, number: int, waiter: Waiter) -> tuple[Waiter, ...]:
    return (*state.waiters[:number], waiter, *state.waiters[number + 1 :])


def successors(state: State) -> Iterator[State]:
    """Give every state that one event leads to."""
    event = state.words[0]
    if state.adds:
        events, area = step_of(state)
        called = events.notify()
        owed = (*state.owed, called) if called else state.owed
        yield State(words(area), state.items + 1, state.waiters, state.adds - 1, owed)
    for number, waiter in enumerate(state.waiters):
        if waiter.at in (LOOK, AWAKE):
            yield look(state, number, gives_up=False)
            if not state.items:
                yield look(state, number, gives_up=True)
        elif waiter.at == "calls":
            sleeps = waiter.key == event
            yield state._replace(waiters=change(state, number, waiter._replace(at=ASLEEP if sleeps else AWAKE)))
        elif waiter.at == ASLEEP:
            yield state._replace(waiters=change(state, number, waiter._replace(at=AWAKE)))  # its time is over
            yield state._replace(waiters=change(state, number, Waiter(GONE)))  # it is killed
    yield from wakes(state)


def wakes(state: State) -> Iterator[State]:
    """Give every state that a wake-up leads to which a producer owes."""
    for place, count in enumerate(state.owed):
        left = (*state.owed[:place], *state.owed[place + 1 :])
        sleepers = [number for number, waiter in enumerate(state.waiters) if waiter.at == ASLEEP]
        if not sleepers:
            yield state._replace(owed=left)
        assert count == 1
        for number in sleepers:  # the kernel wakes whom it likes
            woken = change(state, number, state.waiters[number]._replace(at=AWAKE, woken=True))
            yield state._replace(owed=left, waiters=woken)


def is_lost(state: State) -> bool:
    """Return True if an item is there, somebody sleeps, and nobody will ever do anything about it."""
    asleep = sum(waiter.at == ASLEEP for waiter in state.waiters)
    busy = any(waiter.at not in (ASLEEP, GONE) for waiter in state.waiters)
    return bool(state.items and asleep and not busy and not state.owed)


def find_lost(consumers: int, adds: int) -> tuple[State | None, int]:
    """Go through all orders of events. Returns a state with a lost wake-up, and how many states there are."""
    first = State((0, 0, 0, 0), 0, (Waiter(),) * consumers, adds, ())
    seen, left = {first}, [first]
    while left:
        state = left.pop()
        if is_lost(state):
            return state, len(seen)
        if any(waiter.at == ASLEEP for waiter in state.waiters):
            counted = state.words[1] + sum(state.owed)
            assert counted or any(waiter.at not in (ASLEEP, GONE) for waiter in state.waiters), "they sleep uncounted"
        if all(waiter.at == GONE for waiter in state.waiters) and state.words[2] == 0:
            assert state.words[1] == 0, "nobody is there, and somebody is counted"
        for following in successors(state):
            if following not in seen:
                seen.add(following)
                left.append(following)
    return None, len(seen)


@pytest.mark.parametrize(("consumers", "adds"), [(1, 3), (2, 2), (2, 3), (3, 2)])
def test_in_no_order_of_events_a_wake_up_is_lost(consumers: int, adds: int) -> None:
    lost, states = find_lost(consumers, adds)
    assert lost is None
    assert states > 30


def test_a_woken_waiter_that_takes_itself_from_the_count_is_found(mocker: MockerFixture) -> None:
    cancel = EventCount.cancel_wait

    def by_event_alone(self: EventCount, key: int, *, woken: bool) -> bool:
        del woken
        return cancel(self, key, woken=False)

    mocker.patch.object(EventCount, "cancel_wait", by_event_alone)
    with pytest.raises(AssertionError, match="uncounted"):
        find_lost(3, 3)


def test_a_waiter_that_does_not_prepare_again_is_found(mocker: MockerFixture) -> None:
    prepare = EventCount.prepare_wait

    def once(self: EventCount, key: int | None = None, *, woken: bool = False) -> int:
        del woken
        return prepare(self) if key is None else self._u32[W_EVENT * 2]

    mocker.patch.object(EventCount, "prepare_wait", once)
    with pytest.raises(AssertionError, match="uncounted"):
        find_lost(2, 2)


# --- the words --------------------------------------------------------------------------------------------------------


def test_an_add_that_nobody_waits_for_changes_nothing() -> None:
    area = mapping()
    events = EventCount(area, NoFutex())
    assert events.notify() == 0
    assert words(area) == (0, 0, 0, 0)


def test_an_add_that_nobody_waits_for_stores_nothing() -> None:
    """Not even what is there already: the line with the flags is in every process's cache."""
    area = mapping()
    area.u64[W_FLAGS] = ADD_LIMITED
    read_only = Mapping(area.bytes, area.u64.toreadonly(), area.u32.toreadonly())
    assert EventCount(read_only, NoFutex()).notify(3) == 0


def test_the_mark_goes_when_nobody_is_counted_any_more() -> None:
    """As after a waiter that left without it."""
    area = mapping()
    area.u64[W_FLAGS] = ADD_LIMITED | ADD_WAITING
    assert EventCount(area, NoFutex()).notify() == 0
    assert words(area) == (0, 0, 0, ADD_LIMITED)


def test_the_mark_is_there_while_somebody_waits_and_other_marks_stay() -> None:
    area = mapping()
    area.u64[W_FLAGS] = ADD_LIMITED
    events = EventCount(area, NoFutex())
    key = events.prepare_wait()
    other = events.prepare_wait()
    assert area.u64[W_FLAGS] == ADD_LIMITED | ADD_WAITING
    assert not events.cancel_wait(key, woken=False)
    assert area.u64[W_FLAGS] == ADD_LIMITED | ADD_WAITING
    assert events.notify(5) == 1
    assert area.u64[W_FLAGS] == ADD_LIMITED
    assert events.cancel_wait(other, woken=False)
    assert area.u64[W_WAITERS] == area.u64[W_PRESENT] == 0


def test_the_event_wraps() -> None:
    area = mapping()
    area.u32[W_EVENT * 2] = 0xFFFFFFFF
    events = EventCount(area, NoFutex())
    events.prepare_wait()
    assert events.notify() == 1
    assert area.u32[W_EVENT * 2] == area.u32[W_EVENT * 2 + 1] == 0


class NotedFutex(NoFutex):
    """Notes how many it was to wake."""

    def __init__(self) -> None:
        self.woken: list[int] = []

    def wake(self, count: int) -> None:
        self.woken.append(count)


def test_all_are_notified_at_once() -> None:
    """Each of them looks again, whatever it was notified of before, and none is counted; other marks stay."""
    area = mapping()
    area.u64[W_FLAGS] = ADD_LIMITED
    sleepers = NotedFutex()
    events = EventCount(area, sleepers)
    keys = [events.prepare_wait() for _ in range(3)]
    assert events.notify() == 1
    before = area.u32[W_EVENT * 2]
    events.notify_all()
    assert area.u32[W_EVENT * 2] == before + 1
    assert area.u32[W_EVENT * 2] not in keys
    assert words(area)[1:] == (0, 3, ADD_LIMITED)
    assert sleepers.woken == [(1 << 31) - 1]
    events.notify_all()
    assert area.u32[W_EVENT * 2] == before + 2
    for key in keys:
        assert events.cancel_wait(key, woken=True)
    assert words(area)[1:] == (0, 0, ADD_LIMITED)


def test_all_are_notified_at_the_end_of_the_numbers_too() -> None:
    area = mapping()
    area.u32[W_EVENT * 2] = 0xFFFFFFFF
    EventCount(area, NotedFutex()).notify_all()
    assert area.u32[W_EVENT * 2] == area.u32[W_EVENT * 2 + 1] == 0


def test_waiters_that_look_again_do_not_make_the_count_grow() -> None:
    """200 waiters whose waits end by time while others are notified."""
    area = mapping()
    events = EventCount(area, NoFutex())
    keys = [events.prepare_wait() for _ in range(200)]
    for _ in range(50):
        events.notify()
        keys = [events.prepare_wait(key) for key in keys]
    assert area.u64[W_WAITERS] == 200
    for key in keys:
        events.cancel_wait(key, woken=False)
    assert words(area)[1:] == (0, 0, 0)


# --- real processes ---------------------------------------------------------------------------------------------------


class Lock:
    """A lock between processes, for the test: of a file that each opens anew."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR)

    def __enter__(self) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)


ITEMS, TAKEN = 128, 129  # u64 words: items there, items that were taken


def consume(area: Mapping, path: str) -> None:
    """Take one item, asleep while there is none."""
    events, lock = EventCount(area, KernelFutex(area)), Lock(path)
    key: int | None = None
    woken = False
    while True:
        with lock:
            if area.u64[ITEMS]:
                area.u64[ITEMS] = area.u64[ITEMS] - 1
                area.u64[TAKEN] = area.u64[TAKEN] + 1
                if key is not None:
                    events.cancel_wait(key, woken=woken)
                return
            key = events.prepare_wait(key, woken=woken)
        woken = events.wait(key, 10 * HANG)


def start(area: Mapping, path: str, count: int) -> list[int]:
    pids = []
    for _ in range(count):
        pid = os.fork()
        if not pid:
            try:
                consume(area, path)
                os.kill(os.getpid(), signal.SIGKILL)  # under coverage any other end takes longer than all the rest
            finally:
                os._exit(1)
        pids.append(pid)
    return pids


@pytest.mark.usefixtures("only_called")
@pytest.mark.parametrize("killed", [0, 20])
def test_all_of_two_hundred_waiters_are_woken(killed: int, tmp_path: Any) -> None:
    """Each by an add of its own; none by the time alone."""
    path = str(tmp_path / "lock")
    open(path, "w").close()
    area = mapping()
    events, lock = EventCount(area, KernelFutex(area)), Lock(path)
    pids = start(area, path, 200)
    try:
        until(lambda: area.u64[W_WAITERS] == 200 and all(map(asleep, pids)), seconds=4 * HANG)
        for _ in range(killed):
            kill(pids.pop())
        for _ in range(200 - killed):
            with lock:
                area.u64[ITEMS] = area.u64[ITEMS] + 1
                called = events.notify()
            if called:
                events.wake(called)
        until(lambda: area.u64[TAKEN] == 200 - killed, seconds=4 * HANG)
        while pids:
            assert os.waitstatus_to_exitcode(os.waitpid(pids.pop(), 0)[1]) == -signal.SIGKILL
    finally:
        for pid in pids:
            kill(pid)
    assert area.u64[W_PRESENT] == killed
    assert area.u64[W_WAITERS] <= killed
