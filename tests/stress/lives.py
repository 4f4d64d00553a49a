"""One instance with its database through the lives of many servers, with processes outside that go on meanwhile."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import signal
import sqlite3
from typing import TYPE_CHECKING

from kemi.errors import LockTimeout, MqueueError
from kemi.queue.format.layout import W_RECOVERED
from tests.processes import own_shm
from tests.server.harness import Kamailio, new_instance
from tests.server.process import ServerError, wait_until
from tests.stress import outside
from tests.stress.books import Consumer
from tests.support.clients import attach, inner

if TYPE_CHECKING:
    from pathlib import Path

    from kemi.queue.queue import Queue
    from tests.processes.children import Child, Children

# What is left of each queue when its server is asked to end: rows, nothing, nothing, everything.
QUEUES = {
    "rows": "dbmode=1",
    "plain": "recover=1",
    "unique": "addmode=2;recover=1",
    "always": "recover=2",
}
THROWN_AWAY = ("plain", "unique")  # by a server that was asked to end, as documented
_TRIES = 20
WORKERS, TIMERS = 2, 2
PRODUCERS, CONSUMERS = 2, 3
_HANDLER = """
    from tests.stress.inside import Traffic
    folder = {folder!r}
    queue_names = {queues!r}
    request = Traffic.request
    ksr_consume = Traffic.ksr_consume
"""


class Database:
    """An sqlite file that can be away for a while."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_there = True

    def close(self) -> None:
        """Put a folder in its place."""
        if self.path.exists():
            self.path.rename(self.path.with_suffix(".away"))
        self.path.mkdir()
        self.is_there = False

    def open(self) -> None:
        """Put it back, if it is away."""
        if self.is_there:
            return
        self.path.rmdir()
        if self.path.with_suffix(".away").exists():
            self.path.with_suffix(".away").rename(self.path)
        self.is_there = True

    def rows(self, table: str) -> int:
        """Count the rows; none where there is no table yet."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            return int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]) if found else 0  # noqa: S608


class Lives:
    """The server of the moment, and everybody else."""

    def __init__(self, folder: Path, children: Children) -> None:
        self.instance = new_instance()
        self.database = Database(folder / "m.db")
        self.books = folder / "books"
        self.books.mkdir()
        self.server: Kamailio | None = None
        self.outsiders: dict[str, Child] = {}
        self.wrong: list[str] = []
        self.count = 0  # of servers
        self.refused = 0  # starts without database, memory or a lock
        self.recovered = 0  # times that the lock was taken from a dead process
        self.full = False  # is /dev/shm?
        self._children = children
        self._started = 0
        self._phase = mmap.mmap(-1, 1)
        self._caller: Child | None = None
        self._watched: dict[str, Queue] = {}
        self._thrown = {name: Consumer(str(self.books), f"{name}-thrown") for name in THROWN_AWAY}

    # --- servers

    def begin(self) -> Kamailio:
        """Start a server, when what keeps it from starting is gone at the second try."""
        try:
            return self._start()
        except ServerError as error:
            # A process outside that was stopped with a queue's lock keeps a server from taking the queue over.
            if self.database.is_there and not self.full and "LockTimeout" not in str(error):
                raise
            self.refused += 1
            self.make_whole()
            self.wake_outsiders()
            return self._start()

    def _start(self) -> Kamailio:
        definitions = [f"name={name};{text}" for name, text in QUEUES.items()]
        params = [("db_url", f"sqlite:///{self.database.path}"), ("lock_timeout", "2")]
        handler = _HANDLER.format(folder=str(self.books), queues=tuple(QUEUES))
        server = Kamailio(
            definitions, params=params, handler=handler, workers=WORKERS, timers=TIMERS, instance=self.instance
        )
        try:
            server.start()
        except BaseException:
            server.process.kill()
            shutil.rmtree(server.home)
            raise
        self.server = server
        self.count += 1
        self._caller = self._children.fork(lambda: outside.call(server.ports, 0.005))
        self._watched = {name: inner(attach(name, self.instance)) for name in QUEUES}
        return server

    def stop_calls(self) -> None:
        """No requests from here on."""
        if self._caller is not None:
            self._caller.end()
        self._caller = None

    def after(self, server: Kamailio, *, asked: bool) -> None:
        """All processes of a server have ended: see what it threw away, and what it complained of."""
        self.stop_calls()
        watched, self._watched = self._watched, {}
        for name, queue in watched.items():
            self.recovered += queue.segment.words[W_RECOVERED]
            if queue.segment.is_current():
                continue
            left = self._drain(name, queue)
            if left and not (asked and name in THROWN_AWAY):
                self.wrong.append(f"server {self.count} threw {left} items of {name} away")
        log = server.process.log()
        if "Traceback" in log:
            self.wrong.append(f"server {self.count}: {log[log.index('Traceback') :][:2000]}")
        shutil.rmtree(server.home)
        self.server = None

    def _drain(self, name: str, queue: Queue) -> int:
        """Take what is in memory that has no name any more."""
        count = 0
        book = self._thrown.get(name) or Consumer(str(self.books), f"{name}-lost")
        tries = _TRIES
        while tries:
            try:
                item = queue.fetch()
            except LockTimeout:  # a process outside was stopped with it
                self.wake_outsiders()
                tries -= 1
                continue
            except MqueueError as error:
                self.wrong.append(f"what server {self.count} left of {name}: {error}")
                break
            if item is None:
                break
            book.about_to_fetch()
            book.took(item.key, item.value)
            count += 1
        return count

    # --- processes outside

    def start_outsider(self, role: str) -> None:
        """Start a producer or a consumer."""
        name = f"{role}-{self._started}"
        self._started += 1
        run = outside.produce if role == "producer" else outside.consume
        folder, instance, phase = str(self.books), self.instance, self._phase
        self.outsiders[name] = self._children.fork(lambda: run(folder, instance, tuple(QUEUES), phase))

    def wake_outsiders(self) -> None:
        for child in self.outsiders.values():
            child.send(signal.SIGCONT)

    def replace_outsider(self, name: str) -> None:
        """Kill one, and start another in its place."""
        child = self.outsiders.pop(name)
        child.send(signal.SIGKILL)
        if not child.killed_by():
            child.result()  # none ends by itself, but for an error
        self.start_outsider(name.partition("-")[0])

    # --- surroundings

    def fill_memory(self) -> None:
        self.full = True
        for _ in range(_TRIES):
            try:
                own_shm.fill_up()
            except OSError:  # somebody took of it meanwhile
                continue
            return

    def free_memory(self) -> None:
        if not self.full:
            return
        own_shm.make_room()
        self.full = False

    def make_whole(self) -> None:
        """Give memory and database back."""
        self.free_memory()
        self.database.open()

    # --- the end

    def finish(self) -> None:
        """Let everything come out, and end with a server that has nothing to keep."""
        self.make_whole()
        server = self.server or self.begin()
        self.stop_calls()
        self._phase[0] = outside.NO_MORE_ADDS
        for name in [name for name in self.outsiders if name.startswith("producer")]:
            self.outsiders.pop(name).result()
        try:
            wait_until(self._is_empty, "the queues are drained", 60)
        except TimeoutError as error:
            self.wrong.append(f"{error}: {[(name, len(queue)) for name, queue in self._watched.items()]}")
        self._phase[0] = outside.END
        for child in self.outsiders.values():
            child.result()
        self.outsiders.clear()
        server.stop()
        if server.segments():
            self.wrong.append(f"left behind: {server.segments()}")
        self.after(server, asked=True)
        if rows := self.database.rows("rows"):
            self.wrong.append(f"{rows} rows are left of empty queues")

    def _is_empty(self) -> bool:
        try:
            return not any(len(queue) for queue in self._watched.values())
        except MqueueError:
            return False

    def end(self) -> None:
        """End every process, whatever happened."""
        self._children.end()
        if self.server is not None:
            self.server.process.kill()
            shutil.rmtree(self.server.home, ignore_errors=True)


def send(pid: int, number: int) -> bool:
    """Send a signal; False if the process has ended meanwhile."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
