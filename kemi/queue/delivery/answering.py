# SPDX-License-Identifier: GPL-2.0-or-later
"""Telling who asked: a worker's answer to a question, or that there is none."""

from __future__ import annotations

import time
from typing import Protocol

from kemi.errors import SegmentError
from kemi.queue.format.item import encode
from kemi.queue.format.outcome import AddResult
from kemi.queue.format.question import ANSWERED, FAILED, envelope_of, message_key
from kemi.queue.sync.clock import now


class AnswersQueue(Protocol):
    """What an answer is added to."""

    def add(self, key: str | bytes, value: str | bytes) -> AddResult:
        """Append an item."""


class Answerable(Protocol):
    """The queue that a question was in."""

    def answers_queue(self, shard: int, created: int) -> AnswersQueue | None:
        """Return the answers queue of its instance with that number and time of making; None if it is gone."""


def answer(queue: Answerable, record: bytes, value: str | bytes) -> bool:
    """Answer a question. False: nobody asked, or nobody waits any more. Raises ItemError, LockTimeout."""
    data, _, _ = encode(value, b"")
    return _tell(queue, record, ANSWERED, data)


def fail(queue: Answerable, record: bytes, reason: str) -> bool:
    """Say that there is no answer, and why. As `answer`."""
    return _tell(queue, record, FAILED, reason.encode("utf-8", "backslashreplace"))


def deadline_of(record: bytes) -> float | None:
    """Return the moment (seconds since the epoch) from which nobody wants an answer; None of what is no question."""
    envelope = envelope_of(record)
    return None if envelope is None else time.time() + (envelope.deadline - now()) / 1e9


def _tell(queue: Answerable, record: bytes, kind: int, value: bytes) -> bool:
    envelope = envelope_of(record)
    if envelope is None or now() >= envelope.deadline:
        return False
    try:
        answers = queue.answers_queue(envelope.shard, envelope.answers)
        if answers is None:
            return False
        outcome = answers.add(message_key(kind, envelope.name), value)
        if not outcome and kind == ANSWERED:  # whoever waits hears of it, in a few bytes, and not by the deadline
            reason = f"the answer, {len(value)} bytes, was refused: {outcome.reason}"
            answers.add(message_key(FAILED, envelope.name), reason)
        return bool(outcome)
    except SegmentError:  # its server ended
        return False
