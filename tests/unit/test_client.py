"""The surface of a client: its coroutines, what closing it ends, and what comes out."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import pickle
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import mqueue_kemi
from kemi import errors
from kemi.errors import ClientClosed, ConfigError, LockTimeout, MqueueError, QueueClosed, UnknownQueue
from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.client.attached import queue_in_use
from kemi.queue.delivery.reserved import ReservedItem
from kemi.queue.format.item import Item, record_of
from kemi.queue.format.layout import W_WAITERS
from kemi.queue.format.outcome import AddResult, Refused
from kemi.queue.queue import Queue
from mqueue_kemi import AttachedQueue, read_stats
from tests.conftest import HANG
from tests.support.clients import attach, inner
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture


@pytest.fixture
def server(instance: str) -> Queue:
    """Give the queue q of a server that runs."""
    registry = Registry.create(instance, this_process(), 64 << 20)
    return Queue.create(instance, "q", window=16 << 20, registry=registry)


@pytest.fixture
def queue(server: Queue, instance: str) -> Iterator[AttachedQueue]:
    """Give it as a process outside of the server has it."""
    assert server.name == "q"
    with attach("q", instance, lock_timeout=5) as client:
        yield client


def keys(queue: AttachedQueue) -> list[str]:
    """Return the keys of what can be taken."""
    return [item.key for item in queue.peek(None)]


# --- what a relay needs ---


def test_a_stream_from_elsewhere(queue: AttachedQueue, server: Queue) -> None:
    """Each entry once, and up to where it came; not shown to those who complete names."""
    assert queue.position("stream") is None
    assert queue.add_from("stream", [((1, 0), "a", "1"), ((1, 1), "b", "2")]) == [AddResult.ADDED] * 2
    assert queue.add_from("stream", iter([((1, 1), "b", "2"), ((2, 0), "c", "3")])) == [AddResult.KEPT, AddResult.ADDED]
    assert queue.position("stream") == server.position("stream") == (2, 0)
    assert keys(queue) == ["a", "b", "c"]
    assert {"add_from", "position", "reserve_some"}.isdisjoint(dir(queue))


def test_an_item_of_a_queue_with_maxage_has_a_deadline(queue: AttachedQueue, server: Queue) -> None:
    """However it is taken."""
    server.set_max_age(HANG)
    queue.add_many([(str(number), "") for number in range(6)])
    items: list[Item | None] = [*queue.peek(1), queue.fetch(), *queue.fetch_many(1), queue.fetch(HANG)]
    items += [queue.reserve().take(), *queue.reserve_many(1).take(), asyncio.run(queue.afetch())]
    for item in items:
        assert item is not None
        assert item.deadline == item.added + HANG
        assert item.left is not None
        assert 0 < item.left <= HANG
        if isinstance(item, ReservedItem):
            assert item.done()


# --- the Protocol -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, True, False, "1", b"", [1]], ids=repr)
def test_what_is_no_time_takes_nothing(queue: AttachedQueue, value: Any) -> None:
    """It is refused at once, by each call that has a timeout, though an item is there."""
    queue.add("k", "v")
    calls: list[Callable[[], object]] = [
        lambda: queue.fetch(value),
        lambda: queue.fetch_many(1, value),
        lambda: queue.reserve(value),
        lambda: queue.reserve_many(1, value),
        lambda: asyncio.run(queue.afetch(value)),
        lambda: asyncio.run(queue.afetch_many(1, value)),
        lambda: queue.areserve(value),
        lambda: queue.areserve_many(1, value),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=r"timeout=.*write a number of seconds"):
            call()
    assert keys(queue) == ["k"]


# --- asyncio ----------------------------------------------------------------------------------------------------------


def test_each_coroutine_does_what_its_call_does(queue: AttachedQueue) -> None:
    async def work() -> None:
        assert await queue.aadd("a", "1") is AddResult.ADDED
        assert await queue.aadd_many([("b", "2"), (b"c", bytearray(b"3")), ("d", memoryview(b"4"))]) == [1, 1, 1]
        assert [item.key for item in await queue.apeek(2)] == ["a", "b"]
        assert (await queue.astats()).size == 4
        assert [item.key for item in await queue.afetch_many(2)] == ["a", "b"]
        assert await queue.afetch_many(0) == []
        async with queue.areserve_many(5) as batch:
            assert [item.value for item in batch] == ["3", "4"]
            assert await batch.adone(batch[:1]) == 1
            assert await batch.agive_back() == 1
        assert [item.key for item in await queue.apeek(None, reserved=True)] == ["d"]
        item = await queue.areserve().take()
        assert item is not None
        assert item.deliveries == 2
        assert await item.adone()
        assert await queue.areserve(0.01).take() is None
        async with attach("q", queue.where) as other:
            assert len(other) == 0
        assert other.closed

    asyncio.run(work())
    assert (queue.stats().size, queue.stats().reserved) == (0, 0)


def test_many_are_added_beside_the_event_loop(queue: AttachedQueue) -> None:
    """It goes on meanwhile; a wrong one is told before anything is added."""

    async def work() -> int:
        task = asyncio.ensure_future(queue.aadd_many((str(number), "v") for number in range(20_000)))
        turns = 0
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        assert all(task.result())
        with pytest.raises(errors.ItemError):
            await queue.aadd_many([("k", "v")] * 300 + [("k", None)])  # type: ignore[list-item]
        return turns

    assert asyncio.run(work()) > 1
    assert len(queue) == 20_000


# --- the end ----------------------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[AttachedQueue], object]] = {
    "fetch": lambda queue: queue.fetch(HANG),
    "fetch_many": lambda queue: queue.fetch_many(2, None),
    "reserve": lambda queue: queue.reserve(None).take(),
    "reserve_many": lambda queue: queue.reserve_many(3, HANG).take(),
    "afetch": lambda queue: asyncio.run(queue.afetch(HANG)),
}


@pytest.mark.usefixtures("only_called")
@pytest.mark.parametrize("name", CALLS)
def test_closing_it_wakes_who_waits(queue: AttachedQueue, name: str) -> None:
    """At once, not by a look of its own, and the call says why."""
    found: list[object] = []

    def wait() -> None:
        try:
            found.append(CALLS[name](queue))
        except ClientClosed as error:
            found.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: inner(queue).segment.words[W_WAITERS])
    time.sleep(0.02)  # it is asleep, most likely
    queue.close()
    thread.join(HANG / 2)
    assert not thread.is_alive()
    assert found == [ClientClosed]


def test_what_is_reserved_goes_back_when_it_is_closed(queue: AttachedQueue, server: Queue) -> None:
    """One by one and in batches; the items say that they are not this client's any more."""
    queue.add_many([("a", ""), ("b", ""), ("c", "")])
    item, batch = queue.reserve().take(), queue.reserve_many(2).take()
    assert item is not None
    queue.close()
    assert [each.key for each in server.peek(None)] == ["a", "b", "c"]
    assert server.stats().reserved == 0
    assert [each.done() for each in (item, *batch)] == [False] * 3


# --- where ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["redis://central:6379/0", "rediss://u:p@central", "unix:///run/redis.sock"])
def test_a_url_goes_to_the_engines_client(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """With what concerns it; it is imported then, not before."""
    calls: list[tuple[Any, ...]] = []

    class Engine:
        @staticmethod
        def attach(queue: str, where: str, **options: object) -> None:
            calls.append((queue, where, options))

        @staticmethod
        async def aattach(queue: str, where: str, **options: object) -> None:
            calls.append((queue, where, options))

    monkeypatch.setitem(sys.modules, "kemi.relay", Engine)
    monkeypatch.setitem(sys.modules, "kemi.relay.engine", Engine)
    mqueue_kemi.attach("cdr", url, wait=None)
    asyncio.run(mqueue_kemi.aattach("cdr", url, lock_timeout=3))
    assert calls == [
        ("cdr", url, {"wait": None, "lock_timeout": 1.0, "reattach": True}),
        ("cdr", url, {"wait": 0.0, "lock_timeout": 3, "reattach": True}),
    ]


def test_statistics_of_all_queues(server: Queue, instance: str) -> None:
    """By name; as a monitor prints them; None where there is no limit."""
    server.set_limits(5, 0)
    server.add_many([("a", "1")] * 7)
    stats = read_stats(instance)
    assert list(stats) == ["q"]
    assert dataclasses.replace(stats["q"], memory=0) == dataclasses.replace(server.stats(), memory=0)
    assert (stats["q"].size_limit, stats["q"].byte_limit, stats["q"].max_deliveries) == (5, None, None)
    shown = json.loads(json.dumps({**dataclasses.asdict(stats["q"]), "refusals": {}}))
    assert (shown["size"], shown["dropped"]) == (5, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats["q"].size = 3  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(stats)) == stats  # noqa: S301 - our own
    with pytest.raises(UnknownQueue):
        read_stats(f"{instance}-none")
    with pytest.raises(ConfigError, match="of an instance on this host"):
        read_stats("redis://central")


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_an_item_tells_its_age_and_what_is_left() -> None:
    """By this host's clock, and never less than 0."""
    now = time.time()
    old, new = Item(record_of(b"k", b"v", now - 5)), Item(record_of(b"k", b"v", now + 500), now + 100)
    assert 5 <= old.age < 5 + HANG
    assert (old.deadline, old.left, new.age) == (None, None, 0.0)
    assert new.left is not None
    assert 100 - HANG < new.left <= 100
    assert Item(record_of(b"k", b"v", now), now - 1).left == 0.0
    again: Item = pickle.loads(pickle.dumps(new))  # noqa: S301 - our own
    assert (again, again.deadline, again.added, hash(again)) == (new, new.deadline, new.added, hash(new))
    for name in ("key", "added", "age", "deadline", "_nothing"):
        with pytest.raises(AttributeError):
            setattr(new, name, "x")


def test_every_error_and_result_pickles() -> None:
    """A pool's process can hand on what it met; each is what the builtin says that fits."""
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and kind is not MqueueError}
    assert {"Disconnected", "OutcomeUnknown", "EngineError", "ClientClosed"} <= set(kinds)
    for kind in kinds.values():
        again = pickle.loads(pickle.dumps(kind("why")))  # noqa: S301 - our own
        assert (type(again), str(again)) == (kind, "why")
    for result in AddResult:
        assert pickle.loads(pickle.dumps(result)) is result  # noqa: S301 - our own
        if not result:
            refused = pickle.loads(pickle.dumps(Refused(result)))  # noqa: S301 - our own
            assert (refused.result, str(refused)) == (result, f"not added: {result.reason}")


def test_what_is_worth_another_try() -> None:
    """And what is not: a queue that is closed for good, a mistake."""
    again = (errors.LockTimeout, errors.Reentered, errors.Disconnected, errors.OutcomeUnknown)
    assert all(issubclass(kind, errors.Unavailable) for kind in again)
    never = (errors.QueueClosed, errors.ClientClosed, errors.UnknownQueue, errors.EngineError, errors.NotAllowed)
    assert not any(issubclass(kind, errors.Unavailable) for kind in never)
    assert issubclass(errors.Disconnected, ConnectionError)
    assert issubclass(errors.LockTimeout, TimeoutError)


def test_items_go_from_queue_to_queue(queue: AttachedQueue, instance: str) -> None:
    """`add_many` takes items, reserved ones too, with every byte of them."""
    target = Queue.create(instance, "target", window=16 << 20)
    queue.add_many([(b"\xff\x00", "\ud800"), ("k", b"")])
    batch = queue.reserve_many(5).take()
    with attach("target", instance) as client:
        assert client.add_many([*batch, ("new", "1")]) == [AddResult.ADDED] * 3
    assert batch.done(item for item in batch) == 2
    assert target.peek(2) == list(batch)
    assert not isinstance(target.peek()[0], ReservedItem)


def test_what_fails_in_the_middle_of_many_has_one_result_for_each(queue: AttachedQueue, mocker: MockerFixture) -> None:
    """What was added says so, and the rest was not tried."""
    inner = queue_in_use(queue)
    add_many = inner.add_many
    pairs = [(str(number), "v") for number in range(7)]

    def add_some(those: list[Any]) -> list[AddResult]:
        if len(those) < len(pairs):
            raise LockTimeout("held")
        return [*add_many(those[:3]), AddResult.CLOSED]

    mocker.patch.object(type(inner), "add_many", side_effect=add_some)
    renew = mocker.patch.object(queue._current, "renew", return_value=True)
    outcomes = queue.add_many(pairs)
    assert renew.call_count == 1
    assert outcomes == [AddResult.ADDED] * 3 + [AddResult.NOT_TRIED] * 4


def test_the_old_name_of_a_look_at_all_warns_its_caller(queue: AttachedQueue) -> None:
    with pytest.warns(DeprecationWarning, match="undone") as warned:
        assert queue.undone() == []
    assert warned[0].filename == __file__


@pytest.mark.python_code
def test_an_add_to_what_was_closed_meanwhile_goes_to_the_next_queue(
    queue: AttachedQueue, mocker: MockerFixture
) -> None:
    """As long as there is one; then its error is the caller's."""
    closed = QueueClosed("its items were on their way")
    add = mocker.patch.object(type(queue_in_use(queue)), "add", side_effect=[closed, closed, AddResult.ADDED])
    renew = mocker.patch.object(queue._current, "renew", return_value=True)
    assert queue.add("k", "v") is AddResult.ADDED
    assert renew.call_count == 1
    add.side_effect = closed
    renew.return_value = False
    with pytest.raises(QueueClosed, match="on their way"):
        queue.add("k", "v")
