"""The books of `mixed_ends`: what the workers wrote down, counted call by call as it is promised."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

_BROKEN_OFF = ("x", "error", "closed", "killed")  # words for a call that did not return


class Balance(NamedTuple):
    """What came out."""

    faults: list[str]
    figures: dict[str, int]


class _Books:
    def __init__(self, restarts: list[tuple[int, int]]) -> None:
        self.restarts = restarts
        self.faults: list[str] = []
        self.numbers: dict[str, set[str]] = {word: set() for word in ("add", "added", "refused")}
        self.taken: Counter[str] = Counter()
        self.open: set[str] = set()  # blocks that may have been done when they were broken off
        self.twice: set[str] = set()  # may come twice: a restart came while they were held
        self.may_be_lost = 0
        self.figures: Counter[str] = Counter()

    def read(self, log: Path) -> None:  # noqa: C901 - one case for each word
        """Read what one worker wrote: lines of a time, a word, and numbers."""
        wanted = asked = 0
        held: tuple[str, int, bool] | None = None  # number, since when, at the end of its block
        # A kill may cut the last line: then it is as if it had been in the call, or just before it.
        lines = log.read_text("utf-8").rpartition("\n")[0].splitlines()
        for when, word, *numbers in [*map(str.split, lines), ["inf", "killed"]]:
            self.figures[word] += 1
            if word in self.numbers:
                self.numbers[word].update(numbers)
            elif word == "fetch":
                wanted = int(numbers[0])
            elif word == "reserve":
                asked = int(when)
            elif word == "held":
                # Since the call: it had the item before it could write that down.
                held = numbers[0], asked, False
            elif word == "ends" and held:
                held = (*held[:2], True)
            elif word == "LOCK" or (word == "error" and numbers[0] != "QueueClosed"):
                self.faults.append(f"{log.name}: {word} {' '.join(numbers)}")
            if word in ("fetched", "done"):
                self.taken.update(numbers)
                wanted = 0
            elif word in _BROKEN_OFF:
                self.may_be_lost += wanted  # at most once: what was taken then is nobody's
                wanted = 0
            if held and word in ("done", *_BROKEN_OFF):
                self._end_block(held, word, float(when))
                held = None

    def _end_block(self, held: tuple[str, int, bool], word: str, when: float) -> None:
        number, since, ends = held
        if ends and word != "done":
            self.open.add(number)
        if any(begin < when and since < over for begin, over in self.restarts):
            self.twice.add(number)

    def balance(self) -> Balance:
        """Compare."""
        attempted, added, refused = self.numbers["add"], self.numbers["added"], self.numbers["refused"]
        faults = self.faults
        faults += [f"{n} came {count} times" for n, count in self.taken.items() if count > 1 and n not in self.twice]
        faults += [f"{number} was never added" for number in self.taken if number not in attempted]
        faults += [f"{number} was refused, and came" for number in self.taken if number in refused]
        lost = added - set(self.taken) - self.open
        if len(lost) > self.may_be_lost:
            faults.append(f"{len(lost)} items are lost, and broken-off fetches account for {self.may_be_lost} at most")
        told = {"lost": len(lost), "may be lost": self.may_be_lost, "open": len(self.open)}
        return Balance(faults, {**self.figures, **told})


def balance(logs: list[Path], left: list[str], restarts: list[tuple[int, int]]) -> Balance:
    """Count each call by what is promised of it. left: what was in the queue at the end."""
    books = _Books(restarts)
    books.taken.update(left)
    for log in logs:
        books.read(log)
    return books.balance()
