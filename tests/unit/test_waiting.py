"""Taking items and waiting for them: who is called for what a waiter leaves, and nobody in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.queue.delivery.hold import GIVE_BACK
from kemi.queue.format.layout import W_EVENT, W_PRESENT, W_WAITERS
from kemi.queue.queue import Queue
from kemi.queue.sync.eventcount import EventCount

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

WINDOW = 16 << 20
pytestmark = pytest.mark.python_code


@pytest.fixture(params=[0, 1])
def queue(instance: str, request: pytest.FixtureRequest) -> Queue:
    """Return a queue with a plain log, or a keyed one."""
    return Queue.create(instance, "q", window=WINDOW, addmode=request.param)


@pytest.fixture
def calls(mocker: MockerFixture) -> list[int]:
    """Return the list of how many sleepers each call of the kernel was to wake."""
    made: list[int] = []
    mocker.patch.object(EventCount, "wake", lambda _, count: made.append(count))
    return made


def prepared(queue: Queue) -> int:
    """Be counted as a waiter, as after a look that found nothing."""
    found, key, _ = queue._taker.take_or_prepare(queue._taker.take, None, woken=False, sleeps=True)
    assert found is None
    assert key is not None
    return key


def waiters(queue: Queue) -> tuple[int, int]:
    return queue._u64[W_WAITERS], queue._u64[W_PRESENT]


def test_who_was_woken_and_takes_the_item_calls_nobody(queue: Queue, calls: list[int]) -> None:
    """Another one waits on: there is nothing for it."""
    first, second = prepared(queue), prepared(queue)
    queue.add("k", "v")
    assert calls == [1]
    found, key, _ = queue._taker.take_or_prepare(queue._taker.take, first, woken=True, sleeps=True)
    assert found is not None
    assert key is None
    assert calls == [1]
    assert waiters(queue) == (1, 1)
    queue._taker.wait_no_more(second, woken=False)
    assert calls == [1]
    assert waiters(queue) == (0, 0)


def test_who_takes_an_item_while_another_is_due_later_leaves_that_to_the_next_one(
    queue: Queue, calls: list[int]
) -> None:
    """It would have woken up for it in time; now another one that waits has to look when that is."""
    queue.add("later", "v")
    item = queue.reserve().take()
    assert item is not None
    item.give_back(after=3600)
    calls.clear()
    first, second = prepared(queue), prepared(queue)
    queue.add("k", "v")
    assert calls == [1]
    found, _, _ = queue._taker.take_or_prepare(queue._taker.take, first, woken=True, sleeps=True)
    assert found is not None
    assert calls == [1, 1]
    queue._taker.wait_no_more(second, woken=True)


def test_who_was_woken_and_gives_up_calls_the_next_one(queue: Queue, calls: list[int]) -> None:
    """What it was woken for is still there; where it is not, nobody is called."""
    first, second = prepared(queue), prepared(queue)
    queue.add("k", "v")
    queue._taker.wait_no_more(first, woken=True)
    assert calls == [1, 1]
    assert queue.fetch() is not None
    third = prepared(queue)
    queue._taker.wait_no_more(second, woken=True)
    assert calls == [1, 1]
    queue._taker.wait_no_more(third, woken=False)
    assert waiters(queue) == (0, 0)


def test_passing_on_calls_one_for_what_is_there(queue: Queue, calls: list[int]) -> None:
    """And nobody where nothing is, or nobody waits."""
    key = prepared(queue)
    queue.pass_on()
    assert calls == []
    queue.add("k", "v")
    queue.pass_on()
    assert calls == [1]  # by the add: nobody is counted any more
    again = prepared_again(queue, key)
    queue.pass_on()
    assert calls == [1, 1]
    queue._taker.wait_no_more(again, woken=True)
    assert waiters(queue) == (0, 0)


def prepared_again(queue: Queue, key: int) -> int:
    """Be counted once more, in a look that leaves what is there."""
    return queue.locked(lambda: queue.handle.events.prepare_wait(key, woken=True))


def test_giving_back_calls_as_many_as_there_is_something_for(queue: Queue, calls: list[int]) -> None:
    """What was not this process's any more wakes nobody."""
    queue.add_many([("a", "v"), ("b", "v")])
    batch = queue.reserve_many(2).take()
    keys = [prepared(queue) for _ in range(3)]
    batch[0].give_back()
    assert calls == [1]
    batch[0].give_back()
    assert calls == [1]
    token = batch[1]._hold.token
    batch[1].done()
    event = queue._u32[W_EVENT * 2]
    assert queue.settle([token], GIVE_BACK) == 0
    assert calls == [1]
    assert queue._u32[W_EVENT * 2] == event
    for key in keys:
        queue._taker.wait_no_more(key, woken=True)
