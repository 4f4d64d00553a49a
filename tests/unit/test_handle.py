"""A queue's parts together: what is put right after an exception, and by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.errors import SegmentError
from kemi.queue.adding import record_of
from kemi.queue.format import geometry, layout
from kemi.queue.format.layout import PENDING, W_FLAGS, W_RECOVERED
from kemi.queue.lock.mutex import DOUBTED
from kemi.queue.lock.pthread import GLIBC
from kemi.queue.queue import Queue
from tests.locked import locked

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

WINDOW = 16 << 20


@pytest.fixture
def queue(instance: str) -> Queue:
    """Return a queue that has an item."""
    queue = Queue.create(instance, "q", window=WINDOW)
    queue.add("k", "v")
    return queue


def test_who_has_not_the_lock_puts_nothing_right(queue: Queue, mocker: MockerFixture) -> None:
    """As a process that a signal handler forked in the middle of it all: the holder is still at work."""
    queue._u64[W_FLAGS] |= PENDING
    before = bytes(queue._bytes[: layout.MUTEX_AT])
    account = mocker.spy(queue.handle.memory, "account")
    queue.handle.put_right(queue._mutex, ValueError())
    assert bytes(queue._bytes[: layout.MUTEX_AT]) == before
    account.assert_not_called()
    queue._u64[W_FLAGS] &= ~PENDING


def test_who_has_the_lock_puts_it_right_and_trusts_it(queue: Queue) -> None:
    with locked(queue._mutex):
        queue._u64[W_FLAGS] |= PENDING
        queue._mutex.doubt.value = DOUBTED
        queue.handle.put_right(queue._mutex, ValueError())
        assert not queue._u64[W_FLAGS] & PENDING
        assert queue._u64[W_RECOVERED] == 1
        assert queue._mutex.doubt.value != DOUBTED or not GLIBC
    assert queue.fetch() is not None


def test_a_draft_takes_over_the_positions_of_streams_and_nothing_else(instance: str) -> None:
    """All of them, whichever the draft had."""
    old = Queue.create(instance, "q", window=WINDOW)
    for number in range(layout.POSITIONS):
        old.add_from(f"stream {number}", [((7, number), "k", "v")])
    draft = Queue.create(instance, "q", window=WINDOW, draft=True)
    draft.add("own", "v")
    first, end = layout.POSITIONS_AT, layout.POSITIONS_AT + layout.POSITIONS * layout.POSITION_WORDS * 8
    memory = draft.segment.bytes
    whole = geometry.read(draft._u64).fixed_bytes()
    before = memory[:first], memory[end:whole]
    with old.reserve() as item:  # so that the two differ behind the positions, too
        assert item is not None
        draft.take_positions(old)
    assert memory[first:end] == old.segment.bytes[first:end]
    assert (memory[:first], memory[end:whole]) == before
    assert [draft.position(f"stream {number}") for number in range(layout.POSITIONS)] == [
        (7, number) for number in range(layout.POSITIONS)
    ]
    assert [item.key for item in draft.peek(None)] == ["own"]
    draft.remove()


@pytest.mark.parametrize("addmode", [0, 1, 2])
def test_an_add_that_cannot_be_counted_names_the_queue(instance: str, addmode: int) -> None:
    """Where a wild store and a clear left an empty queue whose counters are at their end."""
    queue = Queue.create(instance, "q", window=WINDOW, addmode=addmode)
    queue.add("k", "v")
    assert queue.fetch() is not None  # of both an odd number, as below: the same words of HEAD and TAIL count
    queue._u64[layout.W_ADDED] = queue._u64[layout.W_POPPED] = (1 << 64) - 1
    record = record_of("new", "v")
    for _ in range(2):
        with pytest.raises(SegmentError, match=f"{queue.segment.name} is corrupted"):
            queue.handle.work(lambda: queue._log.append(record, len(record)))
    assert not queue.handle.is_locked()
