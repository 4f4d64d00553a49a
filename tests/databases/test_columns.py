"""Columns that cannot hold an item: it is refused with the reason, and the table is as it was. Nothing is ever cut."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from kemi.errors import StoreError
from kemi.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.databases.servers import MariaDb, Postgres

Item = tuple[bytes, bytes]


@contextmanager
def opened(url: str) -> Iterator[Store]:
    store = Store.open(url)
    try:
        yield store
    finally:
        store.close()


def kept(url: str, table: str, items: list[Item]) -> list[Item]:
    """Insert the items in one transaction, and return what another one finds."""
    with opened(url) as store:
        with store.begin(table) as rows:
            rows.insert(items)
        with store.begin(table) as rows:
            return [(row.key, row.value) for row in rows.read()]


def refused(url: str, table: str, items: list[Item]) -> str:
    """Insert what must be refused behind rows that must stay, and return the reason."""
    before = [(b"before", b"1"), (b"before", b"2")]
    assert kept(url, table, before) == before
    with opened(url) as store:
        with pytest.raises(StoreError) as caught, store.begin(table) as rows:
            rows.insert([*before, *items])
        with store.begin(table) as rows:
            assert [(row.key, row.value) for row in rows.read()] == before
    return str(caught.value)


@contextmanager
def sql_mode(server: MariaDb, mode: str) -> Iterator[None]:
    """Give all new sessions another sql_mode."""
    before = server.run("SELECT @@GLOBAL.sql_mode")[0][0]
    server.run("SET GLOBAL sql_mode = %s", mode)
    try:
        yield
    finally:
        server.run("SET GLOBAL sql_mode = %s", before)


def seed(
    server: MariaDb, table: str, columns: str = "`key` VARCHAR(64), val VARCHAR(4096)", engine: str = "InnoDB"
) -> None:
    server.run(f"CREATE TABLE {table} (id INTEGER AUTO_INCREMENT PRIMARY KEY, {columns}) ENGINE={engine}")


# --- MariaDB


@pytest.mark.parametrize("mode", ["", "STRICT_TRANS_TABLES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"])
def test_mysql_never_cuts(mariadb: MariaDb, table: str, mode: str) -> None:
    """A server that is not strict cuts what is too long, with a warning that nobody sees."""
    seed(mariadb, table)
    with sql_mode(mariadb, mode):
        fits = [(b"k" * 64, b"v" * 4096), ("\u00e4".encode() * 64, "\U0001f600".encode() * 4096), (b"'\\", b"\0")]
        assert kept(mariadb.url, table, fits) == fits
        mariadb.run(f"DELETE FROM {table}")
        assert "65 characters, and the column takes 64" in refused(mariadb.url, table, [(b"k" * 65, b"")])
        mariadb.run(f"DELETE FROM {table}")
        reason = refused(mariadb.url, table, [(b"", b"v" * 4097)])
    assert "4097 characters, and the column takes 4096" in reason
    assert f'database mysql://kamailio@127.0.0.1:{mariadb.port}/mq, table "{table}": ' in reason
    assert reason.replace('"', "`").endswith(f": ALTER TABLE `{table}` MODIFY `val` LONGBLOB NOT NULL")


@pytest.mark.parametrize(
    ("columns", "item", "says"),
    [
        # What a strict server changes without an error, the comparison finds.
        ("`key` CHAR(20), val LONGBLOB", (b"blank ", b""), '"key" cannot hold item 3: its 6 bytes came back as 5'),
        ("`key` VARCHAR(20), val BINARY(8)", (b"", b"8"), '"val" cannot hold item 1: its 1 bytes came back as 8 bytes'),
        ("`key` VARBINARY(64), val TEXT", (b"", b"\xff"), '"val" cannot hold item 3: it has bytes that are not UTF-8'),
        ("`key` TEXT CHARACTER SET utf8mb3, val LONGBLOB", ("\U0001f600".encode(), b""), "Incorrect string value"),
        ("`key` TEXT CHARACTER SET latin1, val LONGBLOB", ("\u4e2d".encode(), b""), "Incorrect string value"),
        ("`key` INTEGER, val LONGBLOB", (b"1", b""), "column key is of the type INTEGER"),
        ("`key` LONGBLOB, val VARCHAR(20), UNIQUE (val)", (b"", b"1"), "Duplicate entry"),
    ],
)  # fmt: skip
def test_mysql_columns_that_change_items(mariadb: MariaDb, table: str, columns: str, item: Item, says: str) -> None:
    seed(mariadb, table, columns)
    with opened(mariadb.url) as store:
        with pytest.raises(StoreError, match=says.replace("(", r"\(")), store.begin(table) as rows:
            rows.insert([(b"1", b"1"), (b"2", b"2"), item])
    assert mariadb.run(f"SELECT * FROM {table}") == []


@pytest.mark.parametrize("change", ["NEW.val = LEFT(NEW.val, 3)", "NEW.val = UPPER(NEW.val)", "NEW.`key` = ''"])
def test_mysql_triggers_that_change_items(mariadb: MariaDb, table: str, change: str) -> None:
    seed(mariadb, table)
    mariadb.run(f"CREATE TRIGGER t_{table} BEFORE INSERT ON {table} FOR EACH ROW SET {change}")
    with opened(mariadb.url) as store, pytest.raises(StoreError, match="cannot hold item 1") as caught:
        with store.begin(table) as rows:
            rows.insert([(b"key", b"value")])
    assert mariadb.run(f"SELECT * FROM {table}") == []
    assert f"ALTER TABLE `{table}` MODIFY `" in str(caught.value)


@pytest.mark.parametrize(
    ("charset", "text"),
    [("latin1", "\u00e4\u00f6\u20ac"), ("utf8mb3", "\u4e2d"), ("utf8mb4", "\U0001f600"), ("ucs2", "\u4e2d")],
)
def test_mysql_character_sets_keep_what_they_can(mariadb: MariaDb, table: str, charset: str, text: str) -> None:
    seed(mariadb, table, f"`key` VARCHAR(20) CHARACTER SET {charset}, val TEXT CHARACTER SET {charset}")
    items = [(text.encode(), text.encode()), (b"", b"")]
    assert kept(mariadb.url, table, items) == items


def test_mysql_advice_helps(mariadb: MariaDb, table: str) -> None:
    """What the error says to do, done."""
    seed(mariadb, table, "`key` VARCHAR(64) NOT NULL, val VARCHAR(20) NOT NULL")
    reason = refused(mariadb.url, table, [(b"", b"\xff\0")])
    mariadb.run(reason[reason.index("ALTER TABLE") :])
    assert kept(mariadb.url, table, [(b"", b"\xff\0")])[2:] == [(b"", b"\xff\0")]


def test_mysql_max_allowed_packet(mariadb: MariaDb, table: str) -> None:
    before = mariadb.run("SELECT @@GLOBAL.max_allowed_packet")[0][0]
    mariadb.run(f"SET GLOBAL max_allowed_packet = {1 << 20}")
    try:
        many = [(b"%d" % number, b"\\" * 100_000) for number in range(30)]
        assert kept(mariadb.url, table, many) == many
        fits = [(b"k", b"x" * ((1 << 19) - 1000)), ("\u00e4".encode(), b"")]
        assert kept(mariadb.url, table, fits)[30:] == fits
        mariadb.run(f"DELETE FROM {table}")
        reason = refused(mariadb.url, table, [(b"k", b"x" * (1 << 20))])
        assert "item 3 takes " in reason
        assert reason.endswith("the server takes 1048576: raise max_allowed_packet of the server")
        mariadb.run(f"DELETE FROM {table}")
        assert "item 3 takes " in refused(mariadb.url, table, [(b"k", b"'" * (600 << 10))])
    finally:
        mariadb.run(f"SET GLOBAL max_allowed_packet = {before}")


@pytest.mark.parametrize("engine", ["MyISAM", "Aria", "MEMORY"])
def test_mysql_engines_without_transactions(mariadb: MariaDb, table: str, engine: str) -> None:
    """A rollback would leave the rows there."""
    seed(mariadb, table, engine=engine)
    with (
        opened(mariadb.url) as store,
        pytest.raises(StoreError, match=r"no transactions, so .* ENGINE=InnoDB.* \"db_inexact\", 1"),
    ):
        with store.begin(table):
            pass


def test_mysql_table_that_is_made(mariadb: MariaDb, table: str) -> None:
    kept(mariadb.url, table, [])
    columns = mariadb.run(f"SHOW COLUMNS FROM {table}")
    expected = [("id", "bigint(20)"), ("key", "longblob"), ("val", "longblob"), ("added", "double")]
    assert [column[:2] for column in columns] == expected
    assert "ENGINE=InnoDB" in mariadb.run(f"SHOW CREATE TABLE {table}")[0][1]


# --- PostgreSQL


def pg_seed(server: Postgres, table: str, columns: str = "key VARCHAR(64), val VARCHAR(4096)") -> None:
    server.run(f"CREATE TABLE {table} (id SERIAL PRIMARY KEY, {columns})")


def test_postgres_never_cuts(postgres: Postgres, table: str) -> None:
    pg_seed(postgres, table)
    fits = [(b"k" * 64, b"v" * 4096), ("\u00e4".encode() * 64, "\U0001f600".encode() * 4096), (b"'\\", b"")]
    assert kept(postgres.url, table, fits) == fits
    postgres.run(f"DELETE FROM {table}")
    assert "65 characters, and the column takes 64" in refused(postgres.url, table, [(b"k" * 65, b"")])
    postgres.run(f"DELETE FROM {table}")
    # Blanks behind the end are what a cast would cut without a word.
    assert "and the column takes 4096" in refused(postgres.url, table, [(b"", b"v" * 4096 + b"v ")])


@pytest.mark.parametrize(
    ("columns", "item", "says"),
    [
        ("key VARCHAR(64), val TEXT", (b"", b"a\0b"), 'column "val" cannot hold item 3: it has a NUL'),
        ("key VARCHAR(64), val TEXT", (b"\xff", b""), '"key" cannot hold item 3: it has bytes that are not UTF-8'),
        ("key CHAR(20), val TEXT", (b"", b""), 'column "key" cannot hold item 1: its 1 bytes came back as 20 bytes'),
        ("key VARCHAR(5), val TEXT", (b"blank ", b""), "item 3: it has 6 characters, and the column takes 5"),
        ("key INTEGER, val TEXT", (b"1", b""), "column key is of the type INTEGER"),
        ("key TEXT UNIQUE, val TEXT", (b"1", b""), "duplicate key value violates unique constraint"),
        ("key TEXT, val TEXT CHECK (val <> 'x')", (b"1", b"x"), "violates check constraint"),
    ],
)  # fmt: skip
def test_postgres_columns_that_change_items(
    postgres: Postgres, table: str, columns: str, item: Item, says: str
) -> None:
    pg_seed(postgres, table, columns)
    with opened(postgres.url) as store, pytest.raises(StoreError, match=says), store.begin(table) as rows:
        rows.insert([(b"1", b"1"), (b"2", b"2"), item])
    assert postgres.run(f"SELECT * FROM {table}") == []


def test_postgres_domains_serve(postgres: Postgres, table: str) -> None:
    postgres.run(f"CREATE DOMAIN {table}d AS varchar(20)")
    pg_seed(postgres, table, f"key {table}d, val {table}d")
    assert kept(postgres.url, table, [(b"k", b"a\\b")]) == [(b"k", b"a\\b")]


def test_postgres_advice_helps(postgres: Postgres, table: str) -> None:
    pg_seed(postgres, table, "key VARCHAR(64) DEFAULT '' NOT NULL, val VARCHAR(20) DEFAULT '' NOT NULL")
    reason = refused(postgres.url, table, [(b"", b"\xff\0")])
    postgres.run(reason[reason.index("ALTER TABLE") :].partition(" (which")[0])
    assert kept(postgres.url, table, [(b"", b"\xff\0")])[2:] == [(b"", b"\xff\0")]


def test_postgres_sequence_behind_the_rows(postgres: Postgres, table: str) -> None:
    """As after a restore of rows with their ids: new rows would come before the old ones."""
    pg_seed(postgres, table)
    postgres.run(f"INSERT INTO {table} (id, key, val) VALUES (1000, 'k', 'v')")
    with (
        opened(postgres.url) as store,
        pytest.raises(StoreError, match="0 rows came to the end of the table when 1 were"),
    ):
        with store.begin(table) as rows:
            rows.insert([(b"k", b"v")])


def test_postgres_table_that_is_made(postgres: Postgres, table: str) -> None:
    kept(postgres.url, table, [])
    query = (
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position"
    )
    assert postgres.run(query, table) == [
        ("id", "bigint"),
        ("key", "character varying"),
        ("val", "character varying"),
        ("added", "double precision"),
    ]


def test_postgres_longest_name(postgres: Postgres) -> None:
    """It would cut longer ones, and two queues would share a table."""
    with opened(postgres.url) as store, pytest.raises(StoreError, match="at most 63"), store.begin("\u00e4" * 32):
        pass
