"""Sleeping until a word changes."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.client import current
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.format.layout import W_FLAGS, W_PRESENT, W_WAITERS
from kemi.queue.queue import Queue
from kemi.queue.sync import eventcount, futex
from tests.asleep import asleep
from tests.conftest import HANG
from tests.unit.children import fork, kill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture


@pytest.fixture
def word() -> Any:
    """Return a word that forked processes share."""
    return ctypes.c_uint32.from_buffer(mmap.mmap(-1, 4096))


def elapsed(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


def sleeper(word: Any) -> int:
    """Fork a process that waits on the word while it is 0; give its pid when it sleeps."""
    pid = fork(lambda: futex.wait(word, 0, 10 * HANG))
    while not asleep(pid):
        time.sleep(0.001)
    return pid


def test_a_word_that_is_another_already(word: Any) -> None:
    """It does not sleep."""
    word.value = 1
    assert elapsed(lambda: futex.wait(word, 0, HANG)) < HANG / 2


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_a_timeout(word: Any, seconds: float) -> None:
    """It sleeps as long as asked, when nothing comes."""
    assert seconds <= elapsed(lambda: futex.wait(word, 0, seconds)) < HANG / 2


@pytest.mark.usefixtures("only_called")
def test_waking(word: Any) -> None:
    """One call wakes as many as it says, and says how many: whoever looks for signals just then is not asleep."""
    pids = [sleeper(word) for _ in range(3)]
    try:
        assert futex.wake(word) == 1
        assert futex.wake(word, 10) == 2
        assert futex.wake(word, 10) == 0
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
    finally:
        for pid in pids:
            kill(pid)


@pytest.mark.usefixtures("only_called")
def test_a_sleeper_that_is_killed(word: Any) -> None:
    """It is simply gone."""
    pid = sleeper(word)
    kill(pid)
    assert futex.wake(word) == 0


def test_an_unknown_architecture(word: Any, mocker: MockerFixture) -> None:
    """Where the system call's number is not known, it looks again after a moment."""
    mocker.patch.object(futex, "_NUMBER", None)
    assert elapsed(lambda: futex.wait(word, 0, HANG)) < HANG / 2
    assert elapsed(lambda: futex.wait(word, 0, 0.0)) < HANG / 2
    assert futex.wake(word) == 0


def _slept(word: Any, seconds: float, mocker: MockerFixture) -> list[float]:
    """For how many ms each the kernel is asked to let it sleep."""
    asked: list[float] = []

    def time_out(_number: int, _word: int, _what: int, _expected: int, moment: int) -> int:
        span = futex.TimeSpec.from_address(moment)
        asked.append(span.seconds * 1e3 + span.nanoseconds / 1e6)
        ctypes.set_errno(errno.ETIMEDOUT)
        clock.monotonic.return_value += asked[-1] / 1e3
        return -1

    clock = mocker.patch.object(futex, "time")
    clock.monotonic.return_value = 1000.0
    mocker.patch.object(futex, "_syscall", time_out)
    futex.wait(word, 0, seconds)
    mocker.stopall()
    return [round(span, 3) for span in asked]


def test_the_first_looks_for_signals_come_at_once(word: Any, mocker: MockerFixture) -> None:
    """A signal just before a sleep is served after the shortest slice; none later than 40 ms, nowhere in the sleep."""
    assert _slept(word, 0.12, mocker) == [0.625, 2.5, 10, 40, 40, 26.875]


def test_where_no_python_code_handles_signals_a_sleep_is_whole(word: Any, mocker: MockerFixture) -> None:
    mocker.patch.object(futex, "_sliced", [True])
    futex.expect_no_signals()
    assert _slept(word, 0.12, mocker) == [120]


def test_a_pause_is_in_slices_and_ends_in_time(mocker: MockerFixture) -> None:
    clock = mocker.patch.object(futex, "time")
    clock.monotonic.return_value = 1000.0
    slept = []

    def sleep(seconds: float) -> None:
        assert seconds > 0, "it is over"
        slept.append(round(seconds * 1e3, 3))
        clock.monotonic.return_value = round(clock.monotonic.return_value + seconds, 6)

    clock.sleep = sleep
    futex.pause(0.12)
    assert slept == [0.625, 2.5, 10, 40, 40, 26.875]


@pytest.mark.parametrize(
    ("answers", "woken", "calls"),
    [
        ([0], True, 1),  # another process woke it
        ([errno.ETIMEDOUT, errno.ETIMEDOUT, 0], True, 3),  # in the third slice
        ([errno.ETIMEDOUT, errno.EINTR], False, 2),  # a signal
        ([errno.EAGAIN], False, 1),  # the word was another one already
    ],
)
def test_a_sleep_goes_on_with_the_next_slice_until_something_comes(
    word: Any, mocker: MockerFixture, answers: list[int], woken: bool, calls: int
) -> None:
    """Only the end of a slice does not end it, and how the last call before ended does not count."""
    left = list(answers)

    def answer(*_: object) -> int:
        number = left.pop(0)
        if number:
            ctypes.set_errno(number)
        return -1 if number else 0

    mocker.patch.object(futex, "_sliced", [True])
    syscall = mocker.patch.object(futex, "_syscall", side_effect=answer)
    mocker.patch.object(futex, "_NUMBER", 202)
    ctypes.set_errno(errno.ETIMEDOUT)
    assert futex.wait(word, 0, 1e6) is woken
    assert (syscall.call_count, left) == (calls, [])


def test_threads_that_get_no_signals_sleep_in_one(word: Any, mocker: MockerFixture) -> None:
    slept: list[float] = []
    thread = threading.Thread(target=lambda: slept.extend(_slept(word, 2.25, mocker)))
    thread.start()
    thread.join()
    assert slept == [2250]


def test_a_signal_handler_is_told_whether_the_main_thread_sleeps(word: Any, mocker: MockerFixture) -> None:
    """Also behind a sleep of its own; another thread's does not count, nor what ended with an exception."""
    told: list[bool] = []

    def note(*_: object) -> int:
        told.append(futex.sleeps())
        return 0

    def handle(*_: object) -> int:
        syscall.side_effect = note
        futex.wait(word, 0, 1.0)
        return note()

    mocker.patch.object(futex, "_NUMBER", 202)
    syscall = mocker.patch.object(futex, "_syscall", side_effect=handle)
    futex.wait(word, 0, 1.0)
    assert (told, futex.sleeps()) == ([True, True], False)
    thread = threading.Thread(target=futex.wait, args=(word, 0, 1.0))
    thread.start()
    thread.join()
    assert told == [True, True, False]
    syscall.side_effect = Interrupted
    with pytest.raises(Interrupted):
        futex.wait(word, 0, 1.0)
    assert not futex.sleeps()


class Interrupted(Exception):
    """What the signal handlers below raise."""


def _raise(*_: object) -> None:
    raise Interrupted


def strike(is_asleep: Callable[[], bool]) -> None:
    """Send this process a signal that another thread than the sleeping main one takes, once that one sleeps."""
    while not is_asleep():
        time.sleep(0.001)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)


@contextmanager
def signal_elsewhere() -> Iterator[None]:
    """For the time of a block, have a signal come that does not end the sleep in which the main thread is."""
    before = signal.signal(signal.SIGUSR1, _raise)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    thread = threading.Thread(target=strike, args=[lambda: asleep(os.getpid())])
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])


SLEEPS: dict[str, Callable[[Queue], object]] = {
    "fetch": lambda queue: queue.fetch(None),
    "fetch_many": lambda queue: queue.fetch_many(5, None),
    "reserve": lambda queue: queue.reserve(None).__enter__(),
    "bounded": lambda queue: queue.fetch(10 * HANG),
}


@pytest.mark.parametrize("name", SLEEPS)
def test_a_signal_that_does_not_end_the_sleep(instance: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler runs all the same: nobody sleeps for long without a look for signals."""
    monkeypatch.setattr(eventcount, "RECHECK", 10 * HANG)
    queue = Queue.create(instance, "q", window=1 << 20)
    with signal_elsewhere(), pytest.raises(Interrupted):
        SLEEPS[name](queue)
    words = queue.segment.words
    assert (words[W_FLAGS], words[W_WAITERS], words[W_PRESENT]) == (0, 0, 0), "it is still counted as a waiter"


def test_a_signal_while_a_queue_has_no_server(instance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the next server to start hears of signals, too."""
    monkeypatch.setattr(current, "RETRY", 10 * HANG)
    registry = Registry.create(instance, this_process(), 1 << 30)
    queue = Queue.create(instance, "q", window=1 << 20, registry=registry)
    client = AttachedQueue(instance, "q")
    queue.remove()
    registry.segment.unlink()
    waits = threading.Event()
    pause = futex.pause

    def tell_and_pause(seconds: float) -> None:
        waits.set()
        pause(seconds)

    monkeypatch.setattr(futex, "pause", tell_and_pause)
    before = signal.signal(signal.SIGUSR1, _raise)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    thread = threading.Thread(target=strike, args=[waits.is_set])
    thread.start()
    try:
        with pytest.raises(Interrupted):
            client.fetch(None)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
