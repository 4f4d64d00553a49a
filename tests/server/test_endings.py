"""Every way in which a server ends, with every dbmode and recover: each item is where it should be, once, in order."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from typing import TYPE_CHECKING, Callable, NamedTuple

import pytest

from tests.server.harness import Kamailio, new_instance
from tests.server.remote.dying import MOMENTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.harness import Servers

CASES = [(dbmode, recover) for dbmode in range(4) for recover in range(3)]
ROWS = ["row 1", "row 2"]
ITEMS = ["item 1", "item 2", "item 3"]


def name_of(dbmode: int, recover: int) -> str:
    return f"q{dbmode}{recover}"


QUEUES = [name_of(*case) for case in CASES]
DEFINITIONS = [f"name={name_of(*case)};dbmode={case[0]};recover={case[1]}" for case in CASES]


class Database:
    """An sqlite database as an operator makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        with self.connect() as connection:
            for queue in QUEUES:
                connection.execute(
                    f"CREATE TABLE {queue} (id INTEGER PRIMARY KEY AUTOINCREMENT, "
                    "key character varying(64) DEFAULT '' NOT NULL, val character varying(4096) DEFAULT '' NOT NULL)"
                )
                for row in ROWS:
                    connection.execute(f"INSERT INTO {queue} (key, val) VALUES (?, ?)", (row, "v"))  # noqa: S608

    def connect(self) -> contextlib.closing[sqlite3.Connection]:
        return contextlib.closing(sqlite3.connect(self.path, isolation_level=None))

    def keys(self) -> dict[str, list[str]]:
        """Return the keys of each table in the order of their rows."""
        with self.connect() as connection:
            return {
                queue: [key for (key,) in connection.execute(f"SELECT key FROM {queue} ORDER BY id")]  # noqa: S608
                for queue in QUEUES
            }

    def close(self) -> None:
        """Make it unusable."""
        self.path.rename(self.path.with_suffix(".away"))
        self.path.mkdir()

    def open(self) -> None:
        """Make it usable again."""
        self.path.rmdir()
        self.path.with_suffix(".away").rename(self.path)


class Place(NamedTuple):
    """Where the items of a queue are while no server runs."""

    table: list[str]
    memory: list[str]


def content(dbmode: int) -> Place:
    """Say where the items are while the server runs."""
    return Place([], ROWS + ITEMS) if dbmode in (1, 3) else Place(ROWS, ITEMS)


def clean(dbmode: int, recover: int) -> Place:
    """SIGTERM or SIGINT: written is what dbmode says; the rest stays with recover=2 only."""
    table, items = content(dbmode)
    if dbmode in (1, 2):
        return Place(table + items, [])
    return Place(table, items if recover == 2 else [])


def worker_died(dbmode: int, recover: int) -> Place:
    """Written is what dbmode says; the rest stays unless recover=0."""
    table, items = content(dbmode)
    if dbmode in (1, 2):
        return Place(table + items, [])
    return Place(table, items if recover else [])


def killed(dbmode: int, _recover: int) -> Place:
    """Nothing can be done any more: everything is where it was."""
    return content(dbmode)


def without_database(dbmode: int, recover: int) -> Place:
    """What cannot be written stays in memory."""
    return content(dbmode) if dbmode in (1, 2) else clean(dbmode, recover)


def started_again(dbmode: int, recover: int, before: Place, *, unsaved: bool) -> Place:
    """Say what the next server has: rows first, then what was in memory, unless recover=0 says that it goes."""
    kept = before.memory if recover or unsaved else []
    return Place([], before.table + kept) if dbmode in (1, 3) else Place(before.table, kept)


class Life:
    """One instance with a database, through several servers."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._servers = servers
        self._instance = new_instance()
        self.database = Database(folder / "m.db")

    def server(self, definitions: list[str] = DEFINITIONS, handler: str = "pass", *, daemon: bool = False) -> Kamailio:
        url = ("db_url", self.database.url)
        return Kamailio(definitions, params=[url], instance=self._instance, handler=handler, daemon=daemon)

    def begin(self, handler: str = "pass", *, daemon: bool = False) -> Kamailio:
        """Start a server, and add the items to each queue."""
        server = self._servers.start(self.server(handler=handler, daemon=daemon))
        codes = server.run(f"return [mq.mq_add(queue, item, 'v') for queue in {QUEUES} for item in {ITEMS}]")
        assert set(codes) == {1}
        return server

    def memory(self, server: Kamailio) -> dict[str, list[str]]:
        """Take everything from the queues of a server that runs."""
        taken: dict[str, list[str]] = server.run(f"""
            taken = {{queue: [] for queue in {QUEUES}}}
            for queue, keys in taken.items():
                while mq.mq_fetch(queue) > 0:
                    keys.append(mq.mqk_get(queue))
            return taken
        """)
        return taken

    def check(self, expected: Callable[[int, int], Place], unsaved: Callable[[int], bool]) -> None:
        """See that the tables are as expected, and what the next server has, and that it ends with nothing left."""
        assert self.database.keys() == {name_of(*case): expected(*case).table for case in CASES}
        server = self._servers.start(self.server())
        then = {name_of(*case): started_again(*case, expected(*case), unsaved=unsaved(case[0])) for case in CASES}
        assert self.database.keys() == {queue: place.table for queue, place in then.items()}
        assert self.memory(server) == {queue: place.memory for queue, place in then.items()}
        server.stop()
        assert server.segments() == []


def writes(dbmode: int) -> bool:
    return dbmode in (1, 2)


def never(_dbmode: int) -> bool:
    return False


@pytest.fixture
def life(servers: Servers, tmp_path: Path) -> Life:
    return Life(servers, tmp_path)


@pytest.mark.parametrize("daemon", [False, True])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end(life: Life, end: signal.Signals, daemon: bool) -> None:
    """SIGTERM and SIGINT: what is documented is written."""
    server = life.begin(daemon=daemon)
    os.kill(server.main_pid, end)
    server.process.wait_gone()
    life.check(clean, never)


def test_a_worker_is_killed(life: Life) -> None:
    """Kamailio ends by itself then, and writes what is documented."""
    server = life.begin()
    os.kill(server.worker_pid(), signal.SIGKILL)
    server.process.wait_gone()
    life.check(worker_died, never)


@pytest.mark.parametrize("everybody", [False, True])
def test_the_server_is_killed(life: Life, everybody: bool) -> None:
    """The main process alone, or all processes: everything stays in memory."""
    server = life.begin()
    pids = sorted(server.process.pids()) if everybody else [server.main_pid]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    server.process.kill()
    life.check(killed, never)


def test_the_database_is_gone_at_the_stop(life: Life) -> None:
    """What should have been written stays in memory, with a line that says where, and is never thrown away."""
    server = life.begin()
    life.database.close()
    server.stop()
    for case in CASES:
        lines = server.process.log_lines(
            "ERROR", f"queue '{name_of(*case)}'", f"mqk.{server.instance}.{name_of(*case)}"
        )
        assert len(lines) == (1 if writes(case[0]) else 0)
    life.database.open()
    life.check(without_database, writes)


def test_the_database_is_gone_at_the_start(life: Life) -> None:
    """The server does not start, says why, and nothing is lost of what a killed one left."""
    server = life.begin()
    for pid in sorted(server.process.pids()):
        os.kill(pid, signal.SIGKILL)
    server.process.kill()
    life.database.close()
    refused = life._servers.add(life.server())
    assert "that is a folder" in refused.refused()
    refused.process.kill()
    life.database.open()
    life.check(killed, never)


DYING = "import tests.server.remote.dying as dying; dying.die({moment!r}, {table!r}, {lives})"


@pytest.mark.parametrize("table", ["q10", "q11", "q20", "q22"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_the_middle_of_the_save(life: Life, moment: str, table: str) -> None:
    """The queue is in the table as a whole or in memory as a whole; those behind are in memory, also with recover=0."""
    loads = 1 if table[1] == "1" else 0  # transactions that were committed when its rows were loaded
    server = life.begin(DYING.format(moment=moment, table=table, lives=loads))
    os.kill(server.main_pid, signal.SIGTERM)
    server.process.wait_gone()

    def expected(dbmode: int, recover: int) -> Place:
        name = name_of(dbmode, recover)
        saved = writes(dbmode) and (name < table or (name == table and moment == MOMENTS[1]))
        return clean(dbmode, recover) if saved else content(dbmode)

    before = life.database.keys()
    assert before == {name_of(*case): expected(*case).table for case in CASES}
    again = life._servers.start(life.server())
    memory = life.memory(again)
    for case in CASES:
        name = name_of(*case)
        then = started_again(*case, expected(*case), unsaved=writes(case[0]))
        assert memory[name] == then.memory, name
        assert life.database.keys()[name] == then.table, name


@pytest.mark.parametrize("recover", [0, 1])
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_the_middle_of_the_load(life: Life, moment: str, recover: int) -> None:
    """The next start has each row once."""
    definitions = [f"name=q10;dbmode=1;recover={recover}"]
    dying = life._servers.add(life.server(definitions, DYING.format(moment=moment, table="q10", lives=0)))
    dying.process.spawn()
    dying.process.wait_gone()
    assert life.database.keys()["q10"] == (ROWS if moment == MOMENTS[0] else [])
    again = life._servers.start(life.server(definitions))
    assert again.run("return mq.mq_size('q10')") == len(ROWS)
    assert life.database.keys()["q10"] == []
    again.stop()
    assert life.database.keys()["q10"] == ROWS


def test_dbmode_needs_a_database(servers: Servers) -> None:
    """Without db_url the server does not start, and says what is missing."""
    log = servers.add(Kamailio(["name=q;dbmode=1"])).refused()
    assert 'queue "q": dbmode needs a database: modparam("mqueue", "db_url"' in log


def test_a_start_that_fails_later_keeps_what_was_loaded(life: Life) -> None:
    """The first table is loaded, the second is refused: the first one's rows are there at the next start."""
    with life.database.connect() as connection:
        connection.execute("DROP TABLE q11")
        connection.execute("CREATE TABLE q11 (something TEXT)")
    definitions = ["name=q10;dbmode=1;recover=0", "name=q11;dbmode=1"]
    assert "q11" in life._servers.add(life.server(definitions)).refused()
    with life.database.connect() as connection:
        connection.execute("DROP TABLE q11")
    again = life._servers.start(life.server(definitions))
    assert again.run("return mq.mq_size('q10'), mq.mq_size('q11')") == (len(ROWS), -1)
    again.stop()
    assert life.database.keys()["q10"] == ROWS
