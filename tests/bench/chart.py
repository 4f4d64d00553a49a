"""One picture of what the kernels come to, from results that are there: `python -m tests.bench.chart`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from tests.bench.sizes import beside
from tests.bench.tables import KERNELS, NATIVE, bars

RESULTS = Path(__file__).parent / "results"
ALL_FOUR = "add, fetch, key and value in turn at 100"  # of `inside_sizes`, which runs in a server alone
INSIDE = "In Kamailio: add, fetch, key and value, times a second"
BETWEEN = "From one process to another one, items a second"
OURS = {kernel: f"ours, {kernel}" for kernel in KERNELS}
OTHERS = ("multiprocessing.Queue", "faster-fifo", "POSIX message queue")


def chart(sizes: dict[str, Any], between: dict[str, Any]) -> str:
    """The picture as SVG. Both are what the bench wrote as JSON."""
    calls = sizes["calls"]["default"]["200"][ALL_FOUR]
    figures = between["figures"]

    def inside(side: str) -> float:
        return float(1e9 / statistics.median(calls[side]))

    def rate(name: str) -> float:
        return float(statistics.median(figures[name]["1→1"]))

    series: dict[str, list[float | None]] = {
        OURS[kernel]: [inside(kernel), rate("ours" if kernel == NATIVE else OURS[kernel])] for kernel in KERNELS
    }
    series["C module"] = [inside(beside(NATIVE)), None]
    series.update((name, [None, rate(name)]) for name in OTHERS)
    return bars("A queue in C, in Python, and others", [INSIDE, BETWEEN], series)


def main() -> None:
    """Write it beside the results."""
    found = [json.loads((RESULTS / f"{part}.json").read_text("utf-8")) for part in ("sizes", "between")]
    (RESULTS / "kernels.svg").write_text(chart(*found), "utf-8")


if __name__ == "__main__":
    main()
