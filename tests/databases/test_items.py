"""What goes into each of the databases comes out of it as it was, in its order, or does not go in at all."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

import kemi.database.rows
from kemi.database.trial import Undo
from kemi.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kemi.store import Store
    from tests.databases.conftest import AnyDatabase

ITEMS = [
    (b"key", b"value"),
    (b"", b""),
    (b" ", b" trailing "),
    (b"\xff\xfe", b"\0nul\0"),
    (bytes(range(256)), bytes(range(255, -1, -1))),
    ("\N{GRINNING FACE}".encode(), b"'\"`\\%s %% %(x)s :x ? \\\\ \\x41 \\101"),
    (b"007", b"1e3"),
    (b"key", os.urandom(1 << 20)),
    (b"last", b""),
]
TEXTS = [item for item in ITEMS if b"\0" not in b"".join(item) and b"\xff" not in item[0] and len(item[1]) < 1000]
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
    "%%",
    "%(x)s",
    ":x",
    "?",
    "select",
    "[a]",
]
NAMES += ["MyQ", "x values (%s)", "q" * 63, "\\"]


@pytest.fixture(autouse=True)
def _ledger(store: Store) -> None:
    """PostgreSQL's columns hold text; what is none is kept beside them."""
    store.make_ledger()
    assert store.ledger.missing == ""


def put(store: Store, table: str, items: list[tuple[bytes, bytes]]) -> None:
    with store.begin(table, keeps_unfit=True) as rows:
        assert rows.insert(items) == len(items)


def read(store: Store, table: str) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    with suppress(Undo), store.begin(table, keeps_unfit=True) as rows:
        found = [(key, value) for key, value, _ in rows.drain()]
        raise Undo
    return found


def test_items_come_back_as_they_were(store: Store, table: str) -> None:
    put(store, table, ITEMS)
    assert read(store, table) == ITEMS


def test_all_rows_are_taken(store: Store, table: str, database: AnyDatabase) -> None:
    """As a load does it: read, delete what was read, commit."""
    put(store, table, ITEMS)
    with store.begin(table, keeps_unfit=True) as rows:
        assert len(list(rows.drain())) == len(ITEMS)
        assert rows.last_id() == 0
        assert rows.is_empty()
    assert read(store, table) == []
    assert database.run(f"SELECT count(*) FROM {table}") == [(0,)]


def test_100000_items(store: Store, table: str) -> None:
    """In their order, also behind rows that are there, and taken again in pieces."""
    with store.begin(table) as rows:
        rows.insert([(b"first", b"")])
    with store.begin(table) as rows:
        assert rows.insert((b"%d" % number, b"x" * 100) for number in range(100_000)) == 100_000
    with store.begin(table) as rows:
        found = rows.read()
        assert next(found).key == b"first"
        ids, last = [], 0
        for number, row in enumerate(found):
            assert (row.key, row.value) == (b"%d" % number, b"x" * 100)
            ids.append(row.id)
        last = rows.last_id()
        assert len(ids) == 100_000
        assert ids == sorted(set(ids))
        assert ids[-1] == last
        assert rows.delete(1, last) == 100_001
    assert read(store, table) == []


def test_16_mib(store: Store, table: str) -> None:
    """Between small ones; every byte that has to be escaped in a statement."""
    items = [(b"small", b"1"), (b"large", b"\0'\\\xff" * (4 << 20)), (b"small", b"2")]
    put(store, table, items)
    assert read(store, table) == items


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_table(store: Store, name: str) -> None:
    """And nothing but a name: other tables stay as they are."""
    with store.begin("other") as rows:
        rows.insert(ITEMS[:1])
    with store.begin(name, keeps_unfit=True) as rows:
        rows.insert(ITEMS)
        assert rows.delete(rows.last_id(), rows.last_id()) == 1
        rows.wait_for_others(1)
    assert read(store, name) == ITEMS[:-1]
    with store.begin("other") as rows:
        assert rows.delete(1, rows.last_id()) > 0


@pytest.mark.parametrize("name", ["", "a\0b", "\udcff", "q" * 2000])
def test_a_name_that_no_table_can_have(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="give the queue another name"), store.begin(name):
        pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_undoes_all(store: Store, table: str, error: type[BaseException]) -> None:
    put(store, table, ITEMS)
    with pytest.raises(error), store.begin(table, keeps_unfit=True) as rows:
        rows.insert(ITEMS * 10)
        rows.delete(1, 5)
        raise error
    assert read(store, table) == ITEMS


def test_what_failed_is_not_committed(store: Store, table: str) -> None:
    """PostgreSQL would take the commit for a rollback, and say nothing."""

    def items() -> Iterator[tuple[bytes, bytes]]:
        yield from [(b"k", b"v")] * 1500
        raise LookupError

    with pytest.raises(StoreError, match="failed before the commit"), store.begin(table) as rows:
        with pytest.raises(LookupError):
            rows.insert(items())
    assert read(store, table) == []


def test_null_is_empty(store: Store, table: str, database: AnyDatabase) -> None:
    number = {"sqlite": "INTEGER", "mysql": "INTEGER AUTO_INCREMENT", "postgres": "SERIAL"}[database.kind]
    key = database.quote("key")
    database.run(f"CREATE TABLE {table} (id {number} PRIMARY KEY, {key} VARCHAR(64), val VARCHAR(64))")
    database.run(f"INSERT INTO {table} ({key}, val) VALUES (NULL, 'v'), ('k', NULL)")
    assert read(store, table) == [(b"", b"v"), (b"k", b"")]


def test_two_at_the_same_time_never_take_the_same_rows(store: Store, table: str, database: AnyDatabase) -> None:
    """The second is refused, or its delete says that there was less than it had read."""
    if database.kind == "sqlite":
        pytest.skip("the second cannot even begin: tests/unit/test_store.py")
    with store.begin(table) as rows:
        rows.insert(TEXTS)
    taken = []
    try:
        with store.begin(table) as late:
            found = list(late.read())
            with store.begin(table) as early:
                assert early.delete(1, early.last_id()) == len(TEXTS)
            taken.append(late.delete(1, found[-1].id))
            if taken != [len(found)]:
                raise StoreError("another one took them")
    except StoreError:
        taken.clear()
    assert taken == []
    assert read(store, table) == []


def test_rows_of_others_meanwhile_disturb_nothing(store: Store, table: str, database: AnyDatabase) -> None:
    if database.kind == "sqlite":
        pytest.skip("there is one writer at a time")
    mine = [(b"%d" % number, b"") for number in range(2500)]

    def items() -> Iterator[tuple[bytes, bytes]]:
        for number, item in enumerate(mine):
            if number % 700 == 300:
                database.run(f"INSERT INTO {table} ({database.quote('key')}, val) VALUES ('other', '')")
            yield item

    with store.begin(table) as rows:
        rows.insert(TEXTS)
    with store.begin(table) as rows:
        last = rows.last_id()
        assert rows.insert(items()) == 2500
        assert rows.delete(1, last) == len(TEXTS)
    found = read(store, table)
    assert [item for item in found if item != (b"other", b"")] == mine
    assert len(found) == 2504


def test_large_rows_are_read_in_small_pages(store: Store, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kemi.database.rows, "BATCH_BYTES", 1000)
    items = [(b"k", b"x" * size) for size in [1] * 50 + [5000] * 3 + [300] * 20]
    put(store, table, items)
    assert read(store, table) == items
