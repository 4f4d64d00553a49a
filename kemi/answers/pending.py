# SPDX-License-Identifier: GPL-2.0-or-later
"""Which questions wait for what: the answers process's own table, without shared memory and clock."""

from __future__ import annotations

import heapq
from typing import NamedTuple, final

from kemi.queue.format.question import Name, Route

_SPARE = 64  # entries of the heap that may be stale before it is made anew


class Question(NamedTuple):
    """One that was asked."""

    name: Name
    deadline: int  # monotonic ns
    asked: int  # monotonic ns
    route: Route


@final
class Pending:
    """Asked and not answered."""

    def __init__(self) -> None:
        self._questions: dict[Name, Question] = {}
        self._deadlines: list[tuple[int, Name]] = []

    def __len__(self) -> int:
        return len(self._questions)

    def all(self) -> list[Question]:
        """What waits, in the order of asking."""
        return list(self._questions.values())

    def add(self, question: Question) -> None:
        """It waits from now on."""
        self._questions[question.name] = question
        heapq.heappush(self._deadlines, (question.deadline, question.name))

    def take(self, name: Name) -> Question | None:
        """It waits no more; None if it did not."""
        found = self._questions.pop(name, None)
        if len(self._deadlines) > 2 * len(self._questions) + _SPARE:
            self._deadlines = [(question.deadline, name) for name, question in self._questions.items()]
            heapq.heapify(self._deadlines)
        return found

    def next_deadline(self) -> int | None:
        """When the next one's time is over, in monotonic ns; None if none waits."""
        while self._deadlines and self._deadlines[0][1] not in self._questions:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def take_late(self, now: int) -> Question | None:
        """One whose time is over; None if there is none."""
        deadline = self.next_deadline()
        if deadline is None or deadline > now:
            return None
        return self.take(self._deadlines[0][1])
