"""Tables in Markdown and plots in SVG, from plain numbers; and what machine it was."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


# The kernels of our queues, as the tables call them, and how each is chosen.
NATIVE, PURE = "native", "pure Python"
KERNELS = {NATIVE: "native", PURE: "pure"}


@dataclass(frozen=True)
class Part:
    """One part of the bench. measure(quick, only) gives plain values, the others make texts of them."""

    name: str
    title: str
    measure: Callable[[bool, str], dict[str, Any]]
    tables: Callable[[dict[str, Any]], str]
    plots: Callable[[dict[str, Any]], dict[str, str]]

    def run(self, quick: bool, only: str, folder: Path) -> str:
        """Measure, write the files, return the text."""
        results = self.measure(quick, only)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
        return self.write(results, folder)

    def write(self, results: dict[str, Any], folder: Path) -> str:
        """Make the tables and plots of results that are there."""
        about = ", ".join(f"{name} {value}" for name, value in results.get("machine", {}).items())
        text = f"### {self.title}\n\n{about}\n\n{self.tables(results)}\n"
        (folder / f"{self.name}.md").write_text(text, "utf-8")
        for name, svg in self.plots(results).items():
            (folder / f"{self.name}-{name}.svg").write_text(svg, "utf-8")
        return text


def machine() -> dict[str, str]:
    """Say on what it ran."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    cpu = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": cpu[0] if cpu else os.uname().machine,
        "cores": str(os.cpu_count()),
        "kernel": os.uname().release,
        "python": platform.python_version(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


# --- tables -----------------------------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """Three digits that count; a dash for nothing."""
    if value is None:
        return "-"
    if value >= 1000:
        digits = 3 - len(str(int(value)))
        return f"{round(value, digits):,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ratio(ours: Sequence[float] | None, theirs: Sequence[float] | None) -> str:
    """Median of the rounds' own ratios."""
    if not ours or not theirs:
        return "-"
    value = statistics.median(one / other for one, other in zip(ours, theirs))
    if value >= 9.95:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.0995 else f"{value:.2g}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table whose columns stand under one another in the source too."""
    lines = [list(head), *map(list, rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(head))]

    def text(line: Sequence[str]) -> str:
        cells = [f"{line[0]:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:]))]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [text(head), f"|{'|'.join(f' {cell} ' for cell in rule)}|", *map(text, rows)]


# --- plots ------------------------------------------------------------------------------------------------------------

_STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-size: 15px; font-weight: 600 }
.dim { fill: #57606a } .grid { stroke: #d0d7de } .line { fill: none; stroke-width: 2 }
.c0 { fill: #0969da; stroke: #0969da } .c1 { fill: #bc4c00; stroke: #bc4c00 } .c2 { fill: #1a7f37; stroke: #1a7f37 }
.c3 { fill: #8250df; stroke: #8250df } .other { fill: #8c959f; stroke: #8c959f } .line.c0, .line.c1, .line.c2,
.line.c3, .line.other { fill: none } .dash { stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .dim { fill: #9198a1 } .grid { stroke: #3d444d }
.c0 { fill: #4493f8; stroke: #4493f8 } .c1 { fill: #f0883e; stroke: #f0883e } .c2 { fill: #3fb950; stroke: #3fb950 }
.c3 { fill: #ab7df8; stroke: #ab7df8 } .other { fill: #7d8590; stroke: #7d8590 } }
</style>"""


def _svg(width: float, height: float, title: str, body: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">'
    lines = [head, f"<title>{escape(title)}</title>", _STYLE, _text(8, 22, title, "title"), *body, "</svg>"]
    return "\n".join(lines) + "\n"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def bars(title: str, groups: Sequence[str], series: Mapping[str, Sequence[float | None]]) -> str:
    """One bar for each series in each group, from the top down; None: it is not in that group. Logarithmic."""
    left, right, row = 210.0, 560.0, 18.0
    values = [value for some in series.values() for value in some if value]
    low, high = math.log10(min(values)) - 0.15, math.log10(max(values))
    body, y = [], 40.0
    for column, group in enumerate(groups):
        body.append(_text(8, y + 12, group, "title"))
        y += 20 if group else 0
        for name, some in series.items():
            value = some[column]
            if value is None:
                continue
            width = (math.log10(value) - low) / (high - low) * (right - left) if value > 0 else 0.0
            body.append(_text(left - 8, y + 12, name, "", "end"))
            kind = "c0" if name.startswith("ours") else "other"
            body.append(f'<rect class="{kind}" x="{left}" y="{y + 2:.0f}" width="{width:.1f}" height="{row - 5}"/>')
            body.append(_text(left + width + 6, y + 12, _short(value) if value else "-", "dim"))
            y += row
        y += 12
    body.append(_text(left, y + 6, "logarithmic scale", "dim"))
    return _svg(640, y + 18, title, body)


def lines(title: str, across: str, series: Mapping[str, Sequence[tuple[float, float]]], *, labels: int = 0) -> str:
    """Curves through points (x, y) above an axis named `across`, both axes logarithmic.

    labels: so many numbers along the axis, instead of one for each x.
    """
    left, right, top, bottom = 60.0, 470.0, 44.0, 300.0

    def scale(value: float) -> float:
        return math.log10(max(value, 1e-9))

    points = [point for some in series.values() for point in some]
    xs, ys = [scale(x) for x, _ in points], [scale(y) for _, y in points]
    low_x, low_y = min(xs), min(ys)
    span_x, span_y = (max(xs) - low_x) or 1.0, (max(ys) - low_y) * 1.05 or 1.0

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = left + (scale(point[0]) - low_x) / span_x * (right - left)
        return x, bottom - (scale(point[1]) - low_y) / span_y * (bottom - top)

    body = [_text(right, bottom + 34, across, "dim", "end")]
    every = sorted({x for x, _ in points})
    named = [10 ** (low_x + span_x * step / labels) for step in range(labels + 1)] if labels else every
    body += [_text(place((x, points[0][1]))[0], bottom + 16, _short(x), "dim", "middle") for x in named]
    for step in range(5):
        value = 10 ** (low_y + span_y * step / 4)
        y = bottom - (bottom - top) * step / 4
        body.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(_text(left - 6, y + 4, _short(value), "dim", "end"))
    for at, (name, some) in enumerate(series.items()):
        kind = f"c{at % 4}" + (" dash" if at >= 4 else "")
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, some))
        body.append(f'<polyline class="line {kind}" points="{path}"/>')
        body.append(f'<rect class="{kind}" x="{right + 14}" y="{top + at * 20 - 9:.0f}" width="12" height="4"/>')
        body.append(_text(right + 32, top + at * 20 - 2, name))
    return _svg(660, bottom + 44, title, body)
