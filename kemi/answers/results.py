# SPDX-License-Identifier: GPL-2.0-or-later
"""What a routing script gets: the outcome of `ask`, and the answer in its `then` route."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    from kemi.frozen import dataclass


class AskResult(IntEnum):
    """What became of an `ask`.

    True: asked, and `then` runs once. False: the transaction is not suspended, and the script replies itself, now.
    """

    ASKED = 1
    FAILED = -1  # the log says why
    FULL = -2  # the queue, the memory, or max_asked
    NO_WORKER = -3  # no process works on the queue
    CANCELLED = -4  # the caller gave up: there is nothing to reply

    __str__ = int.__repr__  # as an IntEnum has it since Python 3.11: a log shows the same with each

    def __bool__(self) -> bool:
        return self._value_ > 0


class AnswerStatus(IntEnum):
    """What came of a question."""

    ANSWERED = 1
    FAILED = -1  # a worker said that there is no answer, or the question could not be queued
    TIMED_OUT = -2
    NONE = -3  # not in a `then` route

    __str__ = int.__repr__


@dataclass(frozen=True)
class Answer:
    """What a `then` route runs for. True when a worker answered."""

    status: AnswerStatus
    queue: str
    key: str
    value_bytes: bytes = b""
    reason: str = ""  # for people; "" when answered
    waited: float = 0.0  # seconds since it was asked

    @property
    def value(self) -> str:
        """The answer as text; "" unless answered. Bytes that are not UTF-8 are surrogates (`surrogateescape`)."""
        return self.value_bytes.decode("utf-8", "surrogateescape")

    def __bool__(self) -> bool:
        return self.status is AnswerStatus.ANSWERED


NOTHING = Answer(AnswerStatus.NONE, "", "", reason="this is no route that ask() let go on")
