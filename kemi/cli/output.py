# SPDX-License-Identifier: GPL-2.0-or-later
"""Standard output, written at once and as a whole; tables and what a person sees of bytes."""

from __future__ import annotations

import os
import re
import select
import stat
import sys
from collections.abc import Sequence

from kemi.cli.signals import wait_until_writable
from kemi.text import one_line, printable

_NEVER_BLOCKS = select.PIPE_BUF  # bytes that a pipe takes at once when it takes any
_BYTE_UNITS = ("", "K", "M", "G", "T")
_KIBI, _FEW = 1024, 10
_TIME_UNITS = (("d", 86400), ("h", 3600), ("m", 60))
_BETWEEN = "  "  # two columns
_NUMBER = re.compile(rf"-|-?[0-9]+(\.[0-9]+)?[{''.join(_BYTE_UNITS)}s{''.join(unit for unit, _ in _TIME_UNITS)}]?")


class Output:
    """Writes to a descriptor without a buffer in between, so that what was written is known to be out."""

    def __init__(self, fd: int = 1) -> None:
        self.fd = fd
        self.written = 0  # bytes
        # Others may not take more for a long time, when who reads them does not.
        self._is_file = stat.S_ISREG(os.fstat(fd).st_mode)

    def is_terminal(self) -> bool:
        """Does a person look?"""
        return os.isatty(self.fd)

    def write(self, data: bytes) -> None:
        """Write all of it. Raises OSError; a pipe that nobody reads any more is BrokenPipeError.

        A signal raises only while nothing is being written, so that `written` is exact.
        """
        rest = memoryview(data)
        while rest:
            if not self._is_file:
                wait_until_writable(self.fd)
            count = os.write(self.fd, rest if self._is_file else rest[:_NEVER_BLOCKS])
            self.written += count
            rest = rest[count:]

    def line(self, text: str) -> None:
        """Write a line of text."""
        self.write(text.encode("utf-8", "backslashreplace") + b"\n")

    def table(self, rows: Sequence[Sequence[object]]) -> None:
        """Write rows, of which the first has the headings."""
        self.line("\n".join(table(rows)))


def say(text: str, data: str = "") -> None:
    """One line on stderr. data: an item as JSON with its line end, which is exact as it is."""
    sys.stderr.write(f"mqueue-kemi: {one_line(text)}{data or chr(10)}")


def table(rows: Sequence[Sequence[object]], width: int | None = None) -> list[str]:
    """Lines with columns, each as wide as its heading at least: names to the left, numbers to the right.

    A column of numbers has nothing else below its heading, the units of `bytes_text` and `duration_text` besides.
    width: where that is not enough room the first column, which has the names, is shortened.
    """
    texts = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(cells, column)) for column in zip(*texts)]
    if width is not None:
        others = sum(widths[1:]) + len(_BETWEEN) * (len(widths) - 1)
        widths[0] = min(widths[0], max(width - others, cells(texts[0][0])))
        for row in texts:
            row[0] = _shortened(row[0], widths[0])
    numeric = [all(_NUMBER.fullmatch(row[at]) for row in texts[1:]) for at in range(len(widths))]
    return [
        _BETWEEN.join(
            " " * (width - cells(cell)) + cell if right else cell + " " * (width - cells(cell))
            for cell, width, right in zip(row, widths, numeric)
        ).rstrip()
        for row in texts
    ]


def cells(text: str) -> int:
    """How many columns of a terminal printable text takes: some characters take two, an accent of its own none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(character) else 1 + (east_asian_width(character) in "WF") for character in text)


def _shortened(text: str, width: int) -> str:
    if cells(text) <= width:
        return text
    while cells(text) >= width:
        text = text[:-1]
    return f"{text}…"


def bytes_text(number: float) -> str:
    """A number of bytes as a person reads it."""
    unit = 0
    while number >= _KIBI and unit < len(_BYTE_UNITS) - 1:
        number /= _KIBI
        unit += 1
    return f"{number:.{1 if unit and number < _FEW else 0}f}{_BYTE_UNITS[unit]}"


def duration_text(seconds: float | None) -> str:
    """A time as a person reads it."""
    if seconds is None:
        return "-"
    unit, length = next(((unit, length) for unit, length in _TIME_UNITS if seconds >= 2 * length), ("s", 1))
    return f"{max(0.0, seconds) / length:.{1 if unit == 's' else 0}f}{unit}"
