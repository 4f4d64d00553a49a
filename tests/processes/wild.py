"""Wild stores into a queue in use: `python -m tests.processes.wild INSTANCE SEED SECONDS`.

Some processes add, fetch, reserve and look, with and without keys, while this one writes numbers to random words of
the segment, and of the instance's, all but those of their locks. Allowed is an error of the package that names the
queue, or a result. Prints one JSON object: how many rounds there were, what came of the calls, and what must not have
come.
"""

from __future__ import annotations

import collections
import faulthandler
import json
import mmap
import os
import random
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from kemi.errors import MqueueError
from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.format import layout
from kemi.queue.format.geometry import geometry
from kemi.queue.queue import Queue
from kemi.queue.shm.naming import path_of, segment_name
from tests.unit.test_wild_stores import HEADER, wild

if TYPE_CHECKING:
    from collections.abc import Callable

USERS = 2
CALLS = 150  # of each in a round
STRIKES = 12
HANG = 120  # seconds; for what takes milliseconds
_LOCK = {
    layout.W_MUTEX,
    *range(layout.MUTEX_AT >> 3, (layout.MUTEX_AT + layout.MUTEX_COUNT * layout.MUTEX_STRIDE) >> 3),
}
_FIXED = [word for word in range(512) if word not in _LOCK]


class Round:
    """One queue of an instance, those that use it, and what came of it."""

    def __init__(self, instance: str, seed: int) -> None:
        self.name = f"{instance}-{seed}"
        self.seed = seed
        self.chance = random.Random(seed)  # noqa: S311
        self.addmode = seed % 3
        self.registry = Registry.create(self.name, this_process(), 64 << 20)
        self.queue = Queue.create(
            self.name, "q", window=8 << 20, addmode=self.addmode, registry=self.registry, lock_timeout=1.0
        )
        self.progress = mmap.mmap(-1, 8 * USERS)  # how many calls each has made
        self.counts = memoryview(self.progress).cast("Q")

    def run(self) -> list[tuple[int, str]]:
        """Use it and strike it; return how each user ended, and what it has to say."""
        chance = self.chance
        if chance.random() < 0.3:
            self.queue.set_limits(chance.choice([0, 40]), chance.choice([0, 200_000]))
        if chance.random() < 0.3:
            self.queue.set_deliveries(2, chance.choice(["", "dead"]))
        if chance.random() < 0.2:
            self.queue.set_max_age(0.01)
        users = [self._fork(number) for number in range(USERS)]
        for strike in range(STRIKES):
            self._wait_for(users, (strike + 1) * CALLS // (STRIKES + 2))
            self._strike(last=strike == STRIKES - 1)
        return [user.end() for user in users]

    def _wait_for(self, users: list[User], calls: int) -> None:
        while any(user.is_running() and self.counts[user.number] < calls for user in users):
            time.sleep(0.0005)

    def _strike(self, *, last: bool) -> None:
        words, word = self.queue.segment.words, self._word(last=last)
        if self.chance.random() < 0.1:
            words = self.registry.segment.words
            word = self.chance.choice([at for at, value in enumerate(words) if value and at not in _LOCK])
        words[word] = wild(words[word], self.chance)

    def _word(self, *, last: bool) -> int:
        chance = self.chance
        states = self.queue.segment.bytes[layout.CHUNK_MAP_AT : layout.CHUNK_MAP_AT + 40]
        data = geometry(8 << 20, keyed=self.addmode != 0)
        used = [number for number, state in enumerate(states) if state == layout.USED]
        kind = chance.randrange(5)
        if kind == 0 or not used:
            return int(chance.choice(sorted({*HEADER} - _LOCK)))
        if kind == 1:
            return int(chance.choice(_FIXED))
        # The chunk map says where memory is: two wild stores that fit together could invent some.
        fixed = range((layout.CHUNK_MAP_AT if last else data.entries_at) >> 3, data.fixed_bytes() >> 3)
        if kind == 2:
            return int(chance.choice([word for word in fixed if self.queue.segment.words[word]] or _FIXED))
        at = data.fixed_bytes() + chance.choice(used) * layout.CHUNK >> 3
        return int(at + chance.choice([*range(80), chance.randrange(layout.CHUNK >> 3)]))

    def _fork(self, number: int) -> User:
        reading, writing = os.pipe()
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            os.close(writing)
            return User(number, pid, reading)
        code = 1
        try:
            faulthandler.enable()
            os.dup2(writing, 2)
            faulthandler.dump_traceback_later(HANG, exit=True)
            use(self.name, random.Random(self.seed * USERS + number), self.counts, number)  # noqa: S311
            code = 0
        except BaseException:  # noqa: BLE001 - this process ends
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)

    def end(self) -> None:
        """Take the files away."""
        for name in (segment_name(self.name), segment_name(self.name, "q"), segment_name(self.name, "dead")):
            path = path_of(name)
            if os.path.exists(path):
                os.unlink(path)


class User:
    """A process that uses the queue."""

    def __init__(self, number: int, pid: int, reading: int) -> None:
        self.number = number
        self.pid = pid
        self._reading = reading
        self._status: int | None = None

    def is_running(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is None

    def end(self) -> tuple[int, str]:
        """Wait for it; return its exit code, below 0 for a signal, and what it wrote."""
        with open(self._reading, "rb") as told:
            text = told.read().decode(errors="replace")
        if self._status is None:
            self._status = os.waitpid(self.pid, 0)[1]
        return os.waitstatus_to_exitcode(self._status), text


def calls(queue: Queue, chance: random.Random) -> list[Callable[[], Any]]:
    """Return what may be called."""
    value = "v" * chance.choice([0, 10, 300, 5000, 90_000, 300_000])
    key = f"k{chance.randrange(40)}"

    def reserve(settle: str) -> None:
        item = queue.reserve(chance.choice([0, 0.001])).take()
        if item is not None:
            assert isinstance(item.key, str)
            if settle == "done":
                item.done()
            elif settle == "reject":
                item.reject()
            else:
                item.give_back(after=chance.choice([0, 0, 0.001, 10]))

    def block() -> None:
        with queue.reserve_many(5) as batch:
            repr(batch)

    add = [lambda: queue.add(key, value)] * 4
    take = [lambda: repr(queue.fetch()), lambda: queue.fetch(0.002), lambda: repr(queue.fetch_many(3))]
    hold = [lambda: reserve("done"), lambda: reserve("give back"), lambda: reserve("reject"), block]
    look = [queue.stats, queue.__len__, queue.held, lambda: repr(queue.peek(3)), queue.undone, queue.__repr__]
    other = [lambda: queue.add_many([(key, value[:100])] * 9), queue.clear, lambda: queue.set_limits(0, 0)]
    other += [lambda: queue.add_from("s", [((1, chance.randrange(1 << 40)), key, value[:9])]), queue.pass_on]
    return [*add, *add, *take, *take, *hold, chance.choice(look), chance.choice(other)]


def use(instance: str, chance: random.Random, counts: Any, number: int) -> None:
    """Call this and that. Only errors that name the queue may come."""
    queue: Queue | None = None
    seen: collections.Counter[str] = collections.Counter()
    errors = 0
    for _ in range(CALLS):
        try:
            if queue is None or chance.random() < 0.01:
                queue = Queue.attach(instance, "q", Registry.attach(instance), lock_timeout=0.5)
            chance.choice(calls(queue, chance))()
        except MqueueError as error:
            if "'q'" not in str(error) and instance not in str(error):
                raise AssertionError("the error does not name the queue") from error
            seen[type(error).__name__] += 1
            errors += 1
            if errors > 30:
                break
        else:
            seen["result"] += 1
        counts[number] += 1
    counts[number] = CALLS
    os.write(2, f"\n{json.dumps(seen)}".encode())


def main(instance: str, seed: int, seconds: float) -> None:
    """Round after round."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    deadline = time.monotonic() + seconds
    came: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    rounds = 0
    while time.monotonic() < deadline or rounds < 5:
        one = Round(instance, seed + rounds)
        try:
            for code, text in one.run():
                if code == 0:
                    came.update(json.loads(text.rpartition("\n")[2]))
                else:
                    wrong.append(f"seed {one.seed}: ended with {code}: {text[-3000:]}")
        finally:
            one.end()
        rounds += 1
    sys.stdout.write(json.dumps({"rounds": rounds, "came": came, "wrong": wrong}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
