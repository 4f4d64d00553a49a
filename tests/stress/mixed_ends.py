"""Workers that are stopped, killed and broken off by raising signals, while the queue is closed and restarted.

Each worker writes what it is about to do, and what came of it, to a file of its own. At the end the books must balance,
call by call, as docs/explanation/guarantees.md promises it. Run by itself:

    python -m tests.stress.mixed_ends SECONDS [SEED]
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, Callable

from kemi.errors import ClientClosed, LockTimeout, MqueueError
from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from kemi.queue.shm.naming import segment_name
from tests.stress import lock_report
from tests.stress.mixed_books import Balance, balance

WINDOW = 256 << 20
LOCK_TIMEOUT = 20.0  # nobody is stopped for so long: who waits in vain found a lock that is held for good
LONGEST_STOP = 0.3
MOST = 3000  # items in the queue


class Boom(Exception):
    """What the signal handler raises."""


def _keep_frames() -> None:
    """Run Python at each collection, often, and keep what it raises with its frames, as tools for tests and metrics do.

    Such a callback runs in the middle of any call that makes an object, and signal handlers run in it.
    """
    kept: deque[BaseException | None] = deque(maxlen=100)
    sys.unraisablehook = lambda ignored: kept.append(ignored.exc_value)
    gc.callbacks.append(lambda _phase, _about: None)
    gc.set_threshold(50)


# --- the workers ------------------------------------------------------------------------------------------------------


class Worker:
    """One process: it adds and takes, and writes it down. Its lines are `time word number...`."""

    def __init__(self, instance: str, log: Path, first: int, seed: int) -> None:
        self.instance = instance
        self.fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self.next = first
        self.random = random.Random(seed)  # noqa: S311
        self.armed = False
        signal.signal(signal.SIGALRM, self.strike)
        lock_report.answer(log.parent)
        _keep_frames()
        self.attach()

    def strike(self, *_: object) -> None:
        if self.armed:
            self.armed = False
            raise Boom

    def note(self, *words: object) -> None:
        os.write(self.fd, (" ".join(map(str, (time.monotonic_ns(), *words))) + "\n").encode())

    def run(self) -> None:
        calls = (self.add, self.add, self.add_many, self.fetch, self.fetch, self.fetch_many, self.reserve)
        others = (self.look, self.close)
        while True:
            call = self.random.choice(calls if self.random.random() < 0.9 else others)
            signal.setitimer(signal.ITIMER_REAL, self.random.choice([0, 3e-5, 1e-4, 3e-4, 2e-3]) * self.random.random())
            try:
                call()
            except Boom:
                self.note("x")
            except SystemError as error:
                # Two signals in one call of Python's own that looks for signals more than once (os.stat multiplies
                # large numbers): its fault, and what it makes of the handler's exception.
                if not isinstance(error.__cause__, Boom):
                    raise
                self.note("x")
            except ClientClosed:  # broken off when it was closed, and before it was attached again
                self.armed = False
                self.note("closed")
                self.attach()
            except LockTimeout as error:
                self.armed = False
                self.note("LOCK", type(error).__name__, error)
            except MqueueError as error:
                self.armed = False
                self.note("error", type(error).__name__, error)
            self.armed = False
            self.look_at_the_lock()

    def look_at_the_lock(self) -> None:
        """A call that ended has not got it any more, however it ended: nobody needs a next call to free it."""
        queue = self.queue._current.queue
        if not queue.closed and queue._mutex.is_mine():
            self.note("LOCK", "left", "by", "a", "call")

    def value(self) -> str:
        return "v" * self.random.choice([10, 100, 100, 3000, 70_000])

    def number(self) -> str:
        self.next += 1
        return str(self.next)

    def add(self) -> None:
        if len(self.queue) > MOST:
            return
        number, value = self.number(), self.value()
        self.note("add", number)
        self.armed = True
        outcome = self.queue.add(number, value)
        self.armed = False
        self.note("added" if outcome is ADDED else "refused", number)

    def add_many(self) -> None:
        if len(self.queue) > MOST:
            return
        numbers = [self.number() for _ in range(self.random.choice([2, 30, 300]))]
        value = "v" * self.random.choice([10, 300])
        self.note("add", *numbers)
        self.armed = True
        outcomes = self.queue.add_many([(number, value) for number in numbers])
        self.armed = False
        self.note("added", *(number for number, outcome in zip(numbers, outcomes) if outcome is ADDED))
        self.note("refused", *(number for number, outcome in zip(numbers, outcomes) if outcome is not ADDED))

    def fetch(self) -> None:
        timeout = self.random.choice([0, 0, 0.01])
        self.note("fetch", 1)
        self.armed = True
        item = self.queue.fetch(timeout)
        self.armed = False
        self.note("fetched", *([] if item is None else [item.key]))

    def fetch_many(self) -> None:
        count = self.random.choice([2, 10, 300 if self.random.random() < 0.02 else 5])
        self.note("fetch", count)
        self.armed = True
        items = self.queue.fetch_many(count)
        self.armed = False
        self.note("fetched", *(item.key for item in items))

    def reserve(self) -> None:
        self.note("reserve")
        self.armed = True
        with self.queue.reserve(self.random.choice([0, 0, 0.01])) as item:
            if item is not None:
                self.armed = False
                self.note("held", item.key)
                fails = self.random.random() < 0.2
                self.armed = True
                for _ in range(self.random.choice([1, 300])):
                    pass
                if fails:
                    self.armed = False
                    raise Boom
                self.armed = False
                self.note("ends", item.key)
                self.armed = True
        self.armed = False
        self.note("done", *([] if item is None else [item.key]))

    def look(self) -> None:
        peek = self.queue.peek
        calls: list[Callable[[], object]] = [
            lambda: peek(3),
            self.queue.stats,
            lambda: peek(None, reserved=True),
        ]
        call = self.random.choice(calls)
        self.armed = True
        call()
        self.armed = False

    def close(self) -> None:
        self.armed = True
        with contextlib.suppress(Boom):
            self.queue.close()
        self.attach()

    def attach(self) -> None:
        self.armed = False
        while True:
            try:
                self.queue = AttachedQueue(self.instance, "q", LOCK_TIMEOUT)
            except MqueueError:  # in the middle of a restart
                time.sleep(0.001)
            else:
                return


# --- what happens to them ---------------------------------------------------------------------------------------------


class Run:
    """All of it, for a time."""

    def __init__(self, seconds: float, seed: int, workers: int = 4) -> None:
        self.seconds = seconds
        self.random = random.Random(seed)  # noqa: S311
        self.instance = f"mixed-{os.getpid()}-{seed % 10_000}"
        self.home = Path(tempfile.mkdtemp(prefix="mixed-"))
        self.logs: list[Path] = []
        self.restarts: list[tuple[int, int]] = []
        self.count = workers
        self.pids: dict[int, Path] = {}
        self.ends: Counter[str] = Counter()
        self.registry = Registry.create(self.instance, this_process(), 1 << 30, LOCK_TIMEOUT)
        self.queue = self._make()
        self.faults: list[str] = []

    def _make(self, *, draft: bool = False) -> Queue:
        return Queue.create(
            self.instance, "q", window=WINDOW, registry=self.registry, lock_timeout=LOCK_TIMEOUT, draft=draft
        )

    def _start(self) -> None:
        number = len(self.logs)
        log = self.home / f"{number}.log"
        log.touch()
        self.logs.append(log)
        seed = self.random.randrange(1 << 32)
        pid = os.fork()
        if not pid:
            code = 1
            try:
                Worker(self.instance, log, number * 10**7, seed).run()
            except BaseException as error:  # noqa: BLE001 - it must not go on as the parent
                os.write(2, f"worker {number}: {type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(code)
        self.pids[pid] = log

    def _restart(self) -> None:
        """Restart, or tell who keeps it from that."""
        try:
            self._move()
        except LockTimeout as error:
            told = lock_report.report(self.queue.segment, self.pids, self.home)
            raise AssertionError(f"{error}\n{told}") from error

    def _move(self) -> None:
        """What a server's restart does with a queue that it keeps."""
        begin = time.monotonic_ns()
        old, new = self.queue, self._make(draft=True)
        try:
            with old.moving() as records:
                for record in records:
                    new.append_record(record)
            new.publish(segment_name(self.instance, new.name))
        except BaseException:
            new.remove()
            raise
        old.close()
        self.queue = new
        self.restarts.append((begin, time.monotonic_ns()))

    def _strike(self) -> None:
        pid = self.random.choice(list(self.pids))
        what = self.random.choices(["kill", "stop", "alarm", "restart", "two"], [4, 6, 60, 1, 6])[0]
        self.ends[what] += 1
        if what == "kill":
            self._end(pid)
            self._start()
        elif what == "stop":
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self.random.uniform(0.001, LONGEST_STOP))
            for _ in range(self.random.randrange(3)):
                os.kill(pid, signal.SIGALRM)  # served as soon as it goes on
            os.kill(pid, signal.SIGCONT)
        elif what == "restart":
            self._restart()
        else:
            for _ in range(2 if what == "two" else 1):
                os.kill(pid, signal.SIGALRM)

    def _end(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            self.faults.append(f"a worker ended by itself with status {status}")
        del self.pids[pid]

    def run(self) -> Balance:
        """Run it; nothing is left of it."""
        kept = True
        before = signal.signal(signal.SIGALRM, signal.SIG_IGN)  # until a worker has a handler of its own
        try:
            for _ in range(self.count):
                self._start()
            end = time.monotonic() + self.seconds
            while time.monotonic() < end:
                self._strike()
                time.sleep(self.random.uniform(0, 0.02))
                for pid in list(self.pids):
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if done:
                        self.faults.append(f"a worker ended by itself with status {status}")
                        del self.pids[pid]
                        self._start()
            for pid in list(self.pids):
                self._end(pid)
            left = [item.key for item in self.queue.fetch_many(10**9)]
            self._check_lock()
            found = balance(self.logs, left, self.restarts)
            figures = {**found.figures, **self.ends, "workers": len(self.logs), "left": len(left)}
            figures["mutexes"] = self.queue.segment.words[63]
            kept = bool(self.faults + found.faults)
            return Balance(self.faults + found.faults, figures)
        finally:
            signal.signal(signal.SIGALRM, before)
            for pid in list(self.pids):
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            self.queue.remove()
            self.registry.segment.unlink()
            if kept:
                print(f"what the workers wrote is in {self.home}", flush=True)  # noqa: T201
            else:
                shutil.rmtree(self.home)

    def _check_lock(self) -> None:
        if self.queue.handle.is_locked():
            self.faults.append("the lock was left held")
        if self.queue.stats().reserved:
            self.faults.append(f"{self.queue.stats().reserved} items are reserved by nobody")


def main(arguments: list[str]) -> int:
    """Run it as a program."""
    seconds = float(arguments[0])
    seed = int(arguments[1]) if arguments[1:] else random.randrange(1 << 32)  # noqa: S311
    print(f"{seconds:g} s with seed {seed}", flush=True)  # noqa: T201
    found: Any = Run(seconds, seed).run()
    print(found.figures, flush=True)  # noqa: T201
    for fault in found.faults[:20]:
        print("FAULT", fault, flush=True)  # noqa: T201
    return 1 if found.faults else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
