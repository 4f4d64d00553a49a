"""What happens to a database while items are on their way to it or from it: each item stays, once, and it is told."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from kemi.crossing import Crossings
from kemi.database.transaction import Commit
from kemi.errors import StoreError
from kemi.store import Store, Wanted
from tests.databases.conftest import running
from tests.databases.proxy import DONE, UNDONE, Proxy
from tests.databases.servers import HOST, MariaDb, Postgres, program
from tests.databases.test_proof import Host, rows
from tests.processes.children import Children

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases.conftest import AnyDatabase
    from tests.databases.servers import SqliteFile

ITEMS = [f"item {number}" for number in range(20)]


@pytest.fixture
def host(database: AnyDatabase, table: str) -> Iterator[Host]:
    children = Children()
    one = Host(database.url, table, "one", children)
    yield one
    children.end()
    one.clean()


# --- a DBA changes the table between the look and the write -----------------------------------------------------------

RENAMES = {
    "": ["ALTER TABLE {0} RENAME TO {0}old"],
    "mysql": ["RENAME TABLE {0} TO {0}old"],
}
SWAPS = {
    "sqlite": "CREATE TABLE {0} (id INTEGER PRIMARY KEY, key TEXT CHECK (length(key) < 7), val TEXT)",
    "mysql": "CREATE TABLE {0} (id INT AUTO_INCREMENT PRIMARY KEY, `key` VARCHAR(6), val TEXT)",
    "postgres": "CREATE TABLE {0} (id SERIAL PRIMARY KEY, key VARCHAR(6), val VARCHAR)",
}
CHANGES = {
    "dropped": lambda kind: ["DROP TABLE {0}"],  # noqa: ARG005 - the same for all
    "renamed": lambda kind: RENAMES.get(kind, RENAMES[""]),
    "swapped": lambda kind: [*RENAMES.get(kind, RENAMES[""]), SWAPS[kind]],
    "a column more": lambda kind: [  # noqa: ARG005
        "ALTER TABLE {0} ADD needed INT DEFAULT 1 NOT NULL",
        "ALTER TABLE {0} ADD added DOUBLE PRECISION",
    ],
}


@pytest.mark.parametrize(
    "change",
    ["swapped", "a column more", *(pytest.param(how, marks=pytest.mark.stress) for how in ("dropped", "renamed"))],
)
def test_a_table_that_changes_when_it_was_looked_at(
    database: AnyDatabase, host: Host, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """In the moment before a stop writes: what cannot be saved stays in memory, and the next start has all."""
    table = host.table
    database.run(SWAPS[database.kind].format(table).replace("CHECK (length(key) < 7)", "").replace("(6)", "(60)"))
    look, save = Store._look, Crossings.save
    stopping: list[bool] = []

    def looked(store: Store, connection: Any, name: str) -> Any:
        found = look(store, connection, name)
        if stopping:
            stopping.clear()
            connection.connection.dbapi_connection.rollback()  # as between any two transactions
            for statement in CHANGES[change](database.kind):
                database.run(statement.format(table))
        return found

    def saving(*arguments: Any) -> Any:
        stopping.append(True)
        return save(*arguments)

    monkeypatch.setattr(Store, "_look", looked)
    monkeypatch.setattr(Crossings, "save", saving)
    host.save(ITEMS, 0).result()
    monkeypatch.undo()
    if change in ("renamed", "swapped"):
        assert rows(database, f"{table}old") == []
    assert host.takes() == ITEMS


# --- the database's server is killed in the commit, and comes back ----------------------------------------------------


@pytest.mark.parametrize("how", [DONE, pytest.param(UNDONE, marks=pytest.mark.stress)])
@pytest.mark.parametrize("kind", [MariaDb, Postgres])
def test_a_server_that_is_killed_in_the_commit(kind: type[Any], how: str, table: str) -> None:
    """The next start finds out from the one that is there then."""
    children = Children()
    with running(kind()) as server:
        proxy = Proxy(server)
        host = Host(proxy.url, table, "one", children)
        try:
            assert host.takes() == []
            proxy.breaks = how
            host.save(ITEMS, 0).result()
            assert proxy.broken == 1
            server.stop(signal.SIGKILL)
            server.start()
            assert rows(server, table) == (ITEMS if how == DONE else [])
            proxy.breaks = ""
            assert host.takes() == ITEMS
            assert rows(server, table) == []
        finally:
            children.end()
            host.clean()


# --- no room is left --------------------------------------------------------------------------------------------------


@pytest.fixture
def small(database: AnyDatabase, table: str, tmp_path: Path) -> Iterator[Path]:
    """Return a folder with room for little, which the database's server may use."""
    folder: Path = getattr(database, "home", tmp_path) / f"small{table}"
    folder.mkdir()
    subprocess.run([program("mount"), "-t", "tmpfs", "-o", "size=4m,mode=1777", "small", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run([program("umount"), "--lazy", str(folder)], check=True)


def put_there(database: Any, table: str, folder: Path) -> str:
    """Make the table in that folder; return the URL."""
    if database.kind == "sqlite":
        return f"sqlite:///{folder}/mq.db"
    place = folder / "data"
    place.mkdir()
    if database.account:
        os.chown(place, database.account["user"], database.account["group"])
    if database.kind == "mysql":
        database.run(
            f"CREATE TABLE {table} (id INT AUTO_INCREMENT PRIMARY KEY, `key` LONGBLOB, val LONGBLOB)"
            f" DATA DIRECTORY = '{place}'"
        )
    else:
        database.run(f"CREATE TABLESPACE {table}s LOCATION '{place}'")
        database.run(f"CREATE TABLE {table} (id SERIAL PRIMARY KEY, key VARCHAR, val VARCHAR) TABLESPACE {table}s")
    return str(database.url)


def test_no_room_is_left(database: AnyDatabase, table: str, small: Path, host: Host) -> None:
    """Nothing is half done: all is in memory, and in the table when there is room again."""
    host.url = put_there(database, table, small)
    items = [f"{number:05}{os.urandom(1000).hex()}" for number in range(4000)]
    with contextlib.closing(Store.open(host.url)) as store:
        store.prepare([Wanted(table)])
        with pytest.raises(StoreError, match="make room there"), store.begin(table) as into:
            into.insert([(item.encode(), b"v") for item in items])
    host.save(items, 0).result()
    with contextlib.closing(Store.open(host.url)) as store, store.begin(table) as into:
        assert into.is_empty()
    assert host.takes() == items
    if database.kind != "sqlite":
        database.run(f"DROP TABLE {table}")
    if database.kind == "postgres":
        database.run(f"DROP TABLESPACE {table}s")


# --- a replica, and other users of a file -----------------------------------------------------------------------------


@pytest.mark.stress
def test_a_real_replica(postgres: Postgres, table: str) -> None:
    """A hot standby of PostgreSQL refuses a start at once, with the cure."""
    with contextlib.closing(Store.open(postgres.url)) as store:
        store.prepare([Wanted(table)])
    replica = Postgres()
    try:
        backup = [program("pg_basebackup", postgres.bin), "-h", str(postgres.home), "-p", str(postgres.port)]
        replica.call(
            [*backup, "-U", "postgres", "-D", f"{replica.home}/data", "-R", "-X", "stream", "--checkpoint=fast"]
        )
        (replica.home / "populated").touch()
        replica.start()
        with contextlib.closing(Store.open(replica.url)) as store, pytest.raises(StoreError) as caught:
            store.prepare([Wanted(table)])
        assert "that server only reads, as a replica does: name the one that writes in db_url" in str(caught.value)
        assert f"{HOST}:{replica.port}" in str(caught.value)
    finally:
        replica.clean()


def test_sqlite_that_is_read_meanwhile(sqlite: SqliteFile, table: str) -> None:
    """Whoever reads for long disturbs nobody where it is written ahead (WAL), and is waited for otherwise."""
    import sqlite3

    sqlite.run("PRAGMA journal_mode = WAL")
    with contextlib.closing(Store.open(sqlite.url)) as store:
        with store.begin(table) as into:
            into.insert([(b"k", b"v")])
        with contextlib.closing(sqlite3.connect(sqlite.path)) as reader:
            reader.execute("BEGIN")
            assert reader.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (1,)
            with store.begin(table) as into:
                into.insert([(b"k", b"w")] * 5000)
            with store.begin(table) as into:
                assert len(list(into.drain())) == 5001
            assert reader.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (1,)


def test_an_answer_that_says_nothing_of_the_commit(
    database: AnyDatabase, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception of a signal handler behind the commit: the items are there, and are not taken for lost."""
    run = Commit.run
    stopping: list[bool] = []

    def struck(commit: Commit, *arguments: Any) -> None:
        run(commit, *arguments)
        if stopping:
            stopping.clear()
            raise KeyboardInterrupt

    save = Crossings.save

    def saving(*arguments: Any) -> Any:
        stopping.append(True)
        return save(*arguments)

    monkeypatch.setattr(Commit, "run", struck)
    monkeypatch.setattr(Crossings, "save", saving)
    host.save(ITEMS, 0).wait(60.0)
    monkeypatch.undo()
    assert host.takes() == ITEMS
    assert rows(database, host.table) == []
