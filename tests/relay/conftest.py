"""What the tests of the relay get: queues in this process, and servers that end with the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.command import Command
from tests.conftest import SHM
from tests.processes.children import Children
from tests.processes.serve import Serve
from tests.relay.servers import DURABLE, PROGRAMS, EngineServer, redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Start = "Callable[..., EngineServer]"


@pytest.fixture
def serve(_no_segment_is_left: None) -> Iterator[Serve]:
    """Return the maker of this test's queues."""
    server = Serve()
    yield server
    server.stop()
    for path in SHM.glob(f"mqk.{server.instance}*"):
        path.unlink()


@pytest.fixture
def children(serve: Serve) -> Iterator[Children]:  # noqa: ARG001 the queues go after the processes
    """Return the place where a test starts its processes."""
    started = Children()
    yield started
    started.end()


@pytest.fixture
def command(serve: Serve) -> Iterator[Command]:
    """Return what runs commands for this test's instance."""
    commands = Command(serve.instance)
    yield commands
    commands.clean()


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
