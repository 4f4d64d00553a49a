"""Workers in an outage, and killed at random: no item is lost, used up or done twice, and the order is kept."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.processes.children import CHECKOUT, PATIENCE
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kemi.queue.queue import Queue
    from tests.processes.serve import Serve

WORKERS = 4
BUSY = 100  # items that others do while a process waits for the CPU
MODULE = '''
import os, sqlite3, time
from contextlib import closing, contextmanager
from mqueue_kemi import worker

FOLDER = os.environ["FOLDER"]

def away():
    return os.path.exists(os.path.join(FOLDER, "away"))

@worker("q", processes=4)
def write(item):
    """A backend that is away refuses the connection."""
    if away():
        raise ConnectionRefusedError
    time.sleep(0.0005)
    note("done", item.key)

@worker("q", processes=4, retries=0)
def unknown(item):
    """Its errors are in no table."""
    if away():
        raise RuntimeError("no backend")
    time.sleep(0.0005)
    note("done", item.key)

@worker("q", processes=2, pause=(3600, 3600))
def patient(item):
    if item.key == "first" and away():
        raise ConnectionRefusedError
    note("done", item.key)

@worker("q", processes=2, pause=(3600, 3600))
async def patient_task(item):
    patient(item)

def note(name, text):
    fd = os.open(os.path.join(FOLDER, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, text.encode() + b"\\n")
    os.close(fd)

@contextmanager
def table():
    with closing(sqlite3.connect(os.path.join(FOLDER, "rows"), isolation_level=None, timeout=30)) as database:
        yield database

@worker("q", processes=3, concurrency=2, resource=table)
def row(item, database):
    database.execute("INSERT INTO tries VALUES (?, ?)", (item.id, item.deliveries))
    database.execute("INSERT OR IGNORE INTO done VALUES (?, ?)", (item.id, item.key))
'''


class Work:
    """`mqueue-kemi work`, started again and again."""

    def __init__(self, folder: Path, instance: str) -> None:
        self._folder = folder
        self._instance = instance
        (folder / "jobs.py").write_text(MODULE, "utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, function: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-bb", "-W", "error", "-m", "mqueue_kemi", "work", f"jobs:{function}"]
        folder = str(self._folder)
        env = {**os.environ, "PYTHONPATH": folder, "FOLDER": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        with (self._folder / "log").open("ab") as log:
            argv += ["--where", self._instance]
            self.process = subprocess.Popen(argv, cwd=CHECKOUT, env=env, stderr=log)
        return self.process

    def children(self) -> list[int]:
        if self.process is None:
            return []
        try:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
                return [int(pid) for pid in file.read().split()]
        except FileNotFoundError:
            return []

    def stop(self) -> int:
        if self.process is None:
            return 0
        self.process.terminate()
        process, self.process = self.process, None
        return process.wait(PATIENCE)

    def end(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            finally:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def work(serve: Serve, tmp_path: Path) -> Iterator[Work]:
    started = Work(tmp_path, serve.instance)
    yield started
    started.end()


def is_empty(queue: Queue) -> bool:
    stats = queue.stats()
    return not (stats.size or stats.reserved or stats.due)


def done(folder: Path) -> list[int]:
    path = folder / "done"
    return [int(key) for key in path.read_text("ascii").split()] if path.exists() else []


def late(numbers: list[int]) -> list[int]:
    """Return those that were done after an item that is younger by more than what a busy host explains."""
    youngest, found = -1, []
    for number in numbers:
        if number < youngest - BUSY:
            found.append(number)
        youngest = max(youngest, number)
    return found


@pytest.mark.parametrize("function", ["write", "unknown"])
def test_an_outage_uses_up_no_item(serve: Serve, work: Work, tmp_path: Path, stress: bool, function: str) -> None:
    """One delivery is the most: a single one that were counted would be a dead letter."""
    seconds, count = (30.0, 20_000) if stress else (2.0, 1_500)
    queue = serve("name=q;max_deliveries=1;dead_letter=dead", "name=dead")
    queue.add_many((str(number), "v") for number in range(count))
    (tmp_path / "away").touch()
    work.start(function)
    until(lambda: queue.stats().reserved >= WORKERS)
    time.sleep(seconds)  # this is the outage
    (tmp_path / "away").unlink()
    began = time.monotonic()
    until(lambda: is_empty(queue))
    took = time.monotonic() - began
    assert work.stop() == 0
    found = done(tmp_path)
    sys.stdout.write(f"{function}: {count} items in {took:.1f} s after {seconds:g} s; {len(late(found))} late\n")
    assert (sorted(found), queue.stats().dead_lettered) == (list(range(count)), 0)
    assert len(late(found)) <= 16 * WORKERS


@pytest.mark.parametrize("function", ["patient", "patient_task"])
def test_one_process_tells_the_others(serve: Serve, work: Work, tmp_path: Path, function: str) -> None:
    """Each would pause for an hour. The one that finds the backend back wakes the others: old items are not late."""
    queue = serve("name=q")
    (tmp_path / "away").touch()
    work.start(function)
    queue.add("first", "v")
    until(lambda: queue.stats().reserved == 1)
    (tmp_path / "away").unlink()

    def is_done() -> bool:
        queue.add("another", "v")  # the one before may have been done before the first one slept
        return "first\n" in (tmp_path / "done").read_text("ascii") if (tmp_path / "done").exists() else False

    until(is_done)
    until(lambda: is_empty(queue))
    assert work.stop() == 0


def test_an_outage_in_the_middle(serve: Serve, work: Work, tmp_path: Path) -> None:
    """The backend goes and comes three times while items are added."""
    queue = serve("name=q;max_deliveries=1;dead_letter=dead", "name=dead")
    work.start("write")
    for turn in range(3):
        queue.add_many((str(number), "v") for number in range(turn * 300, turn * 300 + 300))
        until(lambda: len(done(tmp_path)) > turn * 300)  # noqa: B023 it is called at once
        (tmp_path / "away").touch()
        until(lambda: queue.stats().reserved >= WORKERS or not len(queue))
        (tmp_path / "away").unlink()
    until(lambda: is_empty(queue))
    assert work.stop() == 0
    assert (sorted(done(tmp_path)), queue.stats().dead_lettered) == (list(range(900)), 0)


def test_killed_at_random(serve: Serve, work: Work, tmp_path: Path, stress: bool) -> None:
    """Processes and their supervisor: each item has its row, once; a delivery more for each kill is the most."""
    kills, chance = (100 if stress else 6), random.Random(3)  # noqa: S311 moments, no secrets
    queue = serve("name=q")
    with closing(sqlite3.connect(tmp_path / "rows", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=OFF")
        database.execute("CREATE TABLE done (id TEXT PRIMARY KEY, key TEXT)")
        database.execute("CREATE TABLE tries (id TEXT, deliveries INT)")
    count = 0
    for _ in range(kills):
        if not work.children():
            work.start("row")
            until(work.children)
        queue.add_many((str(number), "v") for number in range(count, count + 200))
        count += 200
        time.sleep(chance.random() * 0.2)
        victims = [*work.children(), work.process.pid] if work.process is not None else []
        victim = chance.choice(victims)
        os.kill(victim, signal.SIGKILL)
        if work.process is not None and victim == work.process.pid:
            work.process.wait(PATIENCE)
            work.process = None
    if not work.children():
        work.start("row")
    until(lambda: is_empty(queue), seconds=PATIENCE * (10 if stress else 1))
    assert work.stop() == 0
    with closing(sqlite3.connect(tmp_path / "rows", isolation_level=None)) as database:
        keys = [int(key) for (key,) in database.execute("SELECT key FROM done")]
        (more,) = database.execute("SELECT count(*) FROM tries WHERE deliveries > 1").fetchone()
    assert sorted(keys) == list(range(count))
    assert more <= 6 * kills  # what all lanes had in hand
