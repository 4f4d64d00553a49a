"""200 idle consumers of one queue: how long after its add does each get its item? Beside two things of the kernel's.

In each round all sleep, and an item is added for each; each notes how old its item is. The same processes then sleep in
a read of one pipe, into which the moments are written, and each on a word of its own in shared memory (a futex). What
these two need, starting so many processes on this machine costs; what a queue needs beyond that is ours.

    python -m tests.bench.waiters [--processes 200] [--rounds 5]
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import statistics
import struct
import time
from typing import TYPE_CHECKING, Callable

from kemi.queue.sync import futex
from tests.asleep import idle
from tests.processes.children import Children
from tests.processes.serve import Serve, sleepers

if TYPE_CHECKING:
    from kemi.queue.queue import Queue

QUEUE, PIPE, FUTEX = "a queue", "one pipe", "a futex each"
_NS = struct.Struct("q")
_AWAKE = 60.0  # seconds


class Ways:
    """Each way to sleep, and to wake one."""

    def __init__(self, queue: Queue, processes: int) -> None:
        self.queue = queue
        self.pipe = os.pipe()
        memory = mmap.mmap(-1, processes * 64)
        self.words = [ctypes.c_uint32.from_buffer(memory, number * 64) for number in range(processes)]
        self.times = [ctypes.c_int64.from_buffer(memory, number * 64 + 8) for number in range(processes)]

    def sleep(self, way: str, number: int) -> int:
        """Sleep until there is something. Return when it was sent, ns."""
        if way == QUEUE:
            item = self.queue.fetch(_AWAKE)
            assert item is not None
            return int(item.value)
        if way == PIPE:
            return int(_NS.unpack(os.read(self.pipe[0], _NS.size))[0])
        word = self.words[number]
        while not word.value:
            futex.wait(word, 0, _AWAKE)
        word.value = 0
        return self.times[number].value

    def wake(self, way: str, number: int) -> None:
        """Send something to one."""
        if way == QUEUE:
            self.queue.add("", str(time.monotonic_ns()))
        elif way == PIPE:
            os.write(self.pipe[1], _NS.pack(time.monotonic_ns()))
        else:
            self.times[number].value = time.monotonic_ns()
            self.words[number].value = 1
            futex.wake(self.words[number])


def _consumer(ways: Ways, number: int, rounds: int, result: int) -> Callable[[], None]:
    def work() -> None:
        for _ in range(rounds):
            for way in (QUEUE, PIPE, FUTEX):
                sent = ways.sleep(way, number)
                os.write(result, _NS.pack(time.monotonic_ns() - sent))

    return work


def measure(processes: int, rounds: int) -> dict[str, list[list[float]]]:
    """How late each process was, ms, for each way and round."""
    found: dict[str, list[list[float]]] = {QUEUE: [], PIPE: [], FUTEX: []}
    serve, children = Serve(), Children()
    results, result = os.pipe()
    try:
        ways = Ways(serve("name=q", lock_timeout="30"), processes)
        started = [children.fork(_consumer(ways, number, rounds, result)) for number in range(processes)]
        for _ in range(rounds):
            for way, lates in found.items():
                while way == QUEUE and sleepers(ways.queue) < processes:
                    time.sleep(0.01)
                while not all(idle(child.pid) for child in started):
                    time.sleep(0.01)
                for number in range(processes):
                    ways.wake(way, number)
                late = [_NS.unpack(os.read(results, _NS.size))[0] / 1e6 for _ in range(processes)]
                lates.append(late)
    finally:
        children.end()
        serve.stop()
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{arguments.processes} processes, {arguments.rounds} rounds; load {os.getloadavg()[0]:.1f}; ms")
    print(f"{'asleep on':<14}{'median':>8}{'p90':>8}{'p99':>8}{'max':>8}   max of each round")
    for way, some in measure(arguments.processes, arguments.rounds).items():
        every = sorted(late for one in some for late in one)
        cuts = statistics.quantiles(every, n=100)
        worst = ", ".join(f"{max(one):.1f}" for one in some)
        print(f"{way:<14}{statistics.median(every):8.2f}{cuts[89]:8.2f}{cuts[98]:8.2f}{every[-1]:8.2f}   {worst}")


if __name__ == "__main__":
    main()
