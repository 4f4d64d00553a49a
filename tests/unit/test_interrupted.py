"""A call that is broken off or nested by a signal handler, and memory that is repaired on the way."""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import LockTimeout, Reentered, SegmentError
from kemi.owner import this_process
from kemi.queue import handle as handles
from kemi.queue.catalog.registry import Registry
from kemi.queue.format import layout
from kemi.queue.format.outcome import CLOSED
from kemi.queue.lock.mutex import trylock
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from kemi.queue.sync.eventcount import EventCount
from tests.unit.children import child, in_child, killed_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

WINDOW = 16 << 20


def keys(queue: Queue) -> list[str]:
    """Return the keys of all items."""
    return [item.key for item in queue.peek(1000)]


class Struck:
    """Memory at whose stores something happens first."""

    def __init__(self, memory: Any, strike: Callable[[], None]) -> None:
        self._memory = memory
        self._strike = strike

    def __setitem__(self, where: slice, data: bytes) -> None:
        self._strike()
        self._memory[where] = data

    def __getitem__(self, where: Any) -> Any:
        return self._memory[where]


@pytest.mark.python_code
def test_a_nested_add_leaves_the_lock_to_the_outer_one(instance: str, mocker: MockerFixture) -> None:
    """A handler that uses the queue in the middle of an add is refused, and the add still has the lock afterwards."""
    queue = Queue.create(instance, "q", window=WINDOW)
    strike = mocker.Mock()

    def interrupt() -> None:
        with pytest.raises(Reentered):
            queue.add("inner", "v")
        with child(lambda: trylock(queue._mutex.ref) == errno.EBUSY or os._exit(1)):
            strike()

    queue.add("first", "v")  # where the chunk begins and ends is known then
    struck = Struck(queue._bytes, interrupt)
    for writes in (queue, queue._log):  # the latter with Python 3.9
        mocker.patch.object(writes, "_bytes", struck)
    assert queue.add("outer", "v") == ADDED
    strike.assert_called_once()
    assert not queue._mutex.is_mine()
    assert keys(queue) == ["first", "outer"]


@pytest.mark.python_code
@pytest.mark.parametrize("error", [ValueError, IndexError, struct.error, KeyboardInterrupt, LockTimeout])
@pytest.mark.parametrize("size_limit", [0, 9], ids=["the short way", "the long way"])
def test_a_handlers_exception_is_its_own(
    instance: str, mocker: MockerFixture, error: type[BaseException], size_limit: int
) -> None:
    """Whatever a handler raises between commit and end comes out as it is, and what it broke off is put right."""
    queue = Queue.create(instance, "q", window=WINDOW, addmode=2, size_limit=size_limit)
    queue.add("k", "old")
    patched: Any
    if size_limit:
        patched = mocker.patch.object(queue._log.core.journal, "close", side_effect=error("from the application"))
    else:
        words = queue._log._u64

        def strike() -> None:
            if words[layout.W_COMMIT]:
                raise error("from the application")

        patched = mocker.patch.object(queue._log, "_u64", Struck(words, strike))
    recover = queue._log.recover

    def stop_and_recover() -> None:
        mocker.stop(patched)
        recover()

    mocker.patch.object(queue._log, "recover", stop_and_recover)
    with pytest.raises(error, match="from the application"):
        queue.add("k", "new")
    mocker.stopall()
    assert [(item.key, item.value) for item in queue.peek(9)] == [("k", "new")]
    assert queue.stats().recovered == 1
    assert len(queue) == 1
    assert queue.handle.work(queue.handle.verify) == []


def test_a_broken_index_loses_no_item(instance: str) -> None:
    """The records are sound: calls fail with the reason, and no item is stuck."""
    queue = Queue.create(instance, "q", window=WINDOW, addmode=1)
    for key in "abc":
        queue.add(key, "v")
    words = queue.segment.words
    buckets = words[words[layout.W_DIRECTORY_AT] >> 3]
    queue.segment.bytes[buckets : buckets + layout.CHUNK] = bytes(layout.CHUNK)
    found = []
    with pytest.raises(SegmentError, match=f"/dev/shm/mqk.{instance}.q is corrupted: .*not in the key index"):
        queue.pop()
    for _ in range(5):
        with suppress(SegmentError):
            if item := queue.fetch():
                found.append(item.key)
    assert found == ["a", "b", "c"]


# --- what a recovery reads --------------------------------------------------------------------------------------------


def long_queue(instance: str) -> Queue:
    """Make a queue whose items lie in several chunks."""
    queue = Queue.create(instance, "q", window=WINDOW)
    for number in range(10):
        queue.add(str(number), "x" * 100_000)
    return queue


@pytest.mark.python_code
@in_child
def test_who_waits_behind_the_lock_does_not_wait_for_a_verdict(instance: str, mocker: MockerFixture) -> None:
    """After a kill, and after an exception of the application, the next call does not read every record."""
    queue = long_queue(instance)
    verify = mocker.spy(handles, "verify")
    killed_after(queue._mutex.take)
    assert queue.add("after the kill", "") == ADDED
    trimmed = mocker.patch.object(queue._log.core.chunks, "trim", side_effect=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        queue.fetch_many(5)
    mocker.stop(trimmed)
    assert queue.stats().recovered == 2
    assert not verify.called


@in_child
def test_a_new_server_reads_every_record(instance: str, mocker: MockerFixture) -> None:
    """What a dead one left is checked from end to end before it is used."""
    queue = long_queue(instance)
    verify = mocker.spy(handles, "verify")
    killed_after(queue._mutex.take)
    assert queue.adopt(this_process()) == 10
    assert verify.call_count == 1


def test_a_new_server_refuses_what_is_corrupted(instance: str) -> None:
    """Somewhere in the middle, where no fetch would have come to soon."""
    queue = long_queue(instance)
    sixth = list(queue._log.scan())[5]
    queue.segment.halves[sixth >> 2] = 0
    with pytest.raises(SegmentError, match=f"is corrupted: the record at {sixth}"):
        queue.adopt(this_process())


@pytest.mark.python_code
def test_an_item_is_not_lost_on_the_way_out_of_a_sleep(instance: str, mocker: MockerFixture) -> None:
    """Who slept and takes an item needs the lock no second time."""
    queue = Queue.create(instance, "q", window=WINDOW)
    mocker.patch.object(EventCount, "wait", side_effect=lambda *_: queue.add("k", "v") and False)
    mocker.patch.object(queue._taker, "_cancel_wait", side_effect=LockTimeout("somebody is stopped"))
    item = queue.fetch(5)
    assert item is not None
    assert item.key == "k"


def test_what_was_moved_is_not_taken_twice(instance: str) -> None:
    """A queue that another one replaces is empty and closed for who still has it open."""
    queue = Queue.create(instance, "q", window=WINDOW)
    consumer = Queue.attach(instance, "q")
    queue.add("k", "v")
    with queue.moving() as records:
        assert len(list(records)) == 1
    assert consumer.pop() is None
    assert consumer.add("k", "v") == CLOSED


def test_a_failed_create_holds_no_memory(instance: str) -> None:
    """A queue that exists already costs the instance nothing when it is made again."""
    registry = Registry.create(instance, this_process(), 1 << 30)
    queue = Queue.create(instance, "q", window=WINDOW, registry=registry)
    with pytest.raises(FileExistsError):
        Queue.create(instance, "q", window=WINDOW, registry=registry)
    assert registry.memory() == queue.stats().memory
