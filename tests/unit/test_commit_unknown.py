"""The connection breaks during a COMMIT: until the next start has found out where the items are, nobody uses them.

The database is sqlite, whose COMMIT is done or undone here and then reported as broken off; tests/databases does the
same with real connections.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any, Callable

import pytest
import sqlalchemy as sa

from kemi import app
from kemi.errors import CommitUnknown
from kemi.instance import queues
from kemi.queue.catalog import keeping
from kemi.queue.catalog.keeping import SAVING
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.format.outcome import CLOSED
from kemi.queue.queue import Queue
from mqueue_kemi import QueueClosed, mod_init, modparam, mq_add
from tests.conftest import HANG, SHM
from tests.locked import reserve_for_good
from tests.processes.serve import sleepers
from tests.support.clients import inner
from tests.unit.children import child, fork, killed_after

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OUTCOMES = pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
ADDMODES = pytest.mark.parametrize("addmode", [0, 2])


@contextlib.contextmanager
def breaking_off(*, done: bool) -> Iterator[None]:
    """Let the connection break off while a transaction that changed rows is committed."""
    changed: list[str] = []
    commit = sa.engine.RootTransaction.commit

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("BEGIN"):
            changed.clear()
        if statement.startswith(("INSERT", "DELETE")):
            changed.append(statement)

    def broken(transaction: Any) -> None:
        if done or not changed:
            commit(transaction)
        if changed:
            reason = OSError(104, "Connection reset by peer")
            raise sa.exc.OperationalError("COMMIT", {}, reason, connection_invalidated=True)

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", note)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sa.engine.RootTransaction, "commit", broken)
        yield
    sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)


class Lives:
    """One instance with one queue and its table, through several servers, each a process that is forked."""

    def __init__(self, instance: str, file: Path) -> None:
        self.instance = instance
        self.file = file
        self.more = ""

    def start(self, dbmode: int = 1) -> None:
        for name, value in (("instance", self.instance), ("db_url", f"sqlite:///{self.file}")):
            modparam("mqueue", name, value)
        modparam("mqueue", "mqueue", f"name=q;dbmode={dbmode}{self.more}")
        mod_init(object())

    def live(self, work: Callable[[], object]) -> None:
        """Do `work` in a server, which ends."""
        _, status = os.waitpid(fork(work), 0)
        assert status == 0, "the other process failed"

    def starts_in_vain(self, *, done: bool) -> None:
        def work() -> None:
            with breaking_off(done=done), pytest.raises(CommitUnknown):
                self.start()

        self.live(work)

    def stops(self, *adds: str, done: bool) -> None:
        """Start a server, add, and have the connection break off at its stop."""

        def work() -> None:
            self.start()
            for key in adds:
                assert mq_add("q", key, "v") == 1
            with breaking_off(done=done):
                app.stop_now()

        self.live(work)

    def finds(self, *expected: str) -> None:
        """Start and stop a server as usual: everything is there, once and in order."""

        def work() -> None:
            self.start()
            assert (self.rows(), keys(queues["q"])) == ([], list(expected))
            app.stop_now()
            assert self.rows() == list(expected)

        self.live(work)
        assert not list(SHM.glob(f"mqk.{self.instance}*"))

    def rows(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.file)) as connection:
            return [key for (key,) in connection.execute("SELECT key FROM q ORDER BY id")]

    def have_rows(self, *keys: str) -> None:
        with contextlib.closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute("CREATE TABLE q (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, val TEXT)")
            connection.executemany("INSERT INTO q (key, val) VALUES (?, 'v')", [(key,) for key in keys])

    def have_items(self, *keys: str) -> None:
        """Leave items as a server does that is killed."""

        def serve() -> None:
            self.start(dbmode=0)
            for key in keys:
                mq_add("q", key, "v")

        killed_after(serve)


@pytest.fixture
def lives(server: Any, instance: str, tmp_path: Path) -> Lives:
    del server
    return Lives(instance, tmp_path / "m.db")


def keys(queue: Queue) -> list[str]:
    """Return what would be there if every process that holds something was killed now."""
    return [item.key for item in queue.undone()]


def nobody_uses(queue: Queue) -> None:
    """Every way to take an item or to add one is closed, and stays so."""
    takes: list[Callable[[], object]] = [
        queue.pop,
        queue.fetch,
        lambda: queue.fetch(0.01),
        lambda: queue.fetch_many(5),
        lambda: queue.pop_if(lambda _: True),
        lambda: queue.reserve().__enter__(),
        lambda: queue.wait_ready(0.01),
    ]
    for _ in range(2):
        for take in takes:
            with pytest.raises(QueueClosed):
                take()
        assert queue.add("late", "v") == CLOSED
        assert queue.add_many([("late", "v")]) == [CLOSED]
    assert queue.is_closed()


def others_wait(attached: AttachedQueue) -> None:
    """Who is attached has nothing, and no error."""
    assert attached.fetch(0.02) is None
    assert attached.fetch_many(3) == []
    with attached.reserve(0.01) as item:
        assert item is None
    assert attached.add("late", "v") == CLOSED


@OUTCOMES
@ADDMODES
def test_save(lives: Lives, instance: str, done: bool, addmode: int) -> None:
    """At the stop: the items are in memory still, perhaps in the table too, and nobody takes them twice."""
    lives.more = f";addmode={addmode}"
    lives.stops("0", "1", "2", done=done)
    queue, attached = Queue.attach(instance, "q"), AttachedQueue(instance, "q")
    assert lives.rows() == (["0", "1", "2"] if done else [])
    assert keeping.crossing(queue.segment.words).kind == SAVING
    assert keys(queue) == ["0", "1", "2"]  # who looks, sees them
    assert (len(queue), queue.held(), queue.stats().reserved) == (3, 3, 0)
    nobody_uses(queue)
    others_wait(attached)
    lives.finds("0", "1", "2")
    others_wait(attached)


@OUTCOMES
@ADDMODES
@pytest.mark.parametrize("items", ["", "ab"])
def test_load(lives: Lives, instance: str, done: bool, addmode: int, items: str) -> None:
    """At the start: the rows are in a draft, the items too, and perhaps the table is empty already."""
    lives.more = f";addmode={addmode}"
    lives.have_rows("1", "2")
    lives.have_items(*items)
    queue, attached = Queue.attach(instance, "q"), AttachedQueue(instance, "q")
    lives.starts_in_vain(done=done)
    assert lives.rows() == ([] if done else ["1", "2"])
    if items:
        assert keys(queue) == list(items)
        nobody_uses(queue)
    others_wait(attached)
    lives.finds("1", "2", *items)


@OUTCOMES
def test_again_and_again(lives: Lives, done: bool) -> None:
    """A link that breaks at every commit, and a service manager that starts the server again each time."""
    lives.have_rows("1")
    lives.have_items("a")
    for _ in range(20):
        lives.starts_in_vain(done=False)
    for _ in range(20):
        lives.stops(done=done)
    lives.finds("1", "a")


@OUTCOMES
@pytest.mark.parametrize("ends", ["done", "given back", "killed"])
def test_what_is_reserved(lives: Lives, instance: str, done: bool, ends: str) -> None:
    """It crosses with the others, whatever its holder does with it; nobody else gets it before the next start."""
    lives.have_items("0", "1", "2")
    queue = Queue.attach(instance, "q")

    def reserve() -> None:
        reserve_for_good(queue)

    held = queue.reserve()
    if ends == "killed":
        killed_after(reserve)
    else:
        held.__enter__()
    lives.stops(done=done)
    assert (len(queue), queue.held(), queue.stats().reserved) == (2, 3, 1)
    if ends == "given back":
        held.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    elif ends == "done":
        held.__exit__(None, None, None)
    nobody_uses(queue)
    lives.finds(*(["1", "2"] if ends == "done" and not done else ["0", "1", "2"]))


@OUTCOMES
@pytest.mark.parametrize("another", ["save", "load"])
def test_a_server_that_is_killed_after_it(lives: Lives, instance: str, done: bool, another: str) -> None:
    """One breaks off, the next one is killed while it finds out: the third one has everything."""
    lives.stops("0", "1", "2", done=done)
    queue = Queue.attach(instance, "q")

    def strike() -> None:
        with pytest.MonkeyPatch.context() as patch:
            end: Any = lambda *_, **__: os._exit(0)  # noqa: E731
            patch.setattr("kemi.queue.queue.Queue.adopt" if another == "save" else "kemi.crossing.Crossings.load", end)
            lives.start()

    lives.live(strike)
    if another == "save":
        nobody_uses(queue)
    lives.finds("0", "1", "2")


def test_who_sleeps_goes_on(lives: Lives, instance: str) -> None:
    """A consumer that waits while the server ends takes what the next one has."""
    lives.have_items("0")
    queue = AttachedQueue(instance, "q")

    def consume() -> None:
        with AttachedQueue(instance, "q", lock_timeout=HANG).reserve(HANG) as item:
            assert item is not None
            assert item.key == "0"

    held = queue.reserve()
    held.__enter__()
    waiter = fork(consume)
    while not sleepers(inner(queue)):
        time.sleep(0.01)
    lives.stops(done=True)
    assert os.waitpid(waiter, os.WNOHANG) == (0, 0)
    held.__exit__(None, None, None)

    with child(lives.start):
        assert os.waitpid(waiter, 0)[1] == 0


@pytest.mark.parametrize("where", ["queue.Queue.publish", "log.contents.clear"])
def test_what_fails_after_the_commit(lives: Lives, where: str) -> None:
    """The rows are deleted: the draft that has them is not thrown away, and the next start goes on with it."""
    lives.have_rows("1", "2")
    lives.have_items("a", "b")

    def work() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"kemi.queue.{where}", raising)
            with pytest.raises(OSError, match="full"):
                lives.start()
        assert lives.rows() == []

    lives.live(work)
    lives.finds("1", "2", "a", "b")


def raising(*_: object) -> None:
    raise OSError(28, "full")


def test_without_a_database_it_cannot_be_found_out(lives: Lives) -> None:
    """The definition has no dbmode any more: a line says where the rows may be, and they stay there."""
    lives.have_rows("1")
    lives.have_items("a")
    lives.starts_in_vain(done=True)

    def work() -> None:
        lives.start(dbmode=0)
        said = "".join(call.args[0] for call in sys.modules["KSR"].err.call_args_list)
        assert "the last server died while it loaded" in said
        assert "~loaded, which is left as it is" in said
        assert keys(queues["q"]) == ["a"]

    lives.live(work)
    lives.finds("1", "a")
