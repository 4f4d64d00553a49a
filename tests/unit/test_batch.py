"""Several items reserved at a time: settled one by one or together, given back, never leaked."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import pytest

from kemi.errors import LockTimeout, MqueueError
from kemi.owner import this_process
from kemi.queue import handle as handles
from kemi.queue import reserving
from kemi.queue.catalog.registry import Registry
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.queue import Queue
from tests.support.lock_times import at_a_time
from tests.unit.children import child, fork, in_child

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

ADDMODES = pytest.mark.parametrize("addmode", [0, 1, 2])
MANY = 100


@pytest.fixture(params=[0, 1, 2])
def queue(instance: str, request: pytest.FixtureRequest) -> Queue:
    """Return a queue with many items."""
    registry = Registry.create(instance, this_process(), 1 << 30)
    made = Queue.create(instance, "q", window=16 << 20, addmode=request.param, registry=registry)
    made.add_many((str(number), "v") for number in range(MANY))
    return made


def keys(queue: Queue) -> list[int]:
    """Return the keys of what is there to be taken."""
    return [int(item.key) for item in queue.peek(1000)]


def test_what_the_block_does_not_settle_is_done(queue: Queue) -> None:
    with queue.reserve_many(30) as batch:
        assert [int(item.key) for item in batch] == list(range(30))
        assert (len(queue), queue.stats().reserved, len(batch.unsettled)) == (MANY - 30, 30, 30)
    assert keys(queue) == list(range(30, MANY))
    assert (queue.stats().reserved, queue.stats().fetched) == (0, 30)
    assert queue.handle.work(queue.handle.verify) == []


def test_an_exception_gives_all_back_that_is_unsettled(queue: Queue) -> None:
    def work() -> None:
        with queue.reserve_many(40) as batch:
            assert batch.done(batch[:10]) == 10
            assert batch.done(batch[:10]) == 0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert keys(queue) == list(range(10, MANY))
    with queue.reserve_many(1) as again:
        assert again[0].deliveries == 2


def test_some_given_back_and_the_others_done(queue: Queue) -> None:
    with queue.reserve_many(9) as batch:
        assert batch.give_back([batch[3], batch[1]]) == 2
        assert [int(item.key) for item in batch.unsettled] == [0, 2, 4, 5, 6, 7, 8]
        assert batch.done() == 7
        assert batch.unsettled == []
    assert keys(queue) == [1, 3, *range(9, MANY)]


def test_fewer_than_asked_for_and_none(queue: Queue) -> None:
    with queue.reserve_many(1000) as batch:
        assert len(batch) == MANY
    with queue.reserve_many(5, 0.05) as batch:
        assert not batch
        assert batch.done() == 0


def test_it_waits_for_the_first_one(instance: str) -> None:
    queue = Queue.create(instance, "w", window=16 << 20)
    pid = fork(lambda: queue.add_many([("a", ""), ("b", "")]) and None)
    with queue.reserve_many(5, 30) as batch:
        assert [item.key for item in batch] == ["a", "b"]
    os.waitpid(pid, 0)


@pytest.mark.python_code
def test_the_lock_is_taken_for_a_few_at_a_time(queue: Queue, mocker: MockerFixture) -> None:
    at_a_time(mocker, 7)
    locks = [mocker.spy(module, "hold") for module in (handles, reserving)]

    def taken() -> int:
        number = sum(each.call_count for each in locks)
        for each in locks:
            each.reset_mock()
        return number

    batches = -(-MANY // 7)
    with queue.reserve_many(MANY) as batch:
        assert taken() == batches
        batch.done()
        assert taken() == batches
    queue.add_many((str(number), "v") for number in range(MANY))
    assert taken() == (batches if queue.addmode else 1)  # a plain log takes all of them by one commit
    with queue.reserve_many(MANY) as batch:
        taken()
        batch.give_back()
        assert taken() == batches
    with queue.reserve_many(MANY) as batch:
        assert len(batch) == MANY
        assert taken() == batches
        batch.give_back()
        taken()
    assert len(queue.fetch_many(MANY)) == MANY
    assert taken() == batches


def test_a_forgotten_batch_comes_back(queue: Queue) -> None:
    block = queue.reserve_many(20)
    batch = block.__enter__()
    batch.done(batch[:5])
    del block, batch
    gc.collect()
    assert keys(queue) == list(range(5, MANY))
    assert queue.stats().reserved == 0


@in_child
def test_a_killed_process_holds_nothing(queue: Queue) -> None:
    with child(lambda: queue.reserve_many(30).__enter__() and None):
        pass
    item = queue.fetch()
    assert item is not None
    assert item.key == "0"
    assert len(queue) == MANY - 1


@pytest.mark.python_code
def test_a_lock_not_had_is_made_up_for(queue: Queue, mocker: MockerFixture) -> None:
    block = queue.reserve_many(30)
    batch = block.__enter__()
    busy = mocker.patch.object(queue._reserver, "_settle_some", side_effect=LockTimeout("busy"))
    with pytest.raises(LockTimeout):
        batch.done()
    mocker.stop(busy)
    assert queue.fetch() is not None
    assert queue.stats().reserved == 0
    assert len(queue) == MANY - 31


def test_a_child_settles_nothing_of_its_parent(queue: Queue) -> None:
    with queue.reserve_many(3) as batch:
        assert os.waitpid(fork(lambda: os._exit(batch.done())), 0)[1] == 0
        assert queue.stats().reserved == 3


def test_more_than_there_are_entries(instance: str) -> None:
    queue = Queue.create(instance, "w", window=16 << 20)
    queue.add_many([("k", "")] * 1030)
    with queue.reserve_many(2000) as batch:
        assert len(batch) == 1024
        with pytest.raises(MqueueError, match="1024 items are reserved"), queue.reserve_many(1):
            pass
    assert len(queue) == 6


def test_an_attached_queue(queue: Queue, instance: str) -> None:
    client = AttachedQueue(instance, "q")
    with client.reserve_many(15) as batch:
        assert batch.done(batch[:10]) == 10
        assert batch.give_back() == 5
    assert keys(queue) == list(range(10, MANY))
    client.close()
