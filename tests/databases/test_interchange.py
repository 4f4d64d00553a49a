"""What Kamailio's own mqueue module saved is loaded here, and the other way round: real servers, both directions."""

from __future__ import annotations

import pytest

from kemi.store import Store
from tests.databases.servers import DATABASE, HOST, MariaDb, Postgres, SqliteFile
from tests.server.harness import Kamailio, Servers

Database = SqliteFile | MariaDb | Postgres

TEXTS = [
    ("key", "value"),
    ("alice", "call from bob"),
    ("quotes", "'\"`\\%s; -- :x ?"),
    ("\u00e4\u00f6", "\U0001f600 \u4e2d"),
    ("007", "1e3"),
    (" blank", "blank "),
    ("long", "x" * 4000),
    ("back\\slash", "\\ \\\\ \\x41 \\101 \\n end\\"),
    ("\\x6b", "\\x76616c"),
    ("lines", "one\r\ntwo\tthree"),
    ("sip", "<sip:a@b;transport=tcp>;tag=1%25?x='y'"),
    ("json", '{"a": "\\"b\\"", "c": [1, null]}'),
]
ITEMS = [(key.encode(), value.encode()) for key, value in TEXTS]
SEED = {
    "sqlite": 'CREATE TABLE {} (id INTEGER PRIMARY KEY AUTOINCREMENT, key character varying(64) DEFAULT "" NOT NULL,'
    ' val character varying(4096) DEFAULT "" NOT NULL)',
    "mysql": "CREATE TABLE {} (id INTEGER PRIMARY KEY AUTO_INCREMENT, `key` character varying(64) DEFAULT '' NOT NULL,"
    " val character varying(4096) DEFAULT '' NOT NULL)",
    "postgres": "CREATE TABLE {} (id SERIAL PRIMARY KEY NOT NULL, key VARCHAR(64) DEFAULT '' NOT NULL,"
    " val VARCHAR(4096) DEFAULT '' NOT NULL)",
}


@pytest.fixture(params=["sqlite", "mariadb", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["made here", "as documented"])
def queue(request: pytest.FixtureRequest, database: Database, table: str) -> str:
    """Return the name of a queue whose table is there."""
    if request.param == "as documented":
        database.run(SEED[database.kind].format(table))
    with Store.open(url_of(database)).begin(table):
        pass
    return table


def url_of(database: Database) -> str:
    """Return the URL for both; the C module takes no slash in a password."""
    if isinstance(database, SqliteFile):
        return database.url
    if isinstance(database, Postgres):
        if not database.run("SELECT 1 FROM pg_user WHERE usename = 'c'"):
            database.run("CREATE USER c SUPERUSER PASSWORD 'p@ss:word%40'")
        return f"postgres://c:p@ss:word%40@{HOST}:{database.port}/{DATABASE}"
    database.run("CREATE USER IF NOT EXISTS c IDENTIFIED BY 'p@ss:word%40'")
    database.run(f"GRANT ALL ON {DATABASE}.* TO c")
    return f"mysql://c:p@ss:word%40@{HOST}:{database.port}/{DATABASE}"


def c_module(servers: Servers, database: Database, queue: str) -> Kamailio:
    """Start a server with the C module and this queue."""
    cfg = f"""
        modparam("mqueue", "db_url", "{url_of(database)}")
        modparam("mqueue", "mqueue", "name={queue};dbmode=1")"""
    return servers.start(Kamailio(definitions=(), modules=(f"db_{database.kind}", "mqueue"), cfg=cfg))


def saved(database: Database, queue: str) -> list[tuple[bytes, bytes]]:
    with Store.open(url_of(database)).begin(queue) as rows:
        return [(row.key, row.value) for row in rows.read()]


def save(database: Database, queue: str, items: list[tuple[bytes, bytes]]) -> None:
    with Store.open(url_of(database)).begin(queue) as rows:
        rows.insert(items)


def test_the_c_module_loads_what_is_saved_here(servers: Servers, database: Database, queue: str) -> None:
    save(database, queue, ITEMS)
    server = c_module(servers, database, queue)
    assert f"size: {len(ITEMS)}" in server.kamcmd("mqueue.get_size", queue)
    assert "key: key" in server.kamcmd("mqueue.fetch", queue)
    code = f"""
        found = []
        while KSR.mqueue.mq_fetch({queue!r}) > 0:
            found.append((KSR.mqueue.mqk_get({queue!r}), KSR.mqueue.mqv_get({queue!r})))
        return found"""
    assert server.run(code) == TEXTS[1:]
    assert saved(database, queue) == []


def test_what_the_c_module_saved_is_loaded_here(servers: Servers, database: Database, queue: str) -> None:
    server = c_module(servers, database, queue)
    server.run(f"for key, value in {TEXTS!a}: KSR.mqueue.mq_add({queue!r}, key, value)")
    server.stop()
    assert saved(database, queue) == ITEMS


def test_there_and_back(servers: Servers, database: Database, table: str) -> None:
    """Bytes that are no text come through the C module as they were, in a table that is made here."""
    large = b"x" if database.kind == "postgres" else b"\xff"  # there only text goes through its columns
    items = [*ITEMS, (b"large", large * 20_000)]
    if database.kind != "postgres":
        items.append((b"\xff\xfe", bytes(range(1, 256))))
    save(database, table, items)
    server = c_module(servers, database, table)
    assert f"size: {len(items)}" in server.kamcmd("mqueue.get_size", table)
    assert saved(database, table) == []
    server.stop()
    assert saved(database, table) == items


@pytest.mark.parametrize("form", ["Cdr{}", "s{}.Cdr"])
def test_postgres_names_that_are_not_quoted(servers: Servers, postgres: Postgres, table: str, form: str) -> None:
    """The C module's table for CdrQueue is cdrqueue, for a.b it is b of the schema a: the same is used here."""
    queue = form.format(table)
    url_of(postgres)
    if "." in queue:
        postgres.run(f"CREATE SCHEMA s{table}")
    postgres.run(SEED["postgres"].format(queue))
    server = c_module(servers, postgres, queue)
    server.run(f"for key, value in {TEXTS!a}: KSR.mqueue.mq_add({queue!r}, key, value)")
    server.stop()
    assert saved(postgres, queue) == ITEMS
    assert postgres.run(f"SELECT COUNT(*) FROM {queue}") == [(len(ITEMS),)]


def test_postgres_types_that_lose_backslashes(servers: Servers, postgres: Postgres, table: str) -> None:
    """Why columns are made of varchar: the C module takes what it reads from text, or writes to bytea, for escaped."""
    url_of(postgres)
    value = "two \\\\ of them"
    for kind in ("text", "bytea"):
        postgres.run(f"DROP TABLE IF EXISTS {table}")
        postgres.run(f"CREATE TABLE {table} (id SERIAL PRIMARY KEY, key {kind} NOT NULL, val {kind} NOT NULL)")
        save(postgres, table, [(b"k", value.encode())])
        server = c_module(servers, postgres, table)
        server.run(f"KSR.mqueue.mq_fetch({table!r})")
        read = server.run(f"return KSR.mqueue.mqv_get({table!r})")
        server.run(f"KSR.mqueue.mq_add({table!r}, 'k', {value!r})")
        server.stop()
        written = saved(postgres, table)[0][1].decode()
        assert (read == value, written == value) == {"text": (False, True), "bytea": (True, False)}[kind]
