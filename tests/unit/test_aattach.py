"""Attaching in asyncio: the event loop goes on while the server is waited for."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import ConfigError, UnknownQueue
from kemi.queue.client import aattach as module
from mqueue_kemi import aattach
from tests.conftest import HANG
from tests.unit.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture


@pytest.fixture
def server(instance: str) -> Iterator[Server]:
    """Give a server that does not run yet."""
    made = Server(instance)
    yield made
    made.stop()


def test_attach_in_asyncio(server: Server) -> None:
    """The event loop goes on while the server is waited for."""

    async def wait() -> bytes:
        waiting = asyncio.ensure_future(aattach("q", server.instance, wait=HANG))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        server.start().add("k", "v")
        with await waiting as client:
            item = await client.afetch(HANG)
            assert item is not None
            return item.key_bytes

    assert asyncio.run(wait()) == b"k"


@pytest.mark.parametrize("wait", [0, 0.25])
def test_attach_in_asyncio_to_what_is_not_there(instance: str, wait: float) -> None:
    end = r"\(waited 0.25 s\)$" if wait else r"is its server running\?$"
    with pytest.raises(UnknownQueue, match=end):
        asyncio.run(aattach("q", instance, wait=wait))


@pytest.mark.parametrize("reattach", [False, True])
def test_attach_in_asyncio_to_a_closed_queue(server: Server, reattach: bool) -> None:
    """Who would not outlive it waits for one that is open."""
    queue = server.start(closed=True)

    async def wait() -> bool:
        waiting = asyncio.ensure_future(aattach("q", server.instance, wait=HANG, reattach=reattach))
        await asyncio.sleep(0.05)
        early = waiting.done()
        queue.open()
        (await waiting).close()
        return early

    assert asyncio.run(wait()) is reattach


def test_attach_in_asyncio_checks_its_times(server: Server) -> None:
    server.start()
    for options in ({"wait": math.nan}, {"lock_timeout": 0}):
        with pytest.raises(ConfigError):
            asyncio.run(aattach("q", server.instance, **options))


# --- by a clock of its own --------------------------------------------------------------------------------------------


class Looks:
    """The world in which it looks: what it finds, and a clock that goes on while it sleeps."""

    def __init__(self, mocker: MockerFixture, found: Callable[[], Any]) -> None:
        self.now = 1024.0
        self.sleeps: list[float] = []
        self.found: list[Any] = []
        mocker.patch.object(module, "RETRY", 0.25)
        mocker.patch.object(module, "time").monotonic = lambda: self.now
        mocker.patch.object(module, "asyncio").sleep = self.sleep
        mocker.patch.object(module, "AttachedQueue", self.look)
        self._find = found

    def look(self, *_: object, **__: object) -> Any:
        self.found.append(self._find())
        if isinstance(self.found[-1], Exception):
            raise self.found[-1]
        return self.found[-1]

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


def attached(*, reattach: bool, wait: float) -> Any:
    return asyncio.run(module.attached("i", "q", 1.0, reattach=reattach, wait=wait, owner=None))


@pytest.mark.parametrize(("wait", "sleeps"), [(0.0, []), (-1.0, []), (0.625, [0.25, 0.25, 0.125])])
def test_a_queue_that_never_comes_is_looked_for_up_to_the_last_moment(
    mocker: MockerFixture, wait: float, sleeps: list[float]
) -> None:
    world = Looks(mocker, lambda: UnknownQueue("none"))
    with pytest.raises(UnknownQueue, match="none"):
        attached(reattach=True, wait=wait)
    assert (world.sleeps, len(world.found)) == (sleeps, len(sleeps) + 1)


@pytest.mark.parametrize(("wait", "sleeps"), [(0.0, []), (0.5, [0.25, 0.25])])
def test_a_queue_that_stays_closed_is_attached_at_the_last_moment(
    mocker: MockerFixture, wait: float, sleeps: list[float]
) -> None:
    """Those that were looked at before are closed in this process."""
    world = Looks(mocker, mocker.MagicMock)
    assert attached(reattach=False, wait=wait) is world.found[-1]
    assert world.sleeps == sleeps
    assert [client.close.called for client in world.found] == [True] * len(sleeps) + [False]
