# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wrong, and where."""

from __future__ import annotations

from typing import NamedTuple

ERROR, WARNING = "error", "warning"


class Place(NamedTuple):
    """A line of a file."""

    file: str
    line: int


class Problem(NamedTuple):
    """One thing that should be changed. An error: the server, or a part of it, would not work."""

    place: Place
    level: str
    text: str

    def __str__(self) -> str:
        return f"{self.place.file}:{self.place.line}: {self.level}: {self.text}"


class Problems:
    """What was found, each thing once."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def error(self, place: Place, text: str) -> None:
        """Note what would not work."""
        self._add(Problem(place, ERROR, text))

    def warning(self, place: Place, text: str) -> None:
        """Note what may not be meant, or could not be judged."""
        self._add(Problem(place, WARNING, text))

    def _add(self, problem: Problem) -> None:
        if problem not in self.found:
            self.found.append(problem)
