# SPDX-License-Identifier: GPL-2.0-or-later
"""The command fill: lines of JSON from standard input into a queue."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from kemi.cli import signals
from kemi.cli.call import Call, Failure
from kemi.cli.lines import BadLine, parse
from kemi.cli.output import say
from kemi.cli.progress import progress
from kemi.cli.taking import add_all
from kemi.cli.usage.codes import DONE, REFUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kemi.cli.call import AnyQueue

_READ = 1 << 16  # bytes
_STDIN = 0

Pair = tuple["str | bytes", "str | bytes"]


def fill(call: Call) -> int:
    """`fill Q`."""
    filling = _Filling()
    with call.queue() as queue, progress("fill", _length(_STDIN)) as advance:
        try:
            for lines in _batches(_STDIN):
                filling.add(queue, lines)
                advance(sum(map(len, lines)) + len(lines))
                signals.check()
        except signals.Interrupted:
            say(f"interrupted; {filling.so_far()}")
            raise
    call.tell("", added=filling.items)
    return DONE


class _Filling:
    """Where a fill stands."""

    def __init__(self) -> None:
        self._line = 0  # lines that are done
        self.items = 0  # that were added

    def add(self, queue: AnyQueue, lines: list[bytes]) -> None:
        """Add the items of some lines. Raises Failure at the first that is none, or that is refused."""
        pairs: list[Pair] = []
        numbers: list[int] = []
        bad = ""
        for number, line in enumerate(lines, self._line + 1):
            if not line.strip():
                continue
            try:
                pairs.append(parse(line))
            except BadLine as error:
                bad = f"line {number}: {error}"
                break
            numbers.append(number)
        added, refused = add_all(queue, pairs)
        self.items += added
        if refused is not None:
            self._line = numbers[added] - 1
            raise Failure(REFUSED, f"line {numbers[added]}: not added: {refused}; {self.so_far()}")
        if bad:
            raise Failure(REFUSED, f"{bad}; {self.so_far()}")
        self._line += len(lines)

    def so_far(self) -> str:
        """What was done."""
        return f"{self.items} items were added before"


def _length(fd: int) -> int:
    """Bytes to come, as far as that is known; else 0."""
    status = os.fstat(fd)
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _read(fd: int) -> bytes:
    signals.wait([fd])
    return os.read(fd, _READ)


def _batches(fd: int) -> Iterator[list[bytes]]:
    """Lines as they come: all that are there at once, none is waited for."""
    begun: list[bytes] = []  # parts of a line whose end has not come
    while data := _read(fd):
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*begun, lines[0]])
            begun = []
            yield lines
        if rest:
            begun.append(rest)
    if begun:
        yield [b"".join(begun)]
