"""A save or load that is killed, whoever else writes to the table before the next start: each item once, in order.

A process is killed at steps of the transfer (statements, commits, stores, renames: tests.stress.every_crossing), then
somebody else inserts or deletes rows, empties, drops or alters the table, or a second server on the same table loads
them. Only what that one did is missing or besides.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.engine.default import DefaultDialect

import mqueue_kemi
from kemi import app
from kemi.instance import queues
from kemi.queue.shm.naming import path_of, segment_name
from kemi.store import Rows, Store, Transaction, Wanted
from tests.processes.children import Child, Children
from tests.processes.moments import Moments, die
from tests.stress.every_crossing import watch_again, watch_everything

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.databases.conftest import AnyDatabase

FOREIGN = ["foreign 1", "foreign 2"]
SAME_NAME = "loads as an instance of the same name"
_numbers = itertools.count()


def watch(moments: Moments) -> list[int]:
    """Watch everything; return where the moments before commits will be noted."""
    commits: list[int] = []
    commit = DefaultDialect.do_commit

    def noted(*arguments: Any) -> None:
        commits.append(moments.count)
        commit(*arguments)

    DefaultDialect.do_commit = noted
    watch_everything(moments)
    return commits


def around(commits: list[int], total: int) -> list[int]:
    """Return the moments just before and just behind each commit, the first, the last, and how many there are."""
    return [*sorted({1, total, *commits, *(moment + 1 for moment in commits)}), total]


def chosen(moments: list[int], *, every: bool) -> list[int]:
    return sorted({*moments[:-1], *range(1, moments[-1], max(1, moments[-1] // 40))}) if every else moments[:-1]


def at_the_end(moments: list[int]) -> list[int]:
    """Choose those around the commit that counts, and around that of the clearing up behind it."""
    return moments[-6:-1]


class Host:
    """A server on a host of its own, which shares the database with others."""

    def __init__(self, url: str, table: str, name: str, children: Children) -> None:
        self.url, self.table = url, table
        self.instance = f"processes-{os.getpid()}-{name}"
        self.children = children

    def start(self, definition: str = "dbmode=1") -> None:
        for name, value in (("instance", self.instance), ("db_url", self.url)):
            mqueue_kemi.modparam("mqueue", name, value)
        mqueue_kemi.modparam("mqueue", "mqueue", f"name={self.table};{definition}")
        mqueue_kemi.mod_init(object())

    def keys(self) -> list[str]:
        return [item.key for item in queues[self.table].undone()]

    def save(self, keys: list[str], moment: int) -> Child:
        """Start, add, and stop; killed at that moment of the stop, 0 for none. Returns which moments matter."""

        def act() -> list[int]:
            self.start("dbmode=2")
            assert all(queues[self.table].add_many([(key, "v") for key in keys]))
            moments = Moments(moment, die)
            watch_again(queues[self.table], moments)
            commits = watch(moments)
            app.stop_now()
            return around(commits, moments.count)

        return self.children.fork(act)

    def load(self, moment: int) -> Child:
        """Start; killed at that moment. Returns which moments matter."""

        def act() -> list[int]:
            moments = Moments(moment, die)
            commits = watch(moments)
            self.start("dbmode=3")
            return around(commits, moments.count)

        return self.children.fork(act)

    def takes(self) -> list[str]:
        """Start as usual, see what is there, leave nothing."""

        def act() -> list[str]:
            self.start("dbmode=3")
            found = self.keys()
            queues[self.table].clear()
            app.stop_now()
            return found

        found: list[str] = self.children.fork(act).result()
        return found

    @contextlib.contextmanager
    def on_another_host(self) -> Iterator[None]:
        """What is started meanwhile finds nothing of this host's memory, and leaves nothing there."""
        paths = self._files()
        for path in paths:
            os.rename(path, _away(path))
        try:
            yield
            assert self._files() == []
        finally:
            for path in paths:
                os.rename(_away(path), path)

    def _files(self) -> list[str]:
        return sorted(glob.glob(path_of(segment_name(self.instance)) + "*"))

    def clean(self) -> None:
        for path in self._files():
            os.unlink(path)


def _away(path: str) -> str:
    return os.path.join(os.path.dirname(path), "away-" + os.path.basename(path))


@pytest.fixture
def hosts(database: AnyDatabase, table: str) -> Iterator[list[Host]]:
    children = Children()
    both = [Host(database.url, table, name, children) for name in ("one", "two")]
    yield both
    children.end()
    for host in both:
        host.clean()


def rows(database: AnyDatabase, table: str) -> list[str]:
    key = database.quote("key")
    found = [row[0] for row in database.run(f"SELECT {key} FROM {table} ORDER BY id")]
    return [row.decode() if isinstance(row, bytes) else str(row) for row in found]


def put(database: AnyDatabase, table: str, keys: list[str]) -> None:
    with contextlib.closing(Store.open(database.url)) as store, store.begin(table) as into:
        into.insert([(key.encode(), b"v") for key in keys])


CHANGES = {
    "deletes": {"": ["DELETE FROM {0}"]},
    "truncates": {
        "sqlite": ["DELETE FROM {0}", "DELETE FROM sqlite_sequence WHERE name = '{0}'"],
        "mysql": ["TRUNCATE TABLE {0}"],
        "postgres": ["TRUNCATE TABLE {0} RESTART IDENTITY"],
    },
    "drops": {"": ["DROP TABLE {0}"]},
    "alters": {"": ["ALTER TABLE {0} ADD more{1} INTEGER"]},
}


def meddle(how: str, database: AnyDatabase, table: str, one: Host, other: Host) -> list[str]:
    """Do what others do between a kill and the next start of `one`; return the rows that were taken from the table."""
    before = rows(database, table)
    changes = CHANGES.get(how.partition(" ")[0], {})
    for statement in changes.get(database.kind) or changes.get("", []):
        database.run(statement.format(table, next(_numbers)))
    if how == "loads":
        assert other.takes() == before
    elif how == SAME_NAME:
        with one.on_another_host():
            assert one.takes() == before
    if how.endswith("inserts"):
        put(database, table, FOREIGN)
    return [] if how in ("inserts", "alters") else before


def wait_until_ended(database: Any) -> None:
    """A database may notice late that the client is gone; a start waits for it, these tests look at the rows before."""
    if database.kind == "sqlite":
        return
    query = {
        "mysql": "SELECT COUNT(*) FROM information_schema.innodb_trx",
        "postgres": "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'mqueue_kemi'",
    }[database.kind]
    while database.run(query)[0][0]:
        time.sleep(0.2)  # asked again within 0.1 s, InnoDB tells what it told before, for ever


def save(one: Host, _database: AnyDatabase, items: list[str], moment: int) -> Child:
    return one.save(items, moment)


def load(one: Host, database: AnyDatabase, items: list[str], moment: int) -> Child:
    put(database, one.table, items)
    return one.load(moment)


def exact(
    hosts: list[Host],
    database: AnyDatabase,
    transfer: Callable[[Host, AnyDatabase, list[str], int], Child],
    how: str,
    size: int,
    choose: Callable[[list[int]], list[int]],
) -> None:
    """Kill transfers at moments, meddle, and see that the next start has each item once, in order."""
    one, two = hosts
    table, items = one.table, [f"item {number}" for number in range(size)]
    foreign = FOREIGN if how.endswith("inserts") else []
    assert one.takes() == []
    found = transfer(one, database, items, 0).result()
    assert one.takes() == items
    kills, outcomes = 0, set()
    for moment in choose(found):
        child = transfer(one, database, items, moment)
        kills += child.killed_by() == signal.SIGKILL
        wait_until_ended(database)
        there = rows(database, table)
        assert there in ([], items)
        taken = meddle(how, database, table, one, two)
        expected = ([] if taken else items) + foreign if there else foreign + items
        assert one.takes() == expected, f"{how}, killed at moment {moment} of {found[-1]}, {len(there)} rows were there"
        assert rows(database, table) == []
        outcomes.add(bool(there))
    assert kills > 2
    assert outcomes == {True, False}


_long = pytest.mark.stress
SHORT = ["inserts", "loads"]
LONG = ["deletes", "deletes and inserts", "truncates and inserts", "drops", "alters", SAME_NAME]
TRANSFERS = pytest.mark.parametrize("transfer", [save, load])


@pytest.mark.timeout(1800)
@TRANSFERS
@pytest.mark.parametrize("how", [*SHORT, *(pytest.param(how, marks=_long) for how in LONG)])
@pytest.mark.parametrize("size", [2, pytest.param(1, marks=_long), pytest.param(1000, marks=_long)])
def test_killed_anywhere(
    database: AnyDatabase, hosts: list[Host], transfer: Any, how: str, size: int, stress: bool
) -> None:
    with database.connected():
        exact(hosts, database, transfer, how, size, lambda moments: chosen(moments, every=stress))


@TRANSFERS
@pytest.mark.parametrize("how", ["truncates and inserts", "drops", SAME_NAME])
def test_killed_around_the_commit(database: AnyDatabase, hosts: list[Host], transfer: Any, how: str) -> None:
    with database.connected():
        exact(hosts, database, transfer, how, 2, at_the_end)


def without_rights(database: Any, table: str) -> str:
    """Return the URL of a user who may use that table, and none of this module."""
    user = f"small{table}"
    if database.kind == "mysql":
        database.run(f"CREATE USER {user}@'%%' IDENTIFIED BY %s", "secret")
        database.run(f"GRANT SELECT, INSERT, DELETE ON mq.{table} TO {user}@'%'")
    else:
        database.run(f"CREATE USER {user} PASSWORD 'secret'")
        database.run(f"GRANT SELECT, INSERT, DELETE ON {table} TO {user}")
        database.run(f"GRANT USAGE ON SEQUENCE {table}_id_seq TO {user}")
        database.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    return f"{database.kind}://{user}:secret@127.0.0.1:{database.port}/mq"


@pytest.fixture
def untrusted(database: Any, table: str, hosts: list[Host]) -> Host:
    """Return a host whose user may not make tables; there is one row."""
    if database.kind == "sqlite":
        pytest.skip("whoever may write an sqlite file may make tables")
    put(database, table, ["row"])
    hosts[0].url = without_rights(database, table)
    return hosts[0]


def test_killed_when_it_turns_out_that_nothing_takes_the_token(
    untrusted: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start must not ask for a token that cannot be there."""
    note = Transaction.note

    def killed(*call: Any) -> bool:
        assert not note(*call)
        die()
        raise AssertionError

    assert untrusted.takes() == ["row"]
    monkeypatch.setattr(Transaction, "note", killed)
    assert untrusted.save(["item"], 0).killed_by() == signal.SIGKILL
    monkeypatch.undo()
    assert untrusted.takes() == ["item"]


def test_without_a_table_for_the_proof_it_is_said(database: Any, table: str, untrusted: Host) -> None:
    """Who may not make tables is told at the start what is not promised then; what nobody disturbs is right."""
    one = untrusted
    assert one.takes() == ["row"]
    with contextlib.closing(Store.open(one.url)) as store:
        (note,) = store.prepare([Wanted(table)])
    assert "Let an administrator run: CREATE TABLE IF NOT EXISTS mqueue_kemi_transfers" in note
    found = one.save(["item"], 0).result()
    assert one.takes() == ["item"]
    for moment in chosen(found, every=False):
        one.save(["item"], moment).killed_by()
        wait_until_ended(database)
        assert one.takes() == ["item"], moment


@pytest.mark.parametrize("times", [1, 3])
def test_another_server_takes_the_same_rows_at_the_same_time(
    database: AnyDatabase, table: str, hosts: list[Host], monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """One of two that start at once gets them, and the other one starts with what is left then."""
    if database.kind == "sqlite":
        pytest.skip("there the second one waits for the first")
    delete = Rows.delete
    taken: list[int] = []

    def late(*call: Any) -> int:
        if len(taken) < times:
            database.run(f"DELETE FROM {table} WHERE id = (SELECT * FROM (SELECT MIN(id) FROM {table}) AS least)")
            taken.append(1)
        return delete(*call)

    put(database, table, ["a", "b", "c", "d"])
    monkeypatch.setattr(Rows, "delete", late)
    assert hosts[0].takes() == ["a", "b", "c", "d"][times:]
    assert rows(database, table) == []
