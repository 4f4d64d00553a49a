"""Attaching in asyncio: the event loop goes on while the server is waited for."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest

from kemi.errors import ConfigError, UnknownQueue
from mqueue_kemi import aattach
from tests.conftest import HANG
from tests.unit.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator


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
