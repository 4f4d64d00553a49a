"""What starts, stops and takes over an instance, two of them at the same moment: the outcome is that of one order.

Each round is checked against a model: either one came after the other, in whichever order, or one was refused with the
pid of the other. Items are in exactly one place afterwards, in memory or in the table, unless they were dropped.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import pytest
import sqlalchemy as sa

import mqueue_kemi
from kemi import app, host, orphans
from kemi.errors import InstanceInUse, LockTimeout, MqueueError, QueueClosed, SegmentMissing, UnknownQueue
from kemi.instance import queues
from kemi.queue.catalog.registry import Registry
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.queue import Queue
from kemi.queue.shm import trust
from kemi.queue.shm.naming import SHM_DIR, path_of, segment_name
from kemi.queue.shm.segment import Segment
from kemi.queue.sync.openfile import OpenFile
from kemi.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = {False: 4, True: 200}  # in the default run, and under stress
_SPREAD = 0.004  # seconds between the two at most, chosen anew in each round
IN_USE, UNKNOWN = InstanceInUse.__name__, UnknownQueue.__name__


# --- the model --------------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """Where the items are, and whose the instance is."""

    memory: tuple[str, ...] | None  # None: there is no queue
    rows: tuple[str, ...]
    server: str = ""  # which of the two lives and has it; "" for nobody


def model(what: str, who: str, state: State) -> tuple[str, State]:
    """What an operation says, and what is there then."""
    if what == "look":
        return "done", state
    if state.server not in ("", who):
        return f"{IN_USE} {state.server}", state
    if state.memory is None and what in ("drop", "drop one", "save"):
        return UNKNOWN, state
    memory = state.memory or ()
    together = state.rows + memory
    outcomes = {
        "stop": ("done", State(None, together)),
        "start": ("done", State(together, (), who)),
        "load": (f"done {len(state.rows)}", State(together or None, ())),
        "drop": ("done", State(None, state.rows)),
        "drop one": ("done", State(None, state.rows)),
        "save": (f"done {len(memory)}", State(None, together)),
    }
    return outcomes[what]


def allowed(first: str, second: str, before: State) -> list[tuple[str, str, State]]:
    """Every outcome that is right: of the one called a, of the other called b, and what is there then."""
    found = []
    said_a, between = model(first, "a", before)
    said_b, after = model(second, "b", between)
    found.append((said_a, said_b, after))
    found.append((said_a, f"{IN_USE} a", between))  # while it is at work
    said_b, between = model(second, "b", before)
    said_a, after = model(first, "a", between)
    found.append((said_a, said_b, after))
    found.append((f"{IN_USE} b", said_b, between))
    if before.server:  # then a is its server, and nobody is before it but in vain
        found = [outcome for outcome in found if outcome[0] == "done"]
    return [(a, b, state._replace(server="")) for a, b, state in found]


# --- processes --------------------------------------------------------------------------------------------------------


def start(instance: str, url: str) -> None:
    """Start a server with the queue, in this process."""
    params = {"instance": instance, "db_url": url, "mqueue": "name=q;dbmode=1", "max_memory": "1G", "db_timeout": "600"}
    for name, value in params.items():
        mqueue_kemi.modparam("mqueue", name, value)
    mqueue_kemi.mod_init(object())


def look(instance: str) -> None:
    """Look at all that is there in every way, for as long as the other one may take. What is gone is not there."""
    until = time.monotonic() + 5 * _SPREAD
    while time.monotonic() < until:
        for found in [one for one in host.find_all() if one.name == instance]:
            views = [found.view, *found.queues.values()]
            strange = [view for view in views if isinstance(view, MqueueError)]
            assert all(isinstance(view, SegmentMissing) for view in strange), strange
            assert found.owner() is not None, found
        with contextlib.suppress(UnknownQueue):
            assert host.find(instance).owner() is not None
        with contextlib.suppress(UnknownQueue):
            host.find_queue(instance, "q")
        with contextlib.suppress(UnknownQueue, QueueClosed, LockTimeout), AttachedQueue(instance, "q") as queue:
            assert {item.key for item in queue.peek(None, reserved=True)} <= {"m1", "m2", "r1", "r2"}


def operation(what: str, instance: str, url: str) -> str:
    """Do it; what came of it, with the pid of whoever is in the way."""
    calls: dict[str, Callable[[], object]] = {
        "start": lambda: start(instance, url),
        "stop": app.stop_now,
        "drop": lambda: host.drop(instance),
        "drop one": lambda: host.drop(instance, "q"),
        "look": lambda: look(instance),
        "save": lambda: orphans.save(instance, "q", url, lambda _text: None),
        "load": lambda: orphans.load(instance, "q", url, lambda _text: None),
    }
    try:
        result = calls[what]()
    except InstanceInUse as error:
        pid = re.search(r"pid ([0-9]+)", str(error))
        return f"{IN_USE} {pid and pid[1]}"
    except UnknownQueue:
        return UNKNOWN
    except MqueueError as error:
        return f"{type(error).__name__}: {error}"
    return "done" if result is None else f"done {result}"


class Actor:
    """A process that waits for the moment, does one thing, says what came of it, and lives until it is told to end."""

    def __init__(self, what: str, instance: str, url: str, gate: int, before: Callable[[], None] | None = None) -> None:
        self._answers, answer = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(answer)
            if before is not None:
                assert os.read(self._answers, 1) == b"."
            return
        try:
            queues.clear()
            if before is not None:
                before()
                os.write(answer, b".")
            os.read(gate, 1)  # until it is opened by closing it
            until = time.monotonic() + random.Random().random() * _SPREAD  # noqa: S311 moments, no secrets
            while time.monotonic() < until:
                pass
            text = operation(what, instance, url)
        except BaseException as error:  # noqa: BLE001 it is handed to the test
            text = f"raised {error!r}"
        os.write(answer, text.encode())
        os.close(answer)
        signal.pause()

    def said(self) -> str:
        """Wait until it is done."""
        parts = []
        while part := os.read(self._answers, 1 << 16):
            parts.append(part)
        os.close(self._answers)
        return b"".join(parts).decode()

    def end(self) -> None:
        """Kill it: whatever it has is left."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class Race:
    """One instance with its table, and rounds in it."""

    def __init__(self, instance: str, folder: Path) -> None:
        self.instance = instance
        self.file = folder / "m.db"
        self.url = f"sqlite:///{self.file}"

    def round(self, first: str, second: str, before: State) -> None:
        """Let both be done at the same moment, and compare with what may come of it."""
        self._prepare(before)
        gate, opener = os.pipe()
        live = (lambda: self._serve(before)) if first == "stop" else None
        a = Actor(first, self.instance, self.url, gate, live)
        b = Actor(second, self.instance, self.url, gate)
        os.close(gate)
        # Both have this end too, from the fork: it is opened by what is written.
        os.write(opener, b"..")
        os.close(opener)
        names = {str(a.pid): "a", str(b.pid): "b"}
        said = [" ".join(names.get(word, word) for word in actor.said().split()) for actor in (a, b)]
        for actor in (a, b):
            actor.end()
        outcome = (said[0], said[1], self._state())
        assert outcome in allowed(first, second, before), (outcome, allowed(first, second, before))
        assert [path.name for path in Path(SHM_DIR).glob(f"mqk.{self.instance}*~*")] == []
        self._clean()

    def _prepare(self, before: State) -> None:
        with contextlib.closing(sqlite3.connect(self.file)) as database, database:
            database.execute("PRAGMA synchronous = OFF")
            database.execute("DROP TABLE IF EXISTS q")
        store = Store.open(self.url)
        with store.begin("q") as rows:
            rows.insert([(key.encode(), b"v") for key in before.rows])
        store.close()
        if before.memory is not None and not before.server:
            pid = os.fork()
            if not pid:
                self._serve(before)
                os._exit(0)  # a server that was killed
            os.waitpid(pid, 0)

    def _serve(self, before: State) -> None:
        """Be a server with these items in memory, and none of its rows."""
        mqueue_kemi.modparam("mqueue", "instance", self.instance)
        mqueue_kemi.modparam("mqueue", "db_url", self.url)
        mqueue_kemi.modparam("mqueue", "max_memory", "1G")
        mqueue_kemi.modparam("mqueue", "mqueue", "name=q;dbmode=2")
        mqueue_kemi.mod_init(object())
        for key in before.memory or ():
            assert queues["q"].add(key, "v")

    def _state(self) -> State:
        memory = None
        if Path(path_of(segment_name(self.instance, "q"))).exists():
            with Queue.attach(self.instance, "q") as queue:
                memory = tuple(item.key for item in queue.peek(None, reserved=True))
        with contextlib.closing(sqlite3.connect(self.file)) as database:
            rows = tuple(key for (key,) in database.execute("SELECT key FROM q ORDER BY id"))
        return State(memory, rows)

    def _clean(self) -> None:
        for path in Path(SHM_DIR).glob(f"mqk.{self.instance}*"):
            path.unlink()


def _without_waiting_for_the_disk(connection: sqlite3.Connection, _record: object) -> None:
    """Many rounds: what a power failure would leave is no question here."""
    connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture
def race(_no_segment_is_left: None, tmp_path: Path) -> Iterator[Race]:
    """Give an instance of its own; whatever is left of it is removed."""
    made = Race(f"races-{os.getpid()}-{tmp_path.name}", tmp_path)
    sa.event.listen(sa.engine.Engine, "connect", _without_waiting_for_the_disk)
    yield made
    sa.event.remove(sa.engine.Engine, "connect", _without_waiting_for_the_disk)
    made._clean()


NOTHING = State(None, ("r1", "r2"))
DEAD = State(("m1", "m2"), ("r1", "r2"))
LIVING = State(("m1", "m2"), ("r1", "r2"), "a")
PAIRS = [
    *((NOTHING, "start", what) for what in ("start", "drop", "save", "load")),
    *((NOTHING, "load", what) for what in ("drop", "drop one", "save", "load")),
    *((DEAD, "start", what) for what in ("start", "drop", "drop one", "save", "load")),
    *((DEAD, "drop", what) for what in ("drop", "drop one", "save", "load")),
    *((DEAD, "drop one", what) for what in ("drop one", "save", "load")),
    (DEAD, "save", "save"),
    (DEAD, "save", "load"),
    (DEAD, "load", "load"),
    *((LIVING, "stop", what) for what in ("start", "drop", "drop one", "save", "load")),
    *((NOTHING, what, "look") for what in ("start", "load")),
    *((DEAD, what, "look") for what in ("start", "drop", "drop one", "save", "load")),
    (LIVING, "stop", "look"),
]


def _name(pair: tuple[State, str, str]) -> str:
    state, first, second = pair
    where = {NOTHING: "nothing", DEAD: "left by a dead server", LIVING: "living"}[state]
    return f"{first} and {second}, {where}"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("pair", PAIRS, ids=map(_name, PAIRS))
def test_two_at_the_same_moment(race: Race, stress: bool, pair: tuple[State, str, str]) -> None:
    """One after the other, or one is refused with the other's pid; no item is lost, none doubled, no draft left."""
    before, first, second = pair
    for number in range(ROUNDS[stress]):
        a, b = (first, second) if number % 2 == 0 or first == "stop" else (second, first)
        race.round(a, b, before)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("before", [NOTHING, DEAD], ids=["nothing", "left by a dead server"])
def test_exactly_one_start_wins(race: Race, stress: bool, before: State) -> None:
    """Of several starts at the same moment; all others are refused with the winner's pid."""
    for _ in range(ROUNDS[stress]):
        race._prepare(before)
        gate, opener = os.pipe()
        actors = [Actor("start", race.instance, race.url, gate) for _ in range(5)]
        os.close(gate)
        os.write(opener, b"." * len(actors))
        os.close(opener)
        said = [actor.said() for actor in actors]
        winners = [actor.pid for actor, text in zip(actors, said) if text == "done"]
        for actor in actors:
            actor.end()
        assert len(winners) == 1, said
        assert sorted(said) == sorted(["done"] + [f"{IN_USE} {winners[0]}"] * 4)
        assert race._state() == State(before.rows + (before.memory or ()), ())
        race._clean()


GONE: dict[str, Callable[[Race], object]] = {
    "find": lambda race: host.find(race.instance),
    "drop": lambda race: host.drop(race.instance),
    "drop one": lambda race: host.drop(race.instance, "q"),
    "save": lambda race: orphans.save(race.instance, "q", race.url, lambda _text: None),
    "attach": lambda race: AttachedQueue(race.instance, "q"),
    "find all": lambda race: {found.name: found for found in host.find_all()}[race.instance],
}


@pytest.mark.parametrize("what", GONE)
def test_gone_after_its_name_was_seen(race: Race, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Whatever reads files after their names, or two files after each other, says that there is none."""
    race._prepare(DEAD)
    names, opened = host.names, trust.open_file

    def go() -> None:
        monkeypatch.undo()
        pid = os.fork()
        if not pid:
            host.drop(race.instance)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0

    def names_then_gone() -> dict[str, list[str]]:
        found = names()
        go()
        return found

    def open_then_gone(path: str, flags: int) -> OpenFile:
        file = opened(path, flags)
        go()
        return file

    monkeypatch.setattr(host, "names", names_then_gone)
    monkeypatch.setattr(trust, "open_file", open_then_gone)
    with pytest.raises((UnknownQueue, KeyError)) as caught:
        GONE[what](race)
    assert what == "find all" or isinstance(caught.value, UnknownQueue)
    assert not Path(path_of(segment_name(race.instance))).exists()


def test_one_queue_dropped_beside_a_server_that_ends(race: Race, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server does not know is dropped without its help; it may end just then, and another one come."""
    race._prepare(DEAD)
    (answers, answer), (gate, opener) = os.pipe(), os.pipe()
    server = os.fork()
    if not server:
        os.close(opener)
        for name, value in (("instance", race.instance), ("max_memory", "1G"), ("mqueue", "name=other")):
            mqueue_kemi.modparam("mqueue", name, value)
        mqueue_kemi.mod_init(object())
        os.write(answer, b".")
        os.read(gate, 1)
        app.stop_now()
        os._exit(0)
    assert os.read(answers, 1) == b"."
    attach = Registry.attach

    def end_then_attach(instance: str, *rest: Any, **named: Any) -> Registry:
        monkeypatch.undo()
        os.close(opener)
        assert os.waitpid(server, 0)[1] == 0
        return attach(instance, *rest, **named)

    monkeypatch.setattr(Registry, "attach", end_then_attach)
    host.drop(race.instance, "q")
    assert race.instance not in host.names()
    with pytest.raises(UnknownQueue):
        host.drop(race.instance, "q")
    for end in (answers, answer, gate):
        os.close(end)


def test_a_living_process_keeps_its_draft(race: Race) -> None:
    """A start takes away the drafts of the dead, and never one that a living process is filling."""

    def begin(gate: int, ready: int) -> None:
        def fill(segment: Segment) -> None:
            os.write(ready, path_of(segment.name).encode())
            os.read(gate, 1)

        Segment.create(segment_name(race.instance, "other"), 4096, 1 << 20, fill)

    closed, end = os.pipe()
    os.close(end)
    for lives in (True, False):
        (gate, opener), (answers, ready) = os.pipe(), os.pipe()
        pid = os.fork()
        if not pid:
            begin(gate, ready)
            os._exit(0)
        draft = os.read(answers, 1000).decode()
        if not lives:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        server = Actor("start", race.instance, race.url, closed)
        assert server.said() == "done"
        assert Path(draft).exists() == lives
        server.end()
        if lives:
            os.write(opener, b".")
            assert os.waitpid(pid, 0)[1] == 0
            assert Path(path_of(segment_name(race.instance, "other"))).exists()
        for end in (gate, opener, answers, ready):
            os.close(end)
    os.close(closed)
