"""A table that refuses one item, by an error or without a word: the others are in it, and this one keeps its place.

And one that refuses every item is found out at the start.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import Contended, StoreError
from kemi.store import Rows, Store, Wanted
from tests.databases.test_proof import CHANGES, Host, rows
from tests.databases.test_start import SERIAL
from tests.processes.children import Children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.databases.conftest import AnyDatabase
    from tests.databases.servers import Postgres, SqliteFile

KEY = {"sqlite": "TEXT", "mysql": "VARCHAR(64)", "postgres": "VARCHAR"}
SQLITE_TRIGGER = "CREATE TRIGGER {0}t BEFORE INSERT ON {0} WHEN NEW.val {1} BEGIN SELECT RAISE({2}); END"
SQLITE_AFTER = "CREATE TRIGGER {0}t AFTER INSERT ON {0} WHEN NEW.val {1} BEGIN {2}; END"
MYSQL_TRIGGER = "CREATE TRIGGER {0}t BEFORE INSERT ON {0} FOR EACH ROW IF NEW.val {1} THEN {2}; END IF"
FUNCTION = (
    "CREATE FUNCTION {0}f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.val {1} THEN {2}; END IF; {3}; END$$"
)
TRIGGER = "CREATE {1} ON {0} {2} FOR EACH ROW EXECUTE FUNCTION {0}f()"
BEFORE = TRIGGER.replace("{1}", "TRIGGER t BEFORE INSERT").replace("{2}", "")
AFTER = TRIGGER.replace("{1}", "TRIGGER t AFTER INSERT").replace("{2}", "")
CONSTRAINT = TRIGGER.replace("{1}", "CONSTRAINT TRIGGER t AFTER INSERT").replace("{2}", "DEFERRABLE INITIALLY DEFERRED")
RULE = "CREATE RULE r AS ON INSERT TO {0} WHERE NEW.val {1} DO "


def function(then: str, otherwise: str = "RETURN NEW") -> str:
    return FUNCTION.replace("{2}", then).replace("{3}", otherwise)


# What is done to a table (0: its name, 1: which values are refused).
WAYS = {
    "sqlite": {
        "left out": [SQLITE_TRIGGER.replace("{2}", "IGNORE")],
        "abort": [SQLITE_TRIGGER.replace("{2}", "ABORT, 'no'")],
        "fail": [SQLITE_TRIGGER.replace("{2}", "FAIL, 'no'")],
        "taken away": [SQLITE_AFTER.replace("{2}", "DELETE FROM {0} WHERE id = NEW.id")],
        "one more": [SQLITE_AFTER.replace("{2}", "INSERT INTO {0} (key, val) VALUES ('more', 'more')")],
        "changed": [SQLITE_AFTER.replace("{2}", "UPDATE {0} SET val = '' WHERE id = NEW.id")],
        "an index that reads JSON": ["CREATE INDEX {0}i ON {0} (json_extract(iif(val {1}, '{', '{}'), '$.x'))"],
    },
    "mysql": {
        "signal": [MYSQL_TRIGGER.replace("{2}", "SIGNAL SQLSTATE '45000'")],
        "a number of its own": [MYSQL_TRIGGER.replace("{2}", "SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 31001")],
        "a lock's number": [MYSQL_TRIGGER.replace("{2}", "SIGNAL SQLSTATE '45001' SET MYSQL_ERRNO = 1205")],
        "a state of its own": [MYSQL_TRIGGER.replace("{2}", "SIGNAL SQLSTATE 'MQ001' SET MYSQL_ERRNO = 1000")],
        "no state": [MYSQL_TRIGGER.replace("{2}", "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 31001")],
        "a great number": [MYSQL_TRIGGER.replace("{2}", "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 50001")],
        "not found": [MYSQL_TRIGGER.replace("{2}", "SIGNAL SQLSTATE '02000'")],
        "null": [MYSQL_TRIGGER.replace("{2}", "SET NEW.val = NULL")],
        "changed": [MYSQL_TRIGGER.replace("{2}", "SET NEW.val = ''")],
        "a foreign key": [
            "CREATE TABLE {0}p (val VARCHAR(64) PRIMARY KEY)",
            "INSERT INTO {0}p VALUES ('1e3'), ('v'), ('x')",
            "DELETE FROM {0}p WHERE val {1}",
            "ALTER TABLE {0} ADD FOREIGN KEY (val) REFERENCES {0}p (val)",
        ],
        "a partition": [
            "ALTER TABLE {0} DROP PRIMARY KEY, ADD KEY (id)",
            "ALTER TABLE {0} PARTITION BY LIST COLUMNS (val) (PARTITION p VALUES IN ('v', '1e3'))",
        ],
    },
    "postgres": {
        "left out": [function("RETURN NULL"), BEFORE],
        "a rule": [RULE + "INSTEAD NOTHING"],
        "one more": [function("INSERT INTO {0} (key, val) VALUES ('more', 'more')"), AFTER],
        "taken away": [function("DELETE FROM {0} WHERE id = NEW.id"), AFTER],
        "a code of its own": [function("RAISE 'no' USING ERRCODE = 'MQ001'"), BEFORE],
        "an assertion": [function("ASSERT false"), BEFORE],
        "at the commit": [function("RAISE 'no'"), CONSTRAINT],
        "a policy": [
            "ALTER TABLE {0} ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY p ON {0} USING (true) WITH CHECK (NOT val {1})",
        ],
        "a policy that hides": [
            "ALTER TABLE {0} ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY p ON {0} FOR SELECT USING (NOT val {1})",
            "CREATE POLICY q ON {0} FOR INSERT WITH CHECK (true)",
            "CREATE POLICY r ON {0} FOR DELETE USING (true)",
        ],
    },
}
CASES = [(kind, how) for kind, ways in WAYS.items() for how in ways]


def make(database: AnyDatabase, table: str, how: str, which: str) -> None:
    """Make a table that refuses values."""
    key, kind = database.quote("key"), KEY[database.kind]
    database.run(f"CREATE TABLE {table} (id {SERIAL[database.kind]}, {key} {kind}, val {kind})")
    for statement in WAYS[database.kind][how]:
        database.run(statement.replace("{0}", table).replace("{1}", which))


@pytest.mark.parametrize(("kind", "how"), CASES)
def test_one_item_is_refused(request: pytest.FixtureRequest, table: str, kind: str, how: str) -> None:
    database = request.getfixturevalue({"mysql": "mariadb"}.get(kind, kind))
    make(database, table, how, "= 'x'")
    items = [(b"%d" % number, b"x" if number in (0, 7, 8, 2000, 2499) else b"v") for number in range(2500)]
    with contextlib.closing(Store.open(database.url)) as store:
        store.prepare([Wanted(table)])
        with store.begin(table, keeps_unfit=True) as rows:
            assert rows.insert(items) == 2500
            assert rows.unfit == 5
            assert table in rows.why_unfit
        assert database.run(f"SELECT COUNT(*) FROM {table}") == [(2495,)]
        with store.begin(table, keeps_unfit=True) as rows:
            assert [item[:2] for item in rows.drain()] == items
        with store.begin(table, keeps_unfit=True) as rows:
            assert rows.is_empty()


@pytest.mark.parametrize(("kind", "how"), [case for case in CASES if case[1] != "a partition"])
def test_every_item_is_refused(request: pytest.FixtureRequest, table: str, kind: str, how: str) -> None:
    """The start says so; at a stop nothing is lost all the same."""
    database: Any = request.getfixturevalue({"mysql": "mariadb"}.get(kind, kind))
    make(database, table, how, "IN ('1e3', '', '{}', '[]', 'v')" if kind != "mysql" else "IS NOT NULL")
    items = [(b"%d" % number, b"v") for number in range(10)]
    with contextlib.closing(Store.open(database.url)) as store:
        with pytest.raises(StoreError) as caught:
            store.prepare([Wanted(table)])
        assert f'table "{table}": ' in str(caught.value)
        store.make_ledger()
        with store.begin(table, keeps_unfit=True) as rows:
            rows.insert(items)
            assert rows.unfit == 10
        with store.begin(table, keeps_unfit=True) as rows:
            assert [item[:2] for item in rows.drain()] == items


KEPT = {
    "sqlite": ["CREATE TRIGGER {0}t BEFORE DELETE ON {0} WHEN OLD.val = 'x' BEGIN SELECT RAISE(IGNORE); END"],
    "postgres": [
        FUNCTION.replace("{1}", "")
        .replace("NEW.val", "OLD.val = 'x'")
        .replace("{2}", "RETURN NULL")
        .replace("{3}", "RETURN OLD"),
        BEFORE.replace("INSERT", "DELETE"),
    ],
}


@pytest.mark.parametrize("kind", KEPT)
def test_rows_that_cannot_be_deleted(request: pytest.FixtureRequest, table: str, kind: str) -> None:
    """A load that left them there would load them again."""
    database: Any = request.getfixturevalue(kind)
    database.run(f"CREATE TABLE {table} (id {SERIAL[kind]}, key {KEY[kind]}, val {KEY[kind]})")
    for statement in KEPT[kind]:
        database.run(statement.replace("{0}", table))
    with contextlib.closing(Store.open(database.url)) as store:
        with store.begin(table) as rows:
            rows.insert([(b"1", b"v"), (b"2", b"x"), (b"3", b"v")])
        with pytest.raises(StoreError, match="rows that were deleted are there still: look for a trigger"):
            with store.begin(table) as rows:
                list(rows.drain())
    assert len(database.run(f"SELECT * FROM {table}")) == 3


REPLACES = {
    "sqlite": ["CREATE TABLE {0} (id INTEGER PRIMARY KEY, key TEXT UNIQUE ON CONFLICT REPLACE, val TEXT)"],
    "postgres": [
        "CREATE TABLE {0} (id SERIAL PRIMARY KEY, key VARCHAR, val VARCHAR)",
        function("DELETE FROM {0} WHERE key = NEW.key").replace("{1}", "IS NOT NULL"),
        BEFORE,
    ],
}


@pytest.mark.parametrize("kind", REPLACES)
def test_a_row_that_takes_another_one_away(request: pytest.FixtureRequest, table: str, kind: str) -> None:
    """Two items of a queue may be equal; with unique keys they are not, and such a table serves."""
    database: Any = request.getfixturevalue(kind)
    for statement in REPLACES[kind]:
        database.run(statement.replace("{0}", table))
    with contextlib.closing(Store.open(database.url)) as store:
        with pytest.raises(StoreError, match="ON CONFLICT REPLACE that takes earlier rows away"):
            store.prepare([Wanted(table)])
        assert store.prepare([Wanted(table, keyed=True)]) == []
        with pytest.raises(StoreError, match="600 rows are at the end of the table when 1200 were written"):
            with store.begin(table) as rows:
                rows.insert((b"%d" % (number % 600), b"v") for number in range(1200))
    assert database.run(f"SELECT * FROM {table}") == []


def test_a_unique_index_at_the_commit(postgres: Postgres, table: str) -> None:
    postgres.run(f"CREATE TABLE {table} (id SERIAL PRIMARY KEY, key VARCHAR, val VARCHAR)")
    postgres.run(f"ALTER TABLE {table} ADD UNIQUE (val) DEFERRABLE INITIALLY DEFERRED")
    items = [(b"1", b"v"), (b"2", b"v"), (b"3", b"w")]
    with contextlib.closing(Store.open(postgres.url)) as store:
        store.make_ledger()
        with store.begin(table, keeps_unfit=True) as rows:
            rows.insert(items)
            assert rows.unfit == 1
        with store.begin(table, keeps_unfit=True) as rows:
            assert [item[:2] for item in rows.drain()] == items


UNDO = "ON {0} WHEN NEW.key LIKE 'x%' BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
UNDOES_ALL = {
    "a trigger": "CREATE TRIGGER {0}t BEFORE INSERT " + UNDO,
    "behind it": "CREATE TRIGGER {0}t AFTER INSERT " + UNDO,
    "a conflict clause": "CREATE TABLE {0} (id INTEGER PRIMARY KEY, key TEXT, val TEXT,"
    " CHECK (key NOT LIKE 'x%') ON CONFLICT ROLLBACK)",
}


@pytest.fixture
def host(sqlite: SqliteFile, table: str) -> Iterator[Host]:
    children = Children()
    one = Host(sqlite.url, table, "one", children)
    yield one
    children.end()
    one.clean()


@pytest.mark.parametrize("which", [(0, 7, 8, 2000, 2499), range(2500)], ids=["some", "every one"])
@pytest.mark.parametrize("how", UNDOES_ALL)
def test_an_item_for_which_everything_is_undone(sqlite: SqliteFile, host: Host, how: str, which: Any) -> None:
    """The others are saved, and each keeps its place."""
    made = UNDOES_ALL[how].format(host.table)
    if not made.startswith("CREATE TABLE"):
        sqlite.run(f"CREATE TABLE {host.table} (id INTEGER PRIMARY KEY, key TEXT, val TEXT)")
    sqlite.run(made)
    items = ["x" if number in which else f"k{number}" for number in range(2500)]
    host.save(items, 0).result()
    assert rows(sqlite, host.table) == [key for number, key in enumerate(items) if number not in which]
    assert host.takes() == items


def test_a_trigger_that_undoes_everything_by_what_is_there(sqlite: SqliteFile, host: Host) -> None:
    """It is not the items that it depends on: nothing is saved, everything is kept in memory."""
    sqlite.run(f"CREATE TABLE {host.table} (id INTEGER PRIMARY KEY, key TEXT, val TEXT)")
    sqlite.run(
        f"CREATE TRIGGER {host.table}t BEFORE INSERT ON {host.table} WHEN (SELECT COUNT(*) FROM {host.table}) > 50"
        " BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
    )
    items = [f"k{number}" for number in range(2500)]
    host.save(items, 0).result()
    assert rows(sqlite, host.table) == []
    assert host.takes() == items


def test_a_save_that_meets_a_deadlock(sqlite: SqliteFile, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the other one's turn then; the save begins again."""
    insert, met = Rows.insert, list[int]()

    def contended(*arguments: Any) -> int:
        if len(arguments) > 2 and len(met) < 3:  # a save, not the start's trial
            met.append(insert(*arguments))
            raise Contended("deadlock")
        return insert(*arguments)

    monkeypatch.setattr(Rows, "insert", contended)
    host.save(["a", "b"], 0).result()
    assert rows(sqlite, host.table) == ["a", "b"]


def test_numbers_that_begin_anew(database: AnyDatabase, table: str) -> None:
    """What was kept behind rows that somebody has deleted stands before what is saved later."""
    key, kind = database.quote("key"), KEY[database.kind]
    database.run(f"CREATE TABLE {table} (id {SERIAL[database.kind]}, {key} {kind}, val {kind})")
    old = [(b"1", b"v"), (b"2", b"\0\xff" * 40), (b"3", b"v"), (b"4", b"\xff\0" * 40)]
    new = [(b"5", b"v"), (b"6", b"\0\xff" * 40), (b"7", b"v")]
    if database.kind == "sqlite":
        database.run(
            f"CREATE TRIGGER {table}t BEFORE INSERT ON {table} WHEN length(NEW.val) > 9 BEGIN SELECT RAISE(IGNORE); END"
        )
    with contextlib.closing(Store.open(database.url)) as store:
        store.make_ledger()
        for items in (old, new):
            with store.begin(table, keeps_unfit=True) as rows:
                rows.insert(items)
            if items is old:
                for statement in CHANGES["truncates"][database.kind][:1]:
                    database.run(statement.format(table))
        with store.begin(table, keeps_unfit=True) as rows:
            assert [item[:2] for item in rows.drain()] == [old[1], old[3], *new]


def test_a_queue_whose_name_got_other_capital_letters(database: AnyDatabase, table: str) -> None:
    """Where it is the same table, its kept items are the same, too."""
    with contextlib.closing(Store.open(database.url)) as store:
        store.make_ledger()
        with store.begin(f"Q{table}", keeps_unfit=True) as rows:
            rows.insert([(b"1", b"v"), (b"2", b"\0\xff")])
        with store.begin(f"q{table}", keeps_unfit=True) as rows:
            found = list(rows.drain())
    assert len(found) == (0 if database.kind == "mysql" else 2)
