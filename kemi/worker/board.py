# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters of a worker's processes, in memory that they share with their supervisor, so that no kill loses them.

    Board    all processes of all workers          one anonymous mapping, made before the first fork
    Place    one process: a head and its lanes     head: HEARTBEAT, PAUSED, AWAITING, TIME_LIMITS, ATTACHED, VERDICT
                                                   by the process; the others by the supervisor
    Lane     one thread or task: BEGUN and counts

Each word is 8 bytes, aligned, and has one writer, so there is no lock. A reader sees each word as it is now, and two
words of slightly different moments.

A backend that is there again is there for all processes of a worker. The first one that finds it so wakes those whose
lanes are AWAITING that, by a pipe to each: who slept on would finish an old item behind many younger ones.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, final

from kemi.worker.spec import Spec, Tally

HEARTBEAT, PAUSED, AWAITING, TIME_LIMITS, DEATHS, ATTACHED, STOPS, VERDICT, HEAD = range(9)
# STOPS: 1 = it is time to end, 2 = at once. VERDICT: the exit code and one, where our own code ends the process.
BEGUN = 0  # monotonic ns of the call that runs; 0: none. Signed, as all words: what is earlier than a boot is negative
DONE, ANSWERED, RETRIED, REJECTED, FAILED, EXPIRED = range(1, 7)
RUN_SECONDS, QUEUE_SECONDS = 7, 8
BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)  # seconds; one more for what is longer
RUN_BUCKETS = 9
QUEUE_BUCKETS = RUN_BUCKETS + len(BUCKETS) + 1
LANE_WORDS = QUEUE_BUCKETS + len(BUCKETS) + 1


@final
class Lane:
    """One thread or task: what it does now, and what it did."""

    def __init__(self, words: Any, numbers: Any, at: int) -> None:
        self._words = words
        self._numbers = numbers
        self._at = at

    @property
    def begun(self) -> int:
        """When the call that runs was begun, monotonic ns; 0 if none runs."""
        return int(self._words[self._at + BEGUN])

    def runs_since(self, before: int) -> bool:
        """Does a call run that was begun before that moment, monotonic ns?"""
        begun = self.begun
        return begun != 0 and begun < before

    def begin(self, age: float) -> None:
        """A call begins, with an item that is so old."""
        self._observe(QUEUE_SECONDS, QUEUE_BUCKETS, age)
        self.watch()

    def end(self) -> None:
        """The call has ended."""
        begun = self.begun
        if begun:
            self._words[self._at + BEGUN] = 0
            self._observe(RUN_SECONDS, RUN_BUCKETS, (time.monotonic_ns() - begun) / 1e9)

    def watch(self) -> None:
        """Something else than a call begins, for which the time limit counts as well."""
        self._words[self._at + BEGUN] = time.monotonic_ns()

    def rest(self) -> None:
        """It has ended."""
        self._words[self._at + BEGUN] = 0

    def count(self, field: int) -> None:
        """Count one item in DONE, ANSWERED, RETRIED, REJECTED, FAILED or EXPIRED."""
        self._words[self._at + field] += 1

    def read(self, field: int) -> int:
        """A counter."""
        return int(self._words[self._at + field])

    def _observe(self, total: int, buckets: int, seconds: float) -> None:
        self._numbers[self._at + total] += seconds
        self._words[self._at + buckets + bisect_left(BUCKETS, seconds)] += 1

    def histogram(self, total: int, buckets: int) -> tuple[float, list[int]]:
        """Sum of seconds, and the count of each bucket."""
        first = self._at + buckets
        return float(self._numbers[self._at + total]), self._words[first : first + len(BUCKETS) + 1].tolist()

    def tally(self) -> Tally:
        """Its counts."""
        return Tally(*(self.read(field) for field in (DONE, ANSWERED, RETRIED, REJECTED, FAILED)))


@final
class Place:
    """One process of a worker."""

    def __init__(self, spec: Spec, words: Any, numbers: Any, at: int) -> None:
        self.spec = spec
        self._words = words
        self._at = at
        self._pipe: tuple[int, int] | None = None
        self._others: list[Place] = []  # of the same worker
        first = at + HEAD
        self.lanes = [Lane(words, numbers, first + number * LANE_WORDS) for number in range(spec.concurrency)]

    def read(self, field: int) -> int:
        """A word of the head."""
        return int(self._words[self._at + field])

    def store(self, field: int, value: int) -> None:
        """Set a word of the head."""
        self._words[self._at + field] = value

    def add(self, field: int, change: int = 1) -> None:
        """Change a word of the head."""
        self._words[self._at + field] += change

    def beat(self) -> None:
        """Say that the process is alive and not stuck."""
        self.store(HEARTBEAT, time.monotonic_ns())

    def reset(self) -> None:
        """Forget what a dead process was doing; what it did stays counted."""
        self.store(PAUSED, 0)
        self.store(AWAITING, 0)
        self.store(ATTACHED, 0)
        self.store(VERDICT, 0)
        self.beat()
        for lane in self.lanes:
            lane.end()

    def tally(self) -> Tally:
        """What all its lanes did."""
        return sum((lane.tally() for lane in self.lanes), Tally())

    # --- the backend is there again

    def connect(self, places: Sequence[Place]) -> None:
        """Be reached by the other processes of the same worker, which are forked later."""
        self._others = [place for place in places if place.spec is self.spec and place is not self]
        if self._others:
            self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int | None:
        """What can be read when another process has found the backend; None where there is no other one."""
        return self._pipe[0] if self._pipe else None

    def others_await(self) -> bool:
        """Does another process sleep until the backend is there?"""
        return any(place.read(AWAITING) for place in self._others)

    def wake_others(self) -> None:
        """Wake those that do."""
        for place in self._others:
            if place._pipe is not None and place.read(AWAITING):  # noqa: SLF001 - one of the same class
                with contextlib.suppress(BlockingIOError):  # it has enough to read
                    os.write(place._pipe[1], b"x")  # noqa: SLF001

    def was_woken(self) -> bool:
        """Has another process found the backend since the last look?"""
        if self._pipe is not None:
            with contextlib.suppress(BlockingIOError):
                return bool(os.read(self._pipe[0], 4096))
        return False

    def close(self) -> None:
        """End what `connect` began."""
        pipe, self._pipe = self._pipe, None
        for fd in pipe or ():
            os.close(fd)


@final
class Board:
    """The places of all processes of some workers."""

    def __init__(self, specs: Sequence[Spec]) -> None:
        sizes = [HEAD + spec.concurrency * LANE_WORDS for spec in specs for _ in range(spec.processes)]
        memory: Any = mmap.mmap(-1, 8 * max(1, sum(sizes)))
        words, numbers = memoryview(memory).cast("q"), memoryview(memory).cast("d")
        all_specs = [spec for spec in specs for _ in range(spec.processes)]
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        self.places = [Place(spec, words, numbers, at) for spec, at in zip(all_specs, starts)]

    def __iter__(self) -> Iterator[Place]:
        return iter(self.places)

    def connect(self) -> None:
        """Let the processes of a worker, which are forked later, reach each other."""
        for place in self.places:
            place.connect(self.places)

    def close(self) -> None:
        """End what `connect` began."""
        for place in self.places:
            place.close()

    def tally(self) -> Tally:
        """What all workers did."""
        return sum((place.tally() for place in self.places), Tally())


def alone(spec: Spec) -> Place:
    """A place that is shared with nobody, for a worker in this process."""
    return Board([spec]).places[0]
