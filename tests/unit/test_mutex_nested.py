"""The lock of a call in whose middle a signal handler makes another call: it stays the outer one's."""

from __future__ import annotations

import errno
from _thread import get_native_id
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import Reentered
from kemi.owner import this_process
from kemi.queue.catalog import header
from kemi.queue.format import layout
from kemi.queue.lock import mutex as mutexes
from kemi.queue.lock import pthread
from kemi.queue.lock.mutex import DOUBTED, Mutex, trylock, unlock
from kemi.queue.lock.section import hold
from kemi.queue.shm.segment import Segment
from tests.conftest import HANG
from tests.unit.children import child, in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

_kept: list[Segment] = []


def page(name: str) -> Segment:
    """Return a page with a lock in it."""
    return Segment.create(name, 4096, 4096, lambda segment: header.write(segment, layout.MAGIC, this_process()))


def lock_of(segment: Segment) -> Mutex:
    """Return its lock."""
    return Mutex(segment, HANG, lambda: None, lambda: 0)


@pytest.fixture
def lock(instance: str) -> Iterator[Mutex]:
    """Give a lock."""
    segment = page(f"mqk.{instance}")
    yield lock_of(segment)
    _kept.append(segment)  # the C library walks to a lock that is held


def hot_path(mutex: Mutex, work: Callable[[], object]) -> None:
    """Do some work with the lock, as a hot path does it."""
    ref: Any = mutex.ref
    inside = False
    try:
        if code := trylock(ref):
            ref = mutex.take_slowly(code)
        inside = True
        work()
    except BaseException:
        ref = mutex.ref_after(inside=inside)
        raise
    finally:
        unlock(ref)


@pytest.fixture(autouse=True)
def _known(mocker: MockerFixture) -> None:
    mocker.patch.object(mutexes, "sections", {*mutexes.sections, hot_path.__code__})


def refused(mutex: Mutex, call: Callable[..., object]) -> None:
    """Make a call that takes the lock, where it is this thread's."""
    with pytest.raises(Reentered):
        call(mutex, pytest.fail)
    assert mutex.is_mine()
    with child(lambda: trylock(mutex.ref) == errno.EBUSY or pytest.fail("it was freed")):
        pass


@pytest.mark.parametrize("outer", [hot_path, hold])
@pytest.mark.parametrize("inner", [hot_path, hold])
def test_a_call_in_a_call_leaves_the_lock_to_the_outer_one(
    lock: Mutex, outer: Callable[..., object], inner: Callable[..., object]
) -> None:
    """Whichever way each of them takes it; twice, and it is free after the outer one."""

    def work() -> None:
        refused(lock, inner)
        refused(lock, inner)

    outer(lock, work)
    assert not lock.is_mine()
    assert not lock.is_held()


def test_another_queues_call_is_no_outer_one(lock: Mutex, instance: str) -> None:
    """What is interrupted while the lock is taken frees it, in a call on another queue, too."""
    other = lock_of(page(f"mqk.{instance}.other"))

    def interrupted() -> None:
        take_and_break_at_once(lock)
        assert other.is_mine()

    hot_path(other, interrupted)
    assert not other.is_held()


def take_and_break(mutex: Mutex, take: Callable[[], None]) -> None:
    """Be struck by a handler's exception just after the lock was had, as a hot path may be."""
    ref: Any = mutex.ref
    try:
        take()
    except BaseException:
        ref = mutex.ref_after(inside=False)
        raise
    finally:
        unlock(ref)


def test_only_a_lock_is_taken_for_one(lock: Mutex, mocker: MockerFixture) -> None:
    """A function of that name may have anything in a variable that is called `mutex`, or nothing yet."""

    def with_something() -> None:
        mutex = object()
        take_and_break_at_once(lock)
        assert mutex

    def with_nothing() -> None:
        take_and_break_at_once(lock)
        mutex = None
        assert mutex is None

    codes = {with_something.__code__, with_nothing.__code__, take_and_break.__code__}
    mocker.patch.object(mutexes, "sections", {*mutexes.sections, *codes})
    with_something()
    with_nothing()


def take_and_break_at_once(lock: Mutex) -> None:
    def boom() -> None:
        trylock(lock.ref)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_and_break(lock, boom)
    assert not lock.is_held()


# --- doubt ------------------------------------------------------------------------------------------------------------

glibc = pytest.mark.skipif(not pthread.GLIBC, reason="only glibc's mutex can be doubted by its holder")


@glibc
def test_trust_leaves_a_held_mutex_as_the_c_library_has_it(lock: Mutex) -> None:
    """Byte for byte, and its owner is this thread, as for whoever looks at it with a debugger."""
    segment = lock._segment
    where = slice(layout.MUTEX_AT, layout.MUTEX_AT + layout.MUTEX_STRIDE)

    def work() -> None:
        before = segment.bytes[where]
        lock.doubt.value = DOUBTED
        assert segment.bytes[where] != before
        lock.trust()
        assert segment.bytes[where] == before
        assert lock.doubt.value == get_native_id()

    hold(lock, work)
    assert trylock(lock.ref) == 0
    unlock(lock.ref)


@glibc
@in_child
def test_a_mutex_in_doubt_is_lost_when_it_is_freed(lock: Mutex) -> None:
    lock.take()
    lock.doubt.value = DOUBTED
    unlock(lock.ref)
    with child(lambda: trylock(lock.ref) == errno.ENOTRECOVERABLE or pytest.fail("it is free")):
        pass
