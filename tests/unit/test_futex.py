"""Sleeping until a word changes, and the bell of a queue."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from kemi.owner import this_process
from kemi.queue import attached, futex
from kemi.queue import bell as bells
from kemi.queue.attached import AttachedQueue
from kemi.queue.bell import Bell
from kemi.queue.layout import W_HEAD, W_SIGNAL, W_TAIL, W_WATCH, WATCH_CLOSED, WATCH_LIMITS, WATCH_SLEEPER
from kemi.queue.queue import Queue
from kemi.queue.registry import Registry
from kemi.queue.segment import Segment
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


def sleeper(word: Any, seconds: float = 30.0) -> int:
    """Fork a process that waits on the word while it is 0; give its pid when it sleeps."""
    pid = fork(lambda: futex.wait(word, 0, seconds))
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


def test_waking(word: Any) -> None:
    """One call wakes as many as it says, and says how many."""
    pids = [sleeper(word) for _ in range(3)]
    try:
        assert futex.wake(word) == 1
        assert futex.wake(word, 10) == 2
        assert futex.wake(word, 10) == 0
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
    finally:
        for pid in pids:
            kill(pid)


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
    "consume": lambda queue: next(queue.consume()),
    "bounded": lambda queue: queue.fetch(10 * HANG),
}


@pytest.mark.parametrize("name", SLEEPS)
def test_a_signal_that_does_not_end_the_sleep(instance: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler runs all the same: nobody sleeps for long without a look for signals."""
    monkeypatch.setattr(bells, "RECHECK", 10 * HANG)
    queue = Queue.create(instance, "q", window=1 << 20)
    with signal_elsewhere(), pytest.raises(Interrupted):
        SLEEPS[name](queue)
    assert queue.segment.words[W_WATCH] == 0, "it is still counted as a sleeper"


def test_a_signal_while_a_queue_has_no_server(instance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the next server to start hears of signals, too."""
    monkeypatch.setattr(attached, "RETRY", 10 * HANG)
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


# --- the bell ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def segment(instance: str) -> Segment:
    """Return a page of shared memory."""
    return Segment.create(f"mqk.{instance}", 4096, 4096, lambda _: None)


@pytest.fixture
def bell(segment: Segment) -> Bell:
    """Return a bell that nobody waits for."""
    return Bell(segment)


def test_a_bell_without_sleepers(segment: Segment, bell: Bell) -> None:
    """An add has nothing to do, whatever else is watched."""
    segment.words[W_WATCH] = WATCH_LIMITS | WATCH_CLOSED
    assert not bell.call_one()
    assert (segment.words[W_WATCH], segment.words[W_SIGNAL]) == (WATCH_LIMITS | WATCH_CLOSED, 0)


def test_each_call_is_for_one_sleeper(segment: Segment, bell: Bell) -> None:
    """It counts one down and changes the signal; the other bits stay."""
    segment.words[W_WATCH] = WATCH_LIMITS
    bell.count_in()
    bell.count_in()
    assert segment.words[W_WATCH] == WATCH_LIMITS + 2 * WATCH_SLEEPER
    assert [bell.call_one(), bell.call_one(), bell.call_one()] == [True, True, False]
    assert (segment.words[W_WATCH], bell.signal()) == (WATCH_LIMITS, 2)


def test_the_signal_goes_round(segment: Segment, bell: Bell) -> None:
    """It is a word of 32 bits, as the system call wants it."""
    segment.words[W_SIGNAL] = 0xFFFFFFFF
    bell.call_all()
    assert bell.signal() == 0


def test_a_sleeper_without_a_signal_counts_itself_out(segment: Segment, bell: Bell) -> None:
    """Once, and never below nothing."""
    bell.count_in()
    for _ in range(2):
        assert not bell.count_out(bell.signal(), took_item=False)
        assert segment.words[W_WATCH] == 0


@pytest.mark.parametrize(("took_item", "items", "passed_on"), [(True, 1, False), (False, 0, False), (False, 1, True)])
def test_a_signal_that_is_not_needed_is_passed_on(
    segment: Segment, bell: Bell, took_item: bool, items: int, passed_on: bool
) -> None:
    """Who was called and takes nothing, while there is something, calls another sleeper."""
    remembered = bell.signal()
    bell.count_in()
    bell.count_in()
    bell.call_one()
    segment.words[W_HEAD], segment.words[W_TAIL] = 0, 32 * items
    assert bell.count_out(remembered, took_item=took_item) is passed_on
    assert segment.words[W_WATCH] == (0 if passed_on else WATCH_SLEEPER)


def test_a_sleep_ends_by_itself(bell: Bell, mocker: MockerFixture) -> None:
    """Who should have been woken by a process that was killed looks again soon."""
    mocker.patch.object(bells, "RECHECK", 0.05)
    assert elapsed(lambda: bell.sleep(bell.signal(), HANG)) < HANG / 2


def test_the_word_is_the_low_half(segment: Segment, bell: Bell) -> None:
    """What a sleeper waits on is the half of the word that changes."""
    segment.words[W_SIGNAL] = 1
    assert bytes(bell._word) == struct.pack("=I", 1)
