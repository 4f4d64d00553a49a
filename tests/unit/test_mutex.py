"""The lock between processes: waiting, dying with it, repairing."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from kemi.errors import LockTimeout, SegmentError
from kemi.queue.format import layout
from kemi.queue.lock import lockwait, pthread, section
from kemi.queue.lock.mutex import Mutex, trylock, unlock
from kemi.queue.lock.section import hold
from kemi.queue.shm.segment import Segment
from tests.conftest import HANG
from tests.locked import locked
from tests.unit.children import child, fork, in_child, kill, killed_after
from tests.unit.locks import ALLOWED, PROGRESS, REPAIRS, TIMEOUT, Repair, takes

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


def seconds_in_vain(lock: Mutex) -> float:
    """Wait for a lock that is not had, and return how long that took."""
    start = time.monotonic()
    with pytest.raises(LockTimeout):
        lock.take()
    return time.monotonic() - start


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_one_at_a_time(lock: Mutex) -> None:
    """Who has it keeps it from another process, until it is unlocked."""
    with locked(lock):
        assert lock.is_mine()
        with child(lambda: trylock(lock.ref) == errno.EBUSY or os._exit(1)):
            pass
    with child(lambda: trylock(lock.ref) == 0 or os._exit(1)):
        assert trylock(lock.ref) == errno.EBUSY


def test_another_thread_is_kept_out_too(lock: Mutex) -> None:
    """Threads of one process are told apart."""
    errors = []

    def take() -> None:
        try:
            lock.take()
        except LockTimeout as error:
            errors.append(str(error))

    with locked(lock):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
    assert "not had within 0.2 s" in errors[0]


def test_it_is_had_when_it_is_free(lock: Mutex, segment: Segment) -> None:
    """Who waits gets it as soon as the holder is done."""

    def hold_a_while() -> None:
        with locked(lock):
            segment.words[PROGRESS] = 1
            time.sleep(TIMEOUT / 4)

    pid = fork(hold_a_while)
    while not segment.words[PROGRESS]:
        time.sleep(0.001)
    lock.timeout = HANG
    with takes(), locked(lock):
        assert lock.is_mine()
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("clocklock", [True, False], ids=["monotonic", "older C library"])
def test_a_stopped_holder_costs_the_timeout_once(
    lock: Mutex, segment: Segment, mocker: MockerFixture, clocklock: bool
) -> None:
    """The first wait is lock_timeout, further ones a twentieth, until something has moved."""
    if not clocklock:
        mocker.patch.object(lockwait, "_clocklock", None)
    with child(lock.take) as pid:
        os.kill(pid, signal.SIGSTOP)
        with takes(TIMEOUT), pytest.raises(LockTimeout, match=f"{segment.name}: lock not had within 0.2 s"):
            lock.take()
        # As patient as the first, none of them would be that quick.
        assert any(seconds_in_vain(lock) < TIMEOUT / 2 for _ in range(100))
        segment.words[PROGRESS] += 1
        with takes(TIMEOUT), pytest.raises(LockTimeout):
            lock.take()


def test_a_timeout_is_forgotten_when_the_lock_is_had(lock: Mutex) -> None:
    """After a good lock the next wait is as patient as the first, although nothing else moved."""
    with child(lock.take), pytest.raises(LockTimeout):
        lock.take()
    with locked(lock):
        pass
    with child(lock.take), takes(TIMEOUT), pytest.raises(LockTimeout):
        lock.take()


def test_locking_twice(lock: Mutex, segment: Segment) -> None:
    """The same thread is told at once that it holds the lock; it holds it still."""
    with locked(lock):
        lock.timeout = HANG
        with takes(), pytest.raises(LockTimeout, match=f"{segment.name}: this thread holds the lock"):
            lock.take()
        assert lock.is_mine()
    assert not lock.is_mine()


def test_unlocking_what_is_not_held(lock: Mutex) -> None:
    """It does nothing, whoever has the lock."""
    unlock(lock.ref)
    with locked(lock):
        pass
    with child(lock.take):
        unlock(lock.ref)
        assert trylock(lock.ref) == errno.EBUSY


def test_whose_it_is(lock: Mutex) -> None:
    """`is_mine` says no for a free lock and for another's, and changes neither."""
    assert not lock.is_mine()
    with child(lock.take):
        assert not lock.is_mine()
        assert trylock(lock.ref) == errno.EBUSY


@in_child
def test_whose_it_is_after_a_death(lock: Mutex, segment: Segment) -> None:
    """A dead holder's lock is not this one's, and asking for it does not take it, nor keep it from being repaired."""
    killed_after(lock.take)
    assert not lock.is_mine()
    with child(lambda: trylock(lock.ref) == errno.EOWNERDEAD or os._exit(1)):
        pass
    with locked(lock):
        pass
    assert segment.words[REPAIRS] == 1
    assert segment.words[layout.W_MUTEX] == 0


def test_an_exception_while_it_is_taken(lock: Mutex, mocker: MockerFixture) -> None:
    """A signal handler's exception just after the lock was had leaves it free."""

    def interrupted(_: object) -> int:
        trylock(lock.ref)
        raise KeyboardInterrupt

    mocker.patch.object(section, "trylock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hold(lock, pytest.fail)
    assert not lock.is_mine()


# --- death and repair -------------------------------------------------------------------------------------------------


@in_child
def test_a_dead_holder_is_repaired_once(lock: Mutex, segment: Segment) -> None:
    """The next one repairs, with the lock held; after that all is as before."""
    killed_after(lock.take)
    with locked(lock):
        assert segment.words[REPAIRS] == 1
        assert lock.is_mine()
    with locked(lock):
        assert segment.words[REPAIRS] == 1
    assert segment.words[layout.W_MUTEX] == 0


@in_child
def test_a_holder_that_dies_while_others_wait(lock: Mutex, segment: Segment) -> None:
    """Who waits is woken by the death and repairs."""
    with child(lock.take) as pid:
        timer = threading.Timer(0.05, kill, (pid,))
        timer.start()
        lock.timeout = HANG
        with takes(), locked(lock):
            assert segment.words[REPAIRS] == 1
        timer.join()


@in_child
def test_a_repair_that_fails_again_and_again(lock: Mutex, repair: Repair) -> None:
    """Everybody gets the same error each time, and no crash; then a repair succeeds."""
    repair.words[ALLOWED] = 0
    killed_after(lock.take)
    for _ in range(4):
        with pytest.raises(SegmentError, match="cannot be repaired"):
            lock.take()
    repair.words[ALLOWED] = 1
    with locked(lock), child(lambda: trylock(lock.ref) == errno.EBUSY or os._exit(1)):
        assert lock.is_mine()


@in_child
def test_a_death_in_the_repair(lock: Mutex, segment: Segment, repair: Repair) -> None:
    """Who is killed while it repairs leaves it to the next one."""
    killed_after(lock.take)

    def die() -> None:
        repair.words[REPAIRS] += 100
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(fork(Mutex(segment, TIMEOUT, die, int).take), 0)
    with locked(lock):
        assert segment.words[REPAIRS] == 101


@in_child
def test_a_damaged_lock(lock: Mutex, segment: Segment) -> None:
    """Bytes that are no mutex are a clear error with the file's name."""
    segment.bytes[layout.MUTEX_AT : layout.MUTEX_AT + 40] = b"\x7f" * 40
    with pytest.raises((SegmentError, LockTimeout), match=segment.name):
        lock.take()


def test_a_system_without_robust_locks(segment: Segment, mocker: MockerFixture) -> None:
    """It is said when the lock is made, not when it is needed."""
    library = mocker.patch.object(pthread, "_fast")
    library.pthread_mutexattr_setrobust.return_value = errno.ENOTSUP
    with pytest.raises(OSError, match="no robust mutex on this system"):
        pthread.initialise(segment, 1)


def test_a_mutex_has_room() -> None:
    """The C library's mutex fits in its place in the header, on this machine."""
    attributes, room = ctypes.create_string_buffer(64), ctypes.create_string_buffer(b"\xee" * 128, 128)
    pthread._fast.pthread_mutexattr_init(attributes)
    pthread._fast.pthread_mutex_init(room, attributes)
    assert room.raw[layout.MUTEX_STRIDE :] == b"\xee" * 64
    assert layout.MUTEX_AT + layout.MUTEX_COUNT * layout.MUTEX_STRIDE <= layout.PAGE
