"""Consumers killed with -9 while they hold items: nothing is lost, only what was not done comes again, in order."""

from __future__ import annotations

import mmap
import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from kemi.queue.log.core import ADDED
from tests.locked import reserve_for_good
from tests.processes.ledger import check, number_of, value_of
from tests.processes.load import length_of
from tests.processes.sound import faults

if TYPE_CHECKING:
    from pathlib import Path

    from kemi.queue.queue import Queue
    from tests.processes.children import Child, Children
    from tests.processes.serve import Serve

CONSUMERS = 3
KILLS, LONG = 25, 200
DEEP = 300  # items


class Consumers:
    """Consumers that write down what they are given and what they have done; some raise instead.

    Each line is written before the next step: `+ NUMBER DELIVERIES` when an item was delivered, `- NUMBER` in the
    block's last statement. A kill may come after that, and before the queue knows: such an item comes again.
    """

    def __init__(self, queue: Queue, children: Children, folder: Path) -> None:
        self._queue = queue
        self._children = children
        self._folder = folder
        self._stop = mmap.mmap(-1, 1)
        self._started = 0
        self.running: dict[str, Child] = {}

    def start(self) -> None:
        """Start one."""
        name = f"{self._started:04}"
        self._started += 1
        self.running[name] = self._children.fork(lambda: self._consume(name))

    def _consume(self, name: str) -> None:
        file = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        rng = random.Random(name)  # noqa: S311 no secret
        while True:
            try:
                with self._queue.reserve(0.2) as item:
                    if item is None:
                        if self._stop[0]:
                            return
                        continue
                    number = number_of(item.value)
                    os.write(file, f"+ {number} {item.deliveries}\n".encode())
                    time.sleep(rng.expovariate(2000))
                    if rng.random() < 0.02:
                        raise ValueError
                    os.write(file, f"- {number}\n".encode())
            except ValueError:
                continue

    def kill(self, name: str) -> None:
        """Kill one, and start another."""
        child = self.running.pop(name)
        child.send(signal.SIGKILL)
        assert child.killed_by() == signal.SIGKILL
        self.start()

    def finish(self) -> None:
        """Let them end when nothing is left."""
        self._stop[0] = 1
        for child in self.running.values():
            child.result()

    def lines(self) -> list[list[list[str]]]:
        """Return what each of them wrote, in words."""
        texts = [path.read_text("ascii") for path in sorted(self._folder.iterdir())]
        return [[line.split() for line in text[: text.rfind("\n") + 1].splitlines()] for text in texts]

    def wrong(self, added: int, kills: int) -> list[str]:
        """Say what must not be: an item that was never done, or done and delivered again more often than killed."""
        done: list[int] = []
        deliveries: dict[int, list[int]] = {}
        wrong = []
        for lines in self.lines():
            done += [int(line[1]) for line in lines if line[0] == "-"]
            for number, count in ((int(line[1]), int(line[2])) for line in lines if line[0] == "+"):
                deliveries.setdefault(number, []).append(count)
            # A new item is newer than all new ones before; what is delivered again is older.
            fresh = [int(line[1]) for line in lines if line[0] == "+" and line[2] == "1"]
            if fresh != sorted(fresh):
                wrong.append(f"new items came in this order: {fresh}")
        wrong += [text for text in check({"p": added}, [[("p", number)] for number in done]) if "twice" not in text]
        if len(done) - len(set(done)) > kills:
            wrong.append(f"{len(done) - len(set(done))} were done twice, {kills} killed")
        for number, counts in deliveries.items():
            if len(set(counts)) != len(counts) or max(counts) > len(counts) + kills:
                wrong.append(f"{number} was delivered as {counts}")
        return wrong


@pytest.mark.parametrize("addmode", [0, 2])
def test_killed_while_reserving(serve: Serve, children: Children, tmp_path: Path, stress: bool, addmode: int) -> None:
    """Every item is done, those of the killed ones by others; done ones come again only if the kill was as fast."""
    queue = serve(f"name=q;addmode={addmode}", lock_timeout="5")
    consumers = Consumers(queue, children, tmp_path)
    for _ in range(CONSUMERS):
        consumers.start()
    seed = random.randrange(1 << 32)  # noqa: S311 no secret
    rng = random.Random(seed)  # noqa: S311 no secret
    added = kills = 0
    while kills < (LONG if stress else KILLS):
        while len(queue) < DEEP:
            assert queue.add(str(added), value_of(added, length_of(added))) == ADDED
            added += 1
        time.sleep(rng.expovariate(100))
        consumers.kill(rng.choice(sorted(consumers.running)))
        kills += 1
    consumers.finish()
    stats = queue.stats()
    where = f"seed {seed}: {kills} killed, {stats}"
    assert consumers.wrong(added, kills) == [], where
    assert (stats.size, stats.reserved) == (0, 0), where
    again = [line for lines in consumers.lines() for line in lines if line[0] == "+" and line[2] != "1"]
    assert again, f"nothing came again: {where}"
    assert faults(queue) == [], where


def test_in_order(serve: Serve, children: Children) -> None:
    """One after the other is killed in its third item: each time exactly that one comes again, first."""
    queue = serve("name=q")
    for number in range(60):
        queue.add(str(number), "")

    def consume() -> None:
        for _ in range(2):
            with queue.reserve():
                pass
        reserve_for_good(queue)
        os.kill(os.getpid(), signal.SIGKILL)

    for turn in range(1, 20):
        assert children.fork(consume).killed_by() == signal.SIGKILL
        with queue.reserve() as item:
            assert item is not None
            assert (item.key, item.deliveries) == (str(turn * 3 - 1), 2)


def test_what_is_planted_is_found(serve: Serve, children: Children, tmp_path: Path) -> None:
    """The same books, with nobody killed: a line taken away, a line twice."""
    queue = serve("name=q")
    for number in range(50):
        queue.add(str(number), value_of(number, 20))
    consumers = Consumers(queue, children, tmp_path)
    consumers.start()
    consumers.finish()
    assert consumers.wrong(50, 0) == []
    log = next(tmp_path.iterdir())
    lines = log.read_text("ascii").splitlines(keepends=True)
    done = next(line for line in lines if line.startswith("-"))
    log.write_text("".join(line for line in lines if line != done), "ascii")
    assert [text.split(":")[0] for text in consumers.wrong(50, 0)] == ["1 lost, 0 may be"]
    log.write_text("".join([*lines, done]), "ascii")
    assert consumers.wrong(50, 0) == ["1 were done twice, 0 killed"]
