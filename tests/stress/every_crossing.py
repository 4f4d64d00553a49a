"""The engine of test_crash_points: kills a server's main process at every step of its way to the database or from it.

A program of its own, `python -m tests.stress.every_crossing FOLDER`: each line of its input is CASE, how many moments
to take at most, and whether the next start is killed too; each line of its output is how many moments there were, how
often a process was killed, and what was wrong. It forks thousands of times, and a small process forks fast.

A step is: a statement of SQL, a commit, a store into a segment, a call that changes the file system. Each is a moment
before it and one behind it.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import signal
import sqlite3
import sys
import traceback
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import sqlalchemy
from sqlalchemy.engine.default import DefaultDialect

import mqueue_kemi
from kemi import app
from kemi.errors import MqueueError
from kemi.instance import queues
from kemi.queue.catalog import keeping
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from kemi.queue.shm.naming import path_of, segment_name
from kemi.queue.shm.segment import Segment
from tests.processes.children import Child, ChildError, Children
from tests.processes.moments import Moments, Watched, die
from tests.processes.serve import items as items_of
from tests.processes.sound import faults
from tests.support.rewire import rewire

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Case(NamedTuple):
    """What is in the table and in memory before, and what is then done: the start or the stop of a server."""

    step: str
    definition: str
    rows: int = 0
    items: int = 0
    before: str = ""  # the definition by which the items came into memory, if it was another one

    def loads(self) -> bool:
        return "dbmode=1" in self.definition or "dbmode=3" in self.definition

    def saves(self) -> bool:
        return "dbmode=1" in self.definition or "dbmode=2" in self.definition


CASES = {
    "load": Case("start", "dbmode=1", rows=3),
    "load before what a crash left": Case("start", "dbmode=1", rows=3, items=2),
    "load of nothing": Case("start", "dbmode=1", items=2),
    "load that is not saved": Case("start", "dbmode=3", rows=3, items=2),
    "load into unique keys": Case("start", "dbmode=1;addmode=2", rows=3, items=2),
    "load and another addmode": Case("start", "dbmode=1;addmode=1", rows=2, items=2, before="dbmode=1"),
    "another addmode": Case("start", "addmode=2", items=3, before="addmode=0"),
    "take over": Case("start", "recover=1", items=3),
    "save": Case("stop", "dbmode=1", items=3),
    "save behind rows": Case("stop", "dbmode=2", rows=2, items=3),
    "save of what came from rows too": Case("stop", "dbmode=1", rows=2, items=3),
    "save without recover": Case("stop", "dbmode=1;recover=0", items=3),
    "save of unique keys": Case("stop", "dbmode=1;addmode=2", items=3),
}


def keys(what: str, count: int) -> list[str]:
    return [f"{what} {number}" for number in range(count)]


# --- moments ----------------------------------------------------------------------------------------------------------


def _around(moments: Moments, owner: Any, name: str) -> None:
    """Make a moment before a function and one behind it."""
    function = getattr(owner, name)

    def struck(*arguments: Any, **named: Any) -> Any:
        moments.pass_one()
        result = function(*arguments, **named)
        moments.pass_one()
        return result

    setattr(owner, name, struck)


def _behind(owner: Any, name: str, action: Callable[[Any], None]) -> None:
    """Do something with an object when it has been made."""
    function = getattr(owner, name)

    def made(self: Any, *arguments: Any, **named: Any) -> None:
        function(self, *arguments, **named)
        action(self)

    setattr(owner, name, made)


def watch_everything(moments: Moments) -> None:
    """Let everything that this process does to a segment, a file's name or a database pass `moments`."""

    def segment_made(segment: Any) -> None:
        segment.words, segment.halves = Watched(segment.words, moments), Watched(segment.halves, moments)

    def queue_made(queue: Any) -> None:
        rewire(queue, lambda view: view if isinstance(view, Watched) else Watched(view, moments))

    _behind(Segment, "__init__", segment_made)
    _behind(Queue, "__init__", queue_made)
    for name in ("rename", "link", "unlink", "ftruncate", "posix_fallocate"):
        _around(moments, os, name)
    for name in ("do_commit", "do_rollback"):
        _around(moments, DefaultDialect, name)
    for event in ("before_cursor_execute", "after_cursor_execute"):
        sqlalchemy.event.listen(sqlalchemy.engine.Engine, event, lambda *_: moments.pass_one())


# --- one life after another -------------------------------------------------------------------------------------------


class Lives:
    """A case in one folder, made anew for each moment."""

    def __init__(self, folder: str, case: Case, children: Children) -> None:
        self.case = case
        self.instance = f"processes-{os.getpid()}-crossing"
        self.children = children
        self.database = os.path.join(folder, "m.db")
        self.rows, self.items = keys("row", case.rows), keys("item", case.items)

    def start(self, definition: str) -> None:
        for name, value in (("instance", self.instance), ("db_url", f"sqlite:///{self.database}")):
            mqueue_kemi.modparam("mqueue", name, value)
        mqueue_kemi.modparam("mqueue", "mqueue", f"name=q;{definition}")
        mqueue_kemi.mod_init(object())

    def clean(self) -> None:
        for path in [*glob.glob(path_of(segment_name(self.instance)) + "*"), *glob.glob(self.database + "*")]:
            os.unlink(path)

    def prepare(self) -> None:
        """Put rows into the table, and items into what a killed server left."""
        self.clean()
        with contextlib.closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("CREATE TABLE q (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, val TEXT)")
            connection.executemany("INSERT INTO q (key, val) VALUES (?, 'v')", [(key,) for key in self.rows])
        if self.case.items and self.case.step == "start":
            self.children.fork(self._leave_items).result()

    def _leave_items(self) -> None:
        self.start(self._plain())
        self._add()

    def _plain(self) -> str:
        """Return a definition that leaves the rows alone."""
        addmode = "addmode=2" if "addmode=2" in (self.case.before or self.case.definition) else "addmode=0"
        return f"{addmode};recover=1"

    def _add(self) -> None:
        for item in self.items:
            queues["q"].add(item, "v")

    def act(self, moments: Moments) -> int:
        """Do the case's step in this process."""
        if self.case.step == "start":
            watch_everything(moments)
            self.start(self.case.definition)
        else:
            self.start(self.case.definition)
            self._add()
            watch_again(queues["q"], moments)
            watch_everything(moments)
            app.stop_now()
        return moments.count

    def table(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return [key for (key,) in connection.execute("SELECT key FROM q ORDER BY id")]

    def attached(self) -> Queue | None:
        """Return the queue as a process outside has it that attached before anything happened."""
        with contextlib.suppress(MqueueError):
            return Queue.attach(self.instance, "q")
        return None

    def meddle(self, before: Queue | None) -> tuple[list[str], list[str]]:
        """Do what a process outside does while no server runs; return what it took, and what it added."""
        taken, added = [], []
        for number, queue in enumerate((before, self.attached())):
            if queue is None:
                continue
            with contextlib.suppress(MqueueError):
                if (item := queue.fetch()) is not None:
                    taken.append(item.key)
            with contextlib.suppress(MqueueError):
                if queue.add(f"late {number}", "v") == ADDED:
                    added.append(f"late {number}")
        return taken, added

    def _is_thrown_away(self) -> bool:
        """Was it killed with recover=0 before it began to save? Then the next start does as that says."""
        queue = self.attached() if "recover=0" in self.case.definition else None
        return queue is not None and keeping.crossing(queue.segment.words).kind == keeping.NONE

    def examine(self, taken: Sequence[str] = (), added: Sequence[str] = ()) -> list[str]:
        """Start and stop a server as usual; say what is wrong. taken, added: what others did since the kill."""
        wrong = []
        everything = [key for key in self.rows + self.items if key not in taken] + list(added)
        if self._is_thrown_away():
            everything = []
        if not {*taken} <= {*self.rows, *self.items} or len({*taken}) != len(taken):
            wrong.append(f"taken were {taken}")
        self.start(self.case.definition)
        table, memory = self.table(), [key for key, _ in items_of(queues["q"])]
        if table + memory != everything:
            wrong.append(f"rows {table}, items {memory}, taken before {taken}, added {added}")
        if self.case.loads() and table:
            wrong.append(f"rows are left: {table}")
        wrong += faults(queues["q"])
        app.stop_now()
        if self.case.saves() and self.table() != everything:
            wrong.append(f"saved were {self.table()}")
        left = sorted(glob.glob(path_of(segment_name(self.instance)) + "*"))
        if left and "recover=2" not in self.case.definition:
            wrong.append(f"left behind: {left}")
        return wrong

    def struck(self, moment: int) -> Child:
        """Do the step in a process that is killed at this moment; 0 for none."""
        return self.children.fork(lambda: self.act(Moments(moment, die)))

    def start_struck(self, moment: int) -> Child:
        """Start the next server, which is killed at this moment."""

        def act() -> int:
            moments = Moments(moment, die)
            watch_everything(moments)
            self.start(self.case.definition)
            return moments.count

        return self.children.fork(act)

    def look(self, before: Queue | None = None, *, meddle: bool = False) -> list[str]:
        try:
            done = self.children.fork(lambda: self.meddle(before)).result() if meddle else ((), ())
            wrong: list[str] = self.children.fork(lambda: self.examine(*done)).result()
        except ChildError as error:
            return [str(error)]
        return wrong


def watch_again(queue: Any, moments: Moments) -> None:
    """Watch a queue that was made before."""
    segment = queue.segment
    segment.words, segment.halves = Watched(segment.words, moments), Watched(segment.halves, moments)
    rewire(queue, lambda view: view if isinstance(view, Watched) else Watched(view, moments))


def chosen(count: int, most: int) -> Iterable[int]:
    """Return moments from 1 to `count`, evenly spread, `most` of them at most."""
    step = max(1, -(-count // most))
    return range(1, count + 1, step)


def killed(child: Child) -> bool:
    if child.killed_by() == signal.SIGKILL:
        return True
    child.result()
    return False


def walk(lives: Lives, most: int, how: str) -> tuple[int, int, list[str]]:
    """Kill at moments of the step, then look.

    how: "meddle" with processes outside that take and add before the next start, "twice" with a next start that is
    killed at its moments, too.
    """
    wrong: list[str] = []
    lives.prepare()
    total = lives.struck(0).result()
    wrong += [f"not killed: {text}" for text in lives.look()]
    kills = 0
    for moment in chosen(total, most):
        lives.prepare()
        before = lives.attached()
        kills += killed(lives.struck(moment))
        if how != "twice":
            wrong += [f"killed at moment {moment}: {text}" for text in lives.look(before, meddle=how == "meddle")]
            continue
        starts = lives.start_struck(0).result()
        for second in chosen(starts, most):
            lives.prepare()
            kills += killed(lives.struck(moment)) + killed(lives.start_struck(second))
            wrong += [f"killed at moment {moment}, and the next start at {second}: {text}" for text in lives.look()]
    return total, kills, wrong


def main(folder: str) -> None:
    """Answer each line of the input."""
    for line in sys.stdin:
        name, most, how = json.loads(line)
        children = Children()
        lives = Lives(folder, CASES[name], children)
        try:
            answer: tuple[int, int, list[str]] = walk(lives, most, how)
        except Exception:  # noqa: BLE001 it is handed to the test
            answer = 0, 0, [traceback.format_exc()]
        finally:
            children.end()
        lives.clean()
        print(json.dumps(answer), flush=True)  # noqa: T201 its output


if __name__ == "__main__":
    main(sys.argv[1])
