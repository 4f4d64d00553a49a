"""conf/cdr/: calls of a real Kamailio into a real PostgreSQL, which goes away and comes back in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.databases.servers import DATABASE, HOST, PASSWORD, USER, Postgres, started
from tests.server.harness import CHECKOUT, Example
from tests.server.process import wait_until
from tests.support.clients import attach

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server.harness import Servers

CALLS = 30  # of each turn


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """Give a PostgreSQL that a test may stop, with the table of the example."""
    server = Postgres()
    started(server)
    try:
        server.run((CHECKOUT / "conf/cdr/table.sql").read_text("utf-8"))
        server.run(f"GRANT ALL ON cdr TO {USER}")
        yield server
    finally:
        server.clean()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


def work(instance: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start the example's worker."""
    url = f"postgresql://{USER}:{quote(PASSWORD, safe='')}@{HOST}:{port}/{DATABASE}"
    argv = [sys.executable, "-m", "mqueue_kemi", "work", "conf.cdr.worker:write", "--where", instance]
    env = {**os.environ, "CDR_DATABASE": url, "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("wb") as file:
        return subprocess.Popen(argv, cwd=CHECKOUT, env=env, stderr=file, start_new_session=True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_calls_are_written_through_an_outage(
    servers: Servers, own_postgres: Postgres, log: Path, how: signal.Signals
) -> None:
    """Stopped, and killed. Each call is a row, once; none is a dead letter; the callers noticed nothing."""
    server = servers.start(Example("kamailio-cdr.cfg"))
    worker = work(server.instance, own_postgres.port, log)

    def call(first: int) -> None:
        for number in range(first, first + CALLS):
            assert server.request("INVITE", to=b"%d" % number, sender=b"alice").status == 480

    def rows() -> list[int]:
        return sorted(int(callee) for (callee,) in own_postgres.run("SELECT callee FROM cdr"))

    try:
        call(0)
        wait_until(lambda: len(rows()) == CALLS, "the first calls are written")
        own_postgres.stop(how)
        call(CALLS)
        with attach("cdr", server.instance) as queue, attach("cdr_dead", server.instance) as dead:
            wait_until(lambda: queue.stats().reserved == 2, "both processes have an item in hand")
            wait_until(lambda: "pauses" in log.read_text("utf-8"), "the worker has noticed")
            own_postgres.start()
            call(2 * CALLS)
            wait_until(lambda: len(rows()) == 3 * CALLS, "all calls are written")
            wait_until(lambda: not queue.stats().reserved, "all items are done")
            assert len(dead) == 0
    finally:
        worker.terminate()
        code = worker.wait(60)
    assert rows() == list(range(3 * CALLS))
    assert code == 0, log.read_text("utf-8")
    assert "works again after" in log.read_text("utf-8")


def test_what_is_no_call_is_a_dead_letter(servers: Servers, own_postgres: Postgres, log: Path) -> None:
    """Whatever is queued: no JSON, no such field, characters that PostgreSQL does not take."""
    server = servers.start(Example("kamailio-cdr.cfg"))
    worker = work(server.instance, own_postgres.port, log)
    bad = [
        "no json",
        "[]",
        "{}",
        '{"caller": "a\\u0000", "callee": "b", "at": 1}',
        '{"caller": "a", "callee": "b", "at": 1e300}',
    ]
    try:
        with attach("cdr", server.instance) as queue, attach("cdr_dead", server.instance) as dead:
            for number, value in enumerate(bad):
                queue.add(str(number), value)
            queue.add("good", '{"caller": "a", "callee": "7", "at": 1}')
            wait_until(lambda: own_postgres.run("SELECT callee FROM cdr") == [("7",)], "the call behind them")
            wait_until(lambda: len(dead) == len(bad), "the dead letters")
            assert sorted(item.value for item in dead.peek(None)) == sorted(bad)
    finally:
        worker.terminate()
        assert worker.wait(60) == 0, log.read_text("utf-8")


def test_the_database_must_be_named() -> None:
    """At the start, not with the first call."""
    argv = [sys.executable, "-m", "mqueue_kemi", "work", "conf.cdr.worker:write"]
    env = {name: value for name, value in os.environ.items() if name != "CDR_DATABASE"}
    done = subprocess.run(argv, cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "KeyError: 'CDR_DATABASE'" in done.stderr
