"""Nanoseconds per call inside a real Kamailio, ours beside the C module: `tox -e bench`.

Prints tables and writes them to results/ (with --quick to results/quick/). It measures and never judges: no figure
here makes it fail. What is measured beside the calls of this module is in the modules that `parts` names.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from mqueue_kemi import attach  # noqa: E402
from tests.bench import parts  # noqa: E402
from tests.processes.children import Children  # noqa: E402
from tests.server.harness import Kamailio, Reachable, Servers  # noqa: E402
from tests.server.process import adopt_orphans  # noqa: E402
from tests.server.transports import Binrpc  # noqa: E402

RESULTS = Path(__file__).parent / "results"
OURS, THEIRS = "ours", "C module"
DEPTHS = {OURS: (10, 1000, 100_000), THEIRS: (10, 1000, 10_000)}
TIMEOUT = 170.0
CALLS = "calls"  # what this module measures itself

Results = dict[str, Any]
Nanoseconds = dict[str, dict[str, list[float]]]  # what → side → one number for each round


class Measured(Kamailio):
    """A server with both modules, the same queues in each, and enough memory for those of the C module."""

    def __init__(self, allocator: str = "") -> None:
        self._allocator = allocator
        depths = sorted({depth for some in DEPTHS.values() for depth in some})
        common = ["name=q", "name=empty", *(f"name=newest{depth};addmode=2" for depth in depths)]
        cfg = "\n".join(f'modparam("mqueue", "mqueue", "{text}")' for text in common)
        super().__init__([*common, "name=grow", "name=wake"], modules=["mqueue"], cfg=cfg)

    def options(self) -> list[str]:
        return ["-m", "512", *(["-x", self._allocator] if self._allocator else [])]

    def measure(self, call: str) -> Any:
        """Call a function of `inside` in a worker."""
        return self.submit(f"from tests.bench import inside\nreturn inside.{call}").result(TIMEOUT)


def machine() -> dict[str, str]:
    """Say on what it ran."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    cpu = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": cpu[0] if cpu else os.uname().machine,
        "cores": str(os.cpu_count()),
        "kernel": os.uname().release,
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def waking(server: Measured, children: Children, count: int) -> list[float]:
    """Microseconds from an add in a worker to its item in a process outside that waits for it."""

    def wait() -> list[float]:
        with attach("wake", server.instance) as queue:
            delays = []
            for _ in range(count):
                item = queue.fetch(30.0)
                now = time.monotonic_ns()
                assert item is not None
                delays.append((now - int(item.value)) / 1e3)
            return delays

    waiter = children.fork(wait)
    server.measure(f"ring_for({count}, 0.002)")
    delays: list[float] = waiter.result()
    return delays


class One(Reachable):
    """A server with one of the modules."""

    def measure(self, call: str) -> Any:
        """Call a function of `inside` in a worker."""
        return self.submit(f"from tests.bench import inside\nreturn inside.{call}").result(TIMEOUT)


def commands(server: One, count: int) -> dict[str, float]:
    """Microseconds from a request on the ctl socket to its answer, medians."""
    medians = {}
    with Binrpc(server.control) as ctl:
        for method in ("mqueue.get_size", "mqueue.get_sizes", "core.uptime"):
            times = []
            for _ in range(count):
                begin = time.perf_counter_ns()
                failed, _answer = ctl.send(method, "q")
                times.append((time.perf_counter_ns() - begin) / 1e3)
                assert not failed
            medians[method] = statistics.median(times)
    return medians


def from_outside(servers: Servers, rounds: int, count: int) -> dict[str, Nanoseconds]:
    """Pseudo-variables and RPC, which only one of the modules can have in a server: so in two, in turn."""
    sides = {side: servers.start(One(["name=q"], theirs=side == THEIRS)) for side in (OURS, THEIRS)}
    found: dict[str, Nanoseconds] = {"variables": {}, "commands": {}}
    for number in range(rounds):
        for side in list(sides) if number % 2 else list(reversed(sides)):
            figures = {
                "variables": sides[side].measure(f"reads({count})"),
                "commands": commands(sides[side], count // 20),
            }
            for kind, medians in figures.items():
                for what, figure in medians.items():
                    found[kind].setdefault(what, {OURS: [], THEIRS: []})[side].append(figure)
    for server in sides.values():
        server.stop()
    return found


def measure(quick: bool) -> Results:
    """Start the servers and take all figures."""
    rounds, count = (3, 500) if quick else (40, 4000)
    items = 50_000 if quick else 1_000_000
    depths = {f"{side}@{depth}": depth for side, some in DEPTHS.items() for depth in some}
    results: Results = {"machine": machine(), "rounds": rounds, "calls a round": count, "bytes a value": 100}
    with ExitStack() as stack:
        servers, children = Servers(stack), Children()
        stack.callback(children.end)
        server = servers.start(Measured())
        results["server"] = server.measure("about()")
        results["yardsticks"] = server.measure(f"yardsticks({server.instance!r}, {count * 5})")
        results["calls"] = server.measure(f"calls({rounds}, {count})")
        results["addmode 2"] = server.measure(f"unique_keys({max(3, rounds // 3)}, {count // 4}, {depths!r})")
        results["waking"] = waking(server, children, 200 if quick else 1000)
        results["growth"] = server.measure(f"grow({server.instance!r}, {items})")
        server.stop()
        other = servers.start(Measured("fm"))
        results["calls, other allocator"] = other.measure(f"calls({rounds}, {count})")
        other.stop()
        results.update(from_outside(servers, rounds, count))
    return results


# --- the tables -------------------------------------------------------------------------------------------------------


def row(*cells: object) -> str:
    return f"  {cells[0]!s:<44}" + "".join(f"{cell!s:>12}" for cell in cells[1:])


def call_table(title: str, calls: Nanoseconds) -> list[str]:
    """As `side_table`, and what share of a fetch is not its own."""
    nothing, full = (statistics.median(calls[call][OURS]) for call in ("fetch of nothing", "fetch"))
    share = row("fetch of nothing, as part of a fetch (ours)", f"{nothing / full:.2f}")
    return [*side_table(title, "nanoseconds a call, median of the rounds", calls), share, ""]


def side_table(title: str, unit: str, calls: Nanoseconds) -> list[str]:
    """Medians of the rounds, and the median of each round's own ratio."""
    titles = (OURS, THEIRS, "ratio", "(quartiles)", "best ours", "best C")
    lines = [title, row(unit, *titles)]
    for call, sides in calls.items():
        ratios = [ours / theirs for ours, theirs in zip(sides[OURS], sides[THEIRS])]
        low, middle, high = statistics.quantiles(ratios, n=4)
        medians = [f"{statistics.median(sides[side]):.0f}" for side in (OURS, THEIRS)]
        best = [f"{min(sides[side]):.0f}" for side in (OURS, THEIRS)]
        lines.append(row(call, *medians, f"{middle:.2f}", f"{low:.2f}-{high:.2f}", *best))
    return lines


def depth_table(times: dict[str, list[float]]) -> list[str]:
    lines = [
        "addmode 2: an add that replaces a random key",
        row("nanoseconds an add, items in the queue", OURS, THEIRS),
    ]
    for depth in sorted({depth for some in DEPTHS.values() for depth in some}):
        cells = [times.get(f"{side}@{depth}") for side in (OURS, THEIRS)]
        lines.append(row(f"{depth:,}", *(f"{statistics.median(cell):.0f}" if cell else "-" for cell in cells)))
    return [*lines, ""]


def other_tables(results: Results) -> list[str]:
    delays = sorted(results["waking"])
    lines = ["From an add in a worker to its item in another process that waits", row("microseconds", "")]
    for name, at in (("median", 0.5), ("p99", 0.99), ("longest", 1.0)):
        lines.append(row(name, f"{delays[min(int(len(delays) * at), len(delays) - 1)]:.0f}"))
    lines += ["", "A queue grows and is drained (ours)"]
    for name, value in results["growth"].items():
        lines.append(row(name, f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.2f}"))
    return lines


def report(results: Results) -> str:
    """Make the tables."""
    about = {**results["server"], **results["machine"], "seconds": f"{results['seconds']:.0f}"}
    lines = [row(name, "") + value for name, value in about.items()]
    lines += ["", f"{results['rounds']} rounds of {results['calls a round']} calls, values of 100 bytes", ""]
    lines += [row(f"{name}, nanoseconds", f"{value:.0f}") for name, value in results["yardsticks"].items()] + [""]
    lines += call_table("Kamailio's own allocator", results["calls"])
    lines += call_table("The C module with another allocator (kamailio -x fm)", results["calls, other allocator"])
    lines += depth_table(results["addmode 2"])
    lines += [
        *side_table("Pseudo-variables, each in a server of its own", "nanoseconds a read", results["variables"]),
        "",
    ]
    lines += [*side_table("RPC over the ctl socket", "microseconds to the answer", results["commands"]), ""]
    return "\n".join(lines + other_tables(results))


def main() -> None:
    """Measure, print, and write the results down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, small queues: to see that it runs")
    parser.add_argument("--part", action="append", choices=[CALLS, *parts.NAMES], help="only this one; may be repeated")
    parser.add_argument("--only", default="", help="what else a part may be narrowed to, as its module says")
    parser.add_argument("--results", type=Path, help="the folder to write to, instead of results/ (or results/quick/)")
    options = parser.parse_args()
    adopt_orphans()
    # Whatever ends it, the servers and segments that it made go with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = options.part or [CALLS, *parts.NAMES]
    folder = options.results or (RESULTS / "quick" if options.quick else RESULTS)
    if CALLS in chosen:
        measure_calls(options.quick, folder)
    parts.run([name for name in chosen if name != CALLS], options.quick, options.only, folder)


def measure_calls(quick: bool, folder: Path) -> None:
    """The tables of this module."""
    begin = time.monotonic()
    results = measure(quick)
    results["seconds"] = time.monotonic() - begin
    text = report(results)
    print(text, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{CALLS}.json").write_text(json.dumps(results, indent=1) + "\n", "ascii")
    (folder / f"{CALLS}.md").write_text(f"### Calls inside Kamailio\n\n```\n{text}\n```\n", "ascii")


if __name__ == "__main__":
    main()
