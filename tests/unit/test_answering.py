"""Until when somebody waits for an answer, and that nobody is told afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kemi.queue.delivery import answering
from kemi.queue.format.item import record_of
from kemi.queue.format.outcome import AddResult
from kemi.queue.format.question import Envelope, Name, question_record

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

DEADLINE = 5_000_000_000  # ns
QUESTION = question_record(b"k", b"v", 0, Envelope(1, Name(2, 3, 4), DEADLINE, 1_000, 6))


class Queue:
    """A queue with an answers queue, which notes who was told."""

    def __init__(self) -> None:
        self.asked_for: list[tuple[int, int]] = []
        self.told: list[Any] = []

    def answers_queue(self, shard: int, created: int) -> Queue:
        self.asked_for.append((shard, created))
        return self

    def add(self, key: str | bytes, value: str | bytes) -> AddResult:
        self.told.append((key, value))
        return AddResult.ADDED


@pytest.mark.parametrize(("moment", "told"), [(DEADLINE - 1, True), (DEADLINE, False), (DEADLINE + 1, False)])
def test_who_asked_is_told_before_the_deadline(mocker: MockerFixture, moment: int, told: bool) -> None:
    mocker.patch.object(answering, "now", return_value=moment)
    queue = Queue()
    assert answering.answer(queue, QUESTION, "yes") is told
    assert queue.asked_for == ([(6, 1)] if told else [])
    assert [value for _, value in queue.told] == ([b"yes"] if told else [])


def test_the_deadline_is_told_by_the_wall_clock(mocker: MockerFixture) -> None:
    mocker.patch.object(answering, "now", return_value=DEADLINE - 1_500_000_000)
    mocker.patch("time.time", return_value=1_000.0)
    assert answering.deadline_of(QUESTION) == 1_001.5
    assert answering.deadline_of(record_of(b"k", b"v", 1.0)) is None
