"""A clean stop is clean however the signals come: items of dbmode 0 go with the server, dbmode saves."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import textwrap
from typing import TYPE_CHECKING, Callable

import pytest

from tests.server.harness import Kamailio
from tests.server.process import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.harness import Servers

DEFINITIONS = ["name=goes", "name=saved;dbmode=1", "name=never;recover=0"]
ITEMS = 3
TIMES = 100  # stops of each kind in the long form

# The stop waits until the test lets it go on.
SLOW = """
    import os, time
    from kemi import lifecycle
    stop = lifecycle.stop
    def slow(*arguments):
        KSR.info("STOPPING\\n")
        while not os.path.exists({go!r}):
            time.sleep(0.01)
        stop(*arguments)
    lifecycle.stop = slow
"""


def to_all(server: Kamailio, number: int) -> None:
    """As systemd does by default: every process gets it, in any order."""
    pids = server.process.pids()
    random.shuffle(pids)
    for pid in pids:
        kill(pid, number)


def to_the_group(server: Kamailio, number: int) -> None:
    """As a terminal does: the kernel signals the whole process group."""
    os.killpg(os.getpgid(server.main_pid), number)


def to_workers_first(server: Kamailio, number: int) -> None:
    """The main process is the last one."""
    main = server.main_pid
    for pid in [*(pid for pid in server.process.pids() if pid != main), main]:
        kill(pid, number)


def to_main(server: Kamailio, number: int) -> None:
    os.kill(server.main_pid, number)


def one_after_the_other(server: Kamailio, number: int) -> None:
    """Both signals, to everybody."""
    to_all(server, number)
    with contextlib.suppress(ProcessLookupError):
        to_all(server, signal.SIGINT + signal.SIGTERM - number)


def kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # ended meanwhile
        os.kill(pid, number)


KINDS = [to_all, to_the_group, to_workers_first, one_after_the_other]
Kind = Callable[[Kamailio, int], None]
ANY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
ANY_SIGNAL = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
ANY_MODE = pytest.mark.parametrize("daemon", [False, True], ids=["-DD", "daemon"])


class Stopping:
    """Servers that are stopped, one after the other, with the same database."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._servers = servers
        self._path = folder / "m.db"
        self._saved = 0

    def begin(self, *, daemon: bool, workers: int = 4) -> Kamailio:
        """Start a server with items in its queues."""
        url = ("db_url", f"sqlite:///{self._path}")
        server = Kamailio(DEFINITIONS, params=[url], daemon=daemon, workers=workers)
        self.server = self._servers.start(server)
        self._saved = server.run("return max(0, mq.mq_size('saved'))")
        names = ["goes", "saved", "never"]
        assert server.run(f"return [mq.mq_add(q, 'k', 'v') for q in {names} for _ in range({ITEMS})]") == [1] * 9
        return server

    def check(self) -> None:
        """See that it ended as a clean stop does."""
        server = self.server
        server.process.wait_gone()
        assert server.segments() == [], server.process.log()
        with contextlib.closing(sqlite3.connect(self._path)) as database:
            assert database.execute("SELECT count(*) FROM saved").fetchone() == (self._saved + ITEMS,)
        assert [line for line in server.told() if "6 items discarded at this stop" in line], server.told()


@pytest.fixture
def stopping(servers: Servers, tmp_path: Path) -> Stopping:
    return Stopping(servers, tmp_path)


@ANY_MODE
@ANY_KIND
def test_however_the_signals_come(stopping: Stopping, kind: Kind, daemon: bool) -> None:
    kind(stopping.begin(daemon=daemon), signal.SIGTERM)
    stopping.check()


@pytest.mark.stress
@ANY_MODE
@ANY_SIGNAL
@ANY_KIND
def test_a_hundred_times(stopping: Stopping, kind: Kind, number: int, daemon: bool) -> None:
    for _ in range(TIMES):
        kind(stopping.begin(daemon=daemon), number)
        stopping.check()


@ANY_MODE
@pytest.mark.parametrize("first", [to_main, to_all], ids=lambda kind: kind.__name__)
def test_again_while_it_saves(servers: Servers, tmp_path: Path, first: Kind, daemon: bool) -> None:
    """Whoever is impatient changes nothing."""
    go = tmp_path / "go"
    url = ("db_url", f"sqlite:///{tmp_path}/m.db")
    server = servers.add(Kamailio(["name=goes", "name=saved;dbmode=1"], params=[url], workers=2, daemon=daemon))
    script = server.home / "script.py"
    before, start, after = script.read_text("utf-8").partition("class Script(Probe):")
    script.write_text(before + textwrap.dedent(SLOW.format(go=str(go))) + start + after, "utf-8")
    server.start()
    assert server.run("return [mq.mq_add(q, 'k', 'v') for q in ('goes', 'saved')]") == [1, 1]
    main = server.main_pid
    first(server, signal.SIGTERM)
    wait_until(lambda: server.process.log_lines("STOPPING"), "the stop begins")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
        os.kill(main, number)
    go.touch()
    server.process.wait_gone()
    assert server.segments() == [], server.process.log()
    with contextlib.closing(sqlite3.connect(tmp_path / "m.db")) as database:
        assert database.execute("SELECT key FROM saved").fetchall() == [("k",)]


@ANY_MODE
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_worker_that_ends_alone_is_no_request(servers: Servers, number: int, daemon: bool) -> None:
    """Nobody asked the server itself: its items stay, also where its main process signals its whole group."""
    server = servers.start(Kamailio(["name=q"], workers=2, daemon=daemon))
    assert server.call("mq_add", "q", "k", "v") == 1
    os.kill(server.worker_pid(1), number)
    server.process.wait_gone()
    assert server.process.log_lines("'q'", "its 1 items stay")
