"""What operators do to a database while their servers run: each item stays, once, in order, and the cause is told."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mqueue_kemi
from kemi import app
from kemi.database.insertion import Insertion
from kemi.errors import StoreError
from kemi.instance import queues
from kemi.store import Rows, Store, Wanted
from tests.databases.conftest import running
from tests.databases.servers import PASSWORD, Postgres, SqliteFile
from tests.databases.test_others import POSTGRES
from tests.databases.test_proof import Host, put, rows
from tests.databases.test_start import SERIAL
from tests.processes.children import ChildError, Children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.databases.conftest import AnyDatabase
    from tests.databases.servers import MariaDb

ITEMS = [f"item {number}" for number in range(2500)]
KINDS = {"mysql": "mariadb", "postgres": "postgres", "sqlite": "sqlite"}
USER = {"mysql": "kamailio@'%'", "postgres": "kamailio"}


def plain(database: AnyDatabase, table: str, number: str = "", kind: str = "VARCHAR(99)") -> None:
    """Make a table of the C module's columns."""
    number = number or SERIAL[database.kind]
    database.run(f"CREATE TABLE {table} (id {number}, {database.quote('key')} {kind}, val {kind})")


@pytest.fixture
def host_of(table: str) -> Iterator[Any]:
    """Return what makes a server on a host of its own, with its queue's table in that database."""
    children = Children()
    made: list[Host] = []

    def make(database: AnyDatabase) -> Host:
        made.append(Host(database.url, table, f"host{len(made)}", children))
        return made[-1]

    yield make
    children.end()
    for host in made:
        host.clean()


@pytest.fixture
def host(host_of: Any, database: AnyDatabase) -> Host:
    made: Host = host_of(database)
    return made


# --- between the start and the stop -----------------------------------------------------------------------------------

# What is done for the time of the stop, what takes it back, and what the log tells.
BETWEEN: dict[tuple[str, str], tuple[list[str], list[str], str]] = {
    ("mysql", "it only reads"): (["SET GLOBAL read_only = 1"], ["SET GLOBAL read_only = 0"], "that server only reads"),
    ("mysql", "another password"): (
        ["ALTER USER {user} IDENTIFIED BY 'other'"],
        ["ALTER USER {user} IDENTIFIED BY {password}"],
        "check user and password of db_url",
    ),
    ("mysql", "the account is locked"): (
        ["ALTER USER {user} ACCOUNT LOCK"],
        ["ALTER USER {user} ACCOUNT UNLOCK"],
        "unlock the account",
    ),
    ("mysql", "the password has expired"): (
        ["ALTER USER {user} PASSWORD EXPIRE"],
        ["ALTER USER {user} PASSWORD EXPIRE NEVER", "ALTER USER {user} IDENTIFIED BY {password}"],
        "give the user of db_url a new password",
    ),
    ("mysql", "few statements an hour"): (
        ["GRANT USAGE ON *.* TO {user} WITH MAX_QUERIES_PER_HOUR 20"],
        ["GRANT USAGE ON *.* TO {user} WITH MAX_QUERIES_PER_HOUR 0", "FLUSH USER_RESOURCES"],
        "let the user of db_url do more in an hour",
    ),
    ("mysql", "few changes an hour"): (
        ["GRANT USAGE ON *.* TO {user} WITH MAX_UPDATES_PER_HOUR 3"],
        ["GRANT USAGE ON *.* TO {user} WITH MAX_UPDATES_PER_HOUR 0", "FLUSH USER_RESOURCES"],
        "let the user of db_url do more in an hour",
    ),
    ("mysql", "no rights are left"): (
        ["REVOKE ALL ON mq.* FROM {user}"],
        ["GRANT ALL ON mq.* TO {user}"],
        "check user and password of db_url, and what this host may do there",
    ),
    ("postgres", "it only reads"): (
        ["ALTER ROLE {user} SET default_transaction_read_only = on"],
        ["ALTER ROLE {user} RESET default_transaction_read_only"],
        "that server only reads",
    ),
    ("postgres", "nobody may log in"): (
        ["ALTER ROLE {user} NOLOGIN"],
        ["ALTER ROLE {user} LOGIN"],
        "let the user of db_url log in there: unlock the account",
    ),
    ("postgres", "the password has expired"): (
        ["ALTER ROLE {user} VALID UNTIL 'yesterday'"],
        ["ALTER ROLE {user} VALID UNTIL 'infinity'"],
        "check user and password of db_url",
    ),
    ("postgres", "it has no connection left"): (
        ["ALTER DATABASE mq CONNECTION LIMIT 0"],
        ["ALTER DATABASE mq CONNECTION LIMIT -1"],
        "it has no connection left",
    ),
    ("postgres", "a right was taken away"): (
        ["REVOKE ALL ON {table}_id_seq FROM {user}"],
        ["GRANT ALL ON {table}_id_seq TO {user}"],
        "GRANT USAGE ON SEQUENCE",
    ),
    ("postgres", "no right to connect is left"): (
        ["REVOKE ALL ON DATABASE mq FROM PUBLIC, {user}"],
        ["GRANT ALL ON DATABASE mq TO {user}", "GRANT CONNECT, TEMPORARY ON DATABASE mq TO PUBLIC"],
        "GRANT CONNECT ON DATABASE",
    ),
}


SHORT = ["it only reads", "few changes an hour", "nobody may log in"]


class Stop:
    """A server that starts, gets items, and stops when something else has been done. Its log is read."""

    def __init__(self, host: Host, log: Path) -> None:
        self._host, self._log = host, log

    def after(self, *, do: Any = lambda: None, watch: Any = lambda: None) -> str:
        """Stop it; returns the log of the stop. do: in this process, before the stop; watch: in the server."""
        read, write = os.pipe()

        def act() -> None:
            os.close(write)
            self._host.start("dbmode=2")
            assert all(queues[self._host.table].add_many([(key, "v") for key in ITEMS]))
            started.set()
            os.read(read, 1)
            watch()
            logging.getLogger("mqueue_kemi").addHandler(logging.FileHandler(self._log))
            app.stop_now()

        started = multiprocessing.Event()
        child = self._host.children.fork(act)
        os.close(read)
        try:
            assert started.wait(60)
            do()
        finally:
            os.close(write)
        child.result()
        return self._log.read_text()


@pytest.fixture
def stop_of(tmp_path: Path) -> Any:
    return lambda host: Stop(host, tmp_path / "log")


@pytest.fixture
def stop(host: Host, stop_of: Any) -> Stop:
    made: Stop = stop_of(host)
    return made


@pytest.mark.parametrize(
    ("kind", "how"), [pytest.param(*case, marks=[] if case[1] in SHORT else pytest.mark.stress) for case in BETWEEN]
)
def test_what_changed_since_the_start(
    request: pytest.FixtureRequest, host_of: Any, stop_of: Any, table: str, kind: str, how: str
) -> None:
    """Nothing can be saved: all stays in memory, the log tells the cause, and the next start has all."""
    server: Any = request.getfixturevalue(KINDS[kind])
    host = host_of(server)
    plain(server, table)
    do, undo, told = BETWEEN[kind, how]

    def run(statements: list[str]) -> None:
        for statement in statements:
            given = [PASSWORD] if "{password}" in statement else []
            user = USER[kind].replace("%", "%%") if given else USER[kind]
            server.run(statement.format(table=table, user=user, password="%s"), *given)  # noqa: S106 a place for it

    assert host.takes() == []
    try:
        log = stop_of(host).after(do=lambda: run(do))
    finally:
        run(undo)
    assert told in log, log
    assert f"its {len(ITEMS)} items stay in" in log
    assert PASSWORD not in log
    assert rows(server, table) == []
    assert host.takes() == ITEMS


# --- a file between the start and the stop ----------------------------------------------------------------------------


def a_folder(path: Path) -> None:
    path.rename(f"{path}.old")
    path.mkdir()


def no_folder(path: Path) -> None:
    path.parent.rename(f"{path.parent}.old")


def letters(path: Path) -> None:
    path.rename(f"{path}.old")
    path.write_text("letters " * 1000)


def a_pipe(path: Path) -> None:
    path.rename(f"{path}.old")
    os.mkfifo(path)


def a_link_to_nowhere(path: Path) -> None:
    path.rename(f"{path}.old")
    path.symlink_to(path.parent / "nowhere" / "file")


def damaged(path: Path) -> None:
    """Have zeros where the root of the queue's table is."""
    shutil.copy(path, f"{path}.old")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(path.stat().st_size - 4096))


def back(path: Path) -> None:
    folder = Path(f"{path.parent}.old")
    if folder.exists():
        folder.rename(path.parent)
        return
    path.rmdir() if path.is_dir() else path.unlink()
    Path(f"{path}.old").rename(path)


FILES = {
    a_folder: "that is a folder; name a file in it",
    no_folder: "there is no folder",
    letters: "names a file that is no sqlite database",
    a_pipe: "",
    a_link_to_nowhere: "the file and its folder must be writable",
    damaged: "or is damaged; move it away",
}


@pytest.mark.parametrize("change", FILES)
def test_what_changed_with_a_file(host_of: Any, stop_of: Any, tmp_path: Path, change: Any) -> None:
    folder = tmp_path / "db"
    folder.mkdir()
    database = SqliteFile(folder / "mq.db")
    host = host_of(database)
    assert host.takes() == []
    try:
        log = stop_of(host).after(do=lambda: change(database.path))
    finally:
        back(database.path)
    assert FILES[change] in log, log
    assert f"its {len(ITEMS)} items stay in" in log, log
    assert rows(database, host.table) == []
    assert host.takes() == ITEMS


def test_a_file_that_is_removed(host_of: Any, sqlite: SqliteFile, stop_of: Any) -> None:
    """Another one is made at the stop."""
    host = host_of(sqlite)
    assert host.takes() == []
    assert f"{len(ITEMS)} items saved" in stop_of(host).after(do=sqlite.path.unlink)
    assert rows(sqlite, host.table) == ITEMS
    assert host.takes() == ITEMS


@pytest.mark.parametrize("mode", ["DELETE", pytest.param("WAL", marks=pytest.mark.stress)])
def test_a_file_that_another_one_writes_to(host_of: Any, sqlite: SqliteFile, stop_of: Any, mode: str) -> None:
    sqlite.run(f"PRAGMA journal_mode = {mode}")
    host = host_of(sqlite)
    assert host.takes() == []
    other = sqlite3.connect(sqlite.path, isolation_level=None)
    try:
        log = stop_of(host).after(do=lambda: other.execute("BEGIN IMMEDIATE"))
    finally:
        other.close()
    assert "another process is using it; try again when it has ended" in log
    assert f"its {len(ITEMS)} items stay in" in log
    assert host.takes() == ITEMS


# --- in the middle of a save or load ----------------------------------------------------------------------------------

KILL = {
    "mysql": "SELECT id FROM information_schema.processlist WHERE user = 'kamailio'",
    "postgres": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mqueue_kemi'",
}


def kill_connections(server: Any) -> None:
    """As an administrator does, or a pooler with a limit in time."""
    for row in server.run(KILL[server.kind]):
        if server.kind == "mysql":
            server.run(f"KILL {row[0]}")


@pytest.fixture(params=["mariadb", "postgres"])
def database(request: pytest.FixtureRequest) -> Any:
    """Return those that are servers."""
    return request.getfixturevalue(request.param)


def on_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, action: Any) -> None:
    """Do something before the call of that number, in this process and those that it forks."""
    function, calls = getattr(owner, name), itertools.count(1)

    def called(*arguments: Any, **named: Any) -> Any:
        if next(calls) == number:
            action()
        return function(*arguments, **named)

    monkeypatch.setattr(owner, name, called)


def test_the_connection_is_killed_in_a_save(
    database: Any, host: Host, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert host.takes() == []
    log = stop.after(watch=lambda: on_call(monkeypatch, Insertion, "add", 3, lambda: kill_connections(database)))
    assert "its 2500 items stay in" in log
    assert "the database must run and be reachable" in log
    assert rows(database, host.table) == []
    assert host.takes() == ITEMS


def test_the_connection_is_killed_in_a_load(database: Any, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start is refused, and nothing is changed."""
    put(database, host.table, ITEMS)
    on_call(monkeypatch, Rows, "_span", 3, lambda: kill_connections(database))
    with pytest.raises(ChildError, match="the database must run and be reachable"):
        host.takes()
    monkeypatch.undo()
    assert rows(database, host.table) == ITEMS
    assert host.takes() == ITEMS


@pytest.mark.parametrize("killed", [False, True])
def test_a_backup_that_holds_commits_up(
    mariadb: MariaDb, host_of: Any, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """FLUSH TABLES WITH READ LOCK just before the commit: it is not known how that ends, and the next start knows."""
    host = host_of(mariadb)
    assert host.takes() == []
    backup = mariadb.connect(admin=True)

    def commit_is_held_up() -> None:
        backup.cursor().execute("FLUSH TABLES WITH READ LOCK")
        if killed:
            signal.setitimer(signal.ITIMER_REAL, 1.0)  # in the commit, which goes on in the server

    def act() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        mqueue_kemi.modparam("mqueue", "db_timeout", 6)
        host.start("dbmode=2")
        assert all(queues[host.table].add_many([(key, "v") for key in ITEMS]))
        on_call(monkeypatch, Insertion, "check", 1, commit_is_held_up)
        app.stop_now()

    try:
        child = host.children.fork(act)
        assert child.killed_by() == (signal.SIGALRM if killed else 0)
        assert rows(mariadb, host.table) == []
        backup.cursor().execute("UNLOCK TABLES")
        assert host.takes() == ITEMS
        assert rows(mariadb, host.table) == []
    finally:
        backup.close()


@pytest.mark.parametrize("killed", [False, True])
def test_a_replica_that_must_agree_is_away(
    postgres: Postgres, host_of: Any, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """PostgreSQL with a synchronous replica that is down keeps each commit waiting: done here, and nowhere else."""
    host = host_of(postgres)
    assert host.takes() == []

    def act() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        mqueue_kemi.modparam("mqueue", "db_timeout", 6)
        host.start("dbmode=2")
        assert all(queues[host.table].add_many([(key, "v") for key in ITEMS]))
        if killed:
            on_call(monkeypatch, Insertion, "check", 1, lambda: signal.setitimer(signal.ITIMER_REAL, 1.0))
        app.stop_now()

    postgres.run("ALTER SYSTEM SET synchronous_standby_names = 'away'")
    postgres.run("SELECT pg_reload_conf()")
    try:
        child = host.children.fork(act)
        assert child.killed_by() == (signal.SIGALRM if killed else 0)
    finally:
        postgres.run("ALTER SYSTEM RESET synchronous_standby_names")
        postgres.run("SELECT pg_reload_conf()")
    assert host.takes() == ITEMS
    assert rows(postgres, host.table) == []


# --- several servers with one table -----------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "mariadb", "postgres"])
def any_database(request: pytest.FixtureRequest) -> Any:
    """Return each of the databases in turn."""
    return request.getfixturevalue(request.param)


def test_two_servers_at_the_same_moment(any_database: Any, host_of: Any, table: str) -> None:
    """Both start at once, and get each row once; both stop at once, and each item is there once, in order."""
    barrier = multiprocessing.Barrier(2)

    def act(host: Host, group: str) -> list[str]:
        barrier.wait(60)
        host.start("dbmode=1")
        found = host.keys()
        assert all(queues[table].add_many([(f"{group} {key}", "v") for key in ITEMS]))
        barrier.wait(60)
        app.stop_now()
        return found

    hosts = [host_of(any_database), host_of(any_database)]
    groups: list[str] = []
    for life in range(3):
        forked = []
        for host in hosts:
            groups.append(f"{life} {host.instance}")
            forked.append(host.children.fork(functools.partial(act, host, groups[-1])))
        found = [child.result(120) for child in forked]
        assert sorted(found[0] + found[1]) == sorted(f"{group} {key}" for group in groups[:-2] for key in ITEMS)
        there = rows(any_database, table)
        assert len(there) == len(groups) * len(ITEMS)
        for group in groups:
            assert [key for key in there if key.startswith(group)] == [f"{group} {key}" for key in ITEMS]


# --- rows that others wrote -------------------------------------------------------------------------------------------


def test_times_that_are_none(any_database: Any, host_of: Any, table: str) -> None:
    """Anybody may write anything into the column of times: such an item was added just now."""
    times = {
        "sqlite": ["'letters'", "x'00'", "1e300", "-1", "9e999", "NULL", "1700000000.25"],
        "mysql": ["1e300", "-1e300", "-1", "1e18", "NULL", "1700000000.25"],
        "postgres": ["'NaN'", "'Infinity'", "'-Infinity'", "1e300", "-1", "NULL", "1700000000.25"],
    }[any_database.kind]
    key = any_database.quote("key")
    with contextlib.closing(Store.open(any_database.url)) as store:
        store.prepare([Wanted(table)])
        for number, added in enumerate(times):
            any_database.run(f"INSERT INTO {table} ({key}, val, added) VALUES ('{number}', 'v', {added})")
        with store.begin(table) as into:
            assert [row.added for row in into.read()] == [None] * (len(times) - 1) + [1_700_000_000.25]
    host = host_of(any_database)

    def act() -> list[float]:
        host.start("dbmode=3")
        ages = [item.age for item in queues[table].undone()]
        queues[table].clear()
        app.stop_now()
        return ages

    ages = host.children.fork(act).result()
    assert len(ages) == len(times)
    assert max(ages[:-1]) < 300 < ages[-1]


def test_times_come_back_as_they_were(any_database: Any, table: str) -> None:
    given = [time.time() + number / 1237 for number in range(3000)]
    with contextlib.closing(Store.open(any_database.url)) as store:
        store.prepare([Wanted(table)])
        with store.begin(table) as into:
            into.insert([(b"k", b"v", added) for added in given])
        with store.begin(table) as into:
            assert [item[2] for item in into.drain()] == given


TWICE = {
    "postgres": {
        "a child": [POSTGRES + ")", "CREATE TABLE {0}c () INHERITS ({0})", "INSERT INTO {0}c SELECT * FROM {0}"],
        "some rows": [
            "CREATE TABLE {0} (id BIGSERIAL, key varchar, val varchar)",
            "CREATE UNIQUE INDEX ON {0} (id) WHERE key = 'x'",
            "INSERT INTO {0} SELECT * FROM {0}",
        ],
    },
    "sqlite": {
        "some rows": [
            "CREATE TABLE {0} (id INT, key TEXT, val TEXT)",
            "CREATE UNIQUE INDEX {0}i ON {0} (id) WHERE key = 'x'",
            "INSERT INTO {0} SELECT * FROM {0}",
        ],
    },
    "mysql": {
        "no index": [
            "CREATE TABLE {0} (id INT, `key` BLOB, val BLOB)",
            "INSERT INTO {0} SELECT * FROM {0}",
        ],
    },
}


@pytest.mark.parametrize(("kind", "how"), [(kind, how) for kind, ways in TWICE.items() for how in ways])
def test_two_rows_with_one_id(request: pytest.FixtureRequest, table: str, kind: str, how: str) -> None:
    """Where an index does not speak for all rows, they are counted, and what is wrong is told."""
    server: Any = request.getfixturevalue(KINDS[kind])
    *made, twice = TWICE[kind][how]
    for statement in made:
        server.run(statement.replace("{0}", table))
    key = server.quote("key")
    for number in range(3):
        server.run(f"INSERT INTO {table} (id, {key}, val) VALUES ({number}, 'k{number}', 'v')")
    server.run(twice.replace("{0}", table))
    with contextlib.closing(Store.open(server.url)) as store:
        with pytest.raises(StoreError, match="two of its rows have the same id"), store.begin(table) as into:
            list(into.drain())
    assert len(rows(server, table)) == 6


# --- the tables of this module ----------------------------------------------------------------------------------------


@pytest.fixture
def own_database(database: Any, table: str) -> str:
    """Return the URL of a database in which nothing is."""
    database.run(f"CREATE DATABASE {table}d" + (" OWNER kamailio" if database.kind == "postgres" else ""))
    if database.kind == "mysql":
        database.run(f"GRANT ALL ON {table}d.* TO kamailio@'%'")
    return f"{database.url.rpartition('/')[0]}/{table}d"


def test_proofs_that_prove_nothing(database: Any, own_database: str, table: str) -> None:
    """Where the proof would outlive what it proves, or not live as long, it is not trusted, and that is told."""
    alter = {
        "mysql": f"ALTER TABLE {table}d.mqueue_kemi_transfers ENGINE=MyISAM",
        "postgres": "ALTER TABLE mqueue_kemi_transfers SET UNLOGGED",
    }[database.kind]
    with contextlib.closing(Store.open(own_database)) as store:
        assert store.prepare([Wanted(table)]) == []
        with store.begin(table, keeps_unfit=True):
            pass
        if database.kind == "mysql":
            database.run(alter)
        else:
            with store.transaction([]) as work:
                work._connection.exec_driver_sql(alter)
    with contextlib.closing(Store.open(own_database)) as store:
        with store.transaction([table]) as work:
            assert not work.note(7, "instance", table)
        (note,) = store.prepare([Wanted(table)])
    cure = "ENGINE=InnoDB" if database.kind == "mysql" else "SET LOGGED"
    assert f"ALTER TABLE mqueue_kemi_transfers {cure}" in note


# --- what a server says, and in which language ------------------------------------------------------------------------


def test_mysql_in_another_language(mariadb: MariaDb, table: str) -> None:
    """What to do is looked up by English reasons; and whether it is an item that is unfit, or the table."""
    mariadb.run("SET GLOBAL lc_messages = 'de_DE'")
    try:
        plain(mariadb, table, "TINYINT AUTO_INCREMENT PRIMARY KEY")
        with contextlib.closing(Store.open(mariadb.url)) as store:
            store.prepare([Wanted(table)])
            with pytest.raises(StoreError, match="column id has no number left"):
                with store.begin(table, keeps_unfit=True) as into:
                    into.insert([(b"k", b"v")] * 200)
        with contextlib.closing(Store.open(mariadb.url.replace("/mq", "/none"))) as store:
            with pytest.raises(StoreError, match="what this host may do there"), store.begin(table):
                pass
    finally:
        mariadb.run("SET GLOBAL lc_messages = 'en_US'")


class German(Postgres):
    """PostgreSQL as it is set up on a German host; in English where its translations are not installed."""

    def __init__(self) -> None:
        super().__init__()
        self.environment["LANGUAGE"] = "de"

    def argv(self) -> list[str]:
        return [*super().argv(), "-c", "lc_messages=C.UTF-8"]


def test_postgres_in_another_language(table: str) -> None:
    """By its codes, whatever its words: what to do, and whether it is an item that is unfit."""
    with running(German()) as server:
        for name, columns in (
            ("needs", "id SERIAL PRIMARY KEY, key varchar, val varchar, more int NOT NULL"),
            ("numbers", "id INT PRIMARY KEY, key varchar, val varchar"),
            ("behind", "id SERIAL PRIMARY KEY, key varchar, val varchar"),
            ("denied", "id SERIAL PRIMARY KEY, key varchar, val varchar"),
            ("policy", "id SERIAL PRIMARY KEY, key varchar, val varchar"),
        ):
            server.run(f"CREATE TABLE {name} ({columns})")
        server.run("INSERT INTO behind VALUES (1, 'k', 'v')")
        server.run("REVOKE INSERT ON denied FROM kamailio")
        server.run("ALTER TABLE policy ENABLE ROW LEVEL SECURITY")
        server.run("CREATE POLICY p ON policy USING (true) WITH CHECK (val <> 'x')")
        with contextlib.closing(Store.open(server.url)) as store:
            for name, cure in (
                ("needs", "give that column a default value"),
                ("numbers", "give column id automatic numbers"),
                ("behind", "its automatic ones are behind the rows"),
                ("denied", "INSERT"),
            ):
                with pytest.raises(StoreError, match=cure):
                    store.prepare([Wanted(name)])
            store.prepare([Wanted("policy")])
            with store.begin("policy", keeps_unfit=True) as into:
                into.insert([(b"1", b"v"), (b"2", b"x"), (b"3", b"v")])
                assert into.unfit == 1
        with contextlib.closing(Store.open(server.url.replace("/mq", f"/{table}"))) as store:
            with pytest.raises(StoreError), store.begin(table):
                pass


@pytest.mark.parametrize("setting", ["max_join_size = 10", "sql_auto_is_null = 1", "lc_messages = 'de_DE'"])
def test_mysql_settings(mariadb: MariaDb, table: str, setting: str) -> None:
    """A server may be set up for people who type."""
    mariadb.run("SET GLOBAL init_connect = %s", f"SET {setting}")
    try:
        put(mariadb, table, ITEMS)
        with contextlib.closing(Store.open(mariadb.url)) as store, store.begin(table) as into:
            assert [item[0].decode() for item in into.drain()] == ITEMS
    finally:
        mariadb.run("SET GLOBAL init_connect = ''")


def test_postgres_time_outs_of_a_role(postgres: Postgres, table: str) -> None:
    """None of the server's own limits in time holds for a save; the clock here does."""
    query = "SELECT name, setting FROM pg_settings WHERE name LIKE '%timeout' AND context = 'user'"
    names = [name for name, _ in postgres.run(query) if "tcp" not in name]
    try:
        for name in names:
            postgres.run(f"ALTER ROLE kamailio SET {name} = '77s'")
        with contextlib.closing(Store.open(postgres.url)) as store, store.transaction([table]) as work:
            found = dict(work._connection.exec_driver_sql(query.replace("%", "%%")).fetchall())
        assert found["statement_timeout"] != "77000"
        assert found["lock_timeout"] != "77000"
        assert found["idle_in_transaction_session_timeout"] == "300000"
        assert found.get("transaction_timeout", "0") == "0"
    finally:
        postgres.run("ALTER ROLE kamailio RESET ALL")
