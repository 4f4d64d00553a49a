"""kill -9 at random, under load: what was added is there or was in the hands of a killed consumer, once, in order."""

from __future__ import annotations

import mmap
import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from kemi.queue.log.core import ADDED
from tests.conftest import HANG
from tests.processes.ledger import check, number_of, value_of
from tests.processes.load import length_of
from tests.processes.sound import faults

if TYPE_CHECKING:
    from pathlib import Path

    from kemi.queue.queue import Queue
    from tests.processes.children import Child, Children
    from tests.processes.serve import Serve

PRODUCERS, CONSUMERS = 3, 3
SECONDS, LONG = 3.0, 120.0
PATIENCE = 30.0  # seconds more, at most
DEEP = 3000  # items, at which producers let consumers catch up


class Load:
    """Producers and consumers that write down, in a file of their own, what was done: it outlives them.

    A producer's file has one byte for each add that returned. A consumer's has one line for each item that it got. So
    a killed producer may have added one item more, and a killed consumer may have got one item more.
    """

    def __init__(self, queue: Queue, children: Children, folder: Path, timeout: float) -> None:
        self._queue = queue
        self._children = children
        self._folder = folder
        self._timeout = timeout
        self._stop = mmap.mmap(-1, 1)
        self._started = 0
        self.running: dict[str, Child] = {}
        self.killed: set[str] = set()

    def start(self, role: str) -> None:
        """Start a producer or a consumer with a name of its own."""
        name = f"{role}-{self._started}"
        self._started += 1
        action = self._produce if role == "producer" else self._consume
        self.running[name] = self._children.fork(lambda: action(name))

    def _open(self, name: str) -> int:
        return os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def _produce(self, name: str) -> None:
        file, number = self._open(name), 0
        while not self._stop[0]:
            if len(self._queue) > DEEP:
                time.sleep(0.001)
                continue
            # The key is unique, for the addmodes that want it so.
            assert self._queue.add(f"{name}:{number}", value_of(number, length_of(number))) == ADDED
            os.write(file, b".")
            number += 1

    def _consume(self, name: str) -> None:
        file = self._open(name)
        while True:
            item = self._queue.fetch(self._timeout)
            if item is not None:
                producer = item.key.rpartition(":")[0]
                os.write(file, f"{producer} {number_of(item.value)}\n".encode())
            elif self._stop[0] == 2:
                return

    def kill(self, name: str) -> None:
        """Kill one, and start another in its place."""
        child = self.running.pop(name)
        child.send(signal.SIGKILL)
        assert child.killed_by() == signal.SIGKILL
        self.killed.add(name)
        self.start(name.partition("-")[0])

    def finish(self) -> None:
        """Let the producers end, then the consumers when nothing is left."""
        for phase, role in ((1, "producer"), (2, "consumer")):
            self._stop[0] = phase
            for name, child in self.running.items():
                if name.startswith(role):
                    child.result()

    def kill_at_random(self, seconds: float) -> str:
        """Do so for some seconds, until one was killed with the lock held; then finish. Return what a report says."""
        seed = random.randrange(1 << 32)  # noqa: S311 no secret
        rng = random.Random(seed)  # noqa: S311 no secret
        end = time.monotonic() + seconds
        # On a slow machine it may take longer until one is killed with the lock held.
        while time.monotonic() < end or (time.monotonic() < end + PATIENCE and not self._queue.stats().recovered):
            time.sleep(rng.expovariate(100))
            self.kill(rng.choice(sorted(self.running)))
        self.finish()
        return f"seed {seed}: {len(self.killed)} killed, {self._queue.stats()}"

    def judge(self, where: str) -> None:
        """Everything came out, the queue is sound, and each counter is wrong by what the killed were doing at most."""
        stats = self._queue.stats()
        assert self.wrong() == [], where
        assert self._queue.fetch() is None, where
        assert faults(self._queue) == [], where
        assert stats.recovered > 0, f"nobody was killed with the lock held: {where}"
        assert abs(stats.added - sum(self.added().values())) <= len(self.killed), where
        assert abs(stats.fetched - sum(map(len, self.taken()))) <= len(self.killed), where

    def added(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self._folder.glob("producer-*")}

    def taken(self) -> list[list[tuple[str, int]]]:
        texts = [path.read_text("ascii") for path in sorted(self._folder.glob("consumer-*"))]
        # A line without its end was being written when its consumer was killed: its item was still in hand.
        files = [text[: text.rfind("\n") + 1].splitlines() for text in texts]
        return [
            [(name, int(number)) for name, _, number in (line.rpartition(" ") for line in lines)] for lines in files
        ]

    def wrong(self) -> list[str]:
        """Say what the ledger finds."""
        hands = sum(name.startswith("consumer") for name in self.killed)
        return check(self.added(), self.taken(), uncertain=self.killed, may_miss=hands)


@pytest.mark.parametrize("timeout", [0.0, 0.5], ids=["polling", "waiting"])
@pytest.mark.parametrize("addmode", [0, 2])
def test_killed_at_random(
    serve: Serve, children: Children, tmp_path: Path, stress: bool, addmode: int, timeout: float
) -> None:
    """Everything that was added comes out, but for one item at most in the hands of each killed consumer."""
    queue = serve(f"name=q;addmode={addmode}", lock_timeout="5")
    load = Load(queue, children, tmp_path, timeout)
    for _ in range(PRODUCERS):
        load.start("producer")
    for _ in range(CONSUMERS):
        load.start("consumer")
    load.judge(load.kill_at_random(LONG if stress else SECONDS))


def test_a_planted_loss_and_a_planted_duplicate_are_found(serve: Serve, children: Children, tmp_path: Path) -> None:
    """The same load and the same ledger, with nobody killed: an item taken away, then one that came twice."""
    queue = serve("name=q")
    load = Load(queue, children, tmp_path, 0.0)
    load.start("producer")
    load.start("consumer")
    end = time.monotonic() + HANG
    while len(load.taken()) < 1 or len(load.taken()[0]) <= 10:
        assert time.monotonic() < end
        time.sleep(0.01)
    load.finish()
    assert load.wrong() == []
    log = next(tmp_path.glob("consumer-*"))
    lines = log.read_text("ascii").splitlines(keepends=True)
    log.write_text("".join(lines[:5] + lines[6:]), "ascii")
    assert [text.split(":")[0] for text in load.wrong()] == ["1 lost, 0 may be"]
    log.write_text("".join(lines[:6] + lines[5:]), "ascii")
    assert load.wrong() == ["producer-0 5 came twice"]
