"""Producers and consumers of one queue, let go at the same moment, and a proof that every item arrived once."""

from __future__ import annotations

import gc
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from tests.processes.children import Children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.contenders import Contender, Pair

END = "end"
LENGTH = 100  # bytes of a value
_WITHIN = 30.0  # seconds; only what hangs takes that long

clock = time.perf_counter_ns  # one clock for all processes


class WrongError(Exception):
    """An item did not arrive, or arrived twice."""


@dataclass
class Run:
    """One run of a crew."""

    items: int
    rate: float  # items a second, from the first add to the last item's arrival
    cpu: float  # microseconds of all processes for an item
    adds: list[int]  # nanoseconds of each add, sorted, when they were timed


def cpu_now() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cpu_of(pids: list[int]) -> float:
    """CPU seconds of other processes."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0]) for pid in pids) / 1e9


def pairs(producer: int, count: int) -> list[Pair]:
    """The items of one producer: each value is its number, with zeros before it."""
    key = f"p{producer}"
    return [(key, f"{number:0{LENGTH}}") for number in range(count)]


def slices(items: list[Pair], size: int) -> Iterator[list[Pair]]:
    return (items[at : at + size] for at in range(0, len(items), size))


class Gate:
    """Where forked processes say that they are ready, and wait until all are."""

    def __init__(self) -> None:
        self._ready, self._say = os.pipe()
        self._wait, self._hold = os.pipe()

    def pass_through(self) -> None:
        """In a child."""
        gc.collect()
        gc.freeze()  # what was there before is not looked through again while the clock runs
        os.close(self._hold)
        self.say()
        os.read(self._wait, 1)

    def say(self) -> None:
        """One byte to the parent."""
        os.write(self._say, b".")

    def await_all(self, count: int) -> None:
        """Return when so many have said something."""
        while count:
            count -= len(os.read(self._ready, count))

    def open(self) -> None:
        """Let all go."""
        os.close(self._hold)

    def close(self) -> None:
        for pipe in (self._ready, self._say, self._wait):
            os.close(pipe)


def produce(queue: Contender, items: list[Pair], gate: Gate, timed: bool) -> dict[str, Any]:
    """Add them all. timed: take the time of each add."""
    put = queue.putter()
    lots: list[Any] = list(slices(items, queue.batch)) if queue.batch else items
    times: list[int] = []
    gate.pass_through()
    before, begin = cpu_now(), clock()
    if timed:
        times = [add_timed(put, lot) if queue.batch else add_timed(put, *lot) for lot in lots]
    elif queue.batch:
        for lot in lots:
            put(lot)
    else:
        for key, value in lots:
            put(key, value)
    queue.flush()
    result = {"begin": begin, "cpu": cpu_now() - before, "times": times}
    gate.say()
    return result


def add_timed(put: Callable[..., object], *arguments: object) -> int:
    begin = clock()
    put(*arguments)
    return clock() - begin


def consume(queue: Contender, gate: Gate) -> dict[str, Any]:
    """Take items until an end mark comes; what came is looked at when the clock has stopped."""
    get = queue.getter()
    got: list[Any] = []
    gate.pass_through()
    before, last = cpu_now(), clock()
    while True:
        lot = get()
        if lot[-1][0] == END if queue.batch else lot[0] == END:
            break
        got.append(lot)
        last = clock()
    used = cpu_now() - before
    if queue.batch:
        # End marks may have come behind real items, and all of them to one consumer.
        marks = [pair for pair in lot if pair[0] == END]
        if marks[1:]:
            queue.putter()(marks[1:])
        got = [pair for some in [*got, lot] for pair in some if pair[0] != END]
    numbers: dict[str, list[int]] = {}
    for key, value in got:
        numbers.setdefault(key, []).append(int(value))
    return {"last": last, "cpu": used, "numbers": numbers}


def check(queue: Contender, found: list[dict[str, list[int]]], producers: int, count: int) -> None:
    """Every item of every producer, once."""
    for producer in range(producers):
        numbers = [number for taken in found for number in taken.get(f"p{producer}", [])]
        if sorted(numbers) != list(range(count)):
            msg = f"{queue.name}: {count} items were added by a process, {len(numbers)} arrived, "
            raise WrongError(msg + f"{len(numbers) - len(set(numbers))} of them twice")


def run(queue: Contender, producers: int, consumers: int, count: int, timed: bool = False) -> Run:
    """Let a crew work: `count` items of each producer."""
    children, gate = Children(), Gate()
    try:
        helpers = queue.helpers()
        makers = [
            children.fork(lambda number=number: produce(queue, pairs(number, count), gate, timed))  # type: ignore[misc]
            for number in range(producers)
        ]
        takers = [children.fork(lambda: consume(queue, gate)) for _ in range(consumers)]
        gate.await_all(producers + consumers)
        helped = cpu_of(helpers)
        gate.open()
        made = _results_when_said(gate, makers)
        put = queue.putter()
        for _ in range(consumers):
            put([(END, "")]) if queue.batch else put(END, "")
        taken = [taker.result(_WITHIN) for taker in takers]
        helped = cpu_of(helpers) - helped
    finally:
        children.end()
        gate.close()
    check(queue, [one["numbers"] for one in taken], producers, count)
    items = producers * count
    seconds = (max(one["last"] for one in taken) - min(one["begin"] for one in made)) / 1e9
    cpu = sum(one["cpu"] for one in [*made, *taken]) + helped
    return Run(items, items / seconds, cpu / items * 1e6, sorted(time for one in made for time in one["times"]))


def _results_when_said(gate: Gate, makers: list[Any]) -> list[Any]:
    """What the producers return. They say it before they end, but an error says nothing."""
    results = [maker.result(_WITHIN) for maker in makers]
    gate.await_all(len(makers))
    return results
