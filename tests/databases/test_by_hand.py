"""`mqueue-kemi save` and `load` with what an operator says of the database: as the modparams, on real servers."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import Command
from tests.databases.secure import certificate
from tests.databases.servers import DATABASE, HOST, MariaDb
from tests.databases.test_proof import Host, rows
from tests.databases.test_tls import another_certificate
from tests.processes.children import Children

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.command import Done
    from tests.databases.secure import SecureServer
    from tests.databases.servers import Postgres, SqliteFile

ITEMS = ["a", "b", "c"]


class Left:
    """What a server left that was killed, and the commands for it."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.children = Children()
        self.host = Host("sqlite:////nowhere", table, "hand", self.children)
        self.commands = Command(self.host.instance)

    def live_and_die(self, database: SqliteFile) -> None:
        self.host.url = database.url
        assert self.host.save(ITEMS, 1).killed_by() == signal.SIGKILL

    def __call__(self, name: str, url: str, *options: str) -> Done:
        """Run `save` or `load`; the URL comes by the environment, which no process list shows."""
        os.environ["MQUEUE_KEMI_DB_URL"] = url
        try:
            return self.commands(name, self.table, *options, bare=False)
        finally:
            del os.environ["MQUEUE_KEMI_DB_URL"]

    def end(self) -> None:
        self.commands.clean()
        self.children.end()
        self.host.clean()


@pytest.fixture
def left(table: str, sqlite: SqliteFile) -> Iterator[Left]:
    found = Left(table)
    try:
        found.live_and_die(sqlite)
        yield found
    finally:
        found.end()


def there_and_back(left: Left, database: MariaDb | Postgres, *options: str) -> None:
    done = left("save", database.url, *options)
    assert (done.code, done.out) == (0, ""), done.err
    assert rows(database, left.table) == ITEMS
    done = left("load", database.url, *options)
    assert "loaded 3 rows" in done.err, done.err
    assert rows(database, left.table) == []


def test_tls(secure: SecureServer, left: Left) -> None:
    text = left("save", secure.url, "--db-tls=off").failed(6)
    assert "demands TLS" in text
    assert "set --db-tls" in text or "demands TLS: --db-tls on" in text
    there_and_back(left, secure, "--db-tls=on")
    there_and_back(left, secure, f"--db-tls={secure.home}/cert.pem", "--db-timeout=60", "--db-retry", "1")


def test_tls_with_an_authority_that_is_not_known(secure: SecureServer, left: Left, tmp_path: Path) -> None:
    certificate(tmp_path)
    for how in ("verify", f"{tmp_path}/cert.pem"):
        text = left("save", secure.url, "--db-tls", how).failed(6)
        assert "certificate of the authority that signed the server's in --db-tls" in text
    assert "none.pem" in left("save", secure.url, f"--db-tls={tmp_path}/none.pem").failed(2)
    there_and_back(left, secure, "--db-tls=on")


def test_tls_with_a_certificate_that_has_expired_or_is_for_another_host(secure: SecureServer, left: Left) -> None:
    for how, says in (({"expired": True}, "expired"), ({"name": "DNS:db.example.org"}, "as the certificate has it")):
        with another_certificate(secure, **how):
            text = ""
            while says not in text:  # PostgreSQL uses the new one some time after it was told to
                text = left("save", secure.url, f"--db-tls={secure.home}/cert.pem").failed(6)
    there_and_back(left, secure, f"--db-tls={secure.home}/cert.pem")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--db-tls=sometimes", "write off, on, verify, or the whole path"),
        ("--db-tls=ca.pem", "write off, on, verify, or the whole path"),
        ("--db-timeout=0", "write seconds, more than 0"),
        ("--db-timeout=soon", "no number of seconds"),
        ("--db-retry=-1", "no number of seconds"),
    ],
)
def test_what_cannot_be_meant(table: str, option: str, says: str) -> None:
    done = Command("nobody")("save", table, "--db-url=sqlite:////tmp/x.db", option)
    assert (done.code, done.out) == (2, "")
    assert says in done.err


def test_a_database_that_is_away_is_tried_again(mariadb: MariaDb, left: Left) -> None:
    mariadb.stop()
    process = left.commands.start(
        "save", left.table, f"--db-url={mariadb.url}", "--db-retry=120", "--db-timeout=60", bare=False
    )
    assert process.stderr is not None
    assert b"tried again" in process.stderr.readline()
    mariadb.start()
    assert Command.end(process).code == 0
    assert rows(mariadb, left.table) == ITEMS


def test_a_database_that_stays_away(left: Left) -> None:
    done = left("save", f"mysql://u:p@{HOST}:1/{DATABASE}", "--db-retry=0.5")
    assert done.code == 6
    assert "must run and be reachable" in done.err


def test_the_time_that_it_may_take(mariadb: MariaDb, left: Left) -> None:
    """A table that is locked ends a save when its time is over, and nothing is lost."""
    mariadb.run(f"CREATE TABLE {left.table} (id INT AUTO_INCREMENT PRIMARY KEY, `key` TEXT, val TEXT)")
    connection = mariadb.connect(admin=True)
    connection.cursor().execute(f"LOCK TABLES {left.table} WRITE")
    assert "not done within --db-timeout, 1 s" in left("save", mariadb.url, "--db-timeout=1").failed(6)
    connection.close()
    there_and_back(left, mariadb)


def test_a_table_that_takes_nothing_back(mariadb: MariaDb, left: Left) -> None:
    mariadb.run(f"CREATE TABLE {left.table} (id INT AUTO_INCREMENT PRIMARY KEY, `key` TEXT, val TEXT) ENGINE=MyISAM")
    assert "accept that with --db-inexact" in left("save", mariadb.url).failed(6)
    there_and_back(left, mariadb, "--db-inexact")
