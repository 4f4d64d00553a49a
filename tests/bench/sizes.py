"""Inside the real Kamailio: each call for values of 20, 200 and 2,000 bytes, ours beside the C module.

With Debian's allocator and with `-x fm`; each in a server of its own, in which both sides take turns.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tests.bench.tables import Part, lines, machine, markdown, number, ratio
from tests.server.harness import Kamailio, Servers

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS, THEIRS = "ours", "C module"
ALLOCATORS = {"default": "", "-x fm": "fm"}
SIZES = (20, 200, 2000)
GROW, DEPTHS, KEYED = "grow", (0, 100, 100_000), (10, 1000, 10_000, 100_000)
MODES = {1: "oldest", 2: "newest"}
CHANGING = "changing"
TIMEOUT = 170.0

Rounds = dict[str, dict[str, list[float]]]  # case → side → nanoseconds of each round


class Both(Kamailio):
    """A server with both modules and the same queues in each."""

    def __init__(self, allocator: str) -> None:
        self._allocator = allocator
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

    def measure(self, call: str) -> Any:
        """Call a function of `inside_sizes` in the worker."""
        return self.submit(f"from tests.bench import inside_sizes\nreturn inside_sizes.{call}").result(TIMEOUT)


def _gather(rounds: Iterator[dict[str, dict[str, float]]]) -> Rounds:
    found: Rounds = {}
    for times in rounds:
        for case, sides in times.items():
            for side, value in sides.items():
                found.setdefault(case, {}).setdefault(side, []).append(value)
    return found


def measure(quick: bool, only: str = "") -> dict[str, Any]:
    """All rounds. only: "calls" or "addmode"."""
    rounds, count = (5, 1000) if quick else (25, 3000)
    keyed_rounds, keyed_count = rounds // 3 + 2, count // 4
    sizes, most = ((200,), 10_000) if quick else (SIZES, KEYED[-1])
    results: dict[str, Any] = {"machine": machine(), "rounds": rounds, "calls a round": count, "calls": {}, "keyed": {}}
    begin = time.monotonic()
    for name, allocator in ALLOCATORS.items():
        with ExitStack() as stack:
            server = Servers(stack).start(Both(allocator))
            if only in "calls":
                results["calls"][name] = {size: _calls(server, size, count, rounds) for size in sizes}
            if only in "addmode":
                results["keyed"][name] = {size: _keyed(server, size, keyed_count, keyed_rounds, most) for size in sizes}
    results["seconds"] = time.monotonic() - begin
    return results


def _calls(server: Both, size: int, count: int, rounds: int) -> Rounds:
    server.measure(f"prepare({size})")
    found = _gather(server.measure(f"one_round({size}, {count}, {turn})") for turn in range(rounds))
    server.measure("finish()")
    return found


def _keyed(server: Both, size: int, count: int, rounds: int, most: int) -> Rounds:
    server.measure(f"prepare_keyed({size}, {most})")
    found = _gather(server.measure(f"keyed_round({size}, {count}, {most})") for _ in range(rounds))
    server.measure(f"finish_keyed({most})")
    return found


# --- the tables -------------------------------------------------------------------------------------------------------


def tables(results: dict[str, Any]) -> str:
    """What a README can show."""
    rounds = f"medians of {results['rounds']} interleaved rounds of {results['calls a round']} calls"
    text = [f"Nanoseconds of CPU a call, ours / the C module's, and the ratio: {rounds}.", ""]
    for name, by_size in results["calls"].items():
        text += [f"Allocator of the C module: {name}", "", *_call_table(by_size), ""]
    for name, by_size in results["keyed"].items():
        text += [f"Unique keys, allocator of the C module: {name}", "", *_keyed_table(by_size), ""]
    return "\n".join(text)


def _cells(sides: dict[str, list[float]]) -> list[str]:
    ours, theirs = sides[OURS], sides.get(THEIRS)
    middle = number(statistics.median(theirs)) if theirs else "-"
    return [f"{number(statistics.median(ours))} / {middle}", ratio(ours, theirs)]


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
            deepest = ratio(cases[f"{what}@{max(depths)}"][OURS], cases[f"{what}@{min(depths)}"][OURS])
            rows.append([f"{what}, {int(size):,} bytes", *(cells.get(depth, "-") for depth in KEYED), deepest])
    return markdown(["items in the queue", *(f"{depth:,}" for depth in KEYED), "ours, deepest ÷ 10"], rows)


def plots(results: dict[str, Any]) -> dict[str, str]:
    """An add by the items in the queue, for each addmode."""
    if not results["keyed"]:
        return {}
    by_size = next(iter(results["keyed"].values()))
    cases = by_size.get(200) or by_size.get("200") or next(iter(by_size.values()))
    series: dict[str, list[tuple[float, float]]] = {}
    for side in (OURS, THEIRS):
        for mode in MODES:
            for case, sides in cases.items():
                what, _, depth = case.partition("@")
                if what == f"addmode {mode}, key is there" and side in sides:
                    point = (float(depth), statistics.median(sides[side]))
                    series.setdefault(f"{side}, addmode {mode}", []).append(point)
    return {"addmode": lines("Nanoseconds for an add with a key that is there", "items in the queue", series)}


def part() -> Part:
    return Part("sizes", "Inside Kamailio", measure, tables, plots)
