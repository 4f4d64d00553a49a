# SPDX-License-Identifier: GPL-2.0-or-later
"""Metrics of running workers over HTTP, in Prometheus' text format: a process of its own, which only reads counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from kemi.cli.call import Failure
from kemi.cli.usage.codes import UNUSABLE
from kemi.worker import board
from kemi.worker.board import BUCKETS

if TYPE_CHECKING:
    from kemi.worker.board import Board, Place

PREFIX = "mqueue_kemi_worker_"
_OUTCOMES = {
    "done": board.DONE,
    "answered": board.ANSWERED,
    "retried": board.RETRIED,
    "rejected": board.REJECTED,
    "failed": board.FAILED,
    "expired": board.EXPIRED,
}
_OF_PROCESSES: tuple[tuple[str, str, str, Callable[[Place], int]], ...] = (
    ("paused", "gauge", "Calls that wait because the backend is away.", lambda place: place.read(board.PAUSED)),
    ("processes", "gauge", "Processes that have their queue.", lambda place: place.read(board.ATTACHED)),
    ("deaths_total", "counter", "Processes that died and were started again.", lambda place: place.read(board.DEATHS)),
    (
        "time_limits_total",
        "counter",
        "Processes that ended themselves because a call took too long.",
        lambda place: place.read(board.TIME_LIMITS),
    ),
)
_OF_TIMES = (
    ("run_seconds", "Time of one call.", board.RUN_SECONDS, board.RUN_BUCKETS),
    ("queue_seconds", "Age of an item when it is tried.", board.QUEUE_SECONDS, board.QUEUE_BUCKETS),
)


def text(counters: Board) -> str:
    """All metrics, by worker."""
    return "\n".join(_lines(counters)) + "\n"


def _lines(counters: Board) -> Iterator[str]:
    places: dict[str, list[Place]] = {}
    for place in counters:
        label = f'worker="{_quoted(place.spec.name)}",queue="{_quoted(place.spec.queue)}"'
        places.setdefault(label, []).append(place)
    yield from _head("items_total", "counter", "Items by what became of them; retried counts tries.")
    for label, some in places.items():
        for outcome, field in _OUTCOMES.items():
            count = sum(lane.read(field) for place in some for lane in place.lanes)
            yield f'{PREFIX}items_total{{{label},outcome="{outcome}"}} {count}'
    for name, kind, about, read in _OF_PROCESSES:
        yield from _head(name, kind, about)
        yield from (f"{PREFIX}{name}{{{label}}} {sum(map(read, some))}" for label, some in places.items())
    for name, about, total, buckets in _OF_TIMES:
        yield from _head(name, "histogram", about)
        for label, some in places.items():
            yield from _histogram(
                name, label, [lane.histogram(total, buckets) for place in some for lane in place.lanes]
            )


def _head(name: str, kind: str, about: str) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {about}"
    yield f"# TYPE {PREFIX}{name} {kind}"


def _histogram(name: str, label: str, found: list[tuple[float, list[int]]]) -> Iterator[str]:
    counts = list(accumulate(map(sum, zip(*(counts for _, counts in found)))))
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts):
        yield f'{PREFIX}{name}_bucket{{{label},le="{bound}"}} {count}'
    yield f"{PREFIX}{name}_sum{{{label}}} {sum(seconds for seconds, _ in found)!r}"
    yield f"{PREFIX}{name}_count{{{label}}} {counts[-1]}"


def _quoted(content: str) -> str:
    shown = content.encode("utf-8", "backslashreplace").decode()
    return shown.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def server(host: str, port: int) -> Callable[[Board], int]:
    """What a process does that serves the metrics; it listens from now on. Raises Failure."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30  # seconds for a request

        def do_GET(self) -> None:
            """Answer a scrape."""
            body = text(counters[0]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing: a scrape is no event."""

    counters: list[Board] = []
    try:
        listening: HTTPServer = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise Failure(UNUSABLE, f"cannot listen on {host}:{port}: {error.strerror or error}") from None

    def serve_metrics(found: Board) -> int:
        counters[:] = [found]
        listening.serve_forever()
        return 0

    return serve_metrics
