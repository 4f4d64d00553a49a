"""Tables and servers as others have set them up: each serves, every item as it was, or is refused with the cause."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import StoreError
from kemi.store import Store, Wanted
from tests.databases.test_start import SERIAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.databases.conftest import AnyDatabase
    from tests.databases.servers import MariaDb, Postgres

SERVES = ""
ITEMS = [(b"k1", b"v"), (b"k2", b"\xff\0x"), (b"k3", b""), (b"k4", "é\U0001f600".encode()), (b"k5", b"v ")] * 3


def said(url: str, table: str) -> str:
    """Start, save, load. Return what the start says or refuses it with; what was saved must come back as it was."""
    with contextlib.closing(Store.open(url)) as store:
        try:
            notes = store.prepare([Wanted(table)])
        except StoreError as error:
            return str(error)
        with store.begin(table, keeps_unfit=True) as rows:
            rows.insert([(*item, 1.5) for item in ITEMS])
        with store.begin(table, keeps_unfit=True) as rows:
            assert [item[:2] for item in rows.drain()] == ITEMS
        with store.begin(table, keeps_unfit=True) as rows:
            assert rows.is_empty()
    return " ".join(notes)


def agrees(found: str, says: str) -> None:
    assert (says in found) if says else not found, found


MYSQL = "CREATE TABLE {0} (id INT AUTO_INCREMENT PRIMARY KEY, `key` LONGBLOB, val LONGBLOB"
POSTGRES = "CREATE TABLE {0} (id BIGSERIAL PRIMARY KEY, key varchar, val varchar"
SQLITE = "CREATE TABLE {0} (id INTEGER PRIMARY KEY, key TEXT, val TEXT"
FUNCTION = "CREATE FUNCTION {0}f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {1}; RETURN NEW; END$$"
# What is made (0: the table's name), and what is said then.
TABLES: dict[tuple[str, str], tuple[list[str], str]] = {
    ("mysql", "added is generated"): ([MYSQL + ", added DOUBLE AS (1.5) STORED)"], SERVES),
    ("mysql", "added has a CHECK"): ([MYSQL + ", added DOUBLE CHECK (added < 0))"], "drop the CHECK"),
    ("mysql", "added is not NULL"): ([MYSQL + ", added FLOAT NOT NULL)"], SERVES),
    ("mysql", "keeps its history"): ([MYSQL + ") WITH SYSTEM VERSIONING"], SERVES),
    ("mysql", "numbers of a sequence"): (
        ["CREATE SEQUENCE {0}s CACHE 100", MYSQL.replace("INT AUTO_INCREMENT", "BIGINT DEFAULT NEXTVAL({0}s)") + ")"],
        SERVES,
    ),
    ("mysql", "in parts"): ([MYSQL + ") PARTITION BY HASH(id) PARTITIONS 4"], SERVES),
    ("mysql", "a column not shown"): ([MYSQL + ", more INT INVISIBLE DEFAULT 3)"], SERVES),
    ("mysql", "utf8mb3"): ([MYSQL.replace("LONGBLOB", "VARCHAR(99)") + ") CHARACTER SET utf8mb3"], SERVES),
    ("mysql", "fixed length"): ([MYSQL.replace("LONGBLOB", "CHAR(99)") + ") CHARACTER SET latin1"], SERVES),
    ("mysql", "a full-text index"): ([MYSQL.replace("LONGBLOB", "TEXT") + ", FULLTEXT (val))"], SERVES),
    ("mysql", "an audit"): (
        [
            "CREATE TABLE {0}a (n INT AUTO_INCREMENT PRIMARY KEY, k BLOB)",
            MYSQL + ")",
            "CREATE TRIGGER {0}t AFTER INSERT ON {0} FOR EACH ROW INSERT INTO {0}a (k) VALUES (NEW.`key`)",
        ],
        SERVES,
    ),
    ("mysql", "rows that others refer to"): (
        [
            MYSQL + ")",
            "CREATE TABLE {0}c (q INT, FOREIGN KEY (q) REFERENCES {0}(id))",
            "CREATE TRIGGER {0}t AFTER INSERT ON {0} FOR EACH ROW INSERT INTO {0}c VALUES (NEW.id)",
        ],
        "drop the foreign key",
    ),
    ("mysql", "nothing may be deleted"): (
        [
            MYSQL + ")",
            "CREATE TRIGGER {0}t BEFORE DELETE ON {0} FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT='never'",
        ],
        "never (1644)",
    ),
    ("mysql", "a sequence"): (["CREATE SEQUENCE {0}"], "the table has no column id"),
    ("postgres", "added is generated"): (
        [POSTGRES + ", added double precision GENERATED ALWAYS AS (1.5) STORED)"],
        SERVES,
    ),
    ("postgres", "added has a CHECK"): ([POSTGRES + ", added double precision CHECK (added < 0))"], "drop the CHECK"),
    ("postgres", "added is not NULL"): ([POSTGRES + ", added real NOT NULL)"], SERVES),
    ("postgres", "in parts"): (
        [
            "CREATE TABLE {0} (id BIGSERIAL, key varchar, val varchar) PARTITION BY RANGE (id)",
            "CREATE TABLE {0}p PARTITION OF {0} FOR VALUES FROM (0) TO (10)",
            "CREATE TABLE {0}d PARTITION OF {0} DEFAULT",
        ],
        SERVES,
    ),
    ("postgres", "no part"): (
        ["CREATE TABLE {0} (id BIGSERIAL, key varchar, val varchar) PARTITION BY RANGE (id)"],
        "have a partition for every item",
    ),
    ("postgres", "inherited"): ([POSTGRES + ")", "CREATE TABLE {0}c () INHERITS ({0})"], SERVES),
    ("postgres", "an identity"): ([POSTGRES.replace("BIGSERIAL", "BIGINT GENERATED ALWAYS AS IDENTITY") + ")"], SERVES),
    ("postgres", "numbers that go down"): (
        [POSTGRES.replace("BIGSERIAL", "BIGINT GENERATED ALWAYS AS IDENTITY (INCREMENT -1)") + ")"],
        "its column id must give each row a greater number than all before",
    ),
    ("postgres", "numbers kept for later"): ([POSTGRES + ")", "ALTER SEQUENCE {0}_id_seq CACHE 50"], SERVES),
    ("postgres", "not logged"): (
        [POSTGRES.replace("CREATE", "CREATE UNLOGGED") + ")"],
        "a crash of the database empties it: ALTER TABLE",
    ),
    ("postgres", "capital letters"): (
        ['CREATE TABLE {0} (id BIGSERIAL PRIMARY KEY, "Key" varchar, "Val" varchar)'],
        "the table has no column key and no column val",
    ),
    ("postgres", "a CHECK on a domain"): (
        [
            "CREATE DOMAIN {0}d AS varchar CHECK (VALUE <> '')",
            "CREATE TABLE {0} (id BIGSERIAL PRIMARY KEY, key {0}d, val {0}d)",
        ],
        SERVES,
    ),
    ("postgres", "a foreign key at the commit"): (
        [
            "CREATE TABLE {0}p (v varchar PRIMARY KEY)",
            "INSERT INTO {0}p VALUES ('v'), ('1e3')",
            POSTGRES + " REFERENCES {0}p DEFERRABLE INITIALLY DEFERRED)",
        ],
        SERVES,
    ),
    ("postgres", "a primary key at the commit"): (
        [POSTGRES.replace("KEY,", "KEY DEFERRABLE INITIALLY DEFERRED,", 1) + ")"],
        SERVES,
    ),
    ("postgres", "an exclusion"): ([POSTGRES + ", EXCLUDE USING hash (key WITH =))"], "items may be equal to others"),
    ("postgres", "numbers that change"): (
        [
            POSTGRES + ")",
            FUNCTION.replace("{1}", "UPDATE {0} SET id = id + 1000000 WHERE id = NEW.id"),
            "CREATE TRIGGER t AFTER INSERT ON {0} FOR EACH ROW EXECUTE FUNCTION {0}f()",
        ],
        SERVES,
    ),
    ("postgres", "no statement"): (
        [
            POSTGRES + ")",
            FUNCTION.replace("{1}", "RAISE 'no statements'"),
            "CREATE TRIGGER t BEFORE INSERT ON {0} FOR EACH STATEMENT EXECUTE FUNCTION {0}f()",
        ],
        "no statements",
    ),
    ("postgres", "nothing is deleted"): (
        [POSTGRES + ")", "CREATE RULE r AS ON DELETE TO {0} DO INSTEAD NOTHING"],
        "a row that was written could not be deleted",
    ),
    ("postgres", "a view that was read once"): (
        ["CREATE MATERIALIZED VIEW {0} AS SELECT 1 AS id, 'a'::varchar AS key, 'b'::varchar AS val"],
        "take a plain table",
    ),
    ("postgres", "a type"): (["CREATE TYPE {0} AS (id int, key varchar, val varchar)"], "there is a type of that name"),
    ("postgres", "a sequence"): (["CREATE SEQUENCE {0}"], "there is a sequence of that name"),
    ("postgres", "an index"): (
        ["CREATE TABLE {0}x (a int)", "CREATE INDEX {0} ON {0}x (a)"],
        "there is an index of that name",
    ),
    ("sqlite", "written ahead"): (["PRAGMA journal_mode = WAL"], SERVES),
    ("sqlite", "UTF-16"): (["PRAGMA encoding = 'UTF-16'"], SERVES),
    ("sqlite", "added is generated"): ([SQLITE + ", added FLOAT GENERATED ALWAYS AS (1.5) STORED)"], SERVES),
    ("sqlite", "added is worked out"): ([SQLITE + ", added FLOAT AS (1.5))"], SERVES),
    ("sqlite", "added has a CHECK"): ([SQLITE + ", added FLOAT CHECK (added < 0))"], "drop the CHECK"),
    ("sqlite", "added is not NULL"): ([SQLITE + ", added FLOAT NOT NULL)"], SERVES),
    ("sqlite", "key is worked out"): (
        ["CREATE TABLE {0} (id INTEGER PRIMARY KEY, key AS (val), val)"],
        "take a plain table with plain columns",
    ),
    ("sqlite", "no rowid"): ([SQLITE + ") WITHOUT ROWID"], "give column id automatic numbers"),
    ("sqlite", "a key that is no rowid"): (
        [SQLITE.replace("PRIMARY KEY", "PRIMARY KEY DESC") + ")"],
        "its column id must give each row a greater number",
    ),
    ("sqlite", "virtual"): (["CREATE VIRTUAL TABLE {0} USING fts5(id, key, val)"], "its column id must give each row"),
    ("sqlite", "an index"): (["CREATE TABLE x (a)", "CREATE INDEX {0} ON x (a)"], "already an index named"),
    ("sqlite", "letters that do not count"): ([SQLITE.replace("TEXT", "TEXT COLLATE NOCASE") + ")"], SERVES),
}


@pytest.mark.filterwarnings("ignore:Comparison between bytes:BytesWarning")  # SQLAlchemy's, of generated columns
@pytest.mark.parametrize(("kind", "which"), TABLES)
def test_tables(request: pytest.FixtureRequest, table: str, kind: str, which: str) -> None:
    database = request.getfixturevalue({"mysql": "mariadb"}.get(kind, kind))
    statements, says = TABLES[kind, which]
    for statement in statements:
        database.run(statement.replace("{0}", table))
    agrees(said(database.url, table), says)


# --- what a server does by default ------------------------------------------------------------------------------------

INIT_CONNECT = {
    "SET NAMES latin1": SERVES,
    "SET autocommit = 0": SERVES,
    "SET sql_safe_updates = 1": SERVES,
    "SET sql_select_limit = 2": SERVES,
    "SET sql_quote_show_create = 0": SERVES,
    "SET auto_increment_increment = 10, auto_increment_offset = 3": SERVES,
    "SET unique_checks = 0, foreign_key_checks = 0": SERVES,
    "SET collation_connection = ucs2_general_ci": SERVES,
    "SET tx_read_only = 1": "that server only reads",
    "SET max_statement_time = 0.000001": "let the user of db_url have more time for a statement",
    "SELECT nosuch": "correct init_connect of that server",
}


@pytest.mark.parametrize("statement", INIT_CONNECT)
def test_mysql_sessions(mariadb: MariaDb, table: str, statement: str) -> None:
    kind = "VARCHAR(99)"  # text, which goes through character sets
    mariadb.run(f"CREATE TABLE {table} (id {SERIAL['mysql']}, `key` {kind}, val {kind} NOT NULL) CHARSET utf8mb4")
    mariadb.run("SET GLOBAL init_connect = %s", statement)
    try:
        agrees(said(mariadb.url, table), INIT_CONNECT[statement])
        if not INIT_CONNECT[statement]:
            with contextlib.closing(Store.open(mariadb.url)) as store, store.begin(table) as rows:
                rows.insert([(b"k", "é".encode())])
            assert mariadb.run(f"SELECT HEX(val) FROM {table}") == [("C3A9",)]
    finally:
        mariadb.run("SET GLOBAL init_connect = ''")


MODES = [
    "EMPTY_STRING_IS_NULL",
    "ORACLE",
    "PAD_CHAR_TO_FULL_LENGTH",
    "NO_FIELD_OPTIONS,NO_TABLE_OPTIONS,NO_KEY_OPTIONS",
    "PIPES_AS_CONCAT,IGNORE_SPACE,HIGH_NOT_PRECEDENCE,REAL_AS_FLOAT,NO_AUTO_VALUE_ON_ZERO",
]


@pytest.mark.parametrize("mode", MODES)
def test_mysql_modes(mariadb: MariaDb, table: str, mode: str) -> None:
    ((before,),) = mariadb.run("SELECT @@global.sql_mode")
    mariadb.run("SET GLOBAL sql_mode = %s", mode)
    try:
        agrees(said(mariadb.url, table), SERVES)
    finally:
        mariadb.run("SET GLOBAL sql_mode = %s", before)


def test_mysql_that_only_reads(mariadb: MariaDb, table: str) -> None:
    mariadb.run("SET GLOBAL read_only = 1")
    try:
        agrees(said(mariadb.url, table), "that server only reads, as a replica does: name the one that writes")
    finally:
        mariadb.run("SET GLOBAL read_only = 0")


ROLES = {
    "default_transaction_read_only = on": "that server only reads",
    "statement_timeout = 500": "let the user of db_url have more time for a statement",
    "row_security = off": SERVES,
    "bytea_output = 'escape'": SERVES,
    "standard_conforming_strings = off": SERVES,
    "default_transaction_isolation = 'serializable'": SERVES,
    "default_transaction_deferrable = on": SERVES,
    "search_path = 'nowhere'": "name a schema in its path",
    "client_encoding = 'latin1'": SERVES,
    "extra_float_digits = -15": SERVES,
    "lock_timeout = 1": SERVES,
    "quote_all_identifiers = on": SERVES,
    "enable_indexscan = off": SERVES,
}


@pytest.fixture
def settings(postgres: Postgres) -> Iterator[Any]:
    """Return what sets something for the user of db_url, until the end of the test."""
    yield lambda setting: postgres.run(f"ALTER ROLE kamailio SET {setting}")
    postgres.run("ALTER ROLE kamailio RESET ALL")


@pytest.mark.parametrize("setting", ROLES)
def test_postgres_roles(postgres: Postgres, settings: Any, table: str, setting: str) -> None:
    if "path" not in setting:
        postgres.run(f"CREATE TABLE {table} (id SERIAL PRIMARY KEY, key varchar, val bytea)")
    if "statement_timeout" in setting:  # however fast the machine is
        postgres.run(f"ALTER TABLE {table} ADD CHECK (pg_sleep(60)::text = '')")
    settings(setting)
    agrees(said(postgres.url, table), ROLES[setting])


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_postgres_encodings(postgres: Postgres, table: str, encoding: str) -> None:
    """What has no letter there is kept beside the table."""
    name = f"{table}d"
    postgres.run(
        f"CREATE DATABASE {name} OWNER kamailio ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    agrees(said(f"{postgres.url.rpartition('/')[0]}/{name}", table), SERVES)


def test_postgres_the_first_schema_of_the_path(postgres: Postgres, settings: Any, table: str) -> None:
    """The table of the schema that comes first is used, and two names of one table are refused."""
    postgres.run(f"CREATE SCHEMA s{table} AUTHORIZATION kamailio")
    settings(f"search_path = s{table}, public")
    for schema in ("public", f"s{table}"):
        postgres.run(f"CREATE TABLE {schema}.{table} (id SERIAL PRIMARY KEY, key varchar, val varchar)")
        postgres.run(f"ALTER TABLE {schema}.{table} OWNER TO kamailio")
    agrees(said(postgres.url, table), SERVES)
    with contextlib.closing(Store.open(postgres.url)) as store:
        with store.begin(table) as rows:
            rows.insert([(b"k", b"v")])
        with pytest.raises(StoreError, match=f"queue '{table}' has the same table there"):
            store.prepare([Wanted(table), Wanted(f"s{table}.{table}")])
    assert postgres.run(f"SELECT key FROM s{table}.{table}") == [("k",)]
    assert postgres.run(f"SELECT key FROM public.{table}") == []


def test_no_connection_is_left(mariadb: MariaDb, postgres: Postgres, table: str) -> None:
    mariadb.run(f"CREATE USER {table}@'%' IDENTIFIED BY 'secret' WITH MAX_USER_CONNECTIONS 1")
    mariadb.run(f"GRANT ALL ON mq.* TO {table}@'%'")
    postgres.run(f"CREATE USER {table} PASSWORD 'secret' CONNECTION LIMIT 0")
    for database in (mariadb, postgres):
        url = f"{database.kind}://{table}:secret@127.0.0.1:{database.port}/mq"
        with contextlib.ExitStack() as undo:
            if database is mariadb:
                first = undo.enter_context(contextlib.closing(Store.open(url)))
                undo.enter_context(first.begin(table))
            agrees(said(url, table), "it has no connection left")


def test_names_as_long_as_they_may_be(database: AnyDatabase) -> None:
    """In letters of one byte, and of more."""
    for name in (f"long{'q' * 59}", f"long{'ü' * 29}", f"lon{'語' * 20}"):  # no other test has these tables
        agrees(said(database.url, name), SERVES)
    if database.kind == "mysql":  # it makes a file, whose name has five bytes for each of these
        agrees(said(database.url, f"long{'語' * 46}"), SERVES)
        agrees(said(database.url, "語" * 64), "give the queue a shorter one")
    if database.kind != "sqlite":
        agrees(said(database.url, "語" * 65), "a table's name has at most")
