"""Inside the real Kamailio: each call for values of 20, 200 and 2,000 bytes, ours beside the C module.

With Debian's allocator and with `-x fm`, and with the native kernel, where it was built, and in pure Python: each in a
server of its own, in which ours and the C module take turns, as the servers do.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import Any

from kemi.names import KERNEL_VARIABLE
from kemi.queue.kernel import choice
from tests.bench.tables import KERNELS, NATIVE, Part, lines, machine, markdown, number, ratio
from tests.server.harness import Kamailio, Servers

OURS, THEIRS = "ours", "C module"
ALLOCATORS = {"default": "", "-x fm": "fm"}
SIZES = (20, 200, 2000)
GROW, DEPTHS, KEYED = "grow", (0, 100, 100_000), (10, 1000, 10_000, 100_000)
MODES = {1: "oldest", 2: "newest"}
CHANGING = "changing"
TIMEOUT = 170.0

Rounds = dict[str, dict[str, list[float]]]  # case → kernel, or the C module beside it → nanoseconds of each round


def kernels() -> list[str]:
    """Which kernels there are."""
    return list(KERNELS) if choice.lib else [kernel for kernel in KERNELS if kernel != NATIVE]


class Both(Kamailio):
    """A server with both modules and the same queues in each."""

    def __init__(self, allocator: str, kernel: str) -> None:
        self._allocator = allocator
        self._kernel = KERNELS[kernel]
        keyed = [
            f"name={name}{depth};addmode={mode}"
            for mode, usual in MODES.items()
            for name in (usual, f"{CHANGING}{mode}")
            for depth in KEYED
        ]
        queues = [f"name={GROW}", *(f"name=deep{depth}" for depth in DEPTHS), *keyed]
        cfg = "\n".join(f'modparam("mqueue", "mqueue", "{text}")' for text in queues)
        super().__init__(queues, modules=["mqueue"], cfg=cfg)

    def options(self) -> list[str]:
        return ["-m", "2048", *(["-x", self._allocator] if self._allocator else [])]

    def env(self) -> dict[str, str]:
        return {KERNEL_VARIABLE: self._kernel}

    def measure(self, call: str) -> Any:
        """Call a function of `inside_sizes` in the worker."""
        return self.submit(f"from tests.bench import inside_sizes\nreturn inside_sizes.{call}").result(TIMEOUT)


def _gather(servers: dict[str, Both], call: str, rounds: int) -> Rounds:
    """Call a function in each server, in turn. call: {turn} stands for the number of the round."""
    found: Rounds = {}
    for turn in range(rounds):
        for kernel in list(servers) if turn % 2 else list(reversed(servers)):
            for case, sides in servers[kernel].measure(call.format(turn=turn)).items():
                of = found.setdefault(case, {})
                of.setdefault(kernel, []).append(sides[OURS])
                if THEIRS in sides:
                    of.setdefault(beside(kernel), []).append(sides[THEIRS])
    return found


def beside(kernel: str) -> str:
    """The C module in the server that has this kernel."""
    return f"{THEIRS}, beside {kernel}"


def measure(quick: bool, only: str = "") -> dict[str, Any]:
    """All rounds. only: "calls" or "addmode"."""
    rounds, count = (5, 1000) if quick else (25, 3000)
    keyed_rounds, keyed_count = rounds // 3 + 2, count // 4
    sizes, most = ((200,), 10_000) if quick else (SIZES, KEYED[-1])
    results: dict[str, Any] = {"machine": machine(), "rounds": rounds, "calls a round": count, "calls": {}, "keyed": {}}
    begin = time.monotonic()
    for name, allocator in ALLOCATORS.items():
        with ExitStack() as stack:
            start = Servers(stack).start
            servers = {kernel: start(Both(allocator, kernel)) for kernel in kernels()}
            if only in "calls":
                results["calls"][name] = {size: _calls(servers, size, count, rounds) for size in sizes}
            if only in "addmode":
                results["keyed"][name] = {
                    size: _keyed(servers, size, keyed_count, keyed_rounds, most) for size in sizes
                }
    results["seconds"] = time.monotonic() - begin
    return results


def _calls(servers: dict[str, Both], size: int, count: int, rounds: int) -> Rounds:
    for server in servers.values():
        server.measure(f"prepare({size})")
    found = _gather(servers, f"one_round({size}, {count}, {{turn}})", rounds)
    for server in servers.values():
        server.measure("finish()")
    return found


def _keyed(servers: dict[str, Both], size: int, count: int, rounds: int, most: int) -> Rounds:
    for server in servers.values():
        server.measure(f"prepare_keyed({size}, {most})")
    found = _gather(servers, f"keyed_round({size}, {count}, {most})", rounds)
    for server in servers.values():
        server.measure(f"finish_keyed({most})")
    return found


# --- the tables -------------------------------------------------------------------------------------------------------


def tables(results: dict[str, Any]) -> str:
    """What a README can show."""
    rounds = f"medians of {results['rounds']} interleaved rounds of {results['calls a round']} calls"
    sides = " / ".join([*kernels_of(results), THEIRS])
    text = [f"Nanoseconds of CPU a call, {sides}, and ours divided by the C module's: {rounds}.", ""]
    for name, by_size in results["calls"].items():
        text += [f"Allocator of the C module: {name}", "", *_call_table(by_size), ""]
    for name, by_size in results["keyed"].items():
        text += [f"Unique keys, allocator of the C module: {name}", "", *_keyed_table(by_size), ""]
    return "\n".join(text)


def kernels_of(results: dict[str, Any]) -> list[str]:
    """Which kernels were measured."""
    by_size = next(iter({**results["calls"], **results["keyed"]}.values()))
    sides = next(iter(next(iter(by_size.values())).values()))
    return [kernel for kernel in KERNELS if kernel in sides]


def _cells(sides: dict[str, list[float]]) -> list[str]:
    """Medians of each kernel and of the C module; each kernel's ratio."""
    measured = [kernel for kernel in KERNELS if kernel in sides]
    theirs = [sides.get(beside(kernel)) for kernel in measured]
    middles = [statistics.median(sides[kernel]) for kernel in measured]
    middle = number(statistics.median(theirs[0])) if theirs[0] else "-"
    ratios = [ratio(sides[kernel], beside_it) for kernel, beside_it in zip(measured, theirs)]
    return [" / ".join([*map(number, middles), middle]), " / ".join(ratios) if theirs[0] else "-"]


def _call_table(by_size: dict[Any, Rounds]) -> list[str]:
    head = ["call", *(cell for size in by_size for cell in (f"{int(size):,} bytes", "ratio"))]
    cases = next(iter(by_size.values()))
    return markdown(head, [[case, *(cell for of in by_size.values() for cell in _cells(of[case]))] for case in cases])


def _keyed_table(by_size: dict[Any, Rounds]) -> list[str]:
    rows = []
    for size, cases in by_size.items():
        for what in sorted({case.partition("@")[0] for case in cases}):
            depths = [int(case.partition("@")[2]) for case in cases if case.startswith(f"{what}@")]
            cells = {depth: " x ".join(_cells(cases[f"{what}@{depth}"])).removesuffix(" x -") for depth in depths}
            deepest, first = cases[f"{what}@{max(depths)}"], cases[f"{what}@{min(depths)}"]
            grown = " / ".join(ratio(deepest[kernel], first[kernel]) for kernel in KERNELS if kernel in first)
            rows.append([f"{what}, {int(size):,} bytes", *(cells.get(depth, "-") for depth in KEYED), grown])
    return markdown(["items in the queue", *(f"{depth:,}" for depth in KEYED), "ours, deepest ÷ 10"], rows)


def plots(results: dict[str, Any]) -> dict[str, str]:
    """An add by the items in the queue, for each addmode."""
    if not results["keyed"]:
        return {}
    by_size = next(iter(results["keyed"].values()))
    cases = by_size.get(200) or by_size.get("200") or next(iter(by_size.values()))
    series: dict[str, list[tuple[float, float]]] = {}
    measured = kernels_of(results)
    for side, name in {**{kernel: kernel for kernel in measured}, beside(measured[0]): THEIRS}.items():
        for mode in MODES:
            for case, sides in cases.items():
                what, _, depth = case.partition("@")
                if what == f"addmode {mode}, key is there" and side in sides:
                    point = (float(depth), statistics.median(sides[side]))
                    series.setdefault(f"{name}, addmode {mode}", []).append(point)
    return {"addmode": lines("Nanoseconds for an add with a key that is there", "items in the queue", series)}


def part() -> Part:
    return Part("sizes", "Inside Kamailio", measure, tables, plots)
