"""Refused adds in the log: one line a queue, reason and minute, from all processes, with how many there were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kemi.queue.format.outcome import AddResult
from kemi.server import refused
from tests.unit.children import child

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(mocker: MockerFixture) -> Clock:
    clock = Clock()
    mocker.patch("kemi.server.refused.time.monotonic", clock)
    refused.prepare(["q", "other"])
    return clock


def tell(queue: str = "q", outcome: AddResult = AddResult.FULL) -> None:
    refused.tell(queue, outcome, lambda outcome: outcome.name)


def lines(ksr: Any) -> list[str]:
    found = [call.args[0].strip() for call in ksr.err.call_args_list]
    ksr.err.reset_mock()
    return found


def test_one_line_a_minute_with_a_count(ksr: Any, clock: Clock) -> None:
    for _ in range(435):
        tell()
    assert lines(ksr) == ["mqueue_kemi: mq_add('q'): not added: FULL"]
    clock.now += refused.SECONDS
    tell()
    assert lines(ksr) == [
        "mqueue_kemi: mq_add('q'): not added: FULL (434 more such adds were refused in the 60 s before)"
    ]
    tell()
    clock.now += 2 * refused.SECONDS
    tell()
    assert "(1 more such adds were refused in the 120 s before)" in lines(ksr)[0]


@pytest.mark.usefixtures("clock")
def test_each_queue_and_reason_has_its_own(ksr: Any) -> None:
    for _ in range(3):
        for queue in ("q", "other", "new at a reload"):
            tell(queue, AddResult.FULL)
            tell(queue, AddResult.NO_MEMORY)
    assert len(lines(ksr)) == 6


@pytest.mark.parametrize("queue", ["q", "other"])
def test_all_processes_together(ksr: Any, clock: Clock, queue: str) -> None:
    """What a forked process has told, another one only counts."""

    def tell_it() -> None:
        tell(queue)
        assert len(lines(ksr)) == 1

    with child(tell_it):
        pass
    tell(queue)
    assert lines(ksr) == []
    clock.now += refused.SECONDS
    tell(queue)
    assert "(1 more" in lines(ksr)[0]


@pytest.mark.usefixtures("clock")
def test_another_server_begins_anew(ksr: Any) -> None:
    tell()
    refused.prepare(["other", "q"])
    tell()
    assert len(lines(ksr)) == 2
