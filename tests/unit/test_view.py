"""What a look at a queue's file says, without a lock or a mapping, is what the queue itself says."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from kemi.errors import SegmentError
from kemi.owner import this_process
from kemi.queue.catalog import view
from kemi.queue.catalog.registry import Registry
from kemi.queue.catalog.view import look_at_instance, look_at_lock, look_at_queue
from kemi.queue.format import layout
from kemi.queue.format.layout import CHUNK
from kemi.queue.queue import Queue
from tests.conftest import SHM
from tests.locked import locked

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

WINDOW = 16 << 20


def oldest_of(queue: Queue) -> float | None:
    """Return when the item was added that is taken next, as the queue itself says."""
    found = queue.peek(1)
    return found[0].added if found else None


def test_memory_is_what_the_file_has(instance: str) -> None:
    queue = Queue.create(instance, "q", window=WINDOW)
    queue.add("k", "v" * CHUNK)
    seen = look_at_queue(instance, "q")
    assert seen.stats.memory == (SHM / f"mqk.{instance}.q").stat().st_blocks * 512
    assert (seen.owner, seen.created) == (this_process(), queue.segment.words[layout.W_CREATED])


@pytest.mark.parametrize("addmode", [0, 2])
def test_the_oldest_is_found_after_each_fetch(instance: str, addmode: int) -> None:
    """Whether the number of items that left is even or odd, in each chunk, and when the last one has gone."""
    queue = Queue.create(instance, "q", window=WINDOW, addmode=addmode)
    for number in range(7):
        queue.add(str(number), "v" * (CHUNK // 3))
    while len(queue):
        expected = oldest_of(queue)
        assert expected is not None
        assert look_at_queue(instance, "q").stats.oldest == expected
        queue.fetch()
    assert look_at_queue(instance, "q").stats.oldest is None


def test_the_oldest_is_found_behind_what_was_replaced_in_other_chunks(instance: str) -> None:
    """One that ends a chunk exactly or nearly, and one that begins the next."""
    queue = Queue.create(instance, "q", window=WINDOW, addmode=2)
    for number in range(40):
        queue.add(str(number), "v" * (CHUNK // 5))
    for number in range(30):
        queue.add(str(number), "new")
        assert look_at_queue(instance, "q").stats.oldest == oldest_of(queue)


def test_what_was_given_back_is_the_oldest(instance: str) -> None:
    queue = Queue.create(instance, "q", window=WINDOW)
    for number in range(3):
        queue.add(str(number), "v")
    with queue.reserve() as first:
        assert first is not None
        assert look_at_queue(instance, "q").stats.oldest == oldest_of(queue) != first.added
        first.give_back()
    assert look_at_queue(instance, "q").stats.oldest == oldest_of(queue) == first.added


@pytest.mark.parametrize("beyond", [0, 1, 1 << 30])
def test_an_entry_that_is_none_leads_nowhere(instance: str, beyond: int) -> None:
    """The heap of a corrupted file names an entry that is not there, the first such one too: no oldest, no error."""
    queue = Queue.create(instance, "q", window=WINDOW)
    queue.add("k", "v")
    with queue.reserve() as item:
        assert item is not None
        item.give_back()
    words = queue.segment.words
    queue.segment.halves[words[layout.W_HEAP_AT] >> 2] = words[layout.W_CAPACITY] + beyond
    assert look_at_queue(instance, "q").stats.oldest is None


def test_the_thread_that_holds_a_lock_is_named(instance: str) -> None:
    queue = Queue.create(instance, "q", window=WINDOW)
    assert look_at_lock(instance, "q") == 0
    with locked(queue._mutex):
        assert look_at_lock(instance, "q") == threading.get_native_id()
    assert look_at_lock(instance, "q") == 0


def test_an_instance_says_its_limit_and_what_its_queues_hold(instance: str) -> None:
    registry = Registry.create(instance, this_process(), 1 << 30)
    queues = [Queue.create(instance, name, window=1 << 20, registry=registry) for name in "ab"]
    seen = look_at_instance(instance)
    assert (seen.owner, seen.max_memory, seen.user) == (this_process(), 1 << 30, os.getuid())
    assert seen.memory == registry.memory() == sum(queue.stats().memory for queue in queues)


def test_a_file_that_shrinks_is_told(instance: str, mocker: MockerFixture) -> None:
    """After it was checked, before its words were read."""
    Queue.create(instance, "q", window=1 << 20)
    path = SHM / f"mqk.{instance}.q"

    def check(_fd: int, _name: str) -> None:
        os.truncate(path, layout.PAGE - 8)

    mocker.patch.object(view, "_check_queue", check)
    with pytest.raises(SegmentError, match=f"{path} was truncated while it was read"):
        look_at_queue(instance, "q")
