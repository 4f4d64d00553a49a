"""What a start finds out about tables before anything depends on them: refused with table, column, right and cure.

Each of these started once, and failed at the stop, when the items had no other place to go.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import StoreError
from kemi.store import Options, Store, Wanted
from tests.databases.conftest import running
from tests.databases.servers import DATABASE, HOST, MariaDb, Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases.conftest import AnyDatabase
    from tests.databases.servers import SqliteFile

SERIAL = {
    "sqlite": "INTEGER PRIMARY KEY",
    "mysql": "INTEGER AUTO_INCREMENT PRIMARY KEY",
    "postgres": "SERIAL PRIMARY KEY",
}
INT = {"sqlite": "INT PRIMARY KEY", "mysql": "INTEGER PRIMARY KEY", "postgres": "INTEGER PRIMARY KEY"}


def make(database: AnyDatabase, table: str, columns: str, number: str = "") -> None:
    number = number or SERIAL[database.kind]
    key = database.quote("key")
    database.run(f"CREATE TABLE {table} (id {number}, {columns.replace('key', key, 1)})")


@contextlib.contextmanager
def opened(url: str, **options: Any) -> Iterator[Store]:
    store = Store.open(url, None, Options(**options))
    try:
        yield store
    finally:
        store.close()


def prepared(url: str, *wanted: Wanted, **options: Any) -> list[str]:
    """Return what an operator is told."""
    with opened(url, **options) as store:
        return store.prepare(list(wanted))


def refused(url: str, table: str, **wanted: bool) -> str:
    with opened(url) as store, pytest.raises(StoreError) as caught:
        store.prepare([Wanted(table, **wanted)])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_table_that_serves(database: AnyDatabase, table: str) -> None:
    """Nothing is left of the trial, and nothing is said."""
    make(database, table, "key VARCHAR(64) NOT NULL, val VARCHAR(4096) NOT NULL")
    prepared(database.url, Wanted(f"{table}a"))
    before = database.run("SELECT COUNT(*) FROM mqueue_kemi_items")
    assert prepared(database.url, Wanted(table)) == []
    assert database.run(f"SELECT * FROM {table}") == []
    assert database.run("SELECT COUNT(*) FROM mqueue_kemi_items") == before
    assert prepared(database.url, Wanted(table), Wanted(f"{table}b")) == []


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("key TEXT, val TEXT, other INTEGER NOT NULL", "other.*give that column a default value, or take it out"),
        ("key VARCHAR(20) UNIQUE, val TEXT", "drop the unique index: items may be equal"),
        ("key TEXT, val TEXT, CHECK (id < 0)", "drop the CHECK"),
        ("key TEXT, val TEXT CHECK (val = 'one')", "drop the CHECK"),
    ],
)
def test_tables_that_refuse_items(database: AnyDatabase, table: str, columns: str, says: str) -> None:
    if database.kind == "mysql" and "(id < 0)" in columns:
        columns = "key TEXT, val TEXT CHECK (val = 'one')"  # there an automatic number cannot be checked
    make(database, table, columns)
    text = refused(database.url, table)
    assert re.search(says, text), text
    assert f'table "{table}": ' in text
    assert prepared(database.url, Wanted(table, writes=False)) == []  # who only loads has no need of it


def test_a_unique_index_where_keys_are_unique(database: AnyDatabase, table: str) -> None:
    make(database, table, "key VARCHAR(20) UNIQUE, val TEXT")
    assert prepared(database.url, Wanted(table, keyed=True)) == []


def test_a_check_that_refuses_some(database: AnyDatabase, table: str) -> None:
    """It is told; what it refuses will be kept beside the table."""
    make(database, table, "key TEXT, val TEXT CHECK (val <> '1e3')")
    (note,) = prepared(database.url, Wanted(table))
    assert "not every item has room there" in note


def test_an_id_without_automatic_numbers(database: AnyDatabase, table: str) -> None:
    make(database, table, "key TEXT, val TEXT", INT[database.kind])
    text = refused(database.url, table)
    assert "automatic number" in text


def test_numbers_behind_the_rows(postgres: Postgres, table: str) -> None:
    """As after a restored dump: new rows would come before the old ones, or collide with them."""
    make(postgres, table, "key TEXT, val TEXT")
    postgres.run(f"INSERT INTO {table} (id, key, val) VALUES (1, 'k', 'v'), (1000, 'k', 'v')")
    assert "column id has no number left, or its automatic ones are behind" in refused(postgres.url, table)
    postgres.run(f"SELECT setval('{table}_id_seq', 100)")
    assert "set the next automatic number behind the greatest id" in refused(postgres.url, table)


def test_an_id_that_is_full(database: Any, table: str) -> None:
    """A binary type is no cure."""
    if database.kind == "sqlite":
        pytest.skip("there all numbers have 64 bits")
    make(database, table, "key TEXT, val TEXT")
    database.run(f"INSERT INTO {table} VALUES (2147483647, 'k', 'v')")
    if database.kind == "postgres":
        database.run(f"SELECT setval('{table}_id_seq', 2147483647)")
    text = refused(database.url, table)
    assert text.endswith("make it BIGINT, and correct them"), text


@pytest.mark.parametrize("columns", ["key NUMERIC, val TEXT", "key TEXT, val INTEGER", "key TEXT, val REAL"])
@pytest.mark.parametrize("strict", ["", " STRICT"])
def test_sqlite_columns_of_numbers(sqlite: SqliteFile, table: str, columns: str, strict: str) -> None:
    if strict:
        columns = columns.replace("NUMERIC", "INTEGER")
    sqlite.run(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {columns}){strict}")
    assert 'column "' in refused(sqlite.url, table) or "cannot store" in refused(sqlite.url, table)


@pytest.mark.parametrize("columns", ["key TEXT, val TEXT", "key BLOB, val BLOB", "key ANY, val ANY"])
def test_sqlite_strict_tables_that_serve(sqlite: SqliteFile, table: str, columns: str) -> None:
    sqlite.run(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {columns}) STRICT")
    items = [(b"k", b"v"), (b"\xff", b"\0"), (b"007", b"")]
    with opened(sqlite.url) as store:
        assert store.prepare([Wanted(table)]) == []
        with store.begin(table, keeps_unfit=True) as rows:
            rows.insert(items)
        with store.begin(table, keeps_unfit=True) as rows:
            assert [item[:2] for item in rows.drain()] == items


RIGHTS = [
    ("SELECT", "INSERT"),
    ("SELECT, INSERT", "DELETE"),
    ("INSERT, DELETE", "SELECT"),
]


@pytest.mark.parametrize(("rights", "missing"), RIGHTS)
def test_rights_that_are_missing(database: Any, table: str, rights: str, missing: str) -> None:
    if database.kind == "sqlite":
        pytest.skip("there the file has the rights")
    make(database, table, "key TEXT, val TEXT")
    url = account(
        database, f"u{table}", f"GRANT {rights} ON {table} TO {{}}", f"GRANT USAGE ON SEQUENCE {table}_id_seq TO {{}}"
    )
    text = refused(url, table)
    assert missing in text
    assert "secret" not in text


@pytest.mark.parametrize("which", ["mqueue_kemi_transfers", "mqueue_kemi_items"])
@pytest.mark.parametrize("rights", ["INSERT, DELETE", "SELECT, DELETE", "SELECT, INSERT", ""])
def test_rights_on_this_module_s_tables(database: Any, table: str, which: str, rights: str) -> None:
    """It starts, says what is not promised, and what an administrator is to run, which helps."""
    if database.kind == "sqlite":
        pytest.skip("there the file has the rights")
    make(database, table, "key TEXT, val TEXT")
    prepared(database.url, Wanted(table))  # so they are there
    url = account(
        database,
        f"u{table}",
        f"GRANT SELECT, INSERT, DELETE ON {table} TO {{}}",
        *(f"GRANT {granted} ON {which} TO {{}}" for granted in [rights] if granted),
        f"GRANT USAGE ON SEQUENCE {table}_id_seq TO {{}}",
    )
    (note,) = prepared(url, Wanted(table))
    assert "denied" in note
    before, _, statements = note.partition("Let an administrator run: ")
    assert "interrupted is judged by the rows" in before
    for statement in statements.split("; "):
        database.run(statement)
    assert prepared(url, Wanted(table)) == []


def account(database: Any, user: str, *grants: str) -> str:
    """Return the URL of a new user with these rights."""
    if database.kind == "mysql":
        database.run(f"CREATE USER {user}@'%%' IDENTIFIED BY %s", "secret")
        for grant in grants:
            if "SEQUENCE" not in grant:
                database.run(grant.format(f"{user}@'%'"))
    else:
        database.run(f"CREATE USER {user} PASSWORD 'secret'")
        for grant in grants:
            database.run(grant.format(user))
    return f"{database.kind}://{user}:secret@{HOST}:{database.port}/{DATABASE}"


def test_rights_around_a_table(postgres: Postgres, table: str) -> None:
    """Those on its schema and on the database, each with its cure."""
    postgres.run(f"CREATE SCHEMA s{table}")
    make(postgres, f"s{table}.t", "key TEXT, val TEXT")
    user = f"u{table}"
    url = account(
        postgres,
        user,
        f"GRANT SELECT, INSERT, DELETE ON s{table}.t TO {{}}",
        f"GRANT USAGE ON SEQUENCE s{table}.t_id_seq TO {{}}",
    )
    for name, cure in [(f"s{table}.t", f"SCHEMA s{table}"), (f"none{table}", "SCHEMA public")]:
        postgres.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        text = refused(url, name)
        assert text.endswith(f'GRANT USAGE, CREATE ON {cure} TO "{user}"'), text
        postgres.run(text[text.index("GRANT") :])
        assert len(prepared(url, Wanted(name))) <= 1
    postgres.run(f"REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC")
    try:
        text = refused(url, name)
        postgres.run(text[text.index("GRANT") :])
        assert len(prepared(url, Wanted(name))) <= 1
    finally:
        postgres.run(f"GRANT CONNECT ON DATABASE {DATABASE} TO PUBLIC")


def test_no_usage_on_a_sequence(postgres: Postgres, table: str) -> None:
    make(postgres, table, "key TEXT, val TEXT")
    postgres.run(f"CREATE USER u{table} PASSWORD 'secret'")
    postgres.run(f"GRANT SELECT, INSERT, DELETE ON {table} TO u{table}")
    text = refused(f"postgres://u{table}:secret@{HOST}:{postgres.port}/{DATABASE}", table)
    assert text.endswith(f'GRANT USAGE ON SEQUENCE {table}_id_seq TO "u{table}"')


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_only_root_may_write(open_folder: Path, there: bool) -> None:
    """The start is root, the stop is not: sqlite makes files beside its own."""
    open_folder.chmod(0o755)
    store = Store.open(f"sqlite:///{open_folder}/m.db", (65534, 65534))
    if there:
        (open_folder / "m.db").touch()
        os.chown(open_folder / "m.db", 65534, 65534)
    with pytest.raises(StoreError, match="folder must be writable for the user as whom the server runs, nobody"):
        store.prepare([Wanted("q")])
    assert os.geteuid() == 0
    open_folder.chmod(0o777)
    assert store.prepare([Wanted("q")]) == []
    store.close()


# --- tables that are no plain ones ------------------------------------------------------------------------------------


def moved(url: str, table: str, **options: Any) -> None:
    """Save and load."""
    items = [(b"%d" % number, b"v") for number in range(2500)]
    with opened(url, **options) as store:
        store.prepare([Wanted(table)])
        with store.begin(table, keeps_unfit=True) as rows:
            rows.insert(items)
        with store.begin(table, keeps_unfit=True) as rows:
            assert [item[:2] for item in rows.drain()] == items
        with store.begin(table, keeps_unfit=True) as rows:
            assert rows.is_empty()


def test_a_view(database: AnyDatabase, table: str) -> None:
    """One that can be written to serves."""
    make(database, f"{table}t", "key TEXT, val TEXT")
    key = database.quote("key")
    database.run(f"CREATE VIEW {table} AS SELECT id, {key}, val FROM {table}t")
    if database.kind == "sqlite":  # there by triggers
        does = f"INSERT INTO {table}t (key, val) VALUES (NEW.key, NEW.val)"
        database.run(f"CREATE TRIGGER {table}i INSTEAD OF INSERT ON {table} BEGIN {does}; END")
        does = f"DELETE FROM {table}t WHERE id = OLD.id"
        database.run(f"CREATE TRIGGER {table}d INSTEAD OF DELETE ON {table} BEGIN {does}; END")
    moved(database.url, table)


def test_a_view_over_a_table_without_transactions(mariadb: MariaDb, table: str) -> None:
    mariadb.run(f"CREATE TABLE {table}t (id INTEGER AUTO_INCREMENT PRIMARY KEY, `key` TEXT, val TEXT) ENGINE=MyISAM")
    mariadb.run(f"CREATE VIEW {table} AS SELECT * FROM {table}t")
    assert "stays when it is undone" in refused(mariadb.url, table)
    assert mariadb.run(f"SELECT * FROM {table}") == []


@pytest.mark.parametrize("engine", ["MyISAM", "Aria"])
def test_an_engine_without_transactions_that_is_accepted(mariadb: MariaDb, table: str, engine: str) -> None:
    mariadb.run(f"CREATE TABLE {table} (id INTEGER AUTO_INCREMENT PRIMARY KEY, `key` TEXT, val TEXT) ENGINE={engine}")
    assert "db_inexact" in refused(mariadb.url, table)
    moved(mariadb.url, table, inexact=True)
    assert mariadb.run(f"SELECT * FROM {table}") == []


def test_a_table_without_a_primary_key(database: AnyDatabase, table: str) -> None:
    number = {"sqlite": "", "mysql": "INTEGER AUTO_INCREMENT, KEY (id)", "postgres": "SERIAL"}[database.kind]
    if database.kind == "sqlite":
        pytest.skip("it has no automatic numbers without one")
    columns = "`key` TEXT, val TEXT" if database.kind == "mysql" else "key TEXT, val TEXT"
    database.run(f"CREATE TABLE {table} ({columns}, id {number})")
    moved(database.url, table)
    key = database.quote("key")
    database.run(f"INSERT INTO {table} (id, {key}, val) VALUES (7, 'a', ''), (7, 'b', '')")
    with opened(database.url) as store:
        with pytest.raises(StoreError, match="two of its rows have the same id"), store.begin(table) as rows:
            list(rows.drain())
    assert len(database.run(f"SELECT * FROM {table}")) == 2


@pytest.mark.parametrize("kind", ["DOUBLE PRECISION", "DECIMAL(20,2)", "BIGINT"])
def test_ids_of_other_types(database: Any, table: str, kind: str) -> None:
    """Whole numbers serve, up to the greatest that there is; others are refused at the load."""
    key = database.quote("key")
    database.run(f"CREATE TABLE {table} (id {kind} PRIMARY KEY, {key} TEXT, val TEXT)")
    last = (1 << 63) - 1 if kind == "BIGINT" else 3
    database.run(f"INSERT INTO {table} VALUES (1, 'a', 'v'), ({last}, NULL, NULL)")
    with opened(database.url) as store:
        with store.begin(table) as rows:
            assert [item[:2] for item in rows.drain()] == [(b"a", b"v"), (b"", b"")]
        if kind != "BIGINT":
            database.run(f"INSERT INTO {table} VALUES (1.5, 'a', 'v')")
            with pytest.raises(StoreError, match=r"id 1\.50? is no whole number"), store.begin(table) as rows:
                list(rows.drain())
            assert len(database.run(f"SELECT * FROM {table}")) == 1


TYPES = {
    "id of letters": (
        "mysql",
        "UUID PRIMARY KEY DEFAULT UUID()",
        "key TEXT, val TEXT",
        "id is of the type UUID, not a",
    ),
    "set": ("mysql", "", "key SET('a', 'b'), val TEXT", "change the column so that it takes the item"),
    "generated": ("mysql", "", "key TEXT AS (val) STORED, val TEXT", "take a plain table with plain columns"),
    "id of text": ("postgres", "TEXT PRIMARY KEY", "key TEXT, val TEXT", "id is of the type TEXT, not a number"),
    "uuid": (
        "postgres",
        "UUID DEFAULT gen_random_uuid()",
        "key TEXT, val TEXT",
        "id is of the type UUID, not a number",
    ),
    "json": ("postgres", "", "key TEXT, val JSONB", "val is of the type JSONB, not text or binary"),
    "enum": ("postgres", "", "key {0}e, val TEXT", "key is of the type ENUM, not text or binary"),
}


@pytest.mark.parametrize("which", TYPES)
def test_types_that_cannot_serve(mariadb: MariaDb, postgres: Postgres, table: str, which: str) -> None:
    kind, number, columns, says = TYPES[which]
    database = mariadb if kind == "mysql" else postgres
    if which == "enum":
        postgres.run(f"CREATE TYPE {table}e AS ENUM ('007', '008')")
    make(database, table, columns.format(table), number)
    assert says in refused(database.url, table)


@pytest.mark.parametrize("completion", [1, 2])
def test_mysql_that_ends_each_transaction_in_another_way(mariadb: MariaDb, table: str, completion: int) -> None:
    """By a new one, or by an end of the connection."""
    mariadb.run(f"SET GLOBAL completion_type = {completion}")
    try:
        moved(mariadb.url, table)
    finally:
        mariadb.run("SET GLOBAL completion_type = 0")


HIDDEN = {
    "sqlite": [("INT UNIQUE", "NULL"), ("INT", "'x'"), ("REAL", "1e300")],
    "mysql": [("BIGINT UNIQUE", "NULL"), ("BIGINT UNSIGNED PRIMARY KEY", "9223372036854775808"), ("DOUBLE", "-1e300")],
    "postgres": [("BIGINT UNIQUE", "NULL"), ("NUMERIC PRIMARY KEY", "1e30"), ("NUMERIC UNIQUE", "'NaN'")],
}


@pytest.mark.parametrize("case", range(3))
def test_a_row_that_no_load_would_find(database: AnyDatabase, table: str, case: int) -> None:
    """With an id beyond the numbers that are looked for, or none, it would lie there without a word."""
    kind, value = HIDDEN[database.kind][case]
    make(database, table, "key TEXT, val TEXT", kind)
    database.run(f"INSERT INTO {table} VALUES ({value}, 'b', 'v')")
    with opened(database.url) as store:
        with pytest.raises(StoreError, match=r"has no id|id \S+ is not within 64 bits"), store.begin(table) as rows:
            rows.is_empty()
        database.run(f"INSERT INTO {table} VALUES (1, 'a', 'v')")
        with pytest.raises(StoreError, match=r"has no id|id \S+ is not within 64 bits"), store.begin(table) as rows:
            list(rows.drain())
    assert len(database.run(f"SELECT * FROM {table}")) == 2


# --- which table ------------------------------------------------------------------------------------------------------


def test_names_that_differ_in_capital_letters(database: AnyDatabase, table: str) -> None:
    """They are two tables, or the start is refused."""
    wanted = [Wanted(table), Wanted(table.upper())]
    if database.kind == "mysql":
        assert prepared(database.url, *wanted) == []
        return
    with opened(database.url) as store, pytest.raises(StoreError, match=f"queue '{table}' has the same table there"):
        store.prepare(wanted)


class Folding(MariaDb):
    """It has one table for names that differ in capital letters alone."""

    def argv(self) -> list[str]:
        return [*super().argv(), "--lower-case-table-names=1"]


# Which of these are one table, each database decides; by its own letters.
ALIKE = [
    ("q", "Q"),
    ("Straße", "STRASSE"),
    ("straße", "STRAẞE"),
    ("iq", "İq"),  # Python: i and a dot above
    ("\u0131q", "Iq"),  # i without a dot
    ("kq", "\u212aq"),  # the sign of Kelvin; Python: k
    ("éq", "Éq"),
    ("ςq", "Σq"),
    ("ⱥq", "Ⱥq"),
]


@pytest.mark.parametrize("kind", [Folding, MariaDb, Postgres, None])
def test_names_that_are_alike(kind: type[Any] | None, table: str, request: pytest.FixtureRequest) -> None:
    """What is added to one queue never comes out of another; refused are those only that would have one table."""
    with contextlib.ExitStack() as stack:
        if kind is Folding:
            database = stack.enter_context(running(Folding()))
        else:
            database = request.getfixturevalue("sqlite" if kind is None else kind.__name__.lower())
        for number, pair in enumerate(ALIKE):
            with opened(database.url) as store:
                names = [f"{table}n{number}{name}" for name in pair]
                one_table = is_one_table(database, *names)
                if one_table:
                    with pytest.raises(StoreError, match="has the same table there"):
                        store.prepare([Wanted(name) for name in names])
                    continue
                store.prepare([Wanted(name) for name in names])
                for name in names:
                    with store.begin(name) as rows:
                        rows.insert([(b"k", name.encode())])
                        rows.wait_for_others(1)
                for name in names:
                    with store.begin(name) as rows:
                        assert [item[1] for item in rows.drain()] == [name.encode()]


def is_one_table(database: AnyDatabase, first: str, second: str) -> bool:
    """Ask the database itself; PostgreSQL does not fold where a name is quoted, but the C module does not quote."""
    if database.kind == "postgres":
        return first.isascii() and second.isascii()
    quoted = [database.quote(name) for name in (first, second)]
    database.run(f"CREATE TABLE {quoted[0]} (x INTEGER)")
    try:
        database.run(f"CREATE TABLE {quoted[1]} (x INTEGER)")
    except Exception:  # noqa: BLE001 - each driver has its own
        return True
    else:
        database.run(f"DROP TABLE {quoted[1]}")
        return False
    finally:
        database.run(f"DROP TABLE {quoted[0]}")


@pytest.mark.parametrize("name", ["mqueue_kemi_items", "MQUEUE_KEMI_transfers"])
def test_the_names_of_this_module_s_tables(database: AnyDatabase, name: str) -> None:
    assert "a table of this module" in refused(database.url, name)


def test_postgres_table_of_the_c_module(postgres: Postgres, table: str) -> None:
    """It does not quote the name."""
    queue = f"Cdr{table.capitalize()}"
    make(postgres, queue.lower(), "key VARCHAR(64), val VARCHAR(4096)")
    postgres.run(f"INSERT INTO {queue} (key, val) VALUES ('k', 'v')")
    with opened(postgres.url) as store:
        assert store.prepare([Wanted(queue)]) == []
        with store.begin(queue) as rows:
            assert [item[:2] for item in rows.drain()] == [(b"k", b"v")]
    assert postgres.run(f"SELECT to_regclass('\"{queue}\"')") == [(None,)]


def test_postgres_table_with_just_that_name(postgres: Postgres, table: str) -> None:
    """It counts first, and the other one is told."""
    queue = f"Cdr{table.capitalize()}"
    make(postgres, f'"{queue}"', "key VARCHAR(64), val VARCHAR(4096)")
    make(postgres, queue.lower(), "key VARCHAR(64), val VARCHAR(4096)")
    (note,) = prepared(postgres.url, Wanted(queue))
    assert f"there is the table {queue.lower()}, too, which the C module uses; its rows are left there" in note


def test_postgres_schema(postgres: Postgres, table: str) -> None:
    postgres.run(f"CREATE SCHEMA s{table} AUTHORIZATION kamailio")
    with opened(postgres.url) as store:
        assert store.prepare([Wanted(f"s{table}.MyQ")]) == []
        with store.begin(f"s{table}.MyQ") as rows:
            rows.insert([(b"k", b"v")])
            rows.wait_for_others(1)
    assert postgres.run(f"SELECT key, val FROM s{table}.myq") == [("k", "v")]


def test_servers_that_start_at_once(database: AnyDatabase, table: str) -> None:
    """Each makes what is missing, or finds what another one has made."""
    for attempt in range(3):
        name, barrier = f"{table}x{attempt}", threading.Barrier(8)
        errors: list[Exception] = []

        def start(name: str = name, barrier: threading.Barrier = barrier, errors: list[Exception] = errors) -> None:
            with opened(database.url) as store:
                barrier.wait(30)
                try:
                    store.prepare([Wanted(name)])
                except StoreError as error:
                    errors.append(error)

        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
