"""No database is waited for without end: whatever it does not do, a start or a stop ends within db_timeout."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kemi.database import clock
from kemi.errors import CommitUnknown, DatabaseAway, StoreError
from kemi.store import Options, Store, Wanted
from tests.databases.proxy import SWALLOWED, UNANSWERED, Proxy
from tests.databases.servers import HOST, MariaDb, Postgres, halt
from tests.databases.test_servers import count
from tests.server.harness import Kamailio, new_instance
from tests.support.clients import attach
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server.harness import Servers

Server = MariaDb | Postgres
MANY = [(b"%d" % number, b"x" * 100) for number in range(200_000)]


@pytest.fixture(params=["mariadb", "postgres"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@contextlib.contextmanager
def opened(url: str, timeout: float) -> Iterator[Store]:
    store = Store.open(url, None, Options(timeout))
    yield store
    store.close()


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Whatever is slow here, it is no database: much less than the 120 s of a wait without a limit."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + 30


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """Listen, and never say anything; the port."""
    with socket.create_server((HOST, 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize("scheme", ["mysql", "postgres"])
def test_a_host_that_accepts_and_is_silent(scheme: str, table: str) -> None:
    with silent() as port, opened(f"{scheme}://u:p@{HOST}:{port}/mq", 3) as store, within(3):
        with pytest.raises(DatabaseAway, match=r"not done within db_timeout, 3 s: raise modparam"), store.begin(table):
            pass


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
@pytest.mark.parametrize("when", ["look", "insert", "read", "commit"])
def test_postgres_that_stalls(postgres: Postgres, table: str, driver: str, when: str, mocker: Any) -> None:
    """After the handshake its kernel goes on acknowledging, so no time-out of TCP helps."""
    if driver == "psycopg":
        mocker.patch.dict("sys.modules", {"psycopg2": None})
    stalls(postgres, table, when)


@pytest.mark.parametrize("when", ["look", "insert", "read", "commit"])
def test_mariadb_that_stalls(mariadb: MariaDb, table: str, when: str) -> None:
    stalls(mariadb, table, when)


def stalls(server: Server, table: str, when: str) -> None:
    """Stop the database's processes before a step, and see that the step ends."""
    with contextlib.closing(Store.open(server.url)) as store, store.begin(table) as rows:
        rows.insert(MANY[:10])
    expected: type[Exception] = CommitUnknown if when == "commit" else StoreError
    with opened(server.url, 4) as store, contextlib.ExitStack() as undo, within(4):
        undo.callback(proceed, server)
        with pytest.raises(expected, match=r"not done within db_timeout, 4 s: raise modparam"):
            if when == "look":
                looked = store._look

                def look(*call: Any) -> Any:
                    stop_all(server)
                    return looked(*call)

                undo.enter_context(pytest.MonkeyPatch.context()).setattr(store, "_look", look)
            with store.begin(table) as rows:
                rows.insert(MANY[:10])
                stop_all(server)
                if when == "insert":
                    rows.insert(MANY[:10])
                elif when == "read":
                    list(rows.read())
    with contextlib.closing(Store.open(server.url)) as store, store.begin(table) as rows:
        rows.wait_for_others(1)
    assert count(server, table) in ((10, 20) if when == "commit" else (10,))


@pytest.mark.parametrize("how", [UNANSWERED, SWALLOWED])
def test_an_answer_to_the_commit_that_never_comes(server: Server, table: str, how: str) -> None:
    """The connection stays open: done or not, it is never taken for done."""
    with opened(server.url, 60) as store, store.begin(table):
        pass
    with Proxy(server) as proxy, opened(proxy.url, 3) as store, within(3):
        proxy.breaks = how
        with pytest.raises(CommitUnknown, match=r"db_timeout, 3 s: .* all may be done or nothing"):
            with store.begin(table) as rows:
                rows.insert(MANY[:10])
        assert proxy.broken == 1
    assert count(server, table) == (10 if how == UNANSWERED else 0)


def stop_all(server: Server) -> None:
    """Stop all of its processes, the one that answers this connection, too."""
    server.pause()
    for pid in backends(server):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            halt(pid)


def proceed(server: Server) -> None:
    for pid in backends(server):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    server.resume()


def backends(server: Server) -> list[int]:
    """Return PostgreSQL's processes besides the first one."""
    assert server.process is not None
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def test_the_deadline_is_one_for_all(server: Server, table: str) -> None:
    """Not each step has its time, but all together; what is not saved by then is not there at all."""
    with opened(server.url, 60) as store, store.begin(table):
        pass
    with opened(server.url, 1.5) as store, within(1.5):
        with (
            pytest.raises(StoreError, match=r"not done within db_timeout, 1.5 s: raise modparam"),
            store.begin(table) as rows,
        ):
            rows.insert(item for _ in range(1000) for item in MANY)
        with pytest.raises(StoreError, match="not done within db_timeout"), store.begin(table):
            pass
    assert count(server, table) == 0


def test_a_locked_table_leaves_time_for_the_others(server: Server, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "LOCK", 30)
    with opened(server.url, 60) as store:
        for name in (table, f"{table}b"):
            with store.begin(name) as rows:
                rows.insert(MANY[:2])
    with locked(server, table), opened(server.url, 20) as store, within(20):
        store.clock.others = 3  # so that a quarter of it is for the lock, and the rest for a busy machine
        with pytest.raises(StoreError, match="another process is using it") as caught, store.begin(table) as rows:
            rows.insert(MANY[:2])
        assert not isinstance(caught.value, DatabaseAway)
        store.clock.others = 0
        with store.begin(f"{table}b") as rows:
            rows.insert(MANY[:2])
    assert count(server, table) == 2
    assert count(server, f"{table}b") == 4


@contextlib.contextmanager
def locked(server: Server, table: str) -> Iterator[None]:
    other = server.connect()
    try:
        lock = f"LOCK TABLES {table} WRITE" if server.kind == "mysql" else f"LOCK TABLE {table} IN EXCLUSIVE MODE"
        other.cursor().execute(lock)
        yield
    finally:
        other.close()


def test_the_real_server_with_one_locked_table(servers: Servers, server: Server, table: str) -> None:
    """Its own queue's items stay in memory, the other queue is saved, and the next start has all."""
    two = TwoQueues(servers, server.url, table)
    first = two.start()
    two.add()
    with locked(server, table):
        first.stop(limit=80)
    assert first.process.log_lines("ERROR", f"queue '{table}'", "another process is using it", "its 3 items stay in")
    assert first.process.log_lines(f"queue '{table}b': 3 items saved to its table")
    assert (count(server, table), count(server, f"{table}b")) == (0, 3)
    second = two.start()
    assert [second.call("mq_size", name) for name in two.names] == [3, 3]
    second.stop(limit=60)


class TwoQueues:
    """A server with two queues in one database."""

    def __init__(self, servers: Servers, url: str, table: str) -> None:
        self._servers = servers
        self._url, self.names, self.instance = url, [table, f"{table}b"], new_instance()

    def server(self) -> Any:
        definitions = [f"name={name};dbmode=1" for name in self.names]
        return Kamailio(definitions, params=[("db_url", self._url)], instance=self.instance)

    def start(self) -> Any:
        return self._servers.start(self.server())

    def add(self) -> None:
        for name in self.names:
            with attach(name, self.instance) as queue:
                assert all(queue.add_many(MANY[:3]))


def test_a_refused_start_changes_nothing(servers: Servers, server: Server, table: str) -> None:
    """The second table is refused: the rows of the first one are there still, and nothing is in memory."""
    two = TwoQueues(servers, server.url, table)
    with contextlib.closing(Store.open(server.url)) as store:
        for name in two.names:
            with store.begin(name) as rows:
                rows.insert(MANY[:3])
    with locked(server, f"{table}b"):
        refused = servers.add(two.server())
        refused.refused(80)
        assert refused.process.log_lines("another process is using it")
        assert refused.segments() == []
        assert count(server, table) == 3
    second = two.start()
    assert [second.call("mq_size", name) for name in two.names] == [3, 3]
    second.stop(limit=60)


# --- a database that is away ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["mysql", "postgres"])
def test_a_database_that_is_away_is_tried_again(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each second, and that is told every ten: by a clock on which an attempt takes no time."""
    now, sleeps = [1000.0], list[float]()

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("kemi.store.time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    told: list[str] = []
    with opened(f"{scheme}://u:p@{HOST}:{free_port()}/mq", 20) as store:
        with pytest.raises(DatabaseAway, match="must run and be reachable"):
            store.wait_until_there(12.5, told.append)
    assert sleeps == [1.0] * 12
    assert ["tried again, 12 s more" in told[0], "tried again, 2 s more" in told[1], len(told)] == [True, True, 2]
    assert "(db_retry)" in told[0]


def test_a_database_that_comes_back(mariadb: MariaDb, table: str) -> None:
    mariadb.stop()
    timer = threading.Timer(1.0, mariadb.start)
    timer.start()
    try:
        with opened(mariadb.url, 20) as store:
            store.wait_until_there(60, lambda _: None)
            assert store.prepare([Wanted(table)]) == []
    finally:
        timer.join()
