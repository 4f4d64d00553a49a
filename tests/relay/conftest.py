"""What the tests of the relay get: queues in this process, and servers that end with the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import children, command, serve  # noqa: F401 - fixtures
from tests.relay.servers import DURABLE, PROGRAMS, EngineServer, redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Start = "Callable[..., EngineServer]"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., EngineServer]]:
    """Return what starts engines."""
    if not PROGRAMS:
        pytest.skip("there is neither redis-server nor valkey-server here")
    if redis is None:
        pytest.skip("the Python package redis is missing")
    started: list[EngineServer] = []

    def start(*options: str, **more: object) -> EngineServer:
        folder = tmp_path / f"engine{len(started)}"
        folder.mkdir()
        server = EngineServer(folder, *options, **more)  # type: ignore[arg-type]
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def engine(start: Callable[..., EngineServer]) -> EngineServer:
    """Return an engine that keeps what it acknowledged."""
    return start(*DURABLE)
