"""Waiting for an item: an add wakes one that waits, whoever of the others is killed, stopped, or gives up."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import LockTimeout
from kemi.queue import handle as handles
from kemi.queue import hot
from kemi.queue import waiting as takers
from kemi.queue.format import layout
from kemi.queue.kernel import choice
from kemi.queue.log.core import ADDED
from kemi.queue.sync import eventcount, futex
from tests.asleep import asleep
from tests.conftest import HANG
from tests.processes.moments import die
from tests.processes.serve import sleepers
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from kemi.queue.queue import Queue
    from tests.processes.children import Child, Children
    from tests.processes.serve import Serve


def fetch_timed(queue: Queue, timeout: float) -> tuple[str | None, float]:
    """Wait for one item; return its key, and when it came."""
    item = queue.fetch(timeout)
    return (None if item is None else item.key), time.monotonic()


def waiting(queue: Queue, children: Children, count: int, timeout: float = HANG) -> list[Child]:
    """Start processes that wait for one item each, and return when all of them sleep."""
    before = sleepers(queue)
    started = [children.fork(lambda: fetch_timed(queue, timeout)) for _ in range(count)]
    until(lambda: sleepers(queue) >= before + count and all(asleep(child.pid) for child in started), "all wait")
    return started


@pytest.mark.usefixtures("only_called")
def test_each_add_wakes_one(serve: Serve, children: Children) -> None:
    """Three wait, three items come: each wakes one at once, and nobody is counted as waiting afterwards."""
    queue = serve("name=q")
    started = waiting(queue, children, 3)
    begin = time.monotonic()
    for number in range(3):
        assert queue.add(str(number), "") == ADDED
    results = [child.result() for child in started]
    assert sorted(key for key, _ in results) == ["0", "1", "2"]
    assert max(when for _, when in results) - begin < HANG / 2
    assert sleepers(queue) == 0


@pytest.mark.usefixtures("only_called")
def test_more_than_64_sleep_and_each_is_woken(serve: Serve, children: Children) -> None:
    """Each of 70 gets an item though nobody looks by himself; afterwards an add that nobody waits for wakes nobody."""
    queue = serve("name=q", lock_timeout=str(HANG))
    started = [children.fork(lambda: fetch_timed(queue, HANG)) for _ in range(70)]
    until(lambda: sleepers(queue) == 70 and all(asleep(child.pid) for child in started), "all wait")
    for number in range(70):
        assert queue.add(str(number), "") == ADDED
    assert {child.result()[0] for child in started} == {str(number) for number in range(70)}
    assert sleepers(queue) == 0
    event = queue.segment.words[layout.W_EVENT]
    assert queue.add("k", "") == ADDED
    assert (queue.segment.words[layout.W_EVENT], queue.segment.words[layout.W_FLAGS]) == (event, 0)


def test_a_waiter_does_not_poll(serve: Serve, children: Children) -> None:
    """A process that waits is woken for its own looks for signals only, some 25 a second."""
    queue = serve("name=q")
    (child,) = waiting(queue, children, 1)
    begin = time.monotonic()
    switches = _voluntary_switches(child.pid)
    time.sleep(2.5)
    # The looks, and once a second the shorter slices that a sleep begins with.
    assert _voluntary_switches(child.pid) - switches <= 2 / futex.SLICE * (time.monotonic() - begin)
    queue.add("k", "")
    assert child.result()[0] == "k"


def _voluntary_switches(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith("voluntary_ctxt_switches")).split()[1])


@pytest.mark.usefixtures("only_called")
def test_killed_asleep(serve: Serve, children: Children, stress: bool) -> None:
    """Half of those that wait are killed in their sleep: every item still calls one of the others."""
    queue = serve("name=q")
    delays: list[float] = []
    for turn in range(200 if stress else 15):
        started = waiting(queue, children, 4)
        for child in started[turn % 2 :: 2]:
            child.send(signal.SIGKILL)
            child.wait()
        begin = time.monotonic()
        queue.add("a", "")
        queue.add("b", "")
        results = [child.result() for child in started[1 - turn % 2 :: 2]]
        assert sorted(key for key, _ in results) == ["a", "b"]
        delays.append(max(when for _, when in results) - begin)
    assert max(delays) < HANG / 2


def test_killed_when_just_woken(
    serve: Serve, children: Children, stress: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dies between its waking and its taking: the item is another's within the time of a look."""
    monkeypatch.setattr(futex, "SLICE", HANG)  # who looks for signals meanwhile sees the item, too
    monkeypatch.setattr(futex, "FIRST_SLICES", ())
    queue = serve("name=q")

    choice.detach(queue)  # which has slices of its own

    def die_awake() -> None:
        kernel: Any = queue.handle.events._futex
        sleep = kernel.wait

        def sleep_and_die(*arguments: Any) -> bool:
            if woken := sleep(*arguments):
                die()
            return bool(woken)

        kernel.wait = sleep_and_die
        # Who sleeps first is woken first: this one, which does not look by itself in between.
        for module in (eventcount, takers):
            monkeypatch.setattr(module, "RECHECK", HANG)
        queue.fetch(HANG)

    for _ in range(20 if stress else 3):
        victim = children.fork(die_awake)
        until(lambda: sleepers(queue) == 1 and asleep(victim.pid), "the first waits")  # noqa: B023 it runs at once
        (other,) = waiting(queue, children, 1)
        begin = time.monotonic()
        queue.add("k", "")
        key, when = other.result()
        assert key == "k"
        assert when - begin < HANG / 2
        assert victim.killed_by() == signal.SIGKILL, "the call went to the other one"
        while sleepers(queue):
            queue.add("k", "")
            queue.pop()


def test_the_count_of_sleepers_heals(serve: Serve, children: Children) -> None:
    """Killed sleepers are counted until adds have made up for them, and not longer."""
    queue = serve("name=q")
    for child in waiting(queue, children, 5):
        child.send(signal.SIGKILL)
        child.wait()
    assert sleepers(queue) == 5
    for _ in range(5):
        queue.add("k", "")
    assert sleepers(queue) == 0
    assert len(queue) == 5


def test_the_count_of_sleepers_stays_small(serve: Serve, children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long some wait while one item after the other comes, their count cannot run away."""
    monkeypatch.setattr(eventcount, "RECHECK", 0.02)
    queue = serve("name=q")
    waiters = 4

    def consume() -> int:
        taken = 0
        while (item := queue.fetch(HANG)) is not None and item.key != "end":
            taken += 1
        return taken

    consumers = [children.fork(consume) for _ in range(waiters)]
    until(lambda: sleepers(queue) >= waiters, "all wait")
    most = 0
    for _ in range(40):
        queue.add("k", "")
        time.sleep(0.05)  # long enough for every sleeper to look by itself
        most = max(most, sleepers(queue))
    for _ in consumers:
        queue.add("end", "")
    assert sum(child.result() for child in consumers) == 40
    assert most <= waiters


def test_a_timeout_leaves_no_sleeper(serve: Serve, children: Children) -> None:
    """Who waited in vain is not counted any more, and a later item is not lost on it."""
    queue = serve("name=q")
    started = [children.fork(lambda: fetch_timed(queue, 0.2)) for _ in range(4)]
    assert [child.result()[0] for child in started] == [None] * 4
    assert sleepers(queue) == 0
    queue.add("k", "")
    assert queue.fetch() is not None


def test_timeouts_beside_adds_lose_no_wake(serve: Serve, children: Children, stress: bool) -> None:
    """Short waits end all the time beside a long one: an item that only the long one can take reaches it in time."""
    queue = serve("name=q")
    stop = threading.Event()

    def give_up() -> None:
        while not stop.is_set():
            item = queue.fetch(0.001)
            if item is not None:
                queue.add(item.key, "")  # not for this one

    threads = [threading.Thread(target=give_up) for _ in range(2)]
    child = children.fork(lambda: [fetch_timed(queue, HANG) for _ in range(60 if stress else 8)])
    for thread in threads:
        thread.start()
    try:
        for number in range(60 if stress else 8):
            queue.add(str(number), "")
            until(lambda: not len(queue), "the item is taken")
            time.sleep(0.01)
        results = child.result()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len([key for key, _ in results if key is not None]) == len(results)


class Thief:
    """Lets another process take the lock, and stop, when this one has released it for the time `turn`."""

    def __init__(self, queue: Queue, children: Children, turn: int) -> None:
        self._queue = queue
        self._children = children
        self._left = turn
        self._holder: Child | None = None

    def after(self, frees: Callable[..., Any], *arguments: Any) -> Any:
        """Stand in for a function that frees the lock."""
        result = frees(*arguments)
        self._left -= 1
        if not self._left:
            self._holder = self._children.fork(self._hold)
            assert os.WIFSTOPPED(self._holder.wait(options=os.WUNTRACED))
        return result

    def _hold(self) -> None:
        self._queue._mutex.take()
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)

    def let_go(self) -> None:
        if self._holder is not None:
            self._holder.send(signal.SIGCONT)
            self._holder.wait()


def keys_fetched(queue: Queue, timeout: float) -> list[str]:
    """Fetch once; return the key, or nothing if nothing came or the lock was not to be had."""
    try:
        item = queue.fetch(timeout)
    except LockTimeout:
        return []
    return [] if item is None else [item.key]


@pytest.mark.parametrize("turn", range(1, 7))
def test_an_item_taken_is_not_lost_to_a_lock_not_had(
    serve: Serve, children: Children, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    """Another process stops with the lock as soon as the waiting one lets go of it for that time.

    The item is the result of the fetch, or it is still in the queue.
    """
    queue = serve("name=q", lock_timeout="0.3")

    def add_later() -> bool:
        time.sleep(0.2)
        try:
            return queue.add("k", "v") == ADDED
        except LockTimeout:
            return False

    adder = children.fork(add_later)
    thief = Thief(queue, children, turn)
    with monkeypatch.context() as stolen:
        for module, name in ((hot, "unlock"), (handles, "hold")):
            stolen.setattr(module, name, partial(thief.after, getattr(module, name)))
        keys = keys_fetched(queue, 0.6)
    thief.let_go()
    added = adder.result()
    assert keys + keys_fetched(queue, 0) == ["k"] * added
