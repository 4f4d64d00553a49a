"""The connection breaks during the COMMIT of a save or a load: each item once, in order, whatever became of it.

The real Kamailio, its stop and start, and a proxy between it and a real database. Processes outside try to use the
queue until the next start has found out where its items are.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from kemi.database import clock, drivers
from kemi.errors import MqueueError, StoreError
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from kemi.store import Store
from tests.conftest import HANG
from tests.databases.proxy import DONE, GIVEN_UP, LATE, UNDONE, Proxy
from tests.databases.test_servers import Life, count
from tests.server.harness import Servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.databases.servers import DatabaseServer

ITEMS = [(b"%d" % number, b"call from %d" % number) for number in range(2000)]


@pytest.fixture(params=["mariadb", "postgres"])
def database(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def proxy(database: DatabaseServer) -> Iterator[Proxy]:
    with Proxy(database) as opened:
        yield opened


def meddled(queue: Queue) -> bool:
    """Try to use the queue as a process outside does; tell whether that worked."""
    worked = False
    with contextlib.suppress(MqueueError):
        worked = queue.fetch() is not None
    with contextlib.suppress(MqueueError):
        worked = queue.add("late", "v") == ADDED or worked
    return worked


@contextlib.contextmanager
def delivering(proxy: Proxy, after: float) -> Iterator[None]:
    """Let the database have a late COMMIT, or the connection's end, while the next server starts."""
    timer = threading.Timer(after, proxy.deliver)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.mark.parametrize("how", [DONE, UNDONE, LATE, GIVEN_UP])
def test_at_the_stop(servers: Servers, database: DatabaseServer, proxy: Proxy, table: str, how: str) -> None:
    life = Life(servers, proxy.url, table)
    first = life.start()
    life.added(ITEMS)
    queue = Queue.attach(life.instance, table)
    proxy.breaks = how
    first.stop(limit=60)
    proxy.breaks = ""
    assert proxy.broken == 1
    assert first.process.log_lines("ERROR", "all may be done or nothing", "until the next start has found out")
    assert count(database, table) == (len(ITEMS) if how == DONE else 0)
    assert not meddled(queue)
    with delivering(proxy, 2.0):
        second = life.start()
    assert count(database, table) == 0
    assert life.taken() == ITEMS
    second.stop(limit=60)
    assert count(database, table) == 0


@pytest.mark.parametrize("how", [DONE, UNDONE, LATE, GIVEN_UP])
@pytest.mark.parametrize("crashed", [False, True])
def test_at_the_start(
    servers: Servers, database: DatabaseServer, proxy: Proxy, table: str, how: str, crashed: bool
) -> None:
    life = Life(servers, proxy.url, table)
    with Store.open(database.url).begin(table) as rows:
        rows.insert(ITEMS)
    more = [(b"a", b"in memory"), (b"b", b"in memory")] if crashed else []
    queue = None
    if crashed:
        zero = life.start(dbmode=0)
        life.added(more)
        queue = Queue.attach(life.instance, table)
        zero.process.kill()
    proxy.breaks = how
    first = servers.add(life.server())
    first.refused(60)
    proxy.breaks = ""
    assert proxy.broken == 1
    assert first.process.log_lines("all may be done or nothing")
    assert count(database, table) == (0 if how == DONE else len(ITEMS))
    if queue:
        assert not meddled(queue)
    with delivering(proxy, 2.0):
        second = life.start()
    assert count(database, table) == 0
    assert life.taken() == ITEMS + more
    second.stop(limit=60)
    assert second.segments() == []


def test_one_that_never_ends(
    database: DatabaseServer, proxy: Proxy, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that does not notice that the client is gone is waited for, not for ever, and ends it by itself."""
    monkeypatch.setattr(clock, "LOCK", 1)
    monkeypatch.setattr(drivers, "IDLE_TIMEOUT", 10)
    store = Store.open(proxy.url)
    with store.begin(table) as rows:
        rows.insert(ITEMS[:1])
    proxy.breaks = GIVEN_UP
    with pytest.raises(StoreError, match="all may be done or nothing"), store.begin(table) as rows:
        rows.insert(ITEMS[1:])
    with pytest.raises(StoreError, match="another process is using it"), store.begin(table) as rows:
        rows.wait_for_others(2)
    until, waits = time.monotonic() + HANG, True
    while waits:
        assert time.monotonic() < until
        with contextlib.suppress(StoreError), store.begin(table) as rows:
            rows.wait_for_others(2)
            waits = False
    assert count(database, table) == 1


def test_who_ends_while_it_is_waited_for(database: Any, table: str) -> None:
    """A reader waits for no one, and no writer waits for a reader that is done."""
    store = Store.open(database.url)
    with store.begin(table) as rows:
        rows.insert(ITEMS[:3])
    with store.begin(table) as rows:
        rows.wait_for_others(2)
    with store.begin(table) as rows:
        assert rows.delete(1, 3) == 3
