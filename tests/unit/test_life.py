"""How a queue comes to be and ends: no room for it, taken over, its items moved, killed meanwhile."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

import pytest

from kemi.errors import NoMemory, QueueClosed
from kemi.owner import Owner, this_process
from kemi.queue.catalog import keeping
from kemi.queue.catalog.keeping import SAVING, UNSAVED, Crossing
from kemi.queue.catalog.registry import Registry
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.format.item import record_of
from kemi.queue.format.layout import ADD_CLOSED, ADD_LIMITED, ADD_WAITING, CHUNK, W_FLAGS, W_PRESENT, W_WAITERS
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from tests.conftest import SHM
from tests.unit.children import fork
from tests.unit.queues import ADDMODES, HUNDRED_K, WINDOW, sound

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture


def test_there_is_no_room_for_a_queue(make: Callable[..., Queue], instance: str, mocker: MockerFixture) -> None:
    """Making it is NoMemory, with the name of what to raise; nothing is left, and later it can be made."""
    mocker.patch("os.posix_fallocate", side_effect=OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(NoMemory, match=f"mqk.{instance}.q"):
        make()
    mocker.stopall()
    assert not list(SHM.glob(f"mqk.{instance}*"))
    assert make().add("k", "v") == ADDED


@ADDMODES
def test_adopt(make: Callable[..., Queue], instance: str, addmode: int) -> None:
    """Who takes a queue over from a dead owner has its items, its limits, its name, and no sleepers."""
    queue = make(addmode=addmode, size_limit=9, owner=Owner(1 << 23, 5, this_process().namespace))
    for number in range(3):
        queue.add(str(number), HUNDRED_K)
    queue.segment.words[W_FLAGS] |= ADD_WAITING | ADD_CLOSED
    queue.segment.words[W_WAITERS] = queue.segment.words[W_PRESENT] = 5
    registry = Registry.create(instance, this_process(), 1 << 30)
    other = Queue.attach(instance, "q", registry)
    assert other.owner().is_dead()
    assert other.adopt(this_process()) == 3
    assert other.owner() == this_process()
    assert (other.segment.words[W_FLAGS], other.segment.words[W_WAITERS]) == (ADD_LIMITED, 0)
    assert registry.memory() == other.stats().memory
    assert other.stats().recovered == 1
    sound(other)


def records(queue: Queue) -> list[bytes]:
    """Return the records of all items."""
    return [queue._log.core.records.read(at) for at in queue._log.scan()]


def test_records_move_to_another_queue(make: Callable[..., Queue], instance: str) -> None:
    """Records as they are, with the time of adding, in order; what does not fit is an error."""
    queue = make()
    for number in range(5):
        queue.add(str(number % 3), "\ud800")
    keyed = Queue.create(instance, "keyed", window=WINDOW, addmode=2)
    for record in records(queue):
        keyed.append_record(record)
    assert [item.key for item in keyed.peek(9)] == ["2", "0", "1"]
    assert keyed.peek(1)[0].added == queue.peek(3)[2].added
    sound(keyed)
    small = Queue.create(instance, "small", window=CHUNK)
    queue.add("large", "x" * 4 * CHUNK)
    with pytest.raises(NoMemory, match=r"mqk.*small"):
        list(map(small.append_record, records(queue)))


@ADDMODES
def test_killed_while_its_items_move(make: Callable[..., Queue], instance: str, addmode: int) -> None:
    """Its items may be in another place already: nobody uses the queue before the next owner has found out."""
    queue = make(addmode=addmode)
    queue.add("k", "v")
    registry = Registry.create(instance, this_process(), 1 << 30)

    def move() -> None:
        with queue.moving() as moved:
            list(moved)
            os.kill(os.getpid(), signal.SIGKILL)

    pid = fork(move)
    os.waitpid(pid, 0)
    for _ in range(2):
        for call in (lambda: queue.add("late", "v"), queue.pop, queue.stats, lambda: queue.fetch(0.01)):
            with pytest.raises(QueueClosed, match="the next server finds out"):
                call()
    assert queue.is_closed()
    other = AttachedQueue(instance, "q")
    assert other.fetch(0.05) is None  # it waits for the next server
    with pytest.raises(QueueClosed):
        other.add("late", "v")
    assert Queue.attach(instance, "q", registry).adopt(this_process()) == 1
    assert not queue.is_closed()
    assert queue.add("late", "v") == ADDED
    assert [item.key for item in queue.peek(9)] == ["k", "late"]
    sound(queue)


@ADDMODES
def test_taken_over_with_items_that_are_saved(make: Callable[..., Queue], instance: str, addmode: int) -> None:
    """They are in the table: the queue is empty, and nothing more is to be found out about it."""
    queue = make(addmode=addmode)
    queue.add("k", "v")
    keeping.set_crossing(queue.segment.words, Crossing(SAVING, 1))
    other = Queue.attach(instance, "q", Registry.create(instance, this_process(), 1 << 30))
    assert other.adopt(this_process(), saved=True) == 0
    assert keeping.crossing(queue.segment.words).kind == UNSAVED
    assert other.stats().dropped == 1
    sound(other)


@pytest.mark.parametrize("was_closed", [False, True])
def test_a_move_that_fails_changes_nothing(make: Callable[..., Queue], was_closed: bool) -> None:
    """Whatever is raised inside: the items are there, and it is as closed as before."""
    queue = make(closed=was_closed)
    queue.append_record(record_of(b"k", b"v", 1.0))
    with pytest.raises(ZeroDivisionError), queue.moving():
        raise ZeroDivisionError
    assert queue.is_closed() == was_closed
    assert len(queue) == 1
