"""The kernel's sleep: woken by an add of either kernel, ended by its time, by a signal, and by the queue's end."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from socket import socketpair
from typing import TYPE_CHECKING, Any, Callable

import pytest

from kemi.errors import ClientClosed, MqueueError
from kemi.queue.format.layout import W_FLAGS, W_PRESENT, W_WAITERS
from kemi.queue.kernel import choice
from kemi.queue.lock.mutex import unlock
from kemi.queue.queue import Queue
from tests.conftest import HANG
from tests.support.waits import until
from tests.unit.children import child, fork

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = HANG


@pytest.fixture(params=[0, 2], ids=["plain", "keep the newest"])
def queue(request: pytest.FixtureRequest, instance: str) -> Iterator[Queue]:
    made = Queue.create(instance, "q", window=1 << 20, addmode=request.param)
    yield made
    made.remove()


def nobody_waits(queue: Queue) -> bool:
    return (queue._u64[W_WAITERS], queue._u64[W_PRESENT], queue._u64[W_FLAGS]) == (0, 0, 0)


def test_the_time_is_over(queue: Queue) -> None:
    before = choice.lib.calls()
    start = time.monotonic()
    assert queue.pop_wait(0.15) is None
    assert time.monotonic() - start >= 0.15
    assert choice.lib.calls() == (before[0] + 1, before[1])
    assert nobody_waits(queue)


@pytest.mark.parametrize("timeout", [None, PATIENCE, 600, float("inf")])
@pytest.mark.parametrize("adds_native", [True, False])
@pytest.mark.parametrize("waits_native", [True, False])
def test_woken_by_an_add(queue: Queue, timeout: float | None, adds_native: bool, waits_native: bool) -> None:
    """Of either kernel, in another process. The GIL is free meanwhile: this thread goes on."""

    def add() -> None:
        if not adds_native:
            choice.detach(queue)
        until(lambda: queue._u64[W_WAITERS])
        queue.add("k", "v")

    if not waits_native:
        choice.detach(queue)
    with child(lambda: threading.Thread(target=add).start()):
        record = queue.pop_wait(timeout)
    assert record is not None
    assert nobody_waits(queue)


def test_other_threads_go_on(queue: Queue) -> None:
    """While one sleeps, another one adds: in one process."""
    found: list[object] = []
    sleeper = threading.Thread(target=lambda: found.append(queue.pop_wait(PATIENCE)))
    sleeper.start()
    until(lambda: queue._u64[W_WAITERS])
    queue.add("k", "v")
    sleeper.join(PATIENCE)
    assert found != [None]
    assert nobody_waits(queue)


class StruckError(Exception):
    """What a handler raises."""


def test_a_signal_handler_runs_and_may_raise(queue: Queue) -> None:
    """In the midst of the sleep, also when the signal goes to another thread; afterwards nobody is counted."""
    # Noticed at its next look, a second after it fell asleep, none of them would be so quick.
    assert any(_struck(queue) < 0.7 for _ in range(10))
    assert nobody_waits(queue)
    assert queue.add("k", "v")
    assert queue.pop_wait(1) is not None


def _struck(queue: Queue) -> float:
    """Strike a wait three times; the last one ends it. Returns the seconds until the quickest was noticed."""
    came: list[float] = []

    def handler(_number: int, _frame: object) -> None:
        came.append(time.monotonic())
        if len(came) == 3:
            raise StruckError

    before = signal.signal(signal.SIGUSR1, handler)
    sent: list[float] = []

    def send() -> None:
        for number in range(3):
            until(lambda: queue._u64[W_WAITERS])
            time.sleep(0.01)
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGUSR1)
            until(lambda number=number: len(came) > number)  # type: ignore[misc]

    thread = threading.Thread(target=send)
    thread.start()
    try:
        with pytest.raises(StruckError):
            queue.pop_wait(PATIENCE)
    finally:
        thread.join(PATIENCE)
        signal.signal(signal.SIGUSR1, before)
    assert nobody_waits(queue)
    return min(after - at for at, after in zip(sent, came))


@contextmanager
def another_holder(queue: Queue) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Give what lets another process take the queue's lock, and what lets it free it."""
    here, there = socketpair()

    def hold() -> None:
        here.close()  # so that it sees the other end go
        there.recv(1)
        queue._mutex.take()
        there.send(b".")
        there.recv(1)
        unlock(queue._mutex.ref)
        there.send(b".")

    def ask() -> None:
        here.send(b".")
        assert here.recv(1)

    with here, there:
        pid = fork(hold)
        try:
            yield ask, ask
        finally:
            here.close()
            there.close()
            status = os.waitpid(pid, 0)[1]
        assert status == 0


def test_a_wait_that_finds_the_lock_taken(queue: Queue) -> None:
    """Python goes on with it, as the one waiter that it is counted as."""
    found: list[object] = []
    sleeper = threading.Thread(target=lambda: found.append(queue.pop_wait(PATIENCE)))
    with another_holder(queue) as (take, free):
        sleeper.start()
        until(lambda: queue._u64[W_WAITERS])
        take()
        left = choice.lib.calls()[1]
        until(lambda: choice.lib.calls()[1] > left)  # it looks once a second
        free()
    assert (queue._u64[W_WAITERS], queue._u64[W_PRESENT]) == (1, 1)
    queue.add("k", "v")
    sleeper.join(PATIENCE)
    assert found != [None]
    assert nobody_waits(queue)


def test_a_handler_knows_whether_it_interrupts_a_sleep(queue: Queue) -> None:
    """Where it does, no item has left the queue: a command may end there (kemi/cli/signals.py)."""

    def handler(_number: int, _frame: object) -> None:
        if choice.sleeps():
            raise StruckError

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.raise_signal(signal.SIGALRM)  # raises nothing
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)  # the first ones may come before the sleep
        with pytest.raises(StruckError):
            queue.pop_wait(PATIENCE)
        assert not choice.sleeps()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert nobody_waits(queue)


def test_a_handler_raises_while_the_lock_is_taken(queue: Queue) -> None:
    """Nobody is counted afterwards, whoever had the lock at that moment."""

    def handler(_number: int, _frame: object) -> None:
        raise StruckError

    def strike() -> None:
        until(lambda: queue._u64[W_WAITERS])
        take()
        left = choice.lib.calls()[1]
        os.kill(os.getpid(), signal.SIGUSR1)
        until(lambda: choice.lib.calls()[1] > left)
        free()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with another_holder(queue) as (take, free):
            thread = threading.Thread(target=strike)
            thread.start()
            with pytest.raises(StruckError):
                queue.pop_wait(PATIENCE)
            thread.join(PATIENCE)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert nobody_waits(queue)


def test_closed_by_another_thread(queue: Queue) -> None:
    """Who sleeps hears of it, and the mapping stays until then."""
    other = Queue.of_segment(queue.segment.name, None, 1.0, "q")
    raised: list[type] = []

    def wait() -> None:
        try:
            other.pop_wait(None)
        except MqueueError as error:
            raised.append(type(error))

    sleeper = threading.Thread(target=wait)
    sleeper.start()
    until(lambda: queue._u64[W_PRESENT])
    other.close()
    sleeper.join(PATIENCE)
    assert raised == [ClientClosed]


def test_ended_by_its_owner(queue: Queue) -> None:
    """QueueClosed, as without the kernel."""
    other = Queue.of_segment(queue.segment.name, None, 1.0, "q")
    raised: list[str] = []

    def wait() -> None:
        try:
            other.pop_wait(None)
        except MqueueError as error:
            raised.append(f"{type(error).__name__}: {error}")

    sleeper = threading.Thread(target=wait)
    sleeper.start()
    until(lambda: queue._u64[W_PRESENT])
    queue.remove()
    sleeper.join(PATIENCE)
    assert raised == ["QueueClosed: queue 'q' was closed by its server"]
    other.close()


@pytest.mark.parametrize("timeout", [float("nan"), "1", True, -1.0, b"", [None]])
def test_wrong_timeouts(queue: Queue, timeout: Any) -> None:
    """The same errors as without the kernel."""
    texts = []
    for native in (True, False):
        if not native:
            choice.detach(queue)
        try:
            texts.append(f"returned {queue.pop_wait(timeout)!r}")
        except Exception as error:  # noqa: BLE001 - it is compared
            texts.append(f"{type(error).__name__}: {error}")
    assert texts[0] == texts[1]
