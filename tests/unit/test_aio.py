"""The thread that sleeps for coroutines: whom it calls, what it passes on, when it ends."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kemi.queue.client import aio
from kemi.queue.client.aio import Doorbell
from tests.conftest import HANG
from tests.support.waits import until

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


class Sleeper:
    """A queue as the thread knows it."""

    def __init__(self) -> None:
        self.is_there = threading.Event()
        self.asleep = threading.Event()
        self.passed_on = threading.Event()

    def wait_ready(self, seconds: float) -> bool:
        self.asleep.set()
        return self.is_there.wait(min(seconds, 0.05))

    def pass_on(self) -> None:
        self.passed_on.set()


@pytest.fixture
def sleeper() -> Sleeper:
    """Return a queue in which there is nothing."""
    return Sleeper()


@pytest.fixture
def doorbell(sleeper: Sleeper) -> Doorbell:
    """Return what calls coroutines that wait for it."""
    queue: Any = sleeper
    return Doorbell(lambda: queue)


def have_an_idle_thread(doorbell: Doorbell, mocker: MockerFixture) -> None:
    """Let its thread wait for the next coroutine, for as long as a test takes."""
    mocker.patch.object(aio, "_IDLE", 10 * HANG)
    asyncio.run(doorbell.wait(0.01))
    until(lambda: is_idle(doorbell))


def is_idle(doorbell: Doorbell) -> bool:
    """Is the thread there, and has nobody to wait for?"""
    waits: Any = doorbell._changed
    return doorbell._runs and bool(waits._waiters)


def test_who_waits_is_called_when_there_is_something(doorbell: Doorbell, sleeper: Sleeper) -> None:
    async def work() -> None:
        waits = asyncio.ensure_future(doorbell.wait(10 * HANG))
        await asyncio.get_running_loop().run_in_executor(None, sleeper.asleep.wait, HANG)
        assert not waits.done()
        sleeper.is_there.set()
        await asyncio.wait_for(waits, HANG)

    asyncio.run(work())
    doorbell.close()
    until(lambda: not doorbell._runs)
    assert not sleeper.passed_on.is_set()


def test_who_comes_when_the_thread_is_idle_is_called(
    doorbell: Doorbell, sleeper: Sleeper, mocker: MockerFixture
) -> None:
    """The thread is the same one."""
    have_an_idle_thread(doorbell, mocker)
    threads = set(threading.enumerate())
    sleeper.is_there.set()
    asyncio.run(asyncio.wait_for(doorbell.wait(10 * HANG), HANG))
    until(lambda: is_idle(doorbell))
    assert set(threading.enumerate()) <= threads  # one of an earlier test may end just now
    doorbell.close()
    until(lambda: not doorbell._runs)


def test_the_thread_ends_when_nobody_came_for_some_time(doorbell: Doorbell, mocker: MockerFixture) -> None:
    """And another one begins for who comes afterwards."""
    mocker.patch.object(aio, "_IDLE", 0.01)
    for _ in range(2):
        asyncio.run(doorbell.wait(0.01))
        until(lambda: not doorbell._runs)


def test_a_call_that_was_not_used_is_passed_on_when_nobody_else_waits(
    doorbell: Doorbell, sleeper: Sleeper, mocker: MockerFixture
) -> None:
    """Another process may sleep for the item that a cancelled coroutine did not take."""
    have_an_idle_thread(doorbell, mocker)
    doorbell._pass_on()
    assert sleeper.passed_on.wait(HANG)
    doorbell.close()
    until(lambda: not doorbell._runs)


def test_a_call_that_was_not_used_goes_to_who_waits_here(doorbell: Doorbell, sleeper: Sleeper) -> None:
    async def work() -> None:
        waits = asyncio.ensure_future(doorbell.wait(10 * HANG))
        await asyncio.get_running_loop().run_in_executor(None, sleeper.asleep.wait, HANG)
        doorbell._pass_on()
        await asyncio.wait_for(waits, HANG)

    asyncio.run(work())
    assert not sleeper.passed_on.is_set()
    doorbell.close()


@pytest.mark.parametrize("called", [True, False])
def test_who_is_cancelled_passes_a_call_on_if_there_was_one(
    doorbell: Doorbell, sleeper: Sleeper, mocker: MockerFixture, called: bool
) -> None:
    """Between the call and the coroutine's next step; what was not called has nothing to pass on."""
    pass_on = mocker.spy(doorbell, "_pass_on")

    async def work() -> None:
        waits = asyncio.ensure_future(doorbell.wait(10 * HANG))
        await asyncio.get_running_loop().run_in_executor(None, sleeper.asleep.wait, HANG)
        if called:
            with doorbell._changed:
                assert doorbell._call_one()
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits

    asyncio.run(work())
    assert pass_on.call_count == called
    assert sleeper.passed_on.wait(HANG if called else 0) is called
    doorbell.close()
    until(lambda: not doorbell._runs)
