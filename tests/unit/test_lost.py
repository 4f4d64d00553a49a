"""Mutexes that nobody can use any more: a repair that fails loses one, and the next one takes its place."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import LockTimeout, SegmentError
from kemi.queue.format import layout
from kemi.queue.lock import lost, pthread
from kemi.queue.lock.mutex import Mutex, trylock, unlock
from kemi.queue.shm.naming import path_of
from kemi.queue.sync import futex
from kemi.queue.sync.openfile import OpenFile
from tests.conftest import HANG
from tests.locked import locked
from tests.unit.children import child, fork, in_child, kill, killed_after
from tests.unit.locks import ALLOWED, PROGRESS, REPAIRS, TIMEOUT, Repair, locked_by, takes

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from kemi.queue.shm.segment import Segment


def lose(lock: Mutex, repair: Repair) -> None:
    """Have the holder killed, and the repair fail: the mutex in use is lost."""
    killed_after(lock.take)
    repair.words[ALLOWED] = 0
    with pytest.raises(SegmentError, match="cannot be repaired"):
        lock.take()
    repair.words[ALLOWED] = 1


@pytest.mark.parametrize("error", [SegmentError("cannot be repaired"), KeyboardInterrupt(), MemoryError()])
@in_child
def test_a_repair_that_fails(lock: Mutex, segment: Segment, repair: Repair, error: BaseException) -> None:
    """The lock is for nobody until a repair succeeds; then the next mutex is in use, for those who had it open too."""
    other = locked_by(segment, repair)
    repair.error, repair.words[ALLOWED] = error, 0
    killed_after(lock.take)
    for one in (lock, other, lock):
        one.timeout = HANG
        with takes(), pytest.raises(type(error)):
            one.take()
        assert not one.is_mine()
    assert segment.words[layout.W_MUTEX] == 0
    repair.words[ALLOWED] = 1
    with locked(lock):
        assert lock.is_mine()
        with pytest.raises(LockTimeout):
            other.take()
    assert (segment.words[layout.W_MUTEX], segment.words[REPAIRS]) == (1, 1)
    with locked(other), child(lambda: trylock(lock.ref) == errno.EBUSY or os._exit(1)):
        assert other.is_mine()
    assert segment.words[REPAIRS] == 1
    fresh = locked_by(segment, repair)
    with locked(fresh):
        assert trylock(lock.ref) in (errno.EBUSY, errno.EDEADLK)


@in_child
def test_a_death_in_the_replacement(lock: Mutex, segment: Segment, repair: Repair) -> None:
    """Who is killed while it puts the next mutex in place leaves it to the next one."""
    lose(lock, repair)

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(fork(Mutex(segment, TIMEOUT, die, int).take), 0)
    with locked(lock):
        assert (segment.words[layout.W_MUTEX], segment.words[REPAIRS]) == (1, 1)


@in_child
def test_a_death_on_the_way_to_the_replacement(lock: Mutex, segment: Segment, repair: Repair) -> None:
    """Who is killed as soon as it knows that the lock is lost does not keep the others out."""
    lose(locked_by(segment, repair), repair)
    killed_after(lambda: trylock(lock.ref) == errno.ENOTRECOVERABLE or os._exit(1))
    for one in (lock, locked_by(segment, repair)):
        with locked(one):
            assert (segment.words[layout.W_MUTEX], segment.words[REPAIRS]) == (1, 1)


@in_child
def test_many_come_to_a_broken_lock(lock: Mutex, segment: Segment, repair: Repair) -> None:
    """Of processes that find it unusable at the same time one replaces it, and all get it in turn."""
    lose(lock, repair)
    lock.timeout = HANG

    def count() -> None:
        for _ in range(20):
            with locked(lock):
                before = segment.words[PROGRESS]
                time.sleep(0.0005)
                segment.words[PROGRESS] = before + 1

    pids = [fork(count) for _ in range(8)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 8
    assert [segment.words[word] for word in (PROGRESS, REPAIRS, layout.W_MUTEX)] == [160, 1, 1]


@in_child
def test_a_replacement_that_takes_long(lock: Mutex, segment: Segment, repair: Repair) -> None:
    """Who waits for another's replacement waits lock_timeout at most."""
    lose(lock, repair)
    started, tell = os.pipe()

    def hang() -> None:
        os.write(tell, b".")
        signal.pause()

    pid = fork(Mutex(segment, TIMEOUT, hang, int).take)
    os.read(started, 1)
    os.close(started)
    os.close(tell)
    try:
        with takes(TIMEOUT), pytest.raises(LockTimeout, match="another process is repairing the lock"):
            lock.take()
    finally:
        kill(pid)


@in_child
def test_a_lock_that_is_lost_too_often(lock: Mutex, segment: Segment, repair: Repair) -> None:
    """When all mutexes are used up, the error says what to do."""
    for number in range(1, layout.MUTEX_COUNT):
        lose(lock, repair)
        with locked(lock):
            assert segment.words[layout.W_MUTEX] == number
    lose(lock, repair)
    with pytest.raises(SegmentError, match=f"{path_of(segment.name)}: its lock was lost 16 times; start its server"):
        lock.take()


# --- one at a time, without the mutex ---------------------------------------------------------------------------------


def test_exclusion_lasts_for_the_work_and_ends_with_its_exception(segment: Segment) -> None:
    """While it lasts another one waits, and is told at its deadline."""

    def work() -> int:
        with pytest.raises(LockTimeout, match=f"{segment.name}: another process is repairing the lock"):
            lost.exclusively(segment, time.monotonic() + 0.02, pytest.fail)
        return 5

    assert lost.exclusively(segment, time.monotonic() + HANG, work) == 5
    with pytest.raises(ZeroDivisionError):
        lost.exclusively(segment, time.monotonic() + HANG, lambda: 1 // 0)
    assert lost.exclusively(segment, time.monotonic(), lambda: 6) == 6


def test_exclusion_that_ends_in_time_is_waited_for(segment: Segment) -> None:
    begun = threading.Event()

    def work() -> None:
        begun.set()
        time.sleep(0.05)

    thread = threading.Thread(target=lambda: lost.exclusively(segment, time.monotonic() + HANG, work))
    thread.start()
    begun.wait(HANG)
    assert lost.exclusively(segment, time.monotonic() + HANG, lambda: 7) == 7
    thread.join()


def test_exclusion_by_a_file_that_cannot_be_opened_is_an_error_with_its_name(
    segment: Segment, mocker: MockerFixture
) -> None:
    mocker.patch.object(OpenFile, "open", side_effect=OSError(errno.EMFILE, "too many"))
    with pytest.raises(SegmentError, match=path_of(segment.name)):
        lost.exclusively(segment, time.monotonic(), pytest.fail)


# --- the next mutex ---------------------------------------------------------------------------------------------------


def is_free(segment: Segment, number: int) -> bool:
    """Return True if nobody has a mutex."""
    reference = pthread.reference(segment, number)
    code = trylock(reference)
    if not code:
        unlock(reference)
    return not code


@in_child
def test_the_next_mutex_is_in_use_and_held_once_the_repair_succeeds(segment: Segment) -> None:
    seen = []
    assert lost.replace(segment, lambda: seen.append(segment.words[layout.W_MUTEX])) == 1
    assert (seen, segment.words[layout.W_MUTEX]) == ([0], 1)
    assert not is_free(segment, 1)
    unlock(pthread.reference(segment, 1))


@in_child
def test_the_next_mutex_is_free_and_not_in_use_after_a_repair_that_failed(segment: Segment) -> None:

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lost.replace(segment, fail)
    assert segment.words[layout.W_MUTEX] == 0
    assert is_free(segment, 1)


@pytest.mark.parametrize("number", [layout.MUTEX_COUNT - 2, layout.MUTEX_COUNT - 1, 1 << 40])
@in_child
def test_there_is_no_next_mutex_behind_the_last_one(segment: Segment, number: int) -> None:
    segment.words[layout.W_MUTEX] = number
    if number == layout.MUTEX_COUNT - 2:
        assert lost.replace(segment, lambda: None) == number + 1
        unlock(pthread.reference(segment, number + 1))
        return
    with pytest.raises(SegmentError, match=f"its lock was lost {number + 1} times; start its server again"):
        lost.replace(segment, pytest.fail)


# --- holders that are gone --------------------------------------------------------------------------------------------


def nobody() -> int:
    """Return the pid of a process that was."""
    os.waitpid(pid := fork(lambda: None), 0)
    return pid


def orphan(segment: Segment, value: int, mocker: MockerFixture) -> tuple[int, bool]:
    """Look at a mutex whose holder's word has a value. Return the word then, and whether anybody was woken."""
    wake = mocker.patch.object(futex, "wake")
    holder = pthread.word(segment, 9, pthread.HOLDER_AT)
    holder.value = value
    lost.free_orphan(segment, holder, time.monotonic() + HANG)
    found = int(holder.value)
    holder.value = 0
    return found, wake.called


def test_a_mutex_whose_holder_is_gone_without_a_mark_is_freed(segment: Segment, mocker: MockerFixture) -> None:
    assert orphan(segment, nobody(), mocker) == (0, True)
    assert orphan(segment, nobody() | 1 << 31, mocker) == (0, True)  # somebody waits for it


def test_a_mutex_of_who_lives_stays(segment: Segment, mocker: MockerFixture) -> None:
    """Also of one that this process may not signal, or that cannot be asked for."""
    me = threading.get_native_id()
    assert orphan(segment, me, mocker) == (me, False)
    for error in (PermissionError(errno.EPERM, "no"), OSError(errno.EINVAL, "what")):
        mocker.patch("os.kill", side_effect=error)
        assert orphan(segment, 77, mocker) == (77, False)


def test_a_mutex_that_is_free_or_marked_by_the_kernel_stays(segment: Segment, mocker: MockerFixture) -> None:
    marked = nobody() | pthread.OWNER_DIED
    assert orphan(segment, 0, mocker) == (0, False)
    assert orphan(segment, marked, mocker) == (marked, False)


def test_a_mutex_that_another_one_freed_meanwhile_stays(segment: Segment, mocker: MockerFixture) -> None:
    me = threading.get_native_id()
    holder = pthread.word(segment, 9, pthread.HOLDER_AT)

    def meanwhile(_segment: Segment, _deadline: float, free: Any) -> None:
        holder.value = me
        free()

    mocker.patch.object(lost, "exclusively", meanwhile)
    assert orphan(segment, nobody(), mocker) == (me, False)


@pytest.mark.skipif(not pthread.GLIBC, reason="other C libraries keep nothing of a lost mutex")
def test_only_what_this_thread_took_of_lost_mutexes_is_let_go(segment: Segment) -> None:
    """Whoever holds one rightly keeps it, and so does another thread that took a lost one."""
    me = threading.get_native_id()
    words = [[pthread.word(segment, number, at) for at in (pthread.HOLDER_AT, pthread.OWNER_AT)] for number in range(4)]
    state = [(me, pthread.LOST), (me, me), (me ^ 1, pthread.LOST), (me | 1 << 31, pthread.LOST)]
    segment.words[layout.W_MUTEX] = 3
    for (holder, owner), (held, said) in zip(words, state):
        holder.value, owner.value = held, said
    lost.let_go(segment)
    left = [holder.value for holder, _ in words]
    for holder, owner in words:
        holder.value = owner.value = 0
    assert left == [0, me, me ^ 1, 0]
