"""The store on sqlite, which needs no server: rows, their order, transactions, what is refused, and in which words."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import kemi.database.rows
from kemi.database import clock, engine
from kemi.database.faults import Place
from kemi.database.table import decode
from kemi.database.url import parse
from kemi.errors import CommitUnknown, ConfigError, StoreError
from kemi.store import Row, Rows, Store
from tests.conftest import HANG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

CHECKOUT = Path(__file__).parents[2]
SEED = """CREATE TABLE q (
id INTEGER PRIMARY KEY AUTOINCREMENT,
key character varying(64) DEFAULT "" NOT NULL,
val character varying(4096) DEFAULT "" NOT NULL
);"""
ITEMS = [
    (b"key", b"value"),
    (b"", b""),
    (b"\xff\xfe", b"\0nul\0"),
    ("\N{GRINNING FACE}".encode(), b"'\"`\\%s :x ?"),
    (b"007", b"1e3"),
    (b"key", b"x" * (1 << 20)),
]
NAMES = [
    "my-q",
    "a.b",
    "\u00e4\u00f6",
    "a b",
    "a'b",
    'a"b',
    "a`b",
    "a;--",
    "%s",
    "%(x)s",
    ":x",
    "?",
    "select",
    "1",
    "[a]",
]
NAMES += ["x values (%s)", "q" * 200, "\U0001f600", "\\"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mq.db"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{file}")
    yield opened
    opened.close()


def run(file: Path, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(file)
    try:
        with connection:
            return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


def read(store: Store, table: str = "q") -> list[tuple[bytes, bytes]]:
    with store.begin(table) as rows:
        return [(row.key, row.value) for row in rows.read()]


# --- rows


def test_items_come_back_in_order(store: Store) -> None:
    with store.begin("q") as rows:
        assert rows.insert(ITEMS) == len(ITEMS)
        assert [(row.key, row.value) for row in rows.read()] == ITEMS
    assert read(store) == ITEMS


def test_an_empty_table(store: Store) -> None:
    with store.begin("q") as rows:
        assert rows.last_id() == 0
        assert list(rows.read()) == []
        assert rows.insert([]) == 0
        assert rows.delete(1, 10) == 0


def test_rows_are_deleted_by_their_ids(store: Store) -> None:
    with store.begin("q") as rows:
        rows.insert([(b"%d" % number, b"") for number in range(10)])
        assert rows.last_id() == 10
        assert rows.delete(3, 8) == 6
        assert rows.delete(3, 8) == 0
        assert [row.id for row in rows.read()] == [1, 2, 9, 10]
        rows.delete(1, 10)
    with store.begin("q") as rows:
        rows.insert([(b"next", b"")])
        assert list(rows.read()) == [Row(11, b"next", b"")]


def test_all_is_done_in_pieces(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any number of rows around the size of a piece."""
    monkeypatch.setattr(kemi.database.rows, "BATCH_ROWS", 4)
    monkeypatch.setattr(kemi.database.rows, "DELETE_ROWS", 3)
    for number in range(14):
        items = [(b"%d" % item, b"v") for item in range(number)]
        with store.begin("q") as rows:
            assert rows.insert(iter(items)) == number
            assert [(row.key, row.value) for row in rows.read()] == items
            assert rows.delete(1, rows.last_id()) == number


def test_a_generator_may_stop_in_the_middle_and_rows_be_deleted(store: Store) -> None:
    with store.begin("q") as rows:
        rows.insert(ITEMS)
        for row in rows.read():
            if row.id == 2:
                break
        assert rows.delete(1, 2) == 2
    assert read(store) == ITEMS[2:]


def test_ids_may_have_any_sign_and_gaps(store: Store, file: Path) -> None:
    run(file, SEED)
    for number in (-5, 0, 7, 1 << 40):
        run(file, "INSERT INTO q (id, key) VALUES (?, ?)", number, str(number))
    with store.begin("q") as rows:
        assert [row.id for row in rows.read()] == [-5, 0, 7, 1 << 40]
        assert rows.delete(-5, 1 << 40) == 4


def test_large_rows_are_read_one_by_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones before and after them do not change that."""
    monkeypatch.setattr(kemi.database.rows, "BATCH_BYTES", 1000)
    items = [(b"", b"x" * size) for size in [1] * 50 + [5000] * 5 + [300] * 20 + [1] * 50]
    with store.begin("q") as rows:
        rows.insert(items)
        pages = [rows._rows_with_ids(span) for span in rows._spans()]
    assert [(decode(row[1]), decode(row[2])) for page in pages for row in page] == items
    assert all(len(page) == 1 or sum(len(row[2]) for row in page) <= 1000 for page in pages)
    assert len(pages) < 40


def test_a_large_table_needs_little_memory(store: Store) -> None:
    def items() -> Iterator[tuple[bytes, bytes]]:
        return ((b"%d" % number, b"x" * 1000) for number in range(50_000))

    with store.begin("q") as rows:
        tracemalloc.start()
        try:
            rows.insert(items())
            assert sum(1 for _ in rows.read()) == 50_000
            assert rows.delete(1, 50_000) == 50_000
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 20_000_000


def test_progress_is_told_now_and_then(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kemi.database.rows, "PROGRESS_EVERY", 0)
    told: list[int] = []
    with store.begin("q") as rows:
        rows.insert([(b"", b"")] * 2500, told.append)
    assert told == [1000, 2000, 2500]


def test_a_short_insert_tells_no_progress(store: Store) -> None:
    told: list[int] = []
    with store.begin("q") as rows:
        rows.insert([(b"", b"")] * 10, told.append)
    assert told == []


# --- transactions


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_undoes_all(store: Store, error: type[BaseException]) -> None:
    with store.begin("q") as rows:
        rows.insert(ITEMS)
    with pytest.raises(error), store.begin("q") as rows:
        rows.insert(ITEMS)
        rows.delete(1, 3)
        raise error
    assert read(store) == ITEMS


def test_items_that_raise_undo_all(store: Store) -> None:
    def items() -> Iterator[tuple[bytes, bytes]]:
        yield from [(b"k", b"v")] * 1500
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"), store.begin("q") as rows:
        rows.insert(items())
    assert read(store) == []


def test_what_failed_is_not_committed_by_who_hides_the_error(store: Store) -> None:
    with pytest.raises(StoreError, match="failed before the commit"), store.begin("q") as rows:
        rows.insert(ITEMS)
        with pytest.raises(ZeroDivisionError):
            rows.insert((b"k", b"%d" % (1 // number)) for number in (1, 0))
    assert read(store) == []


def test_two_transactions_never_load_the_same_rows(file: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "LOCK", 0.2)
    other = Store.open(f"sqlite:///{file}")
    with store.begin("q") as rows:
        rows.insert(ITEMS)
        began = time.monotonic()
        with pytest.raises(StoreError, match=r'table "q": database is locked: another process'), other.begin("q"):
            raise AssertionError
        assert 0.1 < time.monotonic() - began < HANG / 2
    assert read(other) == ITEMS


def test_nothing_stays_open_between_transactions(store: Store, file: Path) -> None:
    """A connection would be shared by the processes that are forked later."""
    read(store)
    links = {os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if number != "0"
             and os.path.islink(f"/proc/self/fd/{number}")}  # fmt: skip
    assert not [link for link in links if link.startswith(str(file))]


def test_a_full_disk_undoes_all(store: Store, file: Path) -> None:
    import sqlalchemy as sa

    with store.begin("q") as rows:
        rows.insert(ITEMS)

    def small(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 300")

    sa.event.listen(store._engine, "connect", small)
    with pytest.raises(StoreError, match=r"database or disk is full: make room there$"), store.begin("q") as rows:
        rows.insert(ITEMS)
    sa.event.remove(store._engine, "connect", small)
    assert read(store) == ITEMS
    assert run(file, "PRAGMA integrity_check") == [("ok",)]


def test_a_commit_that_breaks_off_is_told_apart(store: Store, mocker: MockerFixture) -> None:
    import sqlalchemy as sa

    read(store)

    gone = sa.exc.OperationalError("COMMIT", {}, OSError(104, "Connection reset by peer"), connection_invalidated=True)
    mocker.patch.object(sa.engine.RootTransaction, "commit", side_effect=gone)
    with pytest.raises(CommitUnknown, match=r"reset by peer.*all may be done or nothing$"), store.begin("q"):
        pass


class Answer(Exception):
    """What a driver raises, with what PostgreSQL's drivers have besides."""

    def __init__(self, *args: object, sqlstate: str | None = None, severity: str | None = None) -> None:
        super().__init__(*args)
        self.sqlstate = sqlstate
        self.diag = SimpleNamespace(severity_nonlocalized=severity, message_primary=None)


@pytest.mark.parametrize(("kind", "orig", "refused"), [
    ("mysql", Answer(1213, "Deadlock found"), True),
    ("mysql", Answer(1290, "running with --read-only"), True),
    ("mysql", Answer(1053, "Server shutdown in progress"), False),
    ("mysql", Answer(1180, "Got error 5 during COMMIT"), False),
    ("mysql", Answer(2013, "Lost connection"), False),
    ("mysql", Answer("Packet sequence number wrong"), False),
    ("mysql", Answer(), False),
    ("postgres", Answer("no", sqlstate="23503", severity="ERROR"), True),
    ("postgres", Answer("no", sqlstate="57014", severity="ERROR"), True),
    ("postgres", Answer("no", sqlstate="57P01", severity="FATAL"), False),
    ("postgres", Answer("pooler", sqlstate="08P01", severity="ERROR"), False),
    ("postgres", Answer("gone"), False),
    ("sqlite", Answer("disk I/O error"), True),
])  # fmt: skip
def test_what_a_commit_answers(kind: str, orig: Exception, refused: bool) -> None:
    """Only what the database itself refuses is known to be undone."""
    import sqlalchemy as sa

    url = "sqlite:////tmp/x.db" if kind == "sqlite" else f"{kind}://user:password@host/database"
    assert Place(parse(url), "q").is_refusal(sa.exc.DBAPIError("COMMIT", {}, orig)) == refused


@pytest.mark.parametrize(
    ("password", "reason", "shown"),
    [
        ("x", "no x axis: x is exact", "no *** axis: *** is exact"),
        ("12", "port 3312, code 12", "port 3312, code ***"),
        ("s3cr3t-and-long", "at host/s3cr3t-and-longx", "at host/***x"),
        ("p@ss", "user:p@ss@host", "user:***@host"),
        ("", "no password", "no password"),
    ],
)
def test_a_password_is_masked_as_a_whole(password: str, reason: str, shown: str) -> None:
    place = Place(parse(f"mysql://u:{password}@host/db"), "q")
    assert f": {shown}: " in str(place.broken(OSError(reason)))


@pytest.mark.parametrize(("kind", "orig", "unfit"), [
    ("mysql", Answer(1406, "Data too long for column 'val'"), True),
    ("mysql", Answer(1366, "Incorrect string value"), True),
    ("mysql", Answer(1062, "Duplicate entry 'k' for key 'val'"), True),
    ("mysql", Answer(1062, "Duplicate entry '2147483647' for key 'PRIMARY'"), False),
    ("mysql", Answer(1062, "Duplicate entry '2147483647' for key 'q.PRIMARY'"), False),
    ("mysql", Answer(1364, "Field 'other' doesn't have a default value"), False),
    ("mysql", Answer(1142, "INSERT command denied"), False),
    ("mysql", Answer(1205, "Lock wait timeout exceeded"), False),
    ("postgres", Answer("too long", sqlstate="22001"), True),
    ("postgres", Answer("check", sqlstate="23514"), True),
    ("postgres", Answer("null value", sqlstate="23502"), False),
    ("postgres", Answer("integer out of range", sqlstate="22003"), False),
    ("postgres", Answer("permission denied", sqlstate="42501"), False),
    ("postgres", Answer("gone"), False),
    ("sqlite", sqlite3.IntegrityError("CHECK constraint failed: val"), True),
    ("sqlite", sqlite3.IntegrityError("UNIQUE constraint failed: q.key"), True),
    ("sqlite", sqlite3.IntegrityError("UNIQUE constraint failed: q.id"), False),
    ("sqlite", sqlite3.IntegrityError("NOT NULL constraint failed: q.other"), False),
    ("sqlite", sqlite3.OperationalError("database or disk is full"), False),
])  # fmt: skip
def test_whom_a_refused_insert_blames(kind: str, orig: Exception, unfit: bool) -> None:
    """One item, or the table: what the table refuses of every item is no reason to keep them all aside."""
    import sqlalchemy as sa

    url = "sqlite:////tmp/x.db" if kind == "sqlite" else f"{kind}://user:password@host/database"
    assert Place(parse(url), "q").is_unfit(sa.exc.DBAPIError("INSERT", {}, orig)) == unfit


@pytest.mark.parametrize(
    "raised", [KeyboardInterrupt(), MemoryError(), OSError(32, "Broken pipe"), AttributeError("x")]
)
def test_a_commit_that_is_interrupted(store: Store, mocker: MockerFixture, raised: BaseException) -> None:
    """A signal, or a driver's own mistake: it may have been done."""
    import sqlalchemy as sa

    read(store)

    mocker.patch.object(sa.engine.RootTransaction, "commit", side_effect=raised)
    with pytest.raises(CommitUnknown, match=r"all may be done or nothing$") as caught, store.begin("q"):
        pass
    assert "nothing was changed" not in str(caught.value)


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(), ZeroDivisionError()])
def test_a_signal_just_behind_the_commit(store: Store, mocker: MockerFixture, raised: BaseException) -> None:
    """It is done, so nobody may take it for undone."""
    mocker.patch.object(store, "_end", side_effect=raised)
    with pytest.raises(CommitUnknown, match="all may be done or nothing"), store.begin("q") as rows:
        rows.insert([(b"k", b"v")])
    mocker.stopall()
    assert read(store) == [(b"k", b"v")]


def test_a_commit_that_fails_is_an_error(store: Store, file: Path) -> None:
    run(file, SEED)
    run(file, "CREATE TABLE other (id INTEGER PRIMARY KEY REFERENCES q(id) DEFERRABLE INITIALLY DEFERRED)")
    with store.begin("q") as rows:
        rows.insert([(b"k", b"v")])
    run(file, "INSERT INTO other VALUES (1)")
    with pytest.raises(StoreError, match="FOREIGN KEY constraint failed") as caught, store.begin("q") as rows:
        rows._connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        rows._connection.connection.execute("COMMIT")
        rows._connection.connection.execute("PRAGMA foreign_keys = ON")
        rows._connection.connection.execute("BEGIN IMMEDIATE")
        rows.delete(1, 1)
    assert not isinstance(caught.value, CommitUnknown)
    assert read(store) == [(b"k", b"v")]


# --- tables


def test_the_documented_table_is_used_as_it_is(store: Store, file: Path) -> None:
    run(file, SEED)
    with store.begin("q") as rows:
        rows.insert(ITEMS)
    assert read(store) == ITEMS
    assert run(file, "SELECT sql FROM sqlite_master WHERE name = 'q'") == [(SEED.rstrip(";"),)]


def test_the_table_that_is_made(store: Store, file: Path) -> None:
    """Kamailio's db_sqlite reads a column TEXT with its length, and any bytes."""
    read(store)
    columns = run(file, "PRAGMA table_info(q)")
    expected = [("id", "INTEGER", 1), ("key", "TEXT", 1), ("val", "TEXT", 1), ("added", "FLOAT", 0)]
    assert [column[1:4] for column in columns] == expected
    assert "AUTOINCREMENT" in str(run(file, "SELECT sql FROM sqlite_master WHERE name = 'q'"))


def test_text_is_text_for_who_looks_into_the_file(store: Store, file: Path) -> None:
    with store.begin("q") as rows:
        rows.insert([("\u00e4".encode(), b"\xff")])
    assert run(file, "SELECT key, val FROM q") == [("\u00e4", b"\xff")]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("NULL", b""),
        ("''", b""),
        ("x''", b""),
        ("x'ff00'", b"\xff\x00"),
        ("CAST(x'ff' AS TEXT)", b"\xff"),
        ("12", b"12"),
    ],
)
def test_whatever_others_stored_is_read(store: Store, file: Path, stored: str, expected: bytes) -> None:
    run(file, "CREATE TABLE q (id INTEGER PRIMARY KEY, key, val)")
    run(file, f"INSERT INTO q (key, val) VALUES ({stored}, {stored})")  # noqa: S608
    assert read(store) == [(expected, expected)]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_table(store: Store, file: Path, name: str) -> None:
    with store.begin(name) as rows:
        rows.insert(ITEMS)
    assert read(store, name) == ITEMS
    assert (name,) in run(file, "SELECT name FROM sqlite_master")


@pytest.mark.parametrize("name", ["", "a\0b", "\udcff", "sqlite_x", "q" * 2000])
def test_a_name_that_no_table_can_have(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="give the queue another name"), store.begin(name):
        pass


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("(id INTEGER PRIMARY KEY, key TEXT)", "has no column val: correct it"),
        ("(id INTEGER PRIMARY KEY, value TEXT)", "has no column key and no column val"),
    ],
)
def test_a_table_that_cannot_serve(store: Store, file: Path, table: str, says: str) -> None:
    run(file, f"CREATE TABLE q {table}")
    with pytest.raises(StoreError, match=says), store.begin("q"):
        pass


@pytest.mark.parametrize(
    ("table", "items", "says"),
    [
        # Numbers that look alike are one number to this column.
        ("key INT, val TEXT", [(b"1", b""), (b"007", b"")], '"key" cannot hold item 2: its 3 bytes came back as 1'),
        ("key TEXT, val REAL", [(b"", b"1")], '"val" cannot hold item 1: its 1 bytes came back as 3'),
        ("key TEXT, val TEXT CHECK (length(val) < 3)", [(b"", b"abc")], "CHECK constraint failed"),
        ("key TEXT UNIQUE, val TEXT", [(b"k", b""), (b"k", b"")], "UNIQUE constraint failed"),
        ("key TEXT, val TEXT, other TEXT NOT NULL", [(b"", b"")], "NOT NULL constraint failed"),
    ],
)
def test_what_a_column_does_not_keep_is_refused(
    store: Store, file: Path, table: str, items: list[tuple[bytes, bytes]], says: str
) -> None:
    run(file, f"CREATE TABLE q (id INTEGER PRIMARY KEY, {table})")
    with pytest.raises(StoreError, match=says), store.begin("q") as rows:
        rows.insert(items)
    assert run(file, "SELECT * FROM q") == []


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (["1", "2", "3"], ""),
        (["-9223372036854775808", "9223372036854775807"], ""),
        (["2.0", "1"], ""),
        (["1", "2", "2"], "two of its rows have the same id: make id its primary key"),
        (["1", "NULL"], "a row has no id: make id its primary key"),
        (["1", "1.5"], "id 1.5 is no whole number"),
    ],
)
@pytest.mark.parametrize("kind", ["", "REAL", "INT"])
def test_ids_of_a_table_without_a_key(store: Store, file: Path, ids: list[str], says: str, kind: str) -> None:
    """They are looked at when rows are loaded; nothing is taken that could not be told apart."""
    if kind == "REAL" and len(ids[0]) > 10:
        return  # such a column does not keep them
    run(file, f"CREATE TABLE q (id {kind}, key TEXT, val TEXT)")
    for number in ids:
        run(file, f"INSERT INTO q VALUES ({number}, '{number}', '')")  # noqa: S608
    if says:
        with pytest.raises(StoreError, match=says), store.begin("q") as rows:
            list(rows.drain())
        assert len(run(file, "SELECT * FROM q")) == len(ids)
    else:
        with store.begin("q") as rows:
            assert [float(key) for key, _, _ in rows.drain()] == sorted(map(float, ids))
        assert run(file, "SELECT * FROM q") == []


def test_an_id_that_is_the_last_one(store: Store, file: Path) -> None:
    """It is read, and nothing can come behind it."""
    run(file, SEED)
    run(file, "INSERT INTO q (id, key) VALUES (9223372036854775807, 'last')")
    with pytest.raises(StoreError, match="greatest id is the last number"), store.begin("q") as rows:
        rows.insert([(b"k", b"")])
    with store.begin("q") as rows:
        assert [item[0] for item in rows.drain()] == [b"last"]
    assert run(file, "SELECT * FROM q") == []


def test_ids_that_are_not_automatic_are_noticed(store: Store, file: Path) -> None:
    """INT instead of INTEGER: sqlite gives such a column no numbers."""
    run(file, "CREATE TABLE q (id INT PRIMARY KEY, key TEXT, val TEXT)")
    with pytest.raises(StoreError, match="0 rows came to the end of the table when 1 were"), store.begin("q") as rows:
        rows.insert([(b"", b"")])
    assert run(file, "SELECT * FROM q") == []


@pytest.mark.parametrize("change", ["val = substr(val, 1, 3)", "val = upper(val)", "key = ''"])
def test_a_trigger_that_changes_items_is_noticed(store: Store, file: Path, change: str) -> None:
    run(file, SEED)
    run(file, f"CREATE TRIGGER t AFTER INSERT ON q BEGIN UPDATE q SET {change} WHERE id = NEW.id; END")  # noqa: S608
    with pytest.raises(StoreError, match=r"cannot hold item 1: its .* bytes came back as"), store.begin("q") as rows:
        rows.insert([(b"key", b"value")])
    assert read(store) == []


def test_the_item_that_does_not_fit_is_named_by_its_number(store: Store, file: Path) -> None:
    run(file, "CREATE TABLE q (id INTEGER PRIMARY KEY, key TEXT, val INT)")
    with pytest.raises(StoreError, match="item 2345:"), store.begin("q") as rows:
        rows.insert([(b"", b"1")] * 2344 + [(b"", b"01")])


# --- files and errors


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o640), (0o077, 0o600), (0, 0o660)])
def test_other_users_cannot_read_the_file(store: Store, file: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        read(store)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == mode


def test_a_file_that_is_there_keeps_its_mode(store: Store, file: Path) -> None:
    file.touch()
    file.chmod(0o644)
    read(store)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_new_file_is_given_to_its_owner(file: Path) -> None:
    """Kamailio loads as root and saves as another user."""
    store = Store.open(f"sqlite:///{file}", owner=(65534, 65534))
    read(store)
    assert (file.stat().st_uid, file.stat().st_gid) == (65534, 65534)


def test_the_folder_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no folder .*/none; make it"):
        Store.open(f"sqlite:///{tmp_path}/none/mq.db")
    with pytest.raises(ConfigError, match="that is a folder; name a file"):
        Store.open(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_database(store: Store, file: Path) -> None:
    file.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match=r"file is not a database: db_url names a file"), store.begin("q"):
        pass
    assert file.read_bytes() == b"no database" * 100


def test_opening_touches_nothing(store: Store, file: Path) -> None:
    assert repr(store) == f"Store('sqlite:///{file}')"
    assert not file.exists()


def test_an_error_is_one_line_that_says_all(store: Store, file: Path) -> None:
    run(file, "CREATE TABLE 'a\nb' (id INTEGER PRIMARY KEY)")
    with pytest.raises(StoreError) as caught, store.begin("a\nb"):
        pass
    assert str(caught.value) == (
        f'database sqlite:///{file}, table "a b": the table has no column key and no column val:'
        " correct it, or move it away and it is made anew"
    )


def test_an_error_has_no_item_in_it(store: Store, file: Path) -> None:
    run(file, "CREATE TABLE q (id INTEGER PRIMARY KEY, key TEXT UNIQUE, val TEXT)")
    with pytest.raises(StoreError) as caught, store.begin("q") as rows:
        rows.insert([(b"private", b"private")] * 2)
    assert "private" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


def test_rows_outlive_no_transaction(store: Store) -> None:
    kept: list[Rows] = []
    with store.begin("q") as rows:
        kept.append(rows)
    with pytest.raises(StoreError, match="closed"):
        kept[0].last_id()


@pytest.mark.parametrize("module", ["sqlalchemy", "pymysql", "psycopg2"])
def test_what_is_missing_is_named_with_its_package(mocker: MockerFixture, module: str) -> None:
    mocker.patch.dict(sys.modules, {module: None, **({"psycopg": None} if module == "psycopg2" else {})})
    scheme = {"psycopg2": "postgres"}.get(module, "mysql")
    with pytest.raises(ConfigError, match=f"install Debian's package python3-{module}, or with pip") as caught:
        Store.open(f"{scheme}://u:s3cr3t@127.0.0.1/db")
    assert "s3cr3t" not in str(caught.value)


def test_psycopg_is_enough_with_a_new_sqlalchemy(mocker: MockerFixture) -> None:
    import sqlalchemy

    mocker.patch.dict(sys.modules, {"psycopg2": None})
    mocker.patch.object(sqlalchemy, "__version__", "2.0.1")
    assert Store.open("postgres://u:pw@127.0.0.1/db")._engine.driver == "psycopg"
    mocker.patch.object(sqlalchemy, "__version__", "1.4.46")
    with pytest.raises(ConfigError, match="python3-psycopg2"):
        Store.open("postgres://u:pw@127.0.0.1/db")


def test_nothing_is_imported_before_a_store_is_opened() -> None:
    path = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})"
    code = f"{path}; import kemi.store, mqueue_kemi; assert 'sqlalchemy' not in sys.modules"
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=60)


def test_no_text_of_the_store_has_the_password(mocker: MockerFixture) -> None:
    """Not even when a driver repeats it."""
    import pymysql

    mocker.patch.object(pymysql, "connect", side_effect=pymysql.OperationalError(2003, "no host s3cr3t"))
    store = Store.open("mysql://u:s3cr3t@127.0.0.1:1/db")
    expected = r'^database mysql://u@127.0.0.1:1/db, table "q": no host'
    with pytest.raises(StoreError, match=expected) as caught, store.begin("q"):
        pass
    texts = [
        str(caught.value),
        repr(caught.value),
        repr(store),
        repr(store.url),
        repr(store._engine),
        str(store._engine.url),
    ]
    assert "s3cr3t" not in " ".join(texts)


@pytest.mark.parametrize(
    ("url", "sockets", "expected"),
    [
        ("mysql://u:p@localhost/db", True, True),
        ("mysql://u:p@localhost:3306/db", True, None),
        ("mysql://u:p@127.0.0.1/db", True, None),
        ("mysql://u:p@localhost/db", False, False),
    ],
)
def test_localhost_is_the_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, sockets: bool, expected: bool | None
) -> None:
    path = tmp_path / "socket"
    if sockets:
        path.touch()
    monkeypatch.setattr(engine, "_MYSQL_SOCKETS", (str(path),))
    arguments = engine._mysql(parse(url), "")[1]["connect_args"]
    assert arguments.get("unix_socket") == (str(path) if expected else None)
