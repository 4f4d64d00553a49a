"""Databases that are not there, do not answer, refuse, or go away in the middle: an error in time, nothing by half."""

from __future__ import annotations

import gc
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pymysql
import pytest

from kemi.database import clock, engine
from kemi.errors import StoreError
from kemi.store import Store
from tests.conftest import HANG
from tests.databases.conftest import running
from tests.databases.servers import DATABASE, HOST, PASSWORD, USER, MariaDb, Postgres
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Server = MariaDb | Postgres


@pytest.fixture(params=["mariadb", "postgres"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("CONNECT", 2), ("LOCK", 1), ("ANSWER", 3)):
        monkeypatch.setattr(clock, name, seconds)


def failure(url: str, table: str) -> str:
    """Return what a transaction fails with; the password is never in it."""
    store = Store.open(url)
    with pytest.raises(StoreError) as caught, store.begin(table):
        pass
    text = str(caught.value)
    assert PASSWORD not in text
    assert "secret" not in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("scheme", ["mysql", "postgres"])
def test_nobody_is_there(scheme: str, table: str) -> None:
    port = free_port()
    text = failure(f"{scheme}://{USER}:{PASSWORD}@{HOST}:{port}/{DATABASE}", table)
    assert text.startswith(f'database {scheme}://{USER}@{HOST}:{port}/{DATABASE}, table "{table}": ')
    assert text.endswith("the database must run and be reachable from this host")


@pytest.mark.usefixtures("quick")
def test_a_server_that_does_not_answer(server: Server, table: str) -> None:
    server.pause()
    try:
        began = time.monotonic()
        text = failure(server.url, table)
        assert time.monotonic() - began < HANG / 2
    finally:
        server.resume()
    assert text.endswith("the database must run and be reachable from this host")


def test_a_wrong_password(server: Server, table: str) -> None:
    text = failure(server.url.replace(PASSWORD, "secret"), table)
    assert "check user and password of db_url" in text


def test_a_database_that_is_not_there(server: Server, table: str) -> None:
    text = failure(server.url.replace(f"/{DATABASE}", "/none"), table)
    assert text.endswith("create the database, or correct db_url") or "Access denied" in text


def test_a_user_without_rights(server: Server, table: str) -> None:
    """Who may not write is told which rights the user needs."""
    key = server.quote("key")
    serial = "SERIAL" if isinstance(server, Postgres) else "INTEGER AUTO_INCREMENT"
    server.run(f"CREATE TABLE {table} (id {serial} PRIMARY KEY, {key} TEXT, val TEXT)")
    user = f"reader{table}"
    if isinstance(server, Postgres):
        server.run(f"CREATE USER {user} PASSWORD 'secret'")
        server.run(f"GRANT SELECT ON {table} TO {user}")
    else:
        server.run(f"CREATE USER {user}@'%%' IDENTIFIED BY %s", "secret")
        server.run(f"GRANT SELECT ON {DATABASE}.{table} TO {user}@'%'")
    store = Store.open(server.url.replace(f"{USER}:{PASSWORD}", f"{user}:secret"))
    with (
        pytest.raises(StoreError, match=r"GRANT SELECT, INSERT, DELETE ON|GRANT INSERT ON"),
        store.begin(table) as rows,
    ):
        assert list(rows.read()) == []
        rows.insert([(b"k", b"v")])
    assert server.run(f"SELECT * FROM {table}") == []
    if isinstance(server, Postgres):
        server.run(f"DROP OWNED BY {user}")
    server.run(f"DROP USER {user}" + ("" if isinstance(server, Postgres) else "@'%'"))


@pytest.mark.usefixtures("quick")
def test_a_table_that_another_one_holds(server: Server, table: str) -> None:
    store = Store.open(server.url)
    with store.begin(table) as rows:
        rows.insert([(b"k", b"v")])
    other = server.connect()
    try:
        cursor = other.cursor()
        cursor.execute(f"SELECT * FROM {table} FOR UPDATE")
        began = time.monotonic()
        with pytest.raises(StoreError, match="another process is using it"), store.begin(table) as rows:
            rows.delete(1, 1)
        assert time.monotonic() - began < HANG / 2
        other.rollback()
    finally:
        other.close()
    with store.begin(table) as rows:
        assert len(list(rows.read())) == 1


@pytest.mark.parametrize("kind", [MariaDb, Postgres])
@pytest.mark.parametrize("how", [signal.SIGKILL, None])
def test_a_server_that_ends_in_the_middle(kind: type[Server], how: signal.Signals | None, table: str) -> None:
    """Killed or stopped: an error, and what was not committed is not there when it runs again."""
    with running(kind()) as server:
        store = Store.open(server.url)
        with store.begin(table) as rows:
            rows.insert([(b"before", b"")])

        def items() -> Iterator[tuple[bytes, bytes]]:
            for number in range(5000):
                if number == 3000:
                    server.stop(*([how] if how else []))
                yield (b"%d" % number, b"x" * 100)

        with pytest.raises(StoreError, match=r"the database must run and be reachable"), store.begin(table) as rows:
            rows.insert(items())
        server.start()
        with store.begin(table) as rows:
            assert [row.key for row in rows.read()] == [b"before"]


def test_a_server_that_ends_before_the_commit(table: str) -> None:
    with running(MariaDb()) as server:
        store = Store.open(server.url)
        with pytest.raises(StoreError, match=r"may be done|the database must run"), store.begin(table) as rows:
            rows.insert([(b"k", b"v")])
            server.stop(signal.SIGKILL)
        server.start()
        with store.begin(table) as rows:
            assert list(rows.read()) == []


def test_localhost_through_the_socket(mariadb: MariaDb, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_MYSQL_SOCKETS", ("/none", mariadb.path))
    store = Store.open(f"mysql://root@localhost/{DATABASE}")  # root comes in through the socket only
    with store.begin(table) as rows:
        rows.insert([(b"k", b"v")])
        assert [row.key for row in rows.read()] == [b"k"]


def test_a_socket_where_nobody_listens(
    mariadb: MariaDb, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a server that was killed. An error, and no descriptor more, whatever has still to be collected."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))  # nobody listens
    before = os.listdir("/proc/self/fd")
    gc.disable()
    try:
        with pytest.raises(StoreError, match=rf"{path}.*Connection refused.*the database must run and be reachable"):
            Store.open(f"mysql://root@unix({path})/{DATABASE}").begin(table).__enter__()
        monkeypatch.setattr(mariadb, "path", str(path))
        with pytest.raises(pymysql.OperationalError):
            mariadb.ping()
        assert os.listdir("/proc/self/fd") == before
    finally:
        gc.enable()
