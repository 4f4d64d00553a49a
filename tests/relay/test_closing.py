"""The end of an engine's client: who waits hears of it, and what is reserved goes back, whatever is on its way."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import mqueue_kemi
from kemi.errors import ClientClosed
from kemi.relay.link import Link
from kemi.remote.client import EngineQueue
from kemi.remote.scripts import SETTLE, TAKE
from tests.relay.servers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kemi.relay.scripts import Script
    from tests.relay.servers import EngineServer


def client(where: str) -> EngineQueue:
    """With time for a reply on a busy machine."""
    found = mqueue_kemi.attach("q", where, lock_timeout=PATIENCE)
    assert isinstance(found, EngineQueue)
    return found


@pytest.fixture
def where(start: Callable[..., EngineServer]) -> str:
    return start().url


@pytest.fixture
def queue(where: str) -> Iterator[EngineQueue]:
    with client(where) as queue:
        yield queue


@pytest.fixture
def other(where: str, queue: EngineQueue) -> Iterator[EngineQueue]:
    """Return another client of the queue, which has an item."""
    assert queue.add("k", "v")
    with client(where) as other:
        yield other


def once(monkeypatch: pytest.MonkeyPatch, script: Script, then: Callable[[], object], *, before: bool = False) -> None:
    """Once, when the engine has run a script, and its reply is not yet used. before: when it has not yet run it."""
    run = Link.script
    left = [then]

    def run_and_more(link: Link, which: Script, *arguments: Any) -> Any:
        if before and which is script and left:
            left.pop()()
        reply = run(link, which, *arguments)
        if not before and which is script and left:
            left.pop()()
        return reply

    monkeypatch.setattr(Link, "script", run_and_more)


def is_there_as_new(queue: EngineQueue) -> bool:
    """Whether the item can be had at once, and never was delivered."""
    with queue.reserve() as item:
        return item is not None and item.deliveries == 1


def test_a_call_that_waits_and_later_ones_raise(queue: EngineQueue, other: EngineQueue) -> None:
    item = other.reserve().take()
    assert item is not None
    caught: list[BaseException] = []
    waits = threading.Event()

    def wait() -> None:
        waits.set()
        try:
            other.fetch(timeout=None)
        except ClientClosed as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    waits.wait(PATIENCE)
    other.close()
    other.close()
    thread.join(PATIENCE)
    assert caught
    with pytest.raises(ClientClosed):
        other.add("k", "v")
    assert len(queue) == 1
    assert not item.done()


def test_nobody_here_gets_what_goes_back(
    queue: EngineQueue, other: EngineQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that waits in another thread looks again between the two: it is refused already."""
    item = other.reserve().take()
    assert item is not None
    found: list[object] = []

    def look() -> None:
        try:
            found.append(other.fetch())
        except ClientClosed:
            found.append(ClientClosed)

    once(monkeypatch, SETTLE, look)
    other.close()
    assert found == [ClientClosed]
    assert is_there_as_new(queue)


@pytest.mark.parametrize(
    "call",
    [
        lambda queue: queue.fetch(),
        lambda queue: queue.fetch_many(5),
        lambda queue: queue.reserve().__enter__(),
        lambda queue: queue.reserve_many(5).__enter__(),
        lambda queue: next(queue.consume()),
    ],
    ids=["fetch", "fetch_many", "reserve", "reserve_many", "consume"],
)
def test_what_comes_too_late_goes_back(
    queue: EngineQueue, other: EngineQueue, call: Callable[[EngineQueue], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine had delivered an item when the client was closed, and the call did not have it yet."""
    once(monkeypatch, TAKE, other.close)
    with pytest.raises((ClientClosed, StopIteration)):
        call(other)
    assert is_there_as_new(queue)


def test_what_a_wait_brings_too_late_goes_back(queue: EngineQueue, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = client(where)
    ask = Link.call

    def close_and_answer(link: Link, *arguments: Any, **more: Any) -> Any:
        if arguments[0] != "XREADGROUP":
            return ask(link, *arguments, **more)
        queue.add("k", "v")
        reply = ask(link, *arguments, **more)
        other.close()
        return reply

    monkeypatch.setattr(Link, "call", close_and_answer)
    with pytest.raises(ClientClosed):
        other.fetch(PATIENCE)
    monkeypatch.undo()
    assert is_there_as_new(queue)


def test_what_is_taken_while_it_goes_back_is_had_once(
    queue: EngineQueue, other: EngineQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed between the delivery to a `fetch` and its taking: the engine decides, and whoever got it has it alone."""
    once(monkeypatch, SETTLE, other.close, before=True)
    with pytest.raises(ClientClosed):
        other.fetch()
    assert is_there_as_new(queue)


def test_a_fetch_whose_lease_was_over_has_nothing(
    where: str, queue: EngineQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped for long between the delivery and the taking: another one has the item by then, and it alone."""
    queue.add("k", "v")
    found: list[object] = []
    with client(f"{where}?lease=0.2") as late, client(f"{where}?lease=0.2") as other:

        def be_late() -> None:
            time.sleep(0.3)  # what is waited for is the engine's clock
            found.append(other.fetch(PATIENCE))

        once(monkeypatch, SETTLE, be_late, before=True)
        assert late.fetch() is None
    assert [getattr(item, "value", None) for item in found] == ["v"]
    assert queue.fetch() is None


@pytest.mark.parametrize("for_good", [False, True])
def test_a_cancelled_call_of_a_closed_client_gives_back(
    queue: EngineQueue, where: str, monkeypatch: pytest.MonkeyPatch, for_good: bool
) -> None:
    """Also what its thread had taken by then."""
    queue.add("k", "v")

    async def main() -> None:
        other = client(where)
        loop = asyncio.get_running_loop()
        taken, may_go_on = asyncio.Event(), threading.Event()

        def wait() -> None:
            loop.call_soon_threadsafe(taken.set)
            may_go_on.wait(PATIENCE)

        once(monkeypatch, SETTLE if for_good else TAKE, wait)
        call = asyncio.ensure_future(other.afetch(PATIENCE))
        await asyncio.wait_for(taken.wait(), PATIENCE)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await other.aclose()
        may_go_on.set()

    asyncio.run(main())
    item = queue.fetch(PATIENCE)
    assert item is not None
    assert item.value == "v"
    assert len(queue) == 0
