"""What each process writes down before and after each call, in files that outlive it.

A producer's file has one byte before each add, and one behind it that says whether it returned 1. A consumer's file has
one byte before each fetch, and a line behind it. So of a process that was killed it is known what it was doing: a last
add may have happened or not, and a last fetch may have taken one item that nobody saw.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from tests.processes.ledger import check, number_of, value_of

DEEP = 1500  # items, at which producers let consumers catch up

_BEFORE = b"?"
_ADDED, _REFUSED = b"1", b"0"


def new_name(role: str, queue: str) -> str:
    """Return a name that no other process has, nor a later one of the same pid."""
    return f"{role}-{queue}-{os.getpid()}-{time.monotonic_ns()}"


def length_of(number: int) -> int:
    """Return the length of an item: mostly small, some that cross a chunk, few larger than one."""
    if number % 1009 == 1008:
        return 300_000
    return 20_000 if number % 97 == 96 else 100


class _Book:
    """One file that only grows."""

    role = ""

    def __init__(self, folder: str, queue: str) -> None:
        self.name = new_name(self.role, queue)
        self._fd = os.open(os.path.join(folder, self.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def _write(self, data: bytes) -> None:
        os.write(self._fd, data)


class Producer(_Book):
    """The adds of one process to one queue: its items are numbered from 0."""

    role = "add"
    number = 0

    def next_item(self) -> tuple[str, str]:
        """Return key and value of the next item, which is about to be added. The key is unique."""
        self._write(_BEFORE)
        return f"{self.name}:{self.number}", value_of(self.number, length_of(self.number))

    def done(self, added: bool) -> None:
        """The call returned."""
        self._write(_ADDED if added else _REFUSED)
        self.number += added


class Consumer(_Book):
    """What one process took from one queue."""

    role = "take"

    def about_to_fetch(self) -> None:
        self._write(_BEFORE)

    def nothing(self) -> None:
        self._write(b"\n")

    def took(self, key: str, value: str) -> None:
        producer, _, number = key.rpartition(":")
        # The key's number, or -1 for an item whose value is not that of its number.
        self._write(f"{producer} {number if number == str(number_of(value)) else -1}\n".encode("utf-8", "replace"))


class Found(NamedTuple):
    """What all books say together."""

    added: dict[str, int]
    uncertain: set[str]  # producers whose last add may have happened
    taken: list[list[tuple[str, int]]]
    in_hand: int  # fetches that were never finished

    def wrong(self) -> list[str]:
        """Say what was lost, came twice, came from nowhere, or out of order."""
        return check(self.added, self.taken, uncertain=self.uncertain, may_miss=self.in_hand)


def read(folder: Path) -> Found:
    """Read all books."""
    added: dict[str, int] = {}
    uncertain: set[str] = set()
    for path in folder.glob("add-*"):
        data = path.read_bytes()
        added[path.name] = data.count(_ADDED)
        if data.endswith(_BEFORE):
            uncertain.add(path.name)
    taken = []
    in_hand = 0
    for path in sorted(folder.glob("take-*")):
        lines, _, rest = path.read_bytes().rpartition(b"\n")
        in_hand += bool(rest)
        taken.append([_mark(line.lstrip(_BEFORE)) for line in lines.split(b"\n") if line.lstrip(_BEFORE)])
    return Found(added, uncertain, taken, in_hand)


def _mark(line: bytes) -> tuple[str, int]:
    producer, _, number = line.decode().rpartition(" ")
    return producer, int(number)
