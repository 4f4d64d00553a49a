"""The real Kamailio with each database: what is in a queue at the stop is there after the next start, once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.databases.test_interchange import TEXTS, c_module, url_of
from tests.server.harness import Kamailio, Servers, new_instance
from tests.support.clients import attach

if TYPE_CHECKING:
    from tests.databases.conftest import AnyDatabase
    from tests.databases.servers import DatabaseServer


class Life:
    """One instance with a queue in a database, through several servers."""

    def __init__(self, servers: Servers, url: str, queue: str, more: str = "") -> None:
        self._servers = servers
        self._url = url
        self._more = more
        self.queue = queue
        self.instance = new_instance()

    def server(self, dbmode: int = 1) -> Kamailio:
        definition = f"name={self.queue};dbmode={dbmode}{self._more}"
        server = Kamailio([definition], params=[("db_url", self._url)], instance=self.instance)
        server.patience = 120.0  # many rows
        return server

    def start(self, dbmode: int = 1) -> Kamailio:
        return self._servers.start(self.server(dbmode))

    def taken(self) -> list[tuple[bytes, bytes]]:
        """Take everything out, from outside of the server."""
        with attach(self.queue, self.instance) as queue:
            return [
                (item.key_bytes, item.value_bytes)
                for items in iter(lambda: queue.fetch_many(5000), [])
                for item in items
            ]

    def added(self, items: list[tuple[bytes, bytes]]) -> None:
        """Put items in, from outside of the server."""
        with attach(self.queue, self.instance) as queue:
            assert set(queue.add_many(items)) <= {1}


def count(database: Any, table: str) -> int:
    return int(database.run(f"SELECT COUNT(*) FROM {table}")[0][0])


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_saved_and_loaded(servers: Servers, database: AnyDatabase, table: str, size: int) -> None:
    """Saved at the stop, the table empty and the queue full after the next start, and again."""
    life = Life(servers, database.url, table)
    items = [(b"%d" % number, b"call from %d" % number) for number in range(size)]
    first = life.start()
    life.added(items)
    first.stop(limit=120)
    assert count(database, table) == size
    assert first.segments() == []

    second = life.start()
    assert count(database, table) == 0
    assert second.call("mq_size", table) == (size or -1)
    assert life.taken() == items
    second.stop()
    assert count(database, table) == 0


def test_bytes_survive(servers: Servers, database: AnyDatabase, table: str) -> None:
    """What is no text, what has NULs, what is empty, what is large."""
    items = [(b"\xff\xfe", b"a\0b"), (b"", b""), ("\U0001f600".encode(), b"x" * (1 << 20)), (b"k", b"")]
    life = Life(servers, database.url, table)
    first = life.start()
    life.added(items)
    first.stop(limit=30)
    second = life.start()
    assert life.taken() == items
    second.stop()


def test_a_column_too_narrow(servers: Servers, database: AnyDatabase, table: str) -> None:
    """What fits is in the table, what does not is kept beside it, and the next start has all in their order."""
    if database.kind == "sqlite":
        return  # it has no narrow columns
    serial = "BIGINT AUTO_INCREMENT" if database.kind == "mysql" else "BIGSERIAL"
    key = "`key`" if database.kind == "mysql" else "key"
    database.run(
        f"CREATE TABLE {table} (id {serial} PRIMARY KEY, {key} varchar(64) NOT NULL, val varchar(20) NOT NULL)"
    )
    life = Life(servers, database.url, table, ";recover=0")
    items = [(b"0", b"\xff"), (b"1", b"short"), (b"2", b"v" * 21), (b"3", b"\xfe\0"), (b"4", b"short"), (b"5", b"\xff")]
    first = life.start()
    life.added(items)
    first.stop()
    assert first.process.log_lines("ERROR", "4 of these items do not fit into its table", "mqueue_kemi_items", "val")
    assert count(database, table) == 2
    assert first.segments() == []
    second = life.start()
    assert life.taken() == items
    assert count(database, table) == 0
    second.stop()


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_the_server_of_the_database_is_gone(
    servers: Servers, request: pytest.FixtureRequest, table: str, kind: str
) -> None:
    """Stopped before the stop: the items stay in memory, no password is in the log. Back again: saved."""
    database: DatabaseServer = request.getfixturevalue(kind)
    life = Life(servers, database.url, table, ";recover=0")
    items = [(b"%d" % number, b"v") for number in range(1000)]
    first = life.start()
    life.added(items)
    database.stop()
    try:
        first.stop(limit=60)
        assert first.process.log_lines("ERROR", "its 1000 items stay in")
        refused = servers.add(life.server())
        refused.refused(60)
        password = database.url.rpartition("@")[0].split(":", 2)[2]
        assert len(password) > 4
        assert password not in first.process.log() + refused.process.log()
    finally:
        database.start()
    second = life.start()
    assert life.taken() == items
    life.added(items)
    second.stop(limit=30)
    assert count(database, table) == 1000


@pytest.mark.parametrize("kind", ["sqlite", "mariadb", "postgres"])
def test_from_the_c_module_and_back(servers: Servers, request: pytest.FixtureRequest, table: str, kind: str) -> None:
    """What the C module saved at its stop our server loads at its start, and the other way round."""
    database = request.getfixturevalue(kind)
    url = url_of(database)
    life = Life(servers, url, table)
    ours = life.start()
    life.added([(key.encode(), value.encode()) for key, value in TEXTS])
    ours.stop()

    theirs = c_module(servers, database, table)
    assert theirs.run(f"return KSR.mqueue.mq_size({table!r})") == len(TEXTS)
    assert count(database, table) == 0
    theirs.run(f"KSR.mqueue.mq_add({table!r}, 'added by', 'the C module')")
    theirs.stop()

    again = life.start()
    assert [(key.decode(), value.decode()) for key, value in life.taken()] == [*TEXTS, ("added by", "the C module")]
    again.stop()


def test_two_servers_with_one_table(servers: Servers, database: AnyDatabase, table: str) -> None:
    """They start and stop at the same moment: each item is in one of them, and in the table, once and in order."""
    lives = [Life(servers, database.url, table) for _ in range(2)]
    kept: list[tuple[bytes, bytes]] = []
    with ThreadPoolExecutor(2) as pool:
        for turn in range(2):
            started = [servers.add(life.server()) for life in lives]
            list(pool.map(lambda server: server.start(), started))
            found = [life.taken() for life in lives]
            assert sorted(found[0] + found[1]) == sorted(kept)
            kept = []
            for number, (life, back) in enumerate(zip(lives, found)):
                new = [(b"%d %d %d" % (turn, number, index), b"v") for index in range(1000)]
                life.added(back + new)
                kept += back + new
            list(pool.map(lambda server: server.stop(limit=60), started))
            key = database.quote("key")
            there = [row[0] for row in database.run(f"SELECT {key} FROM {table} ORDER BY id")]
            there = [key if isinstance(key, bytes) else str(key).encode() for key in there]
            assert sorted(there) == sorted(key for key, _ in kept)
            for number in range(2):
                prefix = b"%d %d " % (turn, number)
                assert [key for key in there if key.startswith(prefix)] == [
                    prefix + b"%d" % index for index in range(1000)
                ]
    assert [server.segments() for server in servers.all] == [[]] * 4
