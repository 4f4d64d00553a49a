"""Adding by batches and under conditions: what each add says, who is woken, and what is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.queue.adding import record_of
from kemi.queue.format.layout import W_EVENT, W_PRESENT, W_WAITERS
from kemi.queue.format.outcome import CLOSED, AddResult
from kemi.queue.log.core import ADDED
from kemi.queue.log.plain import PlainLog
from kemi.queue.queue import Queue
from kemi.queue.waiting import BATCH

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

WINDOW = 16 << 20


@pytest.fixture(params=[0, 1, 2])
def queue(instance: str, request: pytest.FixtureRequest) -> Queue:
    """Return a queue of each addmode."""
    return Queue.create(instance, "q", window=WINDOW, addmode=request.param)


def keys(queue: Queue) -> list[str]:
    return [item.key for item in queue.peek(None)]


def calls(queue: Queue) -> int:
    """Return how often somebody was called, without a look at the clock."""
    return int(queue._u32[W_EVENT * 2])


@pytest.mark.parametrize("wakes", [True, False])
def test_an_add_under_a_condition(queue: Queue, wakes: bool) -> None:
    """It is added when the condition holds, which is asked with the lock held; else it is full, and counted."""

    def accept() -> bool:
        assert queue.handle.is_locked()
        return True

    assert queue.add_record_if(record_of("a", "1"), accept, wakes=wakes) == ADDED
    assert queue.add_record_if(record_of("b", "2"), lambda: False, wakes=wakes) == AddResult.FULL
    assert queue.add_record_if(record_of("c", "3"), accept, wakes=wakes) == ADDED
    assert keys(queue) == ["a", "c"]
    stats = queue.stats()
    assert (stats.added, stats.refused, stats.refusals[AddResult.FULL]) == (2, 1, 1)
    assert not queue.handle.is_locked()


@pytest.mark.parametrize("wakes", [True, False])
def test_an_add_under_a_condition_to_a_queue_that_was_ended(queue: Queue, wakes: bool) -> None:
    queue.remove()
    assert queue.add_record_if(record_of("a", "1"), lambda: True, wakes=wakes) == CLOSED


def test_an_add_under_a_condition_wakes_a_sleeper_unless_it_is_told_not_to(queue: Queue) -> None:
    key = queue.handle.work(queue.handle.events.prepare_wait)
    before = calls(queue)
    assert queue.add_record_if(record_of("a", "1"), lambda: True, wakes=False) == ADDED
    assert calls(queue) == before
    assert queue.add_record_if(record_of("b", "2"), lambda: True) == ADDED
    assert calls(queue) == before + 1
    queue.handle.work(lambda: queue.handle.events.cancel_wait(key, woken=True))


def test_a_question_never_takes_an_older_ones_place(queue: Queue) -> None:
    """Where a size limit would make the oldest item go."""
    queue.set_limits(2, 0)
    assert [queue.add_question(record_of(key, "")) for key in "abc"] == [ADDED, ADDED, AddResult.FULL]
    assert keys(queue) == ["a", "b"]
    queue.set_limits(0, 0)
    assert queue.add_question(record_of("c", "")) == ADDED


@pytest.mark.python_code
def test_a_batch_is_one_run_where_nothing_is_in_its_way(instance: str, mocker: MockerFixture) -> None:
    """So it costs one commit, and a kill in its middle leaves all of it out."""
    queue = Queue.create(instance, "q", window=WINDOW)
    runs = mocker.spy(PlainLog, "append_run")
    single = mocker.spy(PlainLog, "append")
    assert queue.add_many((str(number), "v") for number in range(BATCH)) == [ADDED] * BATCH
    assert (runs.call_count, single.call_count) == (1, 0)
    assert keys(queue) == [str(number) for number in range(BATCH)]


@pytest.mark.parametrize("limits", [(3, 0), (0, 96)])
def test_a_batch_that_meets_a_limit_says_so_for_each_item(queue: Queue, limits: tuple[int, int]) -> None:
    """The oldest go where the number is limited; where the bytes are, what is more is refused."""
    queue.set_limits(*limits)
    outcomes = queue.add_many([(key, "") for key in "abcde"])
    by_bytes = limits[1] > 0
    assert outcomes == [ADDED] * 3 + [AddResult.FULL if by_bytes else ADDED] * 2
    assert keys(queue) == list("abc" if by_bytes else "cde")
    assert queue.stats().refusals[AddResult.FULL] == (2 if by_bytes else 0)


def test_a_batch_to_a_queue_that_was_ended(instance: str) -> None:
    """Each is refused, and counted, and nothing is added."""
    queue = Queue.create(instance, "q", window=WINDOW, closed=True)
    assert queue.add_many([("a", ""), ("b", "")]) == [CLOSED] * 2
    assert queue.stats().refusals[CLOSED] == 2
    queue.open()
    assert queue.add_many([("a", ""), ("b", "")]) == [ADDED] * 2


def test_a_batch_calls_as_many_as_it_has_items_for(queue: Queue) -> None:
    """Of three that wait two, with items for two."""
    events = queue.handle.events
    waiting = [queue.handle.work(events.prepare_wait) for _ in range(3)]
    queue.add_many([("a", ""), ("b", "")])
    assert queue._u64[W_WAITERS] == 1
    queue.add_many([("c", ""), ("d", "")])
    assert queue._u64[W_WAITERS] == 0
    for key in waiting:
        queue.handle.work(lambda key=key: events.cancel_wait(key, woken=True))  # type: ignore[misc]
    assert queue._u64[W_PRESENT] == 0
