"""One server of each kind for the whole run, and a table's name of its own for each test."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Union

import pytest

from kemi.store import Store
from tests.databases.secure import SecureMariaDb, SecurePostgres, SecureServer
from tests.databases.servers import MariaDb, Postgres, SqliteFile, started
from tests.server.conftest import _no_process_is_left, _reaper, pytest_runtest_makereport, servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["_no_process_is_left", "_reaper", "pytest_runtest_makereport", "servers"]

AnyDatabase = Union[SqliteFile, MariaDb, Postgres]
_numbers = count(1)


@contextmanager
def running(server: Any) -> Iterator[Any]:
    started(server)
    try:
        yield server
    finally:
        server.clean()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    with running(MariaDb()) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running(Postgres()) as server:
        yield server


@pytest.fixture(scope="module", params=[SecureMariaDb, SecurePostgres])
def secure(request: pytest.FixtureRequest) -> Iterator[SecureServer]:
    """Return each of those that speak TLS only, to who comes over TCP."""
    with running(request.param()) as server:
        yield server


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteFile:
    return SqliteFile(tmp_path / "mq.db")


@pytest.fixture(params=["sqlite", "mariadb", "postgres"])
def database(request: pytest.FixtureRequest) -> AnyDatabase:
    """Return each of the databases in turn."""
    found: AnyDatabase = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def table() -> str:
    return f"queue{next(_numbers)}"


@pytest.fixture
def store(database: AnyDatabase) -> Iterator[Store]:
    opened = Store.open(database.url)
    yield opened
    opened.close()
