"""fork beside threads, and the end of an interpreter: no deadlock, no noise, no helper process."""

from __future__ import annotations

import multiprocessing.resource_tracker
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Callable

import pytest

from kemi.errors import LockTimeout
from kemi.queue.format import layout
from kemi.queue.lock.mutex import unlock
from kemi.queue.log.core import ADDED
from kemi.queue.shm import trust
from kemi.queue.sync.openfile import OpenFile
from tests.asleep import asleep
from tests.conftest import HANG
from tests.processes.moments import Moments, watch
from tests.processes.serve import items
from tests.support.clients import attach

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kemi.queue.queue import Queue
    from tests.processes.children import Child, Children
    from tests.processes.serve import Serve

# Python 3.12 and newer warn of what is done here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

LEAVES = ["end", "closed", "twice", "thread", "in use", "exit", "forked"]


class Holder:
    """A thread that holds something until it is told to let go."""

    def __init__(self, take: Callable[[], object], give: Callable[[], object]) -> None:
        self._has, self._enough = threading.Event(), threading.Event()

        def hold() -> None:
            take()
            self._has.set()
            self._enough.wait(3 * HANG)
            give()

        self._thread = threading.Thread(target=hold)
        self._thread.start()
        assert self._has.wait(HANG)

    def let_go(self) -> None:
        self._enough.set()
        self._thread.join()


@pytest.fixture
def held(serve: Serve) -> Iterator[tuple[Queue, Holder]]:
    """Return a queue, and the thread that holds its lock."""
    queue = serve("name=q", lock_timeout=str(HANG))
    holder = Holder(queue._mutex.take, lambda: unlock(queue._mutex.ref))
    yield queue, holder
    holder.let_go()


def until_it_waits(child: Child) -> None:
    """Return when a process sleeps in the kernel for a lock: it does nothing else there that sleeps."""
    deadline = time.monotonic() + HANG
    while not asleep(child.pid):
        assert child.status is None, "it ended without the lock"
        assert time.monotonic() < deadline
        time.sleep(0.001)


def items_without_lock(queue: Queue) -> int:
    """Return how many items were committed."""
    words = queue.segment.words
    return int(words[layout.W_ADDED] - words[layout.W_POPPED])


def test_a_fork_beside_a_thread_that_holds_the_lock(held: tuple[Queue, Holder], children: Children) -> None:
    """The child waits for the lock as any process does, and has it when the thread lets go."""
    queue, holder = held

    child = children.fork(lambda: queue.add("child", "v"))
    until_it_waits(child)
    assert items_without_lock(queue) == 0
    holder.let_go()
    assert child.result() == ADDED
    assert items(queue) == [("child", "v")]
    assert queue.stats().recovered == 0


def test_a_child_that_ends_takes_no_lock_with_it(held: tuple[Queue, Holder], children: Children) -> None:
    """The lock is the thread's, whatever becomes of a child that was forked meanwhile."""
    queue, holder = held
    children.fork(lambda: None).result()
    killed = children.fork(lambda: time.sleep(60))
    killed.send(signal.SIGKILL)
    killed.wait()
    waiting = children.fork(lambda: queue.add("k", "v"))
    until_it_waits(waiting)
    assert items_without_lock(queue) == 0
    holder.let_go()
    assert waiting.result() == ADDED
    assert queue.stats().recovered == 0


def test_a_fork_beside_a_thread_that_attaches(
    serve: Serve, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child can attach too: no lock of the parent's threads is shut in it for ever."""
    serve("name=q")
    parent, inside, enough = os.getpid(), threading.Event(), threading.Event()
    opened = trust.open_file

    def open_slowly(path: str, flags: int) -> OpenFile:
        if os.getpid() == parent:
            inside.set()
            enough.wait(3 * HANG)
        return opened(path, flags)

    monkeypatch.setattr(trust, "open_file", open_slowly)
    thread = threading.Thread(target=lambda: attach("q", serve.instance).close())
    thread.start()
    try:
        assert inside.wait(HANG)
        child = children.fork(lambda: attach("q", serve.instance).add("k", "v"))
        assert child.result() == ADDED
    finally:
        enough.set()
        thread.join()


def test_forks_beside_busy_threads(serve: Serve, children: Children, stress: bool) -> None:
    """Children forked at any moment of other threads' adds and fetches work at once."""
    queue = serve("name=q", lock_timeout=str(HANG))
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            queue.add("thread", "v" * 3000)
            queue.fetch()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(500 if stress else 25):
            started = [children.fork(lambda: queue.add("child", "v")) for _ in range(2)]
            assert [child.result() for child in started] == [ADDED] * 2
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert queue.stats().recovered == 0


def test_a_call_in_a_signal_handler_leaves_the_lock_alone(serve: Serve, children: Children) -> None:
    """A handler that runs in the middle of an add fails to add, and the add still has its lock afterwards."""
    queue = serve("name=q", lock_timeout="0.3")

    def act() -> list[str]:
        seen: list[str] = []

        def handler(*_: object) -> None:
            try:
                queue.add("handler", "v")
                seen.append("added")
            except LockTimeout:
                seen.append("refused")
            seen.append("held" if queue._mutex.is_mine() else "lost")

        def interrupt() -> None:
            signal.raise_signal(signal.SIGUSR1)

        signal.signal(signal.SIGUSR1, handler)
        watch(queue, Moments(1, interrupt))
        queue.add("outer", "v")
        return seen

    assert children.fork(act).result() == ["refused", "held"]
    assert items(queue) == [("outer", "v")]


def test_close_beside_a_thread_that_waits_for_the_lock(serve: Serve, children: Children) -> None:
    """A queue is closed while another thread is in the middle of an add: afterwards nobody has its lock."""
    queue = serve("name=q", lock_timeout=str(HANG))

    def act() -> list[str]:
        outcomes: list[str] = []
        mine = attach("q", serve.instance, lock_timeout=10)
        done = threading.Event()

        def add() -> None:
            try:
                outcomes.append(str(mine.add("k", "v")))
            except (ValueError, AttributeError) as error:
                outcomes.append(type(error).__name__)
            done.wait(HANG)  # the thread lives on: what it holds stays held

        holder = Holder(queue._mutex.take, lambda: unlock(queue._mutex.ref))
        closing = threading.Thread(target=mine.close)
        closing.start()
        time.sleep(0.05)
        adding = threading.Thread(target=add)
        adding.start()
        time.sleep(0.05)
        holder.let_go()
        closing.join()
        try:
            other = attach("q", serve.instance, lock_timeout=10)
            outcomes.append(str(other.add("other", "v")))
        except LockTimeout:
            outcomes.append("lock lost")
        finally:
            done.set()
            adding.join()
        return outcomes

    for _ in range(5):
        outcomes = children.fork(act).result()
        assert str(ADDED) in outcomes
        assert "lock lost" not in outcomes
        assert "AttributeError" not in outcomes


@pytest.mark.parametrize("how", LEAVES)
def test_an_interpreter_ends_without_noise(serve: Serve, children: Children, how: str) -> None:
    """Queues open or closed, in use or not: nothing on stderr, and never a resource tracker beside it."""
    queue = serve("name=q")
    options = ["-bb", "-X", "dev", "-W", "error"]
    program = children.program("tests.processes.leave", how, serve.instance, "q", options=options)
    assert program.output() == (0, "", "")
    assert queue.add("k", "v") == ADDED


def test_the_server_has_no_helper_process(serve: Serve, children: Children) -> None:
    """Neither who makes queues nor who is forked from it starts a resource tracker."""
    queue = serve("name=q")

    def act() -> object:
        queue.add("k", "v" * 300_000)
        queue.fetch()
        attach("q", serve.instance).close()
        tracker: Any = multiprocessing.resource_tracker
        return tracker._resource_tracker._pid, open(f"/proc/self/task/{os.getpid()}/children").read()

    assert children.fork(act).result() == [None, ""]
    tracker: Any = multiprocessing.resource_tracker
    assert tracker._resource_tracker._pid is None
