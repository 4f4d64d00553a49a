"""Taking items for ever: each is gone or kept until its block ends, and it ends by a stop or with the client."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import ClientClosed, QueueClosed
from kemi.queue.client import endless
from kemi.queue.format.item import Item, record_of
from kemi.queue.sync.stop import STOP_LOOK
from tests.conftest import HANG
from tests.support.clients import attach
from tests.unit import servers
from tests.unit.servers import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kemi.queue.client.attached import AttachedQueue


server, queue = servers.server, servers.queue


def keys(queue: AttachedQueue) -> list[str]:
    """Return the keys of what can be taken."""
    return [item.key for item in queue.peek(None)]


def test_each_item_of_an_asyncio_consumer_is_done_or_comes_back(queue: AttachedQueue) -> None:
    """SIGTERM's way: `stop` ends it before the next item; a cancellation gives the item in hand back."""
    queue.add_many([("a", ""), ("b", ""), ("c", "")])

    async def work() -> None:
        stop = asyncio.Event()
        async for each in queue.areserve_each(stop):
            async with each as item:
                assert item.key == "a"
                stop.set()
        begun = asyncio.Event()

        async def slow() -> None:
            async for each in queue.areserve_each():
                async with each:
                    begun.set()
                    await asyncio.sleep(HANG)

        task = asyncio.ensure_future(slow())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    assert keys(queue) == ["b", "c"]
    assert queue.stats().reserved == 0


def test_each_item_is_kept_until_its_block_ends(queue: AttachedQueue) -> None:
    """An exception gives back the one in hand; what was not reached stays."""
    queue.add_many([("a", ""), ("b", ""), ("c", "")])
    seen = []

    def work() -> None:
        for each in queue.reserve_each():
            with each as item:
                seen.append(item.key)
                if item.key == "b":
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert (seen, keys(queue), queue.stats().reserved) == (["a", "b"], ["b", "c"], 0)


def test_a_reservation_that_no_block_enters_goes_back(queue: AttachedQueue) -> None:
    """A loop that is left before its `with`."""
    queue.add("a", "")
    assert "holds 1 item" in repr(next(queue.reserve_each()))
    assert (keys(queue), queue.stats().reserved) == (["a"], 0)


@pytest.mark.parametrize("way", ["consume", "reserve_each"])
def test_stop_ends_an_iteration(queue: AttachedQueue, way: str) -> None:
    """Looked at before each item, and while there is none."""
    queue.add_many([("a", ""), ("b", "")])
    stop = threading.Event()
    count = 0
    for _ in getattr(queue, way)(stop):
        count += 1
        stop.set()
    assert (count, len(queue.peek(None, reserved=True))) == (1, 1 if way == "consume" else 2)
    queue.fetch_many(9)
    stop.clear()
    threading.Timer(0.05, stop.set).start()
    assert list(getattr(queue, way)(stop.is_set)) == []


@pytest.mark.usefixtures("only_called")
@pytest.mark.parametrize("way", ["consume", "reserve_each", "aconsume", "areserve_each"])
def test_closing_it_ends_an_iteration_quietly(queue: AttachedQueue, way: str) -> None:
    queue.add("a", "")
    count = 0

    async def aiterate() -> None:
        nonlocal count
        async for each in getattr(queue, way)():
            if way == "areserve_each":
                async with each:
                    pass
            count += 1
            threading.Timer(0.05, queue.close).start()

    if way.startswith("a"):
        asyncio.run(aiterate())
    else:
        for each in getattr(queue, way)():
            if way == "reserve_each":
                with each:
                    pass
            count += 1
            threading.Timer(0.05, queue.close).start()
    assert count == 1
    assert queue.closed


@pytest.mark.parametrize("way", ["consume", "reserve_each"])
def test_the_end_of_the_server_is_no_quiet_end(server: Server, way: str) -> None:
    """With reattach=False: the program must not take it for a stop."""
    with attach("q", server.instance, reattach=False) as client:
        server.stop()
        with pytest.raises(QueueClosed):
            list(getattr(client, way)())


# --- on a client that is told what to give ----------------------------------------------------------------------------


class Told:
    """A client that notes for how long it may wait, gives one item, and is closed then."""

    def __init__(self) -> None:
        self.closed = False
        self.timeouts: list[float | None] = []

    def fetch(self, timeout: float | None) -> Item | None:
        self.timeouts.append(timeout)
        if len(self.timeouts) == 1:
            return None
        if len(self.timeouts) == 2:
            return Item(record_of(b"k", b"v", 1.0))
        raise ClientClosed("closed")

    async def afetch(self, timeout: float | None) -> Item | None:
        return self.fetch(timeout)

    def reserve_some(self, _count: int, timeout: float | None, _keep: Any) -> int | None:
        self.fetch(timeout)
        return None

    async def areserve_some(self, count: int, timeout: float | None, keep: Any) -> int | None:
        return self.reserve_some(count, timeout, keep)


async def all_of(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


ITERATIONS: dict[str, Callable[[Told, Any], list[Any]]] = {
    "consume": lambda client, stop: list(endless.consume(client, stop)),
    "aconsume": lambda client, stop: asyncio.run(all_of(endless.aconsume(client, stop))),
    "reserve_each": lambda client, stop: list(endless.reserve_each(client, stop)),
    "areserve_each": lambda client, stop: asyncio.run(all_of(endless.areserve_each(client, stop))),
}


@pytest.mark.parametrize("way", ITERATIONS)
@pytest.mark.parametrize("stop", [None, lambda: False], ids=["without stop", "with stop"])
def test_a_wait_is_endless_where_there_is_no_stop_to_look_at(way: str, stop: Any) -> None:
    client = Told()
    client.closed = True
    assert len(ITERATIONS[way](client, stop)) == ("consume" in way)
    assert client.timeouts == [None if stop is None else STOP_LOOK] * 3


@pytest.mark.parametrize("way", ITERATIONS)
def test_an_error_that_says_closed_of_a_client_that_is_open_comes_out(way: str) -> None:
    """It is another one's, which a handler of the program met."""
    with pytest.raises(ClientClosed):
        ITERATIONS[way](Told(), None)


@pytest.mark.parametrize("way", ITERATIONS)
def test_a_stop_that_is_set_already_takes_nothing(way: str) -> None:
    client = Told()
    assert ITERATIONS[way](client, lambda: True) == []
    assert client.timeouts == []
