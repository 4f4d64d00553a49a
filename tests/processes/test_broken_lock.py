"""A lock whose repair fails: an error as long as it does, for everybody, and work for everybody when it succeeds."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Callable

import pytest

from kemi.queue.format.layout import W_COMMIT
from kemi.queue.log.core import ADDED
from mqueue_kemi import SegmentError
from tests.processes.moments import die
from tests.processes.serve import items

if TYPE_CHECKING:
    from kemi.queue.queue import Queue
    from tests.processes.children import Child, Children
    from tests.processes.serve import Serve

ACTIONS: dict[str, Callable[[Queue], object]] = {
    "add": lambda queue: queue.add("k", "v"),
    "fetch": lambda queue: queue.pop(),
    "wait": lambda queue: queue.fetch(0.1),
    "peek": lambda queue: queue.peek(),
    "stats": lambda queue: queue.stats(),
}


@pytest.fixture
def queue(serve: Serve) -> Queue:
    """Return a queue with two items."""
    made = serve("name=q", lock_timeout="0.5")
    made.add("a", "1")
    made.add("b", "2")
    return made


def kill_a_holder(queue: Queue, children: Children) -> None:
    """Let a process die with the lock held."""

    def act() -> None:
        queue._mutex.take()
        die()

    assert children.fork(act).killed_by() == signal.SIGKILL


def refused(queue: Queue, action: Callable[[Queue], object], times: int = 2) -> list[str]:
    """Return what the action raised, each time."""
    texts = []
    for _ in range(times):
        try:
            texts.append(f"no error but {action(queue)!r}")
        except SegmentError as error:
            texts.append(str(error))
    return texts


class Late:
    """A process that has known the queue from the beginning, and works with it when it is told to."""

    def __init__(self, queue: Queue, children: Children, action: Callable[[Queue], object]) -> None:
        gate, self._open = os.pipe()

        def act() -> object:
            os.read(gate, 1)
            return action(queue)

        self._child: Child = children.fork(act)
        os.close(gate)

    def __call__(self) -> object:
        """Let it work, and return its result."""
        os.write(self._open, b"!")
        os.close(self._open)
        return self._child.result()


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
def test_a_damaged_queue_is_an_error_and_never_a_crash(
    queue: Queue, children: Children, action: Callable[[Queue], object]
) -> None:
    """Whoever comes, and however often, gets an error that says what is wrong, also after a failed repair."""
    queue.segment.words[W_COMMIT] = 49  # more than fit
    kill_a_holder(queue, children)
    try:
        for _ in range(3):
            for text in children.fork(lambda: refused(queue, action)).result():
                assert "is corrupted: " in text
    finally:
        queue.segment.words[W_COMMIT] = 0


def test_when_the_repair_succeeds_everybody_goes_on(queue: Queue, children: Children) -> None:
    """One process could not repair, the next one can: those that come later, new or old, just work."""
    late = [Late(queue, children, lambda queue: queue.add("late", "")) for _ in range(3)]
    queue.segment.words[W_COMMIT] = 49  # more than fit
    kill_a_holder(queue, children)
    children.fork(lambda: refused(queue, lambda queue: queue.add("k", "v"), 1)).result()
    queue.segment.words[W_COMMIT] = 0
    assert [start() for start in late] == [ADDED] * 3
    assert children.fork(lambda: queue.add("new", "")).result() == ADDED
    assert queue.add("own", "") == ADDED
    assert [key for key, _ in items(queue)] == ["a", "b", "late", "late", "late", "new", "own"]


def test_more_failed_repairs_than_locks(queue: Queue, children: Children) -> None:
    """A repair may fail any number of times: only one that succeeds takes a lock of the header into use."""
    queue.segment.words[W_COMMIT] = 49  # more than fit
    kill_a_holder(queue, children)
    try:
        for _ in range(40):
            children.fork(lambda: refused(queue, lambda queue: queue.add("k", "v"), 1)).result()
    finally:
        queue.segment.words[W_COMMIT] = 0
    assert children.fork(lambda: queue.add("new", "")).result() == ADDED
    assert queue.add("own", "") == ADDED


def test_the_mend_after_many_killed_repairs(queue: Queue, children: Children) -> None:
    """Holders that are killed one after the other are repaired one after the other, without end."""
    for number in range(40):
        kill_a_holder(queue, children)
        assert queue.stats().recovered == number + 1
    assert queue.add("own", "") == ADDED
