"""The worker of conf/: each call is one row, whenever the worker is killed, and whatever lies in the queue."""

from __future__ import annotations

import json
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
from tests.cli.command import CHECKOUT, wait_for
from tests.processes.children import PATIENCE
from tests.processes.serve import items

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kemi.queue.queue import Queue as ServerQueue
    from mqueue_kemi import Item, Queue
    from tests.processes.serve import Serve


class Worker:
    """Starts of the worker, one after the other, with one database."""

    def __init__(self, database: Path, instance: str) -> None:
        self.database = database
        self._argv = [sys.executable, "-B", "-m", "conf.cdr_worker", str(database), "--instance", instance]
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._argv, cwd=CHECKOUT, stderr=subprocess.PIPE)
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
            process.kill()
            process.communicate()


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
    wait_for(lambda: len(worker.calls()) == 3, "the first rows")
    add_calls(queue, range(3, 5))
    wait_for(lambda: len(worker.calls()) == 5, "the next rows")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert worker.read("SELECT call_id, caller, callee, at FROM cdr")[4] == ("call-4", "alice", "4", 1.5)
    assert len(queue) == 0


def test_killed_at_random(serve: Serve, worker: Worker) -> None:
    """Killed at any moment, 20 times: every call is there, once, in the order of the queue."""
    queue = serve("name=cdr")
    chance = random.Random(7)  # noqa: S311 moments, no secrets
    total = 20 * 400
    add_calls(queue, range(total))
    kills = 0
    while len(queue):
        process = worker.start()
        seen = len(worker.calls())
        wait_for(lambda: len(worker.calls()) > seen or not len(queue), "it works")  # noqa: B023 it is called at once
        time.sleep(chance.random() * 0.05)
        if kills < 20:
            process.kill()
            kills += 1
        else:
            wait_for(lambda: not len(queue), "all is written")
            process.terminate()
        process.wait(PATIENCE)
    assert kills > 5
    assert worker.calls() == [f"call-{number}" for number in range(total)]


def test_killed_between_the_row_and_the_queue(serve: Serve, tmp_path: Path) -> None:
    """The row is committed, the item still there: the next worker changes nothing, and takes it out."""
    queue = serve("name=cdr")
    add_calls(queue, range(2))
    table = cdr_worker.Table(str(tmp_path / "cdr.sqlite"))
    item = queue.peek(1)[0]
    table.write(item)
    table.write(item)
    assert len(queue) == 2
    with queue.reserve() as again:
        assert again == item
        table.write(again)
    assert len(queue) == 1
    table.close()


def test_an_item_stays_when_it_cannot_be_written(serve: Serve) -> None:
    queue = serve("name=cdr")
    add_calls(queue, range(1))

    def fail(_item: Item | None) -> None:
        raise sqlite3.OperationalError("disk is full")

    with pytest.raises(sqlite3.OperationalError), queue.reserve() as item:
        fail(item)
    assert len(items(queue)) == 1


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
def test_what_is_no_call_is_kept_aside(serve: Serve, worker: Worker, key: str | bytes, value: str | bytes) -> None:
    """It does not stop the worker, and it is not lost."""
    queue = serve("name=cdr")
    queue.add(key, value)
    add_calls(queue, range(1))
    worker.start()
    wait_for(lambda: worker.calls() == ["call-0"], "the call behind it")
    ((kept_key, kept_value),) = worker.read("SELECT key, value FROM rejected")
    assert kept_key == (key if isinstance(key, bytes) else key.encode())
    assert kept_value == (value if isinstance(value, bytes) else value.encode())


def test_a_server_that_comes_later_and_again(serve: Serve, worker: Worker) -> None:
    """The worker waits for it, says so once, and goes on by itself."""
    process = worker.start()
    assert process.stderr is not None
    assert b"is its server running?" in process.stderr.readline()
    for number in range(2):
        add_calls(serve("name=cdr"), range(number, number + 1))
        wait_for(lambda: len(worker.calls()) == number + 1, "its call")  # noqa: B023 it is called at once
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
