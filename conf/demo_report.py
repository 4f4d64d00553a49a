# SPDX-License-Identifier: GPL-2.0-or-later
"""What the demo counts, and how it judges that: plain values in, text out."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BAR_WIDTH = 50

# The line that a consumer logs, in kamailio.py as in kamailio-native.cfg.
_CONSUMED = re.compile(r"consumer (\w+): (\d+) - call from (\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Item:
    """One request, as its consumer saw it."""

    consumer: str
    number: int
    sender: str

    def __str__(self) -> str:
        return f"{self.sender}'s number {self.number} (consumer {self.consumer})"


@dataclass(frozen=True)
class Sender:
    """What a sipp process says of itself. Its requests carried the numbers from 1 on."""

    name: str
    method: str
    sent: int  # and answered as they should be
    failed: int


@dataclass(frozen=True)
class Report:
    """What went in beside what came out."""

    senders: Sequence[Sender]
    requests: int  # that each sender was to send
    added: int  # by the queue's own count
    items: Sequence[Item]  # in the order in which they were logged

    @property
    def sent(self) -> int:
        return sum(sender.sent for sender in self.senders)

    @property
    def lost(self) -> int:
        return sum(map(self.lost_of, self.senders))

    def lost_of(self, sender: Sender) -> int:
        """Count the requests that were answered as queued and never came out."""
        came = {item.number for item in self.items if item.sender == sender.name}
        return len(set(range(1, sender.sent + 1)) - came)

    def repeated(self) -> list[Item]:
        """Items that had come before."""
        seen: set[tuple[str, int]] = set()
        again = []
        for item in self.items:
            if (item.sender, item.number) in seen:
                again.append(item)
            seen.add((item.sender, item.number))
        return again

    def late(self) -> list[Item]:
        """Items that came after a younger one of their sender.

        The consumers work side by side, so each is judged by itself.
        """
        youngest: dict[tuple[str, str], int] = {}
        late = []
        for item in self.items:
            lane = item.consumer, item.sender
            if item.number < youngest.get(lane, 0):
                late.append(item)
            youngest[lane] = max(item.number, youngest.get(lane, 0))
        return late

    def problems(self) -> list[str]:
        """Every reason to call it failed; none when all is well."""
        found = [
            f"{sender.name}: {sender.sent} of {self.requests} requests were answered as they should be"
            for sender in self.senders
            if sender.failed or sender.sent != self.requests
        ]
        if self.lost:
            found.append(f"{self.lost} lost")
        if self.added != self.sent:
            found.append(f"{self.sent} sent, but {self.added} added")
        for items, what in (self.repeated(), "came again"), (self.late(), "came too late"):
            if items:
                found.append(f"{len(items)} {what}, the first: {items[0]}")
        return found

    def table(self) -> str:
        """Show a line for each sender, then the sums."""
        consumers = sorted({item.consumer for item in self.items})
        share = Counter((item.sender, item.consumer) for item in self.items)
        rows: list[list[object]] = [["sender", "request", "sent", *(f"by {name}" for name in consumers), "lost"]]
        for sender in self.senders:
            taken = (share[sender.name, consumer] for consumer in consumers)
            rows.append([sender.name, sender.method, sender.sent, *taken, self.lost_of(sender)])
        lines = ["".join(f"{cell:>9}" for cell in row) for row in rows]
        sums = f"sent {self.sent} / added {self.added} / consumed {len(self.items)} / lost {self.lost}"
        return "\n".join([*lines, "", sums])


def consumed_items(log: str) -> list[Item]:
    """Find the items in a server's log."""
    return [Item(consumer, int(number), sender) for consumer, number, sender in _CONSUMED.findall(log)]


def read_sender(name: str, method: str, statistics: Path) -> Sender:
    """Read the last line of sipp's -trace_stat file; all counts are zero when sipp wrote none."""
    rows: list[dict[str, str]] = []
    if statistics.exists():
        with statistics.open(newline="") as lines:
            rows += csv.DictReader(lines, delimiter=";")
    last = rows[-1] if rows else {}
    return Sender(name, method, int(last.get("SuccessfulCall(C)", 0)), int(last.get("FailedCall(C)", 0)))


def bar_line(seconds: float, size: int, full: int) -> str:
    """Draw one sample of the queue's size; `full` items make a bar of full width."""
    marks = min(-(-size * BAR_WIDTH // full), BAR_WIDTH)
    return f"{seconds:5.1f} s {size:5d} {'#' * marks}".rstrip()
