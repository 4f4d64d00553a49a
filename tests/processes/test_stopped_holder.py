"""SIGSTOP of a process that holds the lock: the others wait lock_timeout once, and go on when it does."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any, Callable

import pytest

import mqueue_kemi
from kemi.queue.log.core import ADDED
from tests.conftest import HANG
from tests.processes.logged import Logged
from tests.processes.moments import Moments, stop, watch
from tests.processes.serve import items

if TYPE_CHECKING:
    from kemi.queue.queue import Queue
    from tests.processes.children import Child, Children
    from tests.processes.serve import Serve

TIMEOUT = 1.0

Report = list[tuple[Any, float, list[str]]]


@pytest.fixture
def queue(serve: Serve) -> Queue:
    """Return a queue with two items."""
    made = serve("name=q", lock_timeout=str(TIMEOUT))
    made.add("a", "1")
    made.add("b", "2")
    return made


def stopped(queue: Queue, children: Children, action: Callable[[Queue], object], moment: int) -> Child:
    """Start a process that is stopped in the middle of its action, and return when it is."""

    def act() -> object:
        watch(queue, Moments(moment, stop))
        return action(queue)

    child = children.fork(act)
    assert os.WIFSTOPPED(child.wait(options=os.WUNTRACED))
    return child


def timed(action: Callable[[], object], times: int, quick: float = 0.0) -> Report:
    """Do something so often, or until it was so quick, after the first time.

    Return each time its result, its seconds, and what it logged.
    """
    logged = Logged()
    report: Report = []
    while len(report) < times and not (len(report) > 1 and report[-1][1] < quick):
        begin = time.monotonic()
        result = action()
        report.append((result, time.monotonic() - begin, logged.take()))
    return report


ACTIONS: dict[str, Callable[[], object]] = {
    "mq_add": lambda: mqueue_kemi.mq_add("q", "k", "v"),
    "mq_fetch": lambda: mqueue_kemi.mq_fetch("q"),
    "mq_fetch that waits": lambda: mqueue_kemi.mq_fetch("q", 5.0),
}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
def test_others_wait_lock_timeout_at_most(queue: Queue, children: Children, action: Callable[[], object]) -> None:
    """Three at once get -1 and one line, after lock_timeout; while nothing moves they do not wait that long again."""
    stopped(queue, children, lambda queue: queue.add("held", "x"), 2)
    children_waiting = [children.fork(lambda: timed(action, 40, TIMEOUT / 2)) for _ in range(3)]
    for child in children_waiting:
        first, *later = child.result()
        assert first[0] == -1
        assert first[1] > TIMEOUT * 0.9
        for code, seconds, lines in [first, *later]:
            assert code == -1
            assert len(lines) == 1
            assert f"lock not had within {TIMEOUT:g} s" in lines[0]
            assert seconds < HANG / 2
        assert min(seconds for _, seconds, _ in later) < TIMEOUT / 2, "each of them waited anew"


def test_what_needs_no_lock_does_not_wait(queue: Queue, children: Children) -> None:
    """The size, and a fetch that finds nothing, are answered at once."""
    assert queue.fetch() is not None
    assert queue.fetch() is not None
    stopped(queue, children, lambda queue: queue.add("held", "x"), 1)
    report = timed(lambda: (mqueue_kemi.mq_size("q"), mqueue_kemi.mq_fetch("q")), 5)
    assert [(result, lines) for result, _, lines in report] == [((-1, -2), [])] * 5
    assert min(seconds for _, seconds, _ in report) < TIMEOUT / 2


@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_all_goes_on_when_it_does(queue: Queue, children: Children, moment: int) -> None:
    """After SIGCONT its item is there, everybody works again, and nobody took it for dead."""
    holder = stopped(queue, children, lambda queue: queue.add("held", "x"), moment)
    other = children.fork(lambda: timed(lambda: mqueue_kemi.mq_add("q", "k", "v"), 1))
    assert other.result()[0][0] == -1
    holder.send(signal.SIGCONT)
    assert holder.result() == ADDED
    assert children.fork(lambda: mqueue_kemi.mq_add("q", "after", "")).result() == 1
    assert [key for key, _ in items(queue)] == ["a", "b", "held", "after"]
    assert queue.stats().recovered == 0


def test_one_that_waited_in_vain_waits_again_after_it_went_on(queue: Queue, children: Children) -> None:
    """The short patience ends with its cause: a holder that is only slow is waited for again."""
    holder = stopped(queue, children, lambda queue: queue.add("held", "x"), 1)
    assert [code for code, _, _ in timed(lambda: mqueue_kemi.mq_add("q", "k", "v"), 2)] == [-1, -1]
    holder.send(signal.SIGCONT)
    assert holder.result() == ADDED
    slow = stopped(queue, children, lambda queue: queue.add("slow", "x"), 1)

    queue.handle.mutex.timeout = HANG / 6

    def wake() -> None:
        time.sleep(HANG / 60)  # longer than the short patience, a twentieth, and far from the whole
        slow.send(signal.SIGCONT)

    waker = children.fork(wake)
    assert mqueue_kemi.mq_add("q", "k", "v") == 1
    waker.result()
    assert slow.result() == ADDED


def test_a_stopped_one_is_killed(queue: Queue, children: Children) -> None:
    """Kill -9 reaches a stopped process too: the next one repairs and works, without a wait."""
    holder = stopped(queue, children, lambda queue: queue.add("held", "x"), 2)
    holder.send(signal.SIGKILL)
    assert holder.killed_by() == signal.SIGKILL
    ((code, _, lines),) = timed(lambda: mqueue_kemi.mq_add("q", "k", "v"), 1)
    assert (code, lines) == (1, [])
    assert queue.stats().recovered == 1


def test_a_stopped_repair_is_waited_for_like_any_holder(queue: Queue, children: Children) -> None:
    """One dies with the lock, the one that repairs is stopped: the others get their error in time, and go on after."""
    holder = stopped(queue, children, lambda queue: queue.add("held", "x"), 3)
    holder.send(signal.SIGKILL)
    holder.wait()
    repairer = stopped(queue, children, lambda queue: len(queue.peek(9)), 2)
    ((code, seconds, _),) = timed(lambda: mqueue_kemi.mq_add("q", "k", "v"), 1)
    assert code == -1
    assert seconds < HANG / 2
    repairer.send(signal.SIGCONT)
    assert repairer.result() == 2
    assert mqueue_kemi.mq_add("q", "k", "v") == 1
    assert [key for key, _ in items(queue)] == ["a", "b", "k"]
