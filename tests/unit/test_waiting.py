"""Taking items and waiting for them: who is called for what a waiter leaves, and nobody in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kemi.queue.delivery.hold import GIVE_BACK
from kemi.queue.delivery.holding import Holding
from kemi.queue.delivery.reserved import ReservedItem
from kemi.queue.format.item import key_of
from kemi.queue.format.layout import W_EVENT, W_POPPED, W_PRESENT, W_WAITERS
from kemi.queue.log.core import Delivery
from kemi.queue.queue import Queue
from kemi.queue.store.inflight import Holder, InFlight
from kemi.queue.sync.clock import now
from kemi.queue.sync.eventcount import EventCount
from tests.support.lock_times import at_a_time

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
    return queue.handle.work(lambda: queue.handle.events.prepare_wait(key, woken=True))


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


DEAD, ALIVE = Holder(98, 1, 2, 0), Holder(99, 3, 4, 0)


def reserve(queue: Queue, holder: Holder) -> Delivery:
    """Let another process reserve the oldest item."""
    found = queue.handle.work(lambda: queue._log.reserve(holder, now()))
    assert found
    return found[0]


def test_what_the_dead_held_is_looked_for_without_the_lock_and_comes_back_some_with_each(
    queue: Queue, mocker: MockerFixture
) -> None:
    """However much it is: an add does not wait for it."""
    keys = [f"k{number}" for number in range(25)]
    queue.add_many((key, "v") for key in keys)
    at_a_time(mocker, 8)
    for _ in keys:
        reserve(queue, DEAD)
    mocker.patch.object(Holding, "stale", return_value={DEAD})
    looks, released = [], []
    held_by, release = InFlight.held_by, Holding.release

    def look(*arguments: Any) -> list[Any]:
        looks.append(queue.handle.is_locked())
        return held_by(*arguments)

    def count(self: Holding, some: list[Delivery], holders: set[Holder]) -> int:
        before = len(some)
        back = release(self, some, holders)
        released.append(before - len(some))
        return back

    mocker.patch.object(InFlight, "held_by", look)
    mocker.patch.object(Holding, "release", count)
    assert [key_of(queue.pop() or b"") for _ in keys] == keys
    assert looks
    assert not any(looks)
    assert released == [8, 8, 8, 1]


@pytest.mark.parametrize("number", [1, 2])
def test_what_comes_back_late_is_told_to_all_where_it_is_more_than_one(
    queue: Queue, mocker: MockerFixture, number: int
) -> None:
    """Who takes it takes one of them; the others are for those that sleep."""
    at_a_time(mocker, 1000)
    queue.add_many([(key, "") for key in "abc"[:number]])
    kept: list[ReservedItem] = []
    queue.reserve_some(2, 0.0, kept.append)
    prepared(queue)
    for item in kept:
        queue.handle.holding.later(item._hold.token, done=False)
    assert queue._taker.take_now(lambda: None) is None
    assert waiters(queue)[0] == (1 if number == 1 else 0)


def test_what_another_one_holds_by_now_stays_his(queue: Queue) -> None:
    """Others looked for the dead, too, and one of them has it again."""
    queue.add("k", "v")
    seen = reserve(queue, DEAD)
    holding = queue.handle.holding
    queue.handle.work(lambda: holding.put_back(seen))
    again = reserve(queue, ALIVE)
    assert again != seen
    for held in (seen, again):  # the second is what a torn look would have
        assert queue.handle.work(lambda: holding.release([held], {DEAD})) == 0  # noqa: B023 - it is called at once
    assert queue.handle.work(lambda: holding.release([again], {ALIVE})) == 1


def test_what_he_was_killed_in_comes_back_too(queue: Queue, mocker: MockerFixture) -> None:
    """The first lock finishes it: it is found by a second look."""
    queue.add_many((key, "v") for key in "ab")
    reserve(queue, DEAD)
    mocker.patch.object(Holding, "stale", return_value={DEAD})
    release = Holding.release

    def finish(self: Holding, some: list[Delivery], holders: set[Holder]) -> int:
        if queue._u64[W_POPPED] == 1:
            assert queue._log.reserve(DEAD, now())
        return release(self, some, holders)

    mocker.patch.object(Holding, "release", finish)
    assert key_of(queue.pop() or b"") == "a"
    assert [item.key for item in queue.peek(2)] == ["b"]
