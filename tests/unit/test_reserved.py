"""Reserved items that are settled by hand: once, by this process, in four ways, and no time is taken for another."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import ConfigError, ItemError, LockTimeout
from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.delivery.reserved import Batch, ReservedItem
from kemi.queue.queue import Queue
from tests.conftest import HANG
from tests.unit.children import child, fork

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(params=[0, 1, 2])
def queue(instance: str, request: pytest.FixtureRequest) -> Queue:
    """Give a queue of some items."""
    registry = Registry.create(instance, this_process(), 1 << 30)
    made = Queue.create(instance, "q", window=16 << 20, addmode=request.param, registry=registry, lock_timeout=0.2)
    made.add_many((str(number), "v") for number in range(4))
    return made


def take(queue: Queue) -> ReservedItem:
    """Reserve an item without a block."""
    item = queue.reserve().take()
    assert item is not None
    return item


def keys(queue: Queue) -> list[str]:
    """Return the keys of what can be taken."""
    return [item.key for item in queue.peek(None)]


WAYS: dict[str, Callable[[ReservedItem], object]] = {
    "done": lambda item: item.done(),
    "give_back": lambda item: item.give_back(),
    "reject": lambda item: item.reject("no"),
    "adone": lambda item: asyncio.run(item.adone()),
    "agive_back": lambda item: asyncio.run(item.agive_back()),
    "areject": lambda item: asyncio.run(item.areject()),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_first_way_counts(queue: Queue, way: str) -> None:
    """Whatever comes after it returns False, and changes nothing."""
    item = take(queue)
    assert (item.settled, WAYS[way](item), item.settled) == (False, True, True)
    there = keys(queue)
    assert ("0" in there) == ("back" in way)
    for again in WAYS.values():
        assert again(item) is False
    assert (keys(queue), queue.stats().reserved) == (there, 0)


def test_the_id_stays_and_is_never_used_again(queue: Queue) -> None:
    """One at each delivery of an item, another for each other item, another in a queue that is made anew."""
    first, second = take(queue), take(queue)
    ids = {first.id, second.id}
    assert len(ids) == 2
    first.give_back()
    again = take(queue)
    assert (again.id, again.deliveries) == (first.id, 2)
    again.done()
    second.done()
    queue.add("new", "v")
    batch = queue.reserve_many(9).take()
    assert len({item.id for item in batch} | ids) == 5
    batch.done()


def test_it_is_not_delivered_again_before_its_time(queue: Queue) -> None:
    """Others are, meanwhile; a waiting consumer gets it when it is due."""
    soon = take(queue)
    assert take(queue).give_back(after=HANG)
    rest = queue.fetch_many(9)
    assert [item.key for item in rest] == ["2", "3"]
    begin = time.monotonic()
    assert soon.give_back(after=0.4)
    item = queue.reserve(HANG).take()
    assert item is not None
    assert (item.key, item.deliveries) == ("0", 2)
    assert time.monotonic() - begin >= 0.4
    item.done()


def test_a_rejected_item_goes_to_the_dead_letters(queue: Queue, instance: str) -> None:
    """After its first delivery, with its time of adding; without such a queue it is dropped and counted."""
    item = take(queue)
    assert item.reject("no number")
    assert (queue.stats().dropped, queue.stats().fetched, queue.stats().dead_lettered) == (1, 0, 0)
    dead = Queue.create(instance, "dead", window=16 << 20)
    queue.set_deliveries(9, "dead")
    item = take(queue)
    assert item.reject()
    assert [(letter.key, letter.added) for letter in dead.peek(9)] == [(item.key, item.added)]
    assert (queue.stats().dropped, queue.stats().dead_lettered, queue.stats().reserved) == (1, 1, 0)
    assert keys(queue) == ["2", "3"]


def test_a_full_dead_letter_queue_loses_no_rejected_item(queue: Queue, instance: str) -> None:
    """It comes back, after a while."""
    dead = Queue.create(instance, "dead", window=16 << 20, byte_limit=8)
    queue.set_deliveries(9, "dead")
    assert take(queue).reject()
    assert (len(dead), queue.stats().reserved) == (0, 0)
    assert [item.key for item in queue.peek(None, reserved=True)] == ["0", "1", "2", "3"]


def test_an_answer_nobody_asked_for(queue: Queue) -> None:
    """The item is done, and the result is false."""
    item = take(queue)
    assert not item.asked
    assert item.answer("x") is False
    assert (item.settled, queue.stats().reserved, len(queue)) == (True, 0, 3)
    with pytest.raises(ItemError, match="an answer must be str or bytes, not int"):
        item.answer(5)  # type: ignore[arg-type]


def test_a_forgotten_item_goes_back_with_a_warning(queue: Queue) -> None:
    """At once: nobody has to take an item for it."""
    item = take(queue)
    assert keys(queue) == ["1", "2", "3"]
    with pytest.warns(ResourceWarning, match="a reserved item was forgotten and goes back"):
        del item
    assert keys(queue) == ["0", "1", "2", "3"]


def test_a_copy_settles_nothing(queue: Queue) -> None:
    """Pickled, or in a child, it is the same item, and is settled in the process that reserved it."""
    item = take(queue)
    copy: ReservedItem = pickle.loads(pickle.dumps(item))  # noqa: S301 - our own
    assert (copy, copy.id, copy.deliveries, copy.added, copy.asked) == (item, item.id, 1, item.added, False)
    assert [way(copy) for way in WAYS.values()] == [False] * len(WAYS)
    assert copy.settled
    assert os.waitpid(fork(lambda: os._exit(item.done() + item.give_back() + 2 * (not item.settled))), 0)[1] == 0
    assert (item.settled, queue.stats().reserved) == (False, 1)
    assert item.done()
    batch = queue.reserve_many(3).take()
    copies: Batch = pickle.loads(pickle.dumps(batch))  # noqa: S301 - our own
    assert (copies, copies.done(), copies.unsettled) == (batch, 0, [])
    assert batch.done() == 3


def test_batches_of_several_queues_are_settled_together(queue: Queue, instance: str) -> None:
    """Each where it came from; what is no reserved item is refused before anything is settled."""
    other = Queue.create(instance, "other", window=16 << 20)
    other.add("x", "")
    here, there = queue.reserve_many(2).take(), other.reserve_many(2).take()
    with pytest.raises(ItemError, match="only reserved items can be settled, not Item"):
        here.done([here[0], queue.peek()[0]])  # type: ignore[list-item]
    assert here.done([*there, *here, *here]) == 3
    assert (queue.stats().reserved, other.stats().reserved) == (0, 0)


@pytest.mark.parametrize("way", ["done", "give_back", "reject"])
def test_a_lock_not_had_is_kept_in_mind(queue: Queue, way: str) -> None:
    """The call says so; with the next call that takes items it is made up for."""
    item = take(queue)
    with child(queue._mutex.take), pytest.raises(LockTimeout):
        WAYS[way](item)
    assert item.settled
    found = queue.fetch()
    assert found is not None
    assert found.key == ("1" if way == "done" else "0")
    assert queue.stats().reserved == 0


def test_threads_that_settle_the_same_item(queue: Queue) -> None:
    """One of them does."""
    queue._mutex.timeout = HANG  # the machine may stop who has the lock
    item = take(queue)
    results: list[bool] = []
    begin = threading.Barrier(4)

    def finish() -> None:
        begin.wait()
        results.append(item.done())

    threads = [threading.Thread(target=finish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, False, True]


# --- times ------------------------------------------------------------------------------------------------------------

NO_TIMES = [math.nan, True, False, "1", b"1", [1], Decimal(1)]


@pytest.mark.parametrize("value", NO_TIMES, ids=repr)
def test_what_is_no_time_is_refused_at_once(queue: Queue, value: Any) -> None:
    """By every call that waits, before it takes anything."""
    calls: list[Callable[[], object]] = [
        lambda: queue.fetch(value),
        lambda: queue.pop_wait(value),
        lambda: queue.fetch_many(2, value),
        lambda: queue.reserve(value),
        lambda: queue.reserve_many(2, value),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="write a number of seconds, 0 for not at all, or None for ever"):
            call()
    item = take(queue)
    with pytest.raises(ConfigError, match=r"after=.*write a finite number of seconds"):
        item.give_back(after=value)
    assert item.done()
    assert len(queue) == 3
