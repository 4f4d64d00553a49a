"""What Kamailio's own mqueue module saved is loaded here, and the other way round: real servers, both directions."""

from __future__ import annotations

import pytest

from kemi.store import Store
from tests.databases.servers import DATABASE, HOST, MariaDb, SqliteFile
from tests.server.harness import Kamailio, Servers

Database = SqliteFile | MariaDb

TEXTS = [
    ("key", "value"),
    ("alice", "call from bob"),
    ("quotes", "'\"`\\%s; -- :x ?"),
    ("\u00e4\u00f6", "\U0001f600 \u4e2d"),
    ("007", "1e3"),
    (" blank", "blank "),
    ("long", "x" * 4000),
]
ITEMS = [(key.encode(), value.encode()) for key, value in TEXTS]
SEED = {
    "sqlite": 'CREATE TABLE {} (id INTEGER PRIMARY KEY AUTOINCREMENT, key character varying(64) DEFAULT "" NOT NULL,'
    ' val character varying(4096) DEFAULT "" NOT NULL)',
    "mysql": "CREATE TABLE {} (id INTEGER PRIMARY KEY AUTO_INCREMENT, `key` character varying(64) DEFAULT '' NOT NULL,"
    " val character varying(4096) DEFAULT '' NOT NULL)",
}


@pytest.fixture(params=["sqlite", "mariadb"])
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
    items = [*ITEMS, (b"\xff\xfe", bytes(range(1, 256))), (b"large", b"\xff" * 20_000)]
    save(database, table, items)
    server = c_module(servers, database, table)
    assert f"size: {len(items)}" in server.kamcmd("mqueue.get_size", table)
    assert saved(database, table) == []
    server.stop()
    assert saved(database, table) == items
