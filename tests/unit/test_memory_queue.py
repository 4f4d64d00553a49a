"""`MemoryQueue` is what a real queue is: each test here runs on both. And what it has besides, for tests."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import ClientClosed, ConfigError, ItemError
from kemi.testing import FakeItem, MemoryQueue, item
from mqueue_kemi import AddResult, QueueClient, attach
from tests.conftest import HANG
from tests.processes.serve import Serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Both = tuple[QueueClient, QueueClient]


@pytest.fixture(params=["memory", "real"])
def both(request: pytest.FixtureRequest, _no_segment_is_left: None) -> Iterator[Both]:
    """Give a queue that delivers twice, and its dead letters."""
    if request.param == "memory":
        dead = MemoryQueue("dead")
        yield MemoryQueue("q", max_deliveries=2, dead_letter=dead), dead
        return
    server = Serve()
    try:
        server("name=q;max_deliveries=2;dead_letter=dead", "name=dead")
        with attach("q", server.instance) as queue, attach("dead", server.instance) as letters:
            yield queue, letters
    finally:
        server.stop()


@pytest.fixture
def queue(both: Both) -> QueueClient:
    return both[0]


def keys(queue: QueueClient, **options: Any) -> list[str]:
    return [one.key for one in queue.peek(None, **options)]


def fill(queue: QueueClient, count: int) -> None:
    assert queue.add_many((str(number), "v") for number in range(count)) == [AddResult.ADDED] * count


def test_first_in_first_out(queue: QueueClient) -> None:
    fill(queue, 5)
    assert (len(queue), bool(queue), keys(queue)) == (5, True, list("01234"))
    assert [one.key for one in queue.fetch_many(2)] == ["0", "1"]
    assert queue.fetch(timeout=None).key == "2"
    assert [one.key for one in queue.fetch_many(9)] == ["3", "4"]
    assert (queue.fetch(), queue.fetch_many(3), queue.fetch_many(0), len(queue)) == (None, [], [], 0)


def test_what_goes_in_comes_out(queue: QueueClient) -> None:
    """Any bytes, any text; an item may be added again as it is."""
    pairs: list[tuple[Any, Any]] = [
        ("k", "v"),
        (b"\xff\0", b""),
        ("\udcff", "\ud800"),
        (bytearray(b"a"), memoryview(b"b")),
    ]
    assert all(queue.add(*pair) for pair in pairs)
    got = queue.fetch_many(9)
    assert [(one.key_bytes, one.value_bytes) for one in got][:2] == [(b"k", b"v"), (b"\xff\0", b"")]
    assert (got[2].key, got[2].value) == ("\udcff", "\ud800")
    assert queue.add_many([got[1]]) == [AddResult.ADDED]
    assert queue.fetch(timeout=None) == got[1]
    assert abs(got[0].added - time.time()) < HANG
    assert 0 <= got[0].age < HANG


@pytest.mark.parametrize("pair", [(1, "v"), ("k", None), ("k",), 3])
def test_what_is_no_item(queue: QueueClient, pair: Any) -> None:
    """Nothing of that call is added."""
    with pytest.raises((ItemError, TypeError, ValueError)):
        queue.add_many([("good", "v"), pair])
    assert len(queue) == 0


@pytest.mark.parametrize("timeout", [float("nan"), True, "1"])
def test_one_rule_for_timeouts(queue: QueueClient, timeout: Any) -> None:
    with pytest.raises(ConfigError):
        queue.fetch(timeout)
    fill(queue, 1)
    with pytest.raises(ConfigError), queue.reserve(timeout):
        pass
    assert keys(queue) == ["0"]
    assert queue.fetch(-1) is not None


def test_reserve_and_settle(both: Both) -> None:
    queue, dead = both
    fill(queue, 4)
    with queue.reserve() as first:
        assert first is not None
        assert (first.key, first.deliveries, first.settled, len(queue)) == ("0", 1, False, 3)
        assert keys(queue, reserved=True) == list("0123")
    assert first.settled
    with pytest.raises(ZeroDivisionError), queue.reserve():
        raise ZeroDivisionError
    second = queue.reserve(timeout=None).take()
    assert (second.key, second.deliveries) == ("1", 2)
    assert (second.reject("no"), second.reject("no"), second.done()) == (True, False, False)
    third = queue.reserve(timeout=None).take()
    assert (third.key, third.id != second.id, third.give_back()) == ("2", True, True)
    assert not third.answer("nobody asked")
    again = queue.reserve(timeout=None).take()
    assert (again.key, again.id, again.deliveries) == ("2", third.id, 2)
    assert again.give_back()
    rest = queue.reserve(timeout=None).take()
    assert rest.key == "3"
    assert rest.done()
    assert queue.reserve().take() is None
    assert keys(dead) == ["1", "2"]
    stats = queue.stats()
    assert (stats.size, stats.reserved, stats.added, stats.dead_lettered, stats.max_deliveries) == (0, 0, 4, 2, 2)


def test_a_batch(queue: QueueClient) -> None:
    fill(queue, 5)
    with queue.reserve_many(4) as batch:
        assert [one.key for one in batch] == list("0123")
        assert batch.done(batch[:1]) == 1
        assert batch.give_back(batch[2:3]) == 1
        assert [one.key for one in batch.unsettled] == ["1", "3"]
    assert keys(queue) == ["2", "4"]
    with queue.reserve_many(0) as none:
        assert not none


def test_what_is_delayed(queue: QueueClient) -> None:
    """It is not there until it is due. A sleeper wakes in time."""
    fill(queue, 2)
    assert queue.reserve(timeout=None).take().give_back(after=10 * HANG)
    soon = queue.reserve(timeout=None).take()
    assert (len(queue), queue.stats().due, keys(queue), queue.fetch()) == (0, 1, [], None)
    assert soon.give_back(after=0.2)
    with queue.reserve(timeout=HANG) as one:
        assert one is not None
        assert (one.key, one.deliveries) == ("1", 2)


def forget(queue: QueueClient) -> None:
    queue.reserve(timeout=None).take()
    gc.collect()


def test_forgotten_items_go_back(queue: QueueClient) -> None:
    fill(queue, 1)
    with pytest.warns(ResourceWarning, match="forgotten"):
        forget(queue)
    assert keys(queue) == ["0"]


def test_a_waiting_call_is_woken(queue: QueueClient) -> None:
    for take in (lambda: queue.fetch(HANG), lambda: queue.reserve(HANG).take()):
        found: list[Any] = []
        thread = threading.Thread(target=lambda take=take, found=found: found.append(take()))
        thread.start()
        queue.add("k", "v")
        thread.join(HANG)
        assert found[0].key == "k"
        if hasattr(found[0], "done"):
            found[0].done()


def test_iterations_end_by_stop(queue: QueueClient) -> None:
    fill(queue, 4)
    stop = threading.Event()
    taken: list[str] = []
    for one in queue.consume(stop):
        taken.append(one.key)
        if len(taken) == 2:
            stop.set()
    stop.clear()
    for each in queue.reserve_each(stop):
        with each as reserved:
            taken.append(reserved.key)
            if len(taken) == 4:
                stop.set()
    assert (taken, len(queue)) == (list("0123"), 0)


def test_asyncio(queue: QueueClient) -> None:
    async def work() -> list[str]:
        taken: list[str] = []
        stop = asyncio.Event()
        assert await queue.aadd("0", "v")
        assert all(await queue.aadd_many([("1", "v"), ("2", "v"), ("3", "v"), ("4", "v")]))
        taken.append((await queue.afetch(timeout=None)).key)
        async with queue.areserve() as one:
            assert one is not None
            taken.append(one.key)
        async with queue.areserve_many(2) as batch:
            taken.extend(one.key for one in batch)
        async for reservation in queue.areserve_each(stop):
            async with reservation as reserved:
                taken.append(reserved.key)
                stop.set()
        waiting = asyncio.ensure_future(queue.afetch(HANG))
        await asyncio.sleep(0)
        await queue.aadd("5", "v")
        late = await waiting
        assert late is not None
        cancelled = asyncio.ensure_future(queue.areserve(HANG).take())
        await asyncio.sleep(0.01)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        assert ((await queue.astats()).reserved, await queue.apeek(None), await queue.afetch()) == (0, [], None)
        return [*taken, late.key]

    assert asyncio.run(work()) == list("012345")


def test_close(queue: QueueClient) -> None:
    """Here only: calls raise, waiting ones too, and what is reserved goes back."""
    fill(queue, 1)
    held = queue.reserve(timeout=None).take()
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            queue.fetch(HANG)
        except ClientClosed as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    queue.close()
    queue.close()
    thread.join(HANG)
    assert len(raised) == 1
    assert not held.done()
    calls: list[Callable[[], object]] = [queue.fetch, queue.stats, lambda: queue.add("k", "v"), queue.peek]
    for call in calls:
        with pytest.raises(ClientClosed):
            call()


# --- for tests --------------------------------------------------------------------------------------------------------


def test_advance() -> None:
    """Delays and ages go by it; nobody sleeps."""
    queue = MemoryQueue(items=[("1", "v"), ("2", "v")])
    first = queue.reserve(timeout=None).take()
    first.give_back(after=3600)
    queue.advance(3599)
    assert keys(queue) == ["2"]
    queue.advance(1)
    again = queue.reserve(timeout=None).take()
    assert (again.key, round(again.age)) == ("1", 3600)
    assert again.done()
    with pytest.raises(ConfigError):
        queue.advance(float("nan"))


def test_advance_wakes_who_waits() -> None:
    queue = MemoryQueue(items=[("1", "v")])
    queue.reserve(timeout=None).take().give_back(after=3600)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(queue.fetch(7200)))
    thread.start()
    while thread.is_alive():
        queue.advance(600)
        thread.join(0.01)
    assert found[0] is None or found[0].key == "1"


def test_fail_next() -> None:
    queue = MemoryQueue(items=[("1", "v")])
    queue.fail_next(ZeroDivisionError("x"))
    with pytest.raises(ZeroDivisionError):
        queue.fetch()
    assert queue.fetch() is not None


def test_size_and_wrong_limits() -> None:
    queue = MemoryQueue(items=[(str(number), "v") for number in range(5)], size=3)
    assert (keys(queue), queue.stats().dropped, queue.stats().size_limit) == (list("234"), 2, 3)
    for wrong in (0, True, "3", -1):
        with pytest.raises(ConfigError, match="size="):
            MemoryQueue(size=wrong)  # type: ignore[arg-type]


def test_an_item_for_a_unit_test() -> None:
    """It is what a function is given, and remembers what was done with it, once."""
    ways: list[tuple[Callable[[FakeItem], bool], str]] = [
        (lambda one: one.done(), "done"),
        (lambda one: one.give_back(after=5), "given back"),
        (lambda one: one.reject("no"), "rejected"),
        (lambda one: one.answer("x"), "answered"),
        (lambda one: asyncio.run(one.aanswer(b"x")), "answered"),
    ]
    for settle, outcome in ways:
        one = item("k", "v", asked=True, deliveries=3, added=5.0, deadline=time.time() + 60)
        assert isinstance(one, FakeItem)
        assert (one.key, one.value, one.added, one.deliveries, one.asked, one.outcome) == ("k", "v", 5.0, 3, True, "")
        assert one.left is not None
        assert settle(one)
        assert not one.done()
        assert one.outcome == outcome
        assert (one.after, one.reason, one.answer_bytes) == (
            5.0 if outcome == "given back" else 0.0,
            "no" if outcome == "rejected" else "",
            b"x" if outcome == "answered" else None,
        )
    assert not item("k").answer("nobody asked")
    with pytest.raises(ItemError):
        item(3)  # type: ignore[arg-type]
