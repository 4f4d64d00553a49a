"""What the lock says to the kernel: whatever it is, Python's repair and refusals come of it, and nothing is lost."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import threading
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Callable

import pytest

from kemi.errors import LockTimeout, Reentered, SegmentError
from kemi.queue.format import layout
from kemi.queue.format.item import Item
from kemi.queue.format.layout import MUTEX_AT, PENDING, W_COMMIT, W_FLAGS, W_MUTEX
from kemi.queue.kernel import choice
from kemi.queue.lock.mutex import trylock, unlock
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from tests.conftest import HANG
from tests.unit.children import fork

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=[0, 1, 2], ids=["plain", "keep the oldest", "keep the newest"])
def queue(request: pytest.FixtureRequest, instance: str) -> Iterator[Queue]:
    """Give a queue with two items that waits for its lock for a moment only."""
    made = Queue.create(instance, "q", window=1 << 20, addmode=request.param, lock_timeout=0.2)
    assert made.add("a", "1") is made.add("b", "2") is ADDED
    yield made
    made.remove()


def dies(act: Callable[[], object]) -> None:
    """Do something in a process that is killed then."""

    def child() -> None:
        act()
        os.kill(os.getpid(), signal.SIGKILL)

    _, status = os.waitpid(fork(child), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


CALLS: dict[str, Callable[[Queue], object]] = {
    "add": lambda queue: queue.add("k", "v"),
    "pop": lambda queue: queue.pop(),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))


@each_call
def test_the_holder_died(queue: Queue, call: Callable[[Queue], object]) -> None:
    """EOWNERDEAD: it is recovered once, and the call does its work."""
    dies(queue._mutex.take)
    before = queue.held()
    found = call(queue)
    assert found is ADDED if call is CALLS["add"] else found is not None
    assert queue.held() == before + (1 if call is CALLS["add"] else -1)
    assert queue.stats().recovered == 1
    assert queue._u64[W_MUTEX] == 0
    assert not queue._u64[W_FLAGS] & PENDING
    assert choice.lib.calls()[0] > 0
    assert queue.add("c", "3") is ADDED


@each_call
def test_the_holder_died_in_the_middle(queue: Queue, call: Callable[[Queue], object]) -> None:
    """What it had committed to the journal is done first."""

    def half() -> None:
        queue._mutex.take()
        queue._u64[W_FLAGS] |= PENDING
        pairs = layout.W_REFUSED, 77
        queue._u64[layout.JOURNAL_AT >> 3], queue._u64[(layout.JOURNAL_AT >> 3) + 1] = pairs
        queue._u64[W_COMMIT] = 1

    dies(half)
    call(queue)
    assert queue.stats().refused == 77
    assert queue.stats().recovered == 1


@each_call
def test_it_cannot_be_repaired(queue: Queue, call: Callable[[Queue], object]) -> None:
    """Each call says so, as without the kernel, and works again when it can."""

    def damage() -> None:
        queue._mutex.take()
        queue._u64[W_FLAGS] |= PENDING
        queue._u64[W_COMMIT] = 10_000

    dies(damage)
    for _ in range(3):
        with pytest.raises(SegmentError, match="10000 stores"):
            call(queue)
    queue._u64[W_COMMIT] = 0
    assert call(queue)


@each_call
def test_another_process_has_it(queue: Queue, call: Callable[[Queue], object]) -> None:
    """EBUSY: waited for as long as was said."""
    ready, go = os.pipe(), os.pipe()

    def hold() -> None:
        queue._mutex.take()
        os.write(ready[1], b".")
        os.read(go[0], 1)
        unlock(queue._mutex.ref)

    pid = fork(hold)
    os.read(ready[0], 1)
    with pytest.raises(LockTimeout):
        call(queue)
    os.write(go[1], b".")
    os.waitpid(pid, 0)
    assert call(queue)
    for end in (*ready, *go):
        os.close(end)


@each_call
def test_this_thread_has_it(queue: Queue, call: Callable[[Queue], object]) -> None:
    """EDEADLK, as in a signal handler."""
    seen: list[object] = []

    def inside() -> None:
        with pytest.raises(Reentered):
            call(queue)
        seen.append(queue._mutex.is_mine())

    queue.handle.work(inside)
    assert seen == [True]
    assert call(queue)


@each_call
def test_a_lost_mutex_is_replaced(queue: Queue, call: Callable[[Queue], object]) -> None:
    """ENOTRECOVERABLE: the next mutex of the header is used, by both kernels."""
    dies(queue._mutex.take)
    assert trylock(queue._mutex.ref) == errno.EOWNERDEAD
    unlock(queue._mutex.ref)  # not made consistent
    assert call(queue)
    assert queue._u64[W_MUTEX] == 1
    before = choice.lib.calls()
    assert call(queue)
    assert choice.lib.calls()[0] == before[0] + 1


def test_a_number_that_is_no_mutex(queue: Queue) -> None:
    """Wild: the kernel leaves it to Python, which goes on with the one that it knows."""
    queue._u64[W_MUTEX] = 1 << 40
    before = choice.lib.calls()
    assert queue.add("k", "v")
    assert choice.lib.calls()[1] == before[1] + 1
    queue._u64[W_MUTEX] = 0


def test_a_mutex_of_another_kind_is_not_touched(queue: Queue) -> None:
    """The C library would abort the process for some."""
    kind = ctypes.c_uint32.from_buffer(queue._bytes, MUTEX_AT + 16)
    right = kind.value
    kind.value = 0x7777
    try:
        assert _left_to_python(queue)
    finally:
        kind.value = right


def _left_to_python(queue: Queue) -> bool:
    """Does the kernel leave an add to Python? Which is not to be made here."""
    seen = []
    python = choice._pythons["add"]
    choice.lib.install({"add": lambda *arguments: seen.append(arguments)})
    try:
        queue.add("k", "v")
    finally:
        choice.lib.install({"add": python})
    return bool(seen)


def struck(queue: Queue, call: Callable[[Queue], object], at: int) -> None:
    """Call it in this process, which is killed at store number `at` of the kernel."""
    left = iter(range(at - 1))

    def strike() -> bool:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    choice.lib.set_hook(strike)
    call(queue)


@pytest.mark.skipif(not hasattr(choice.lib, "set_hook"), reason="MQUEUE_KEMI_KERNEL=crash-points runs this")
@each_call
def test_killed_at_each_step_after_a_death(queue: Queue, call: Callable[[Queue], object]) -> None:
    """Who finds the holder dead is killed too, at each store of its own; the third one repairs."""
    items = [(item.key, item.value) for item in queue.undone()]
    for at in count(1):
        dies(queue._mutex.take)
        _, status = os.waitpid(fork(partial(struck, queue, call, at)), 0)
        queue.handle.wait_until_unlocked()
        recovered = queue.stats().recovered
        assert not queue._u64[W_FLAGS] & PENDING
        assert recovered >= 1
        found = [(item.key, item.value) for item in queue.undone()]
        assert len(found) - len(items) in (0, 1, -1)
        if os.WIFEXITED(status):
            assert at > 2
            return
        while queue.pop():
            pass
        for key, value in items:
            queue.add(key, value)


THREADS = ["main", *(f"thread {number}" for number in range(3))]


def test_threads_and_signals(queue: Queue) -> None:
    """Threads beside each other, and a handler that uses the queue whenever it comes: nothing lost, nothing twice."""
    queue._mutex.timeout = HANG  # whoever has the lock may be stopped by the machine
    taken: list[str] = []
    by_handler: list[str] = []
    numbers = count()

    def handler(_number: int, _frame: object) -> None:
        name = f"signal {next(numbers)}"  # its own, also where the next signal comes in here
        with contextlib.suppress(Reentered):
            assert queue.add(name, "v")
            by_handler.append(name)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        threads = [threading.Thread(target=adds_and_pops, args=(queue, name, taken)) for name in THREADS[1:]]
        for thread in threads:
            thread.start()
        adds_and_pops(queue, THREADS[0], taken)
        for thread in threads:
            thread.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    while (record := queue.pop()) is not None:
        taken.append(Item(record).key)
    expected = ["a", "b", *(f"{name} {number}" for name in THREADS for number in range(400)), *by_handler]
    assert sorted(taken) == sorted(expected)


def adds_and_pops(queue: Queue, name: str, taken: list[str]) -> None:
    for number in range(400):
        assert queue.add(f"{name} {number}", "v")
        if (record := queue.pop()) is not None:
            taken.append(Item(record).key)
