"""An engine that refuses at any moment, for any reason: what is sent comes once, and what is taken is not lost."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import pytest

import mqueue_kemi
from kemi.errors import MqueueError
from kemi.relay.back import Back
from kemi.relay.url import parse
from tests.relay.ledger import Run
from tests.relay.servers import HOST
from tests.support.clients import attach as attach_here
from tests.support.waits import until

if TYPE_CHECKING:
    from tests.processes.children import Children
    from tests.processes.serve import Serve
    from tests.relay.servers import EngineServer

REFUSALS = (
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "NOSCRIPT No matching script. Please use EVAL.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOREPLICAS Not enough good replicas to write.",
    "NOAUTH Authentication required.",
    "NOPERM this user has no permissions to run the 'evalsha' command",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "ERR max number of clients reached",
)


class Refusing:
    """Between a client and its engine: one command in `every` does not get there, but is refused."""

    def __init__(self, engine: EngineServer, seed: int, every: int) -> None:
        self._to = engine.socket
        self._listener = socket.create_server((HOST, 0))
        self.url = f"redis://{HOST}:{self._listener.getsockname()[1]}/0"
        self._chance = random.Random(seed)
        self._every = every

    def serve(self) -> None:
        while True:
            client = self._listener.accept()[0]
            engine = socket.socket(socket.AF_UNIX)
            try:
                engine.connect(self._to)
            except OSError:
                client.close()
                engine.close()
                continue
            threading.Thread(target=self._pass_on, args=(client, engine), daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _pass_on(self, client: socket.socket, engine: socket.socket) -> None:
        with client, engine, client.makefile("rb") as requests, engine.makefile("rb") as replies, suppress(OSError):
            while head := requests.readline():
                command = head + b"".join(_string(requests, requests.readline()) for _ in range(int(head[1:])))
                if self._chance.randrange(self._every):
                    engine.sendall(command)
                    client.sendall(_reply(replies))
                else:
                    client.sendall(b"-%b\r\n" % self._chance.choice(REFUSALS).encode())


def _string(file: IO[bytes], line: bytes) -> bytes:
    return line + file.read(int(line[1:]) + 2)


def _reply(file: IO[bytes]) -> bytes:
    line = file.readline()
    if not line:
        raise OSError("the engine is gone")
    if line[:1] == b"*":
        return line + b"".join(_reply(file) for _ in range(max(0, int(line[1:]))))
    return _string(file, line) if line[:1] == b"$" and line[1:2] != b"-" else line


@pytest.fixture
def refusing(children: Children, engine: EngineServer, request: pytest.FixtureRequest) -> Refusing:
    between = Refusing(engine, *request.param)
    children.fork(between.serve)
    between.close()
    return between


SEEDS = [(1, 30), pytest.param((2, 12), marks=pytest.mark.stress), pytest.param((3, 40), marks=pytest.mark.stress)]
several = pytest.mark.parametrize("refusing", SEEDS, indirect=True)


@several
def test_to_the_engine(serve: Serve, children: Children, engine: EngineServer, refusing: Refusing) -> None:
    run = Run(serve, children, f"{refusing.url}?timeout=30", "fsync")
    until(lambda: len(engine.items("q")) > 100, "items come")
    account = run.account(engine)
    assert account.added
    assert account[1:] == (0, 0, 0), account


@several
def test_from_the_engine(serve: Serve, children: Children, engine: EngineServer, refusing: Refusing) -> None:
    queue = serve("name=q")

    def relay() -> None:
        here = attach_here("q", serve.instance, lock_timeout=60)
        while True:
            with suppress(MqueueError):
                address = parse(f"{refusing.url}?timeout=30")
                Back(here, address, "q", batch=7, longest_pause=0.1).run(lambda: False, lambda _: None)

    with mqueue_kemi.attach("q", f"unix://{engine.socket}", lock_timeout=60) as there:
        assert all(there.add_many([("k", str(number)) for number in range(500)]))
        children.fork(relay)
        until(lambda: len(queue) == 500 and not len(there), "all are here")
    assert [int(item.value) for item in queue.peek(1000)] == list(range(500))


@several
def test_consumers(children: Children, engine: EngineServer, refusing: Refusing) -> None:
    """An item that was not done comes again; one that was is gone. Errors are of our own classes."""
    address = f"{refusing.url}?timeout=30&lease=0.3&dead_letter=dead"
    with mqueue_kemi.attach("q", f"unix://{engine.socket}", lock_timeout=60) as there:
        assert all(there.add_many([("k", str(number)) for number in range(200)]))

    def work() -> list[int]:
        done: set[int] = set()
        queue = until(partial(_attached, address), "it is let in")
        while len(done) < 200:
            with suppress(MqueueError):
                batch = queue.reserve_many(5, 0.05).take()
                done.update(int(item.value) for item in batch)
                batch.done()
        return sorted(done)

    assert children.fork(work).result() == list(range(200))
    assert not engine.items("dead")


def _attached(address: str) -> Any:
    try:
        return mqueue_kemi.attach("q", address)
    except MqueueError:
        return None


def test_counters_that_are_another_programs(engine: EngineServer) -> None:
    """They stop nothing: an item that was added is not called refused, and one that is rejected goes once."""
    with engine.client() as client:
        client.set("mqk:{q}:stats", "mine")
    with mqueue_kemi.attach("q", f"unix://{engine.socket}?dead_letter=dead", lock_timeout=60) as queue:
        assert all(queue.add_many([("k", "0"), ("k", "1")]))
        item = queue.reserve().take()
        assert item is not None
        item.reject("no reason")
        assert queue.fetch()
        assert len(queue) == 0
    assert [each[b"v"] for each in engine.items("dead")] == [b"0"]
