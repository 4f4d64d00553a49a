# SPDX-License-Identifier: GPL-2.0-or-later
"""The command top: what the queues do, as a table that is drawn again and again.

Only headers are read, so it never stands in the server's way. `Board` says what is on the screen, `Screen` and its
kinds how it gets there: rich where it is installed and a person looks, a plain terminal, or no terminal at all.
"""

from __future__ import annotations

import contextlib
import os
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from kemi import host
from kemi.cli import signals
from kemi.cli.call import Call
from kemi.cli.output import Output, bytes_text, duration_text, table
from kemi.cli.show import refusals_text
from kemi.cli.usage.codes import DONE
from kemi.errors import MqueueError, UnknownQueue
from kemi.queue.catalog.view import InstanceView, QueueView
from kemi.queue.format.statistics import details_of, mean_wait, numbers_of
from kemi.text import printable

HEADINGS = ["QUEUE", "SIZE", "IN/s", "OUT/s", "RESERVED", "DUE", "DROPPED", "REFUSED", "OLDEST", "WAIT"]
_STDIN = 0


class Sample(NamedTuple):
    """A queue at one moment."""

    at: float  # monotonic, seconds
    view: QueueView


class Frame(NamedTuple):
    """What is to be seen at one moment."""

    title: str
    found: list[host.Found]
    rows: list[list[object]]
    notes: list[str]


class Board:
    """Looks again and again, and tells rates by what it saw before."""

    def __init__(self, instance: str | None) -> None:
        self._instance = instance  # None: all of this host
        self._before: dict[tuple[str, str], Sample] = {}

    def look(self) -> Frame:
        """Look once. An instance that is gone is a note, for it may come back."""
        now = time.monotonic()
        found, notes = self._find()
        rows: list[list[object]] = []
        seen: dict[tuple[str, str], Sample] = {}
        for one in found:
            for name, view in one.queues.items():
                if isinstance(view, MqueueError):
                    notes.append(str(view))
                    continue
                sample = seen[one.name, name] = Sample(now, view)
                shown = name if self._instance is not None else f"{one.name}/{name}"
                rows.append(_row(shown, sample, self._before.get((one.name, name))))
                if view.stats.refused:
                    notes.append(f"{shown} refused {refusals_text(view.stats)}")
        self._before = seen
        return Frame(f"{time.strftime('%H:%M:%S')}  {'; '.join(map(_title, found)) or 'no server'}", found, rows, notes)

    def _find(self) -> tuple[list[host.Found], list[str]]:
        if self._instance is None:
            return host.find_all(), []
        try:
            return [host.find(self._instance)], []
        except UnknownQueue as error:
            return [], [str(error)]


def _title(found: host.Found) -> str:
    owner = found.owner()
    parts = [f"{found.name}: server {owner.pid if owner else '-'} {found.state()}"]
    if isinstance(found.view, InstanceView):
        parts.append(f"memory {bytes_text(found.view.memory)} of {bytes_text(found.view.max_memory)}")
    return ", ".join(parts)


def _row(name: str, sample: Sample, before: Sample | None) -> list[object]:
    stats = sample.view.stats
    rate_in: object = "-"
    rate_out: object = "-"
    earlier = None  # all that it ever had, at the first look
    if before is not None and before.view.created == sample.view.created:
        seconds = max(sample.at - before.at, 1e-3)
        rate_in = round((stats.added - before.view.stats.added) / seconds)
        rate_out = round((stats.fetched - before.view.stats.fetched) / seconds)
        earlier = before.view.stats.waited
    age = duration_text(None if stats.oldest is None else time.time() - stats.oldest)
    wait = duration_text(mean_wait(stats.waited, earlier))
    lost = [stats.dropped, stats.refused]
    return [name, stats.size, rate_in, rate_out, stats.reserved, stats.due, *lost, age, wait]


def as_json(frame: Frame, at: float) -> dict[str, object]:
    """What a frame shows, for programs; the rates are those of its rows."""
    rates = iter(frame.rows)
    instances = []
    for one in frame.found:
        queues = []
        for name, view in one.queues.items():
            if isinstance(view, QueueView):
                _, _, rate_in, rate_out, *_ = (None if cell == "-" else cell for cell in next(rates))
                queues.append(
                    {
                        "queue": name,
                        **numbers_of(view.stats),
                        **details_of(view.stats),
                        "in_per_second": rate_in,
                        "out_per_second": rate_out,
                    }
                )
        owner = one.owner()
        pid = owner.pid if owner else None
        instances.append({"instance": one.name, "server": one.state(), "pid": pid, "queues": queues})
    return {"time": round(at, 3), "instances": instances, "notes": frame.notes}


# --- screens ----------------------------------------------------------------------------------------------------------


class Screen(Protocol):
    """Where frames are shown."""

    def show(self, frame: Frame) -> None:
        """Show a frame in place of the one before."""


class Pages:
    """No terminal: one table after the other."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, frame: Frame) -> None:
        """Write the frame below the one before."""
        self._output.line("\n".join([printable(frame.title), *_lines(frame.rows), *map(printable, frame.notes), ""]))


class Lines:
    """No person at all: a line of JSON for each frame."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def show(self, frame: Frame) -> None:
        """Write the frame as one line."""
        self._call.as_json(as_json(frame, time.time()))


class PlainScreen:
    """A terminal, by the few sequences that all of them know."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def __enter__(self) -> PlainScreen:
        self._output.write(b"\x1b[?1049h\x1b[?25l")  # the other screen, no cursor
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a terminal that is gone
            self._output.write(b"\x1b[?25h\x1b[?1049l")

    def show(self, frame: Frame) -> None:
        """Draw the frame over the one before."""
        width, height = os.get_terminal_size(self._output.fd)
        rows, notes = fitting(frame, height)
        lines = [printable(frame.title), *_lines(rows, width), *map(printable, notes)]
        text = "".join(f"{line[:width]}\x1b[K\r\n" for line in lines[: height - 1])
        self._output.write(f"\x1b[H{text}\x1b[J".encode())


class RichScreen:
    """A terminal, by rich."""

    def __init__(self, live: Any) -> None:
        self._live = live

    def show(self, frame: Frame) -> None:
        """Draw the frame in place of the one before."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        rows, notes = fitting(frame, self._live.console.height - 4)
        # Text, because a name may hold what rich takes for markup.
        grid = Table(title=Text(printable(frame.title)), title_justify="left", expand=True)
        for number, heading in enumerate(HEADINGS):  # where there is no room it is the name that becomes shorter
            justify: Any = "right" if number else "left"
            grid.add_column(heading, justify=justify, no_wrap=True, min_width=len(heading), ratio=None if number else 1)
        for row in rows:
            warns = bool(row[5] or row[6])
            grid.add_row(*(Text(printable(str(cell))) for cell in row), style="yellow" if warns else None)
        self._live.update(Group(grid, *(Text(printable(note)) for note in notes)), refresh=True)


def fitting(frame: Frame, height: int) -> tuple[list[list[object]], list[str]]:
    """Rows and notes for a screen of that height: the largest queues, when not all of them fit."""
    room = max(1, height - 3 - len(frame.notes))
    if len(frame.rows) <= room:
        return frame.rows, frame.notes
    largest = sorted(frame.rows, key=lambda row: -int(str(row[1])))[: room - 1]
    return largest, [*frame.notes, f"and {len(frame.rows) - len(largest)} smaller queues"]


def _lines(rows: list[list[object]], width: int | None = None) -> list[str]:
    return table([HEADINGS, *rows], width)


@contextlib.contextmanager
def _screen(call: Call) -> Iterator[Screen]:
    output = call.output
    if call.arguments.json:
        yield Lines(call)
        return
    if not output.is_terminal():
        yield Pages(output)
        return
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        with PlainScreen(output) as screen:
            yield screen
        return
    with Live(console=Console(file=sys.stdout), screen=True, auto_refresh=False) as live:
        yield RichScreen(live)


@contextlib.contextmanager
def _keyboard() -> Iterator[int | None]:
    """The descriptor on which keys come one by one; None when nobody can press any."""
    try:
        settings = termios.tcgetattr(_STDIN)
    except termios.error:
        yield None
        return
    tty.setcbreak(_STDIN)
    try:
        yield _STDIN
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, settings)


def top(call: Call) -> int:
    """`top`."""
    arguments = call.arguments
    if not arguments.all:
        host.find(call.instance)  # what is not there at the beginning is a mistake
    board = Board(None if arguments.all else call.instance)
    left = arguments.count
    keyboard = _keyboard() if call.output.is_terminal() and not arguments.json else contextlib.nullcontext()
    with keyboard as keys, _screen(call) as screen:
        while True:
            signals.check()
            screen.show(board.look())
            left -= 1
            if not left or _is_quit(keys, arguments.delay):
                return DONE


def _is_quit(keys: int | None, delay: float) -> bool:
    """Wait until it is time for the next frame, or somebody presses q."""
    until = time.monotonic() + delay
    while (left := until - time.monotonic()) > 0:
        if (
            signals.wait([] if keys is None else [keys], seconds=left)
            and keys is not None
            and os.read(keys, 1) in (b"q", b"Q", b"\x04", b"")
        ):
            return True
    return False
