"""Between processes: items a second, the time of an add, of a wake-up, CPU and memory, ours beside others.

Where the native kernel was built, ours in pure Python is a process of its own: python -m tests.bench.between.
All contenders take turns within each round, so that whatever else the machine does meets all of them; a ratio is
taken within a round, and medians of the rounds are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from kemi.names import KERNEL_VARIABLE
from kemi.queue.kernel import choice
from tests.bench import crew
from tests.bench.contenders import ALL, Contender, Ours, OursPure, Place
from tests.bench.crew import Gate, Run, WrongError, clock, pairs, slices
from tests.bench.tables import bars, machine, markdown, number, ratio
from tests.processes.children import ChildError, Children
from tests.server.harness import CHECKOUT

if TYPE_CHECKING:
    from tests.bench.tables import Part

CREWS = {"1→1": (1, 1), "4→1": (4, 1), "4→2": (4, 2)}
ALONE, SAME, OWN = "one process", "two, one queue", "two, a queue each"
TURNS = (ALONE, SAME, OWN)  # each process adds an item and takes one, in turn
LEAST, MOST = 2000, 200_000  # items of a run
FEW = 200  # of a slow one
MOST_FAILED = 3  # rounds; then a contender is left out
FILL = 20_000
OURS = Ours.name

Figures = dict[str, list[Any]]  # name of a contender → one figure for each round


class Bench:
    """All measurements of one kind of queue, one round at a time."""

    def __init__(self, kind: type[Contender], place: Place, seconds: float) -> None:
        self.kind = kind
        self.reason = kind.missing()
        self.failed = 0  # rounds
        self._place = place
        self._seconds = seconds
        self._rates: dict[str, float] = {}
        self._least = FEW if kind.slow else LEAST

    def _with_queue(self, use: Callable[[Contender], Any]) -> Any:
        queue = self.kind(self._place)
        try:
            return use(queue)
        finally:
            queue.close()

    def count(self, what: str, processes: int) -> int:
        """Items for each process, so that a run takes the seconds that it may take."""
        if what not in self._rates:
            self._rates[what] = self._with_queue(lambda queue: crew.run(queue, 1, 1, self._least)).rate
        return int(min(MOST, max(self._least, self._rates[what] * self._seconds)) / processes)

    def crew(self, what: str) -> Run:
        """Throughput, and CPU an item."""
        producers, consumers = CREWS[what]
        count = self.count(what, producers)
        done: Run = self._with_queue(lambda queue: crew.run(queue, producers, consumers, count))
        self._rates[what] = done.rate
        return done

    def adds(self) -> list[int]:
        """Nanoseconds of each add, one process to one other, as fast as they can."""
        count = self.count("1→1", 1)
        done: Run = self._with_queue(lambda queue: crew.run(queue, 1, 1, count, timed=True))
        return done.adds

    def waking(self, count: int, pause: float) -> list[float]:
        """Microseconds from an add to the item's arrival in a process that waits."""
        return list(self._with_queue(lambda queue: waking(queue, count, pause)))

    def memory(self) -> float:
        """Bytes for an item that nobody has taken yet."""
        return float(self._with_queue(memory))

    def turns(self, what: str) -> float:
        """Items a second of all processes together, each of which adds and takes in turn."""
        processes = 1 if what == ALONE else 2
        queues = [self.kind(self._place, number) for number in range(2 if what == OWN else 1)]
        count = min(self.count("1→1", 1), 20_000)
        try:
            return turns([queues[number % len(queues)] for number in range(processes)], count)
        finally:
            for queue in queues:
                queue.close()


def waking(queue: Contender, count: int, pause: float) -> list[float]:
    children, gate = Children(), Gate()

    def wait() -> list[float]:
        get = queue.getter()
        gate.pass_through()
        delays: list[float] = []
        while len(delays) < count:
            lot = get()
            now = clock()
            delays += [(now - int(text)) / 1e3 for _, text in (lot if queue.batch else [lot])]
        return delays

    try:
        waiter = children.fork(wait)
        gate.await_all(1)
        gate.open()
        put = queue.putter()
        for _ in range(count):
            time.sleep(pause)
            put([("k", str(clock()))]) if queue.batch else put("k", str(clock()))
        return list(waiter.result())
    finally:
        children.end()
        gate.close()


def memory(queue: Contender) -> float:
    """Fill a queue that nobody reads, in a process of its own."""
    children = Children()

    def fill() -> int:
        put = queue.putter()
        put(pairs(0, 1)) if queue.batch else put(*pairs(0, 1)[0])
        tracemalloc.start()  # the process's own growth says nothing: its parent's free memory is used first
        before = queue.held()
        for some in slices([("", "")] * FILL, queue.batch or 1):
            # Made here and kept by nobody: what stays is the queue's.
            lot = [("key", f"{number:0{crew.LENGTH}}") for number in range(len(some))]
            put(lot) if queue.batch else put(*lot[0])
        return tracemalloc.get_traced_memory()[0] + queue.held() - before

    held = queue.held()
    try:
        grown: int = children.fork(fill).result()
        return max(grown, queue.held() - held) / FILL
    finally:
        children.end()


def turns(queues: list[Contender], count: int) -> float:
    """One process for each of `queues`, which may be the same one twice."""
    children, gate = Children(), Gate()

    def work(queue: Contender) -> dict[str, Any]:
        put, get = queue.putter(), queue.getter()
        items = pairs(0, count)
        lots: list[Any] = list(slices(items, queue.batch)) if queue.batch else items
        gate.pass_through()
        begin = clock()
        for lot in lots:
            put(lot) if queue.batch else put(*lot)
            get()
        end = clock()
        queue.flush()  # what another process still waits for
        return {"begin": begin, "end": end}

    try:
        workers = [children.fork(lambda queue=queue: work(queue)) for queue in queues]  # type: ignore[misc]
        gate.await_all(len(workers))
        gate.open()
        done = [worker.result() for worker in workers]
    finally:
        children.end()
        gate.close()
    seconds: float = (max(one["end"] for one in done) - min(one["begin"] for one in done)) / 1e9
    return count * len(queues) / seconds


def one_round(bench: Bench, waked: int, first: bool) -> dict[str, Any]:
    """Everything once."""
    figures: dict[str, Any] = {}
    for what in CREWS:
        if CREWS[what][1] == 1 or not bench.kind.one_consumer:
            done = bench.crew(what)
            figures[what], figures[f"{what} cpu"] = done.rate, done.cpu
    times = bench.adds()
    for name, at in (("add p50", 0.5), ("add p99", 0.99), ("add p99.9", 0.999)):
        figures[name] = times[min(int(len(times) * at), len(times) - 1)] / 1e3
    figures["wake-up"] = statistics.median(bench.waking(waked, 0.002))
    if first and not bench.kind.bounded and not bench.kind.slow:  # it does not change
        figures["bytes"] = bench.memory()
    if not bench.kind.batch and not bench.kind.one_consumer:
        figures.update((what, bench.turns(what)) for what in TURNS)
    return figures


def measure(quick: bool, only: str = "") -> dict[str, Any]:
    """All rounds. only: part of the names of the contenders beside ours."""
    rounds, seconds, waked = (3, 0.1, 50) if quick else (11, 0.7, 300)
    before = machine()
    begin = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mqk-bench-")))
        place = Place(stack, folder)
        kinds = [kind for kind in ALL if (kind is not OursPure or choice.lib) and (kind is Ours or only in kind.name)]
        benches = [Bench(kind, place, seconds) for kind in kinds]
        figures: dict[str, dict[str, list[float]]] = {bench.kind.name: {} for bench in benches}
        for turn in range(rounds):
            # Who comes first changes with every round.
            for bench in benches[turn % len(benches) :] + benches[: turn % len(benches)]:
                if bench.failed < MOST_FAILED and (bench.failed or not bench.reason):
                    _add_round(bench, figures[bench.kind.name], waked, seconds)
    return {
        "machine": before,
        "rounds": rounds,
        "bytes a value": crew.LENGTH,
        "seconds": time.monotonic() - begin,
        "figures": figures,
        "reasons": {bench.kind.name: bench.reason for bench in benches if bench.reason},
        "notes": {
            kind.name: "; ".join(
                text
                for text in (
                    f"{kind.bounded}: a full one makes an add wait" if kind.bounded else "",
                    f"one consumer only: {kind.one_consumer}" if kind.one_consumer else "",
                )
                if text
            )
            for kind in ALL
        },
    }


def _add_round(bench: Bench, figures: dict[str, list[float]], waked: int, seconds: float) -> None:
    try:
        first = not figures
        one = round_of_pure(seconds, waked, first) if bench.kind is OursPure else one_round(bench, waked, first)
        for what, value in one.items():
            figures.setdefault(what, []).append(value)
    except (ChildError, WrongError, OSError) as error:
        if bench.kind is Ours:
            raise
        bench.failed += 1
        bench.reason = f"{bench.failed} of its rounds failed: {str(error).splitlines()[-1]}"


def round_of_pure(seconds: float, waked: int, first: bool) -> dict[str, Any]:
    """`one_round` of ours in a process without the native kernel."""
    argv = [sys.executable, "-m", "tests.bench.between", f"--seconds={seconds}", f"--waked={waked}"]
    done = subprocess.run(
        [*argv, *(["--first"] if first else [])],
        cwd=CHECKOUT,
        env={**os.environ, KERNEL_VARIABLE: "pure"},
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    if done.returncode:
        raise WrongError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print what a round of ours comes to with the kernel that this process has."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.7)
    parser.add_argument("--waked", type=int, default=300)
    parser.add_argument("--first", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        place = Place(stack, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mqk-bench-"))))
        json.dump(one_round(Bench(Ours, place, options.seconds), options.waked, options.first), sys.stdout)


# --- the tables -------------------------------------------------------------------------------------------------------


def tables(results: dict[str, Any]) -> str:
    """What a README can show."""
    figures, reasons = results["figures"], results["reasons"]
    intro = (
        f"{results['rounds']} interleaved rounds, values of {results['bytes a value']} bytes, medians; "
        "x is ours divided by that row in the same round, and the median of that."
    )
    parts = [intro, "", *_throughput(figures, reasons), "", *_costs(figures, reasons), "", *_turns(figures)]
    notes = [f"- {name}: {text}." for name, text in results["notes"].items() if text and name in figures]
    return "\n".join([*parts, "", *notes, *(f"- {name}: {text}." for name, text in reasons.items())])


def _median(figures: dict[str, list[float]], what: str) -> float | None:
    return statistics.median(figures[what]) if figures.get(what) else None


def _throughput(figures: dict[str, Any], reasons: dict[str, str]) -> list[str]:
    rows = []
    for name, one in figures.items():
        row = [name]
        for what in CREWS:
            row += [number(_median(one, what)), ratio(figures[OURS].get(what), one.get(what)) if name != OURS else ""]
        rows.append(row if one else [name, reasons.get(name, ""), *[""] * (2 * len(CREWS) - 1)])
    return markdown(["items a second", *(cell for what in CREWS for cell in (what, "x"))], rows)


def _costs(figures: dict[str, Any], reasons: dict[str, str]) -> list[str]:
    columns = {
        "CPU µs an item": "1→1 cpu",
        "add p50 µs": "add p50",
        "p99": "add p99",
        "p99.9": "add p99.9",
        "wake-up µs": "wake-up",
        "bytes an item": "bytes",
    }
    rows = []
    for name, one in figures.items():
        cells = [number(_median(one, what)) for what in columns.values()] if one else [reasons.get(name, "")]
        if one:
            # Who else uses the machine changes the clock's figures more than this one.
            cells.insert(1, ratio(one.get("1→1 cpu"), figures[OURS].get("1→1 cpu")) if name != OURS else "")
        rows.append([name, *cells, *[""] * (len(columns) + 1 - len(cells))])
    first, *others = columns
    return markdown(["1→1", first, "÷ ours", *others], rows)


def _turns(figures: dict[str, Any]) -> list[str]:
    rows = [
        [
            name,
            *(number(_median(one, what)) for what in TURNS),
            *(ratio(one[what], one[ALONE]) for what in TURNS[1:]),
        ]
        for name, one in figures.items()
        if ALONE in one
    ]
    return markdown(["add and fetch in turn, pairs a second", *TURNS, "one queue ÷ one process", "two ÷ one"], rows)


def plots(results: dict[str, Any]) -> dict[str, str]:
    """SVG texts by name."""
    figures = {name: one for name, one in results["figures"].items() if one}
    rates = {name: [_median(one, what) or 0.0 for what in CREWS] for name, one in figures.items()}
    wake = {name: [_median(one, "wake-up") or 0.0] for name, one in figures.items()}
    return {
        "throughput": bars("Items a second between processes", list(CREWS), rates),
        "wake-up": bars("Microseconds from an add to a waiting process", [""], wake),
    }


def part() -> Part:
    from tests.bench.tables import Part

    return Part("between", "Between processes", measure, tables, plots)


if __name__ == "__main__":
    main()
