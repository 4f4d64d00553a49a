"""A thread beside the main one, where only that may run Python code with a lock held: what it has, and what not."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Callable

import pytest

import mqueue_kemi
from kemi.errors import ClientClosed, ItemError, LockTimeout, MqueueError, WrongThread
from kemi.instance import queues
from kemi.owner import this_process
from kemi.queue import queue as queue_module
from kemi.queue.catalog.registry import Registry
from kemi.queue.format import layout
from kemi.queue.format.item import Item, key_of
from kemi.queue.format.layout import PENDING, W_ADDED, W_CHUNKS, W_FLAGS, W_PRESENT, W_REFUSED, W_WAITERS
from kemi.queue.format.outcome import AddResult
from kemi.queue.kernel import choice
from kemi.queue.lock import onlymain
from kemi.queue.lock.mutex import unlock
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from tests.conftest import HANG
from tests.unit.children import fork

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = HANG


@pytest.fixture(autouse=True)
def _only_main() -> Iterator[None]:
    """Refuse other threads, as a server does that keeps the interpreter."""
    onlymain.refuse("ask somebody else")
    queue_module.check_threads()
    yield
    onlymain.allow()
    choice.lib.keep_to_thread(0)
    choice.lib.install(choice._pythons)


@pytest.fixture(params=[0, 1, 2], ids=["plain", "keep the oldest", "keep the newest"])
def queue(request: pytest.FixtureRequest, instance: str) -> Iterator[Queue]:
    made = Queue.create(instance, "q", window=64 << 20, addmode=request.param, lock_timeout=PATIENCE)
    yield made
    made.remove()


def beside(call: Callable[[], Any]) -> Any:
    """What a call returns in another thread; what it raises is raised here."""
    found: list[Any] = []

    def work() -> None:
        try:
            found.append((call(), None))
        except Exception as error:  # noqa: BLE001 - it is raised again
            found.append((None, error))

    thread = threading.Thread(target=work, name="kafka")
    thread.start()
    thread.join(PATIENCE)
    ((result, error),) = found
    if error is not None:
        raise error
    return result


def sound(queue: Queue) -> bool:
    """Is the lock free, nothing pending, and nothing wrong?"""
    return not queue.handle.is_locked() and not queue._u64[W_FLAGS] & PENDING and queue.handle.verify() == []


# --- what it has ------------------------------------------------------------------------------------------------------


def test_add_and_fetch(queue: Queue) -> None:
    def work() -> list[object]:
        results: list[object] = [queue.add("a", "1"), queue.add(b"b", "2"), len(queue)]
        record = queue.pop()
        item = queue.fetch(PATIENCE)
        assert record is not None
        assert item is not None
        return [*results, key_of(record), item.key, queue.pop(), queue.fetch(0.05), len(queue)]

    assert beside(work) == [ADDED, ADDED, 2, "a", "b", None, None, 0]
    assert sound(queue)


def test_batches(queue: Queue) -> None:
    def work() -> list[object]:
        outcomes = queue.add_many([(f"k{number}", "v") for number in range(300)])
        items = queue.fetch_many(200)
        more = queue.fetch_many(200, PATIENCE)
        return [set(outcomes), len(items), len(more), queue.fetch_many(1, 0.05)]

    assert beside(work) == [{ADDED}, 200, 100, []]
    assert sound(queue)


def test_reserve_and_done(queue: Queue) -> None:
    for number in range(40):
        queue.add(f"k{number}", "v")
    with queue.reserve_many(20) as batch:
        assert len(batch) == 20

    def work() -> list[object]:
        with queue.reserve(None) as first:
            found: list[object] = [first.key]
        with queue.reserve_many(9) as batch:
            found.append(len(batch))
        with queue.reserve() as item:
            found.append(queue.fetch(None).key)  # beside what is in flight
        found.append(len(queue.fetch_many(20)))
        with queue.reserve() as item:
            found.append(item)
        with queue.reserve(0.05) as item:
            found.append(item)
        return found

    assert beside(work) == ["k20", 9, "k31", 8, None, None]
    assert queue.held() == 0
    assert sound(queue)


def test_reserves_over_the_ends_of_chunks(queue: Queue) -> None:
    """Beside fetches, with some of it in flight all the time; nothing is stuck at the end of a chunk."""

    def work() -> int:
        count = 0
        for number in range(3000):
            assert queue.add(f"{number}", "v" * 300) is ADDED
        while len(queue):
            with queue.reserve_many(7) as batch:
                count += len(batch)
                for _ in range(2):
                    count += queue.pop() is not None
                with queue.reserve() as item:
                    count += item is not None
        return count

    assert beside(work) == 3000
    assert queue.held() == 0
    assert sound(queue)


def test_a_wait_is_ended_by_the_main_thread(queue: Queue) -> None:
    """Asleep it has neither lock nor GIL."""

    def add_soon() -> None:
        while not queue._u64[W_PRESENT]:
            time.sleep(0.001)
        queue.add("k", "v")

    for wait in (lambda: queue.fetch(None).key, lambda: queue.fetch_many(5, PATIENCE)[0].key):
        started = Started(wait)
        add_soon()
        assert started.result() == "k"
    assert (queue._u64[W_WAITERS], queue._u64[W_PRESENT], queue._u64[W_FLAGS]) == (0, 0, 0)


def test_a_reservation_waits(queue: Queue) -> None:
    queue.add("first", "v")
    with queue.reserve():
        pass

    def work() -> str:
        with queue.reserve_many(1, PATIENCE) as batch:
            return batch[0].key

    started = Started(work)
    while not queue._u64[W_PRESENT]:
        time.sleep(0.001)
    queue.add("k", "v")
    assert started.result() == "k"
    assert queue.held() == 0
    assert (queue._u64[W_WAITERS], queue._u64[W_PRESENT], queue._u64[W_FLAGS]) == (0, 0, 0)


def test_what_is_refused_is_a_result(queue: Queue) -> None:
    """A closed queue, a full one: as the main thread hears it, and counted."""
    if not queue.addmode:
        queue.set_limits(0, 100)
        assert beside(lambda: [queue.add("k", "v"), queue.add("k", "v" * 100)]) == [ADDED, AddResult.FULL]
        assert beside(lambda: queue.add_many([("k", "v"), ("k", "v" * 100)])) == [ADDED, AddResult.FULL]
        assert queue._u64[W_REFUSED + 2] == 2
    queue._u64[W_FLAGS] |= layout.ADD_CLOSED
    assert beside(lambda: [queue.add("k", "v"), *queue.add_many([("k", "v")])]) == [AddResult.CLOSED] * 2
    assert queue._u64[W_REFUSED + 3] == 2
    queue._u64[W_FLAGS] &= ~layout.ADD_CLOSED
    assert sound(queue)


def test_a_long_drain_keeps_its_chunks(queue: Queue) -> None:
    """Memory is given back by the next call of somebody else."""
    for number in range(5000):
        queue.add(f"{number}", "v" * 2000)
    used = queue._u64[W_CHUNKS]

    def drain() -> int:
        count = 0
        while queue.pop() is not None:
            count += 1
        return count

    assert beside(drain) == 5000
    assert sound(queue)
    assert queue._u64[layout.W_FREE_CHUNKS] >= used - 2
    for _ in range(10):
        for number in range(300):  # over the end of a chunk
            queue.add(f"{number}", "v" * 2000)
        drain()
    assert queue._u64[layout.W_FREE_CHUNKS] <= queue._u64[layout.W_MOST_FREE]
    assert sound(queue)


def test_it_grows(queue: Queue) -> None:
    """100,000 items in and out, over many chunks; memory comes from the system."""
    chunks = queue._u64[W_CHUNKS]

    def work() -> int:
        for number in range(50000):
            assert queue.add(f"{number}", "v" * 40) is ADDED
        outcomes = queue.add_many([(f"{number}", "v" * 40) for number in range(50000, 100000)])
        assert set(outcomes) == {ADDED}
        assert len(queue) == 100000
        assert [queue.pop() is not None for _ in range(50000)] == [True] * 50000
        return len(queue.fetch_many(100000))

    assert beside(work) == 50000
    assert sound(queue)
    assert queue._u64[layout.W_FREE_CHUNKS] + queue._u64[W_CHUNKS] > chunks + 20


def fill(queue: Queue) -> list[AddResult]:
    """Add until something is refused, and once more; what became of the last ones."""
    outcomes = [ADDED]
    while outcomes[-1] is ADDED:
        outcomes.append(queue.add(f"{len(outcomes)}", "v" * 10000))
    return [outcomes[-1], *queue.add_many([("k", "v" * 10000)])]


def test_there_is_no_memory(instance: str) -> None:
    """Of the window, of the quota: a result, which is counted; a fetch makes room."""
    memory = Registry.create(instance, this_process(), 6 << 18)
    for window, registry, why in ((1 << 20, None, ""), (64 << 20, memory, "max_memory is reached")):
        queue = Queue.create(instance, f"q{window}", window=window, registry=registry)
        assert beside(partial(fill, queue)) == [AddResult.NO_MEMORY] * 2
        assert queue._u64[W_REFUSED] == 2
        assert why in queue.reason(AddResult.NO_MEMORY)
        assert sound(queue)
        if registry is not None:
            assert registry.memory() == queue.handle.held_bytes()
        while queue.pop() is not None:
            pass
        assert beside(partial(queue.add, "k", "v" * 10000)) is ADDED
        queue.remove()
    memory.segment.unlink()


def test_more_keys_than_buckets(instance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains grow, and the main thread's next calls divide them; the same when it is emptied."""
    from kemi.queue.catalog import header

    monkeypatch.setattr(header, "_BUCKET_BYTES", layout.CHUNK // 16)
    queue = Queue.create(instance, "q", window=16 << 20, addmode=2)
    buckets = queue._u64[layout.W_BUCKETS]
    many = int(buckets) * 3 // 2
    beside(lambda: [queue.add(f"{number}", "v") for number in range(many)])
    assert queue._u64[layout.W_BUCKETS] == buckets
    assert sound(queue)
    for number in range(many):
        assert queue.add(f"main {number}", "v")
    assert queue._u64[layout.W_BUCKETS] > buckets
    assert beside(lambda: len(queue.fetch_many(2 * many))) == 2 * many
    assert sound(queue)
    queue.remove()


def test_the_functions_of_a_script(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(queues, "q", queue)

    def work() -> list[object]:
        found: list[object] = [mqueue_kemi.mq_add("q", "k", "v"), mqueue_kemi.mq_size("q"), mqueue_kemi.mq_fetch("q")]
        return [*found, mqueue_kemi.mqk_get("q"), mqueue_kemi.mqv_get("q"), mqueue_kemi.mq_fetch("q", 0.01)]

    assert beside(work) == [1, 1, 1, "k", "v", -2]


# --- what is Python's -------------------------------------------------------------------------------------------------


def given_back(queue: Queue) -> None:
    queue.reserve(None).take().give_back(after=60)


def aging(queue: Queue) -> None:
    queue.set_max_age(60)


def moving(queue: Queue) -> None:
    queue._u64[W_FLAGS] |= layout.FETCH_MOVED


REFUSED: dict[str, tuple[Callable[[Queue], object], Callable[[Queue], object], str]] = {
    "a long text": (len, lambda queue: queue.add("k", "v" * (1 << 20)), "an item of 10[0-9]* characters"),
    "no UTF-8": (len, lambda queue: queue.add("k", "\udc80"), "no UTF-8"),
    "a long text in a batch": (len, lambda queue: queue.add_many([("k", "v" * (1 << 20))]), "an item of 10[0-9]* char"),
    "a very long text in a batch": (len, lambda queue: queue.add_many([("k", "v" * (2 << 20))]), "longer than a chunk"),
    "a fetch of what has an age": (aging, lambda queue: queue.pop(), "has a maxage"),
    "a wait for what has an age": (aging, lambda queue: queue.fetch(0.1), "has a maxage"),
    "a batch of what has an age": (aging, lambda queue: queue.fetch_many(3), "has a maxage"),
    "a reservation of what has an age": (aging, lambda queue: queue.reserve().take(), "has a maxage"),
    "a fetch beside what was given back": (given_back, lambda queue: queue.pop(), "were given back"),
    "a reservation beside what was given back": (given_back, lambda queue: queue.reserve().take(), "were given back"),
    "an add to what is moving": (moving, lambda queue: queue.add("k", "v"), "on their way"),
    "a fetch of what is moving": (moving, lambda queue: queue.pop(), "on their way"),
    "a look": (len, lambda queue: queue.peek(), "ask somebody else"),
    "a limit": (len, lambda queue: queue.set_limits(1, 1), "ask somebody else"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_rest_is_refused(queue: Queue, name: str) -> None:
    """With a text that says what it was; nothing has changed, and the lock is free."""
    prepare, call, what = REFUSED[name]
    for number in range(3):
        queue.add(f"{number}", "v")
    prepare(queue)
    before = bytes(queue._bytes[: layout.MUTEX_AT]), len(queue)
    with pytest.raises(WrongThread, match=f"called in thread 'kafka': .*{what}.*") as raised:
        beside(lambda: call(queue))
    assert str(raised.value).endswith("ask somebody else")
    assert (bytes(queue._bytes[: layout.MUTEX_AT]), len(queue)) == before
    assert not queue.handle.is_locked()
    queue._u64[W_FLAGS] &= ~layout.FETCH_MOVED


def test_what_is_wrong_with_an_item_comes_first(queue: Queue) -> None:
    with pytest.raises(ItemError):
        beside(lambda: queue.add("k", 7))  # type: ignore[arg-type]


def test_a_closed_queue_says_so(instance: str) -> None:
    queue = Queue.create(instance, "closed", window=1 << 20)
    queue.close()
    for call in (lambda: queue.add("k", "v"), queue.pop, lambda: queue.fetch(0.1)):
        with pytest.raises(ClientClosed):
            beside(call)
    Queue.attach(instance, "closed").remove()


def test_what_cannot_be_given_back_is_kept_in_mind(queue: Queue) -> None:
    """The main thread's next call tells it."""
    for key in "abcd":
        queue.add(key, "v")
    with queue.reserve_many(2):
        pass

    assert beside(lambda: queue.reserve(None).take().give_back())
    assert queue.held() == 2
    assert sound(queue)
    assert [item.key for item in (queue.fetch(), queue.fetch()) if item] == ["c", "d"]
    assert sound(queue)


# --- the lock ---------------------------------------------------------------------------------------------------------


class Holder:
    """Another process that has the lock."""

    def __init__(self, queue: Queue) -> None:
        self._ready, self._go = os.pipe(), os.pipe()

        def hold() -> None:
            queue._mutex.take()
            os.write(self._ready[1], b".")
            os.read(self._go[0], 1)
            unlock(queue._mutex.ref)

        self.pid = fork(hold)
        os.read(self._ready[0], 1)

    def end(self, *, kill: bool = False) -> None:
        """Free it, or be killed with it."""
        if kill:
            os.kill(self.pid, signal.SIGKILL)
        else:
            os.write(self._go[1], b".")
        os.waitpid(self.pid, 0)
        for end in (*self._ready, *self._go):
            os.close(end)


def reserve(queue: Queue) -> str:
    with queue.reserve_many(1) as batch:
        return batch[0].key


CALLS: dict[str, Callable[[Queue], object]] = {
    "add": lambda queue: queue.add("k", "v"),
    "add_many": lambda queue: queue.add_many([("k", "v")])[0],
    "pop": lambda queue: key_of(queue.pop() or b""),
    "fetch": lambda queue: queue.fetch(None).key,
    "fetch_many": lambda queue: queue.fetch_many(1)[0].key,
    "reserve": reserve,
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))


@pytest.fixture
def filled(queue: Queue) -> Queue:
    for key in "ab":
        queue.add(key, "v")
    with queue.reserve():
        pass
    return queue


class Started:
    """A call in a thread, while this one goes on."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.found: list[object] = []

        def work() -> None:
            try:
                self.found.append(call())
            except MqueueError as error:
                self.found.append(error)

        self._thread = threading.Thread(target=work, name="kafka")
        self._thread.start()

    def result(self) -> object:
        self._thread.join(PATIENCE)
        return self.found[0]


@each_call
def test_a_lock_that_another_process_has_is_waited_for(filled: Queue, call: Callable[[Queue], object]) -> None:
    """Without the GIL: this thread gets on meanwhile."""
    holder = Holder(filled)
    started = Started(lambda: call(filled))
    for _ in range(50):  # with the GIL it would wait in vain for `end`
        time.sleep(0.001)
    assert not started.found
    holder.end()
    result = started.result()
    assert result in (ADDED, "b")
    assert sound(filled)


@each_call
def test_a_lock_that_is_not_had_in_time(filled: Queue, call: Callable[[Queue], object]) -> None:
    filled._mutex.timeout = 0.3
    holder = Holder(filled)
    before = bytes(filled._bytes[: layout.MUTEX_AT])
    with pytest.raises(LockTimeout, match=r"lock not had within 0.3 s: its holder is stopped or very slow"):
        beside(lambda: call(filled))
    assert bytes(filled._bytes[: layout.MUTEX_AT]) == before
    holder.end()
    filled._mutex.timeout = PATIENCE
    assert beside(lambda: call(filled)) in (ADDED, "b")


@each_call
def test_who_was_killed_is_mended_by_somebody_else(filled: Queue, call: Callable[[Queue], object]) -> None:
    """It waits until another process has recovered what was broken off."""
    Holder(filled).end(kill=True)
    started = Started(lambda: call(filled))
    while not filled._u64[W_FLAGS] & PENDING:  # it found the holder dead, and left it to others
        time.sleep(0.001)
    pid = fork(filled.handle.wait_until_unlocked)
    os.waitpid(pid, 0)
    assert started.result() in (ADDED, "b")
    assert filled.stats().recovered == 1
    assert sound(filled)


@each_call
def test_nobody_mends_it(filled: Queue, call: Callable[[Queue], object]) -> None:
    filled._mutex.timeout = 0.3
    Holder(filled).end(kill=True)
    added = filled._u64[W_ADDED]
    with pytest.raises(LockTimeout, match=r"killed in a call, and nobody mended that within 0.3 s"):
        beside(lambda: call(filled))
    assert filled._u64[W_ADDED] == added
    assert filled._u64[W_FLAGS] & PENDING
    filled._mutex.timeout = PATIENCE
    assert call(filled) in (ADDED, "b")  # the main thread mends it
    assert sound(filled)
    assert beside(lambda: filled.add("more", "v")) is ADDED


def test_a_queue_that_is_closed_while_its_lock_is_waited_for(instance: str) -> None:
    queue = Queue.create(instance, "closed", window=1 << 20, lock_timeout=PATIENCE)
    other = Queue.attach(instance, "closed")
    holder = Holder(queue)
    started = Started(lambda: queue.add("k", "v"))
    timer = threading.Timer(0.1, holder.end)
    timer.start()
    queue.close()  # waits for the lock, too
    result = started.result()
    timer.join()
    assert result is ADDED or isinstance(result, ClientClosed)
    assert len(other) == (result is ADDED)
    other.remove()


def test_threads_of_one_process(queue: Queue) -> None:
    """Three beside the main one, and processes: each item once."""
    taken: list[str] = []

    def work(name: str) -> None:
        for number in range(500):
            queue.add(f"{name} {number}", "v")
            if (record := queue.pop()) is not None:
                taken.append(Item(record).key)

    names = ["1", "2", "3"]
    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    work("main")
    for thread in threads:
        thread.join()
    while (record := queue.pop()) is not None:
        taken.append(Item(record).key)
    assert sorted(taken) == sorted(f"{name} {number}" for name in [*names, "main"] for number in range(500))
    assert sound(queue)
