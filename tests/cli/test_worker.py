"""The worker of conf/: each call is one row, whenever the worker is killed, and whatever lies in the queue."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from conf import cdr_worker
from kemi.testing import MemoryQueue
from mqueue_kemi import Tally
from tests.cli.command import CHECKOUT
from tests.processes.children import PATIENCE
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kemi.queue.queue import Queue as ServerQueue
    from mqueue_kemi import Queue
    from tests.processes.serve import Serve


class Worker:
    """Starts of the worker, one after the other, with one database."""

    def __init__(self, database: Path, instance: str) -> None:
        self.database = database
        self._argv = [sys.executable, "-B", "-m", "mqueue_kemi", "work", "conf.cdr_worker:write", "--where", instance]
        self._env = {**os.environ, "CDR_DATABASE": str(database)}
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._argv, cwd=CHECKOUT, env=self._env, stderr=subprocess.PIPE, start_new_session=True
        )
        self.started.append(process)
        return process

    def read(self, query: str) -> list[Any]:
        database = sqlite3.connect(self.database)
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:  # it has no tables yet
            return []
        finally:
            database.close()

    def calls(self) -> list[str]:
        return [call for (call,) in self.read("SELECT call_id FROM cdr ORDER BY rowid")]

    def end(self) -> None:
        for process in self.started:
            kill(process)
            _, said = process.communicate()
            sys.stdout.write(said.decode())  # pytest shows it where the test failed


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker with all its processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def worker(serve: Serve, tmp_path: Path) -> Iterator[Worker]:
    starts = Worker(tmp_path / "cdr.sqlite", serve.instance)
    yield starts
    starts.end()


def add_calls(queue: Queue | ServerQueue, numbers: range) -> None:
    for number in numbers:
        queue.add(f"call-{number}", json.dumps({"caller": "alice", "callee": str(number), "at": 1.5}))


def test_rows(serve: Serve, worker: Worker) -> None:
    """What is queued before and after its start; SIGTERM ends it with 0."""
    queue = serve("name=cdr")
    add_calls(queue, range(3))
    process = worker.start()
    until(lambda: len(worker.calls()) == 3, "the first rows")
    add_calls(queue, range(3, 5))
    until(lambda: len(worker.calls()) == 5, "the next rows")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert worker.read("SELECT call_id, caller, callee, at FROM cdr")[4] == ("call-4", "alice", "4", 1.5)
    assert len(queue) == 0


def test_killed_at_random(serve: Serve, worker: Worker) -> None:
    """Killed at any moment, 8 times: every call is there, once, in the order of the queue."""
    queue = serve("name=cdr")
    chance = random.Random(7)  # noqa: S311 moments, no secrets
    total = 0
    for _ in range(8):
        add_calls(queue, range(total, total + 400))  # a fast one may have written all that was there
        total += 400
        process = worker.start()
        seen = len(worker.calls())
        until(lambda: len(worker.calls()) > seen, "it works")  # noqa: B023 it is called at once
        time.sleep(chance.random() * 0.05)
        kill(process)
        process.wait(PATIENCE)
    process = worker.start()
    until(lambda: not (len(queue) or queue.stats().reserved), "all is written")
    process.terminate()
    process.wait(PATIENCE)
    assert worker.calls() == [f"call-{number}" for number in range(total)]


def test_killed_between_the_row_and_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is committed, the item still there: the next worker changes nothing, and takes it out."""
    monkeypatch.setattr(cdr_worker, "DATABASE", str(tmp_path / "cdr.sqlite"))
    queue = MemoryQueue("cdr")
    add_calls(queue, range(2))
    with cdr_worker.table() as database, queue.reserve() as again:
        assert again is not None
        cdr_worker.write(again, database)
        again.give_back()
    assert cdr_worker.write.drain(queue).done == 2
    with cdr_worker.table() as database:
        assert database.execute("SELECT count(*) FROM cdr").fetchall() == [(2,)]


def test_an_item_stays_while_the_database_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker pauses, again and again; none of its deliveries is used up."""
    monkeypatch.setattr(cdr_worker, "DATABASE", str(tmp_path / "nosuch" / "cdr.sqlite"))
    queue = MemoryQueue("cdr")
    add_calls(queue, range(1))
    for _ in range(10):
        assert cdr_worker.write.drain(queue) == Tally(retried=1)
        queue.advance(10)
    (tmp_path / "nosuch").mkdir()
    assert cdr_worker.write.drain(queue) == Tally(done=1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("k", "no json"),
        ("k", "[]"),
        ("k", "{}"),
        ("k", '{"caller": [], "callee": "x", "at": 1}'),
        ("k", '{"caller": "a", "callee": "b", "at": "soon"}'),
        ("k", '{"caller": 99999999999999999999, "callee": "b", "at": 1}'),
        (b"\xff", b'{"caller": "a", "callee": "b", "at": 1}'),
        ("k", "[" * 100_000),
    ],
)
def test_what_is_no_call_is_kept_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | bytes, value: str | bytes
) -> None:
    """It does not stop the worker, and it is not lost."""
    monkeypatch.setattr(cdr_worker, "DATABASE", str(tmp_path / "cdr.sqlite"))
    dead = MemoryQueue("cdr_dead")
    queue = MemoryQueue("cdr", items=[(key, value)], dead_letter=dead)
    add_calls(queue, range(1))
    assert cdr_worker.write.drain(queue) == Tally(done=1, rejected=1)
    (kept,) = dead.peek(None)
    assert kept.key_bytes == (key if isinstance(key, bytes) else key.encode())
    assert kept.value_bytes == (value if isinstance(value, bytes) else value.encode())


def test_a_server_that_comes_later_and_again(serve: Serve, worker: Worker) -> None:
    """The worker waits for it, says so once, and goes on by itself."""
    process = worker.start()
    assert process.stderr is not None
    while b"is its server running?" not in process.stderr.readline():
        assert process.poll() is None
    for number in range(2):
        add_calls(serve("name=cdr"), range(number, number + 1))
        until(lambda: len(worker.calls()) == number + 1, "its call")  # noqa: B023 it is called at once
        serve.stop()
    process.terminate()
    assert process.wait(PATIENCE) == 0


def test_the_unit_is_one_that_systemd_takes() -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd on this host")
    argv = [program, "verify", str(CHECKOUT / "conf/cdr-worker.service")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert "cdr-worker.service:" not in done.stderr.replace("Failed to add dependency", ""), done.stderr
