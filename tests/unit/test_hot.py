"""The calls that spell out how the lock is taken: what they unlock, whatever goes wrong on the way."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kemi.queue import hot
from kemi.queue.delivery.hold import DONE
from kemi.queue.delivery.reserved import ReservedItem
from kemi.queue.format.item import key_of
from kemi.queue.lock.pthread import NOWHERE
from kemi.queue.log.core import ADDED, KEPT
from kemi.queue.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

pytestmark = [
    pytest.mark.python_code,
    pytest.mark.skipif(sys.version_info < (3, 10), reason="there these calls use hold"),
]
CALLS: dict[str, Callable[[Queue], object]] = {
    "add": lambda queue: queue.add("k", "v"),
    "pop": lambda queue: queue.pop(),
    "reserve": lambda queue: queue.reserve_some(1, 0.0, lambda _: None),
    "settle": lambda queue: queue.settle([None], DONE),  # type: ignore[list-item]
}


class Taking(Exception):
    """Came while the lock was taken."""


class Cleaning(Exception):
    """Came while what that left was put right."""


@pytest.fixture
def queue(instance: str) -> Queue:
    """Return a queue that has an item."""
    queue = Queue.create(instance, "q", window=16 << 20)
    queue.add("first", "v")
    return queue


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("code", "is_lost"), [(errno.ENOTRECOVERABLE, True), (errno.EBUSY, False)])
def test_a_lost_mutex_is_never_unlocked(
    queue: Queue, mocker: MockerFixture, call: str, code: int, is_lost: bool
) -> None:
    """Also when signals come while it is taken, while that is put right, and while that is put right again.

    Any other one is unlocked: the signal may have come just after it was had.
    """
    mutex, handle = queue._mutex, queue.handle
    unlocked: list[Any] = []
    mocker.patch.object(hot, "trylock", return_value=code)
    mocker.patch.object(hot, "unlock", unlocked.append)
    mocker.patch.object(type(mutex), "take_slowly", side_effect=Taking)
    mocker.patch.object(type(handle), "clean_up", side_effect=Cleaning)
    mocker.patch.object(type(handle), "clean_up_again", side_effect=Cleaning)
    with pytest.raises(Cleaning):
        CALLS[call](queue)
    assert len(unlocked) == 1
    assert unlocked[0] is (NOWHERE if is_lost else mutex.ref)


@pytest.mark.parametrize("call", CALLS)
def test_what_is_unlocked_after_an_exception_is_what_the_lock_says(
    queue: Queue, mocker: MockerFixture, call: str
) -> None:
    """It may be that of a call which was interrupted, and is none then."""
    own = object()
    unlocked: list[Any] = []
    mocker.patch.object(hot, "trylock", return_value=errno.EBUSY)
    mocker.patch.object(hot, "unlock", unlocked.append)
    mocker.patch.object(type(queue._mutex), "take_slowly", side_effect=Taking)
    clean_up = mocker.patch.object(type(queue.handle), "clean_up", return_value=own)
    with pytest.raises(Taking):
        CALLS[call](queue)
    assert unlocked == [own]
    assert clean_up.call_args.kwargs == {"inside": False}


@pytest.mark.parametrize("call", CALLS)
def test_the_mutex_that_is_had_in_the_end_is_unlocked(queue: Queue, mocker: MockerFixture, call: str) -> None:
    """Another one may be in use by then."""
    other = object()
    unlocked: list[Any] = []
    mocker.patch.object(hot, "trylock", return_value=errno.ENOTRECOVERABLE)
    mocker.patch.object(hot, "unlock", unlocked.append)
    mocker.patch.object(type(queue._mutex), "take_slowly", return_value=other)
    mocker.patch.object(type(queue.handle.holding), "finish", return_value=True)
    CALLS[call](queue)
    assert unlocked == [other]


@pytest.mark.parametrize("addmode", [0, 1])
def test_the_forms_for_python_3_9_do_the_same(instance: str, addmode: int) -> None:
    """There they take the methods' places."""
    queue = Queue.create(instance, "held", window=16 << 20, addmode=addmode)
    assert hot._pop_by_hold(queue) is None
    assert [hot._add_by_hold(queue, key, "v") for key in "aab"] == ([ADDED, KEPT, ADDED] if addmode else [ADDED] * 3)
    record = hot._pop_by_hold(queue)
    assert record is not None
    assert key_of(record) == "a"
    kept: list[ReservedItem] = []
    assert hot._reserve_by_hold(queue, 1, 0.0, kept.append) == 1
    assert hot._settle_by_hold(queue, [kept[0]._hold.token], DONE) == 1
    assert (len(queue), queue.stats().reserved) == (1 - addmode, 0)
