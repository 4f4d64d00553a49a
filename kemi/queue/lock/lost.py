# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutexes that nobody can use any more: those that are lost, and those whose holder left without a mark.

A mutex whose repair failed is lost for all (ENOTRECOVERABLE). Whoever comes to it tries the repair again, one at a time
(`exclusively`), and only when that succeeds does the next mutex of the header become the one in use.

Whoever knows that a mutex is lost never touches it again: glibc's trylock of it says so, but leaves it taken, and an
unlock would then take it out of a list in which it is not. Instead of a reference to it there is
`pthread.NOWHERE`, which trylock and unlock both refuse.
"""

from __future__ import annotations

import fcntl
import os
import time
from _thread import get_native_id
from collections.abc import Callable
from typing import Any, TypeVar

from kemi.errors import LockTimeout, SegmentError
from kemi.queue.format.layout import MUTEX_COUNT, W_MUTEX
from kemi.queue.lock import pthread
from kemi.queue.shm import trust
from kemi.queue.shm.naming import path_of
from kemi.queue.shm.segment import Segment
from kemi.queue.sync import futex
from kemi.queue.sync.openfile import OpenFile

_ALL = (1 << 31) - 1
_Result = TypeVar("_Result")


def let_go(segment: Segment) -> None:
    """Leave what trylock took of lost mutexes: free, so that others are told at once that they are lost."""
    if not pthread.GLIBC:
        return
    me = get_native_id()
    for number in range(segment.words[W_MUTEX] + 1):
        holder = pthread.word(segment, number, pthread.HOLDER_AT)
        # Not one that this thread holds rightly, in a call that was interrupted.
        owner = pthread.word(segment, number, pthread.OWNER_AT)
        if owner.value == pthread.LOST and holder.value & pthread.HOLDER_MASK == me:
            _free(holder)


def free_orphan(segment: Segment, holder: Any, deadline: float) -> None:
    """Free a mutex whose holder is gone without the kernel's mark of death. holder: its word.

    It was killed after trylock took a lost mutex, and before `let_go`.
    """
    held = holder.value
    if not held or held & pthread.OWNER_DIED or _lives(held & pthread.HOLDER_MASK):
        return

    def free() -> None:
        # While it has this value nobody can take it, and only here is it freed.
        if holder.value == held:
            _free(holder)

    exclusively(segment, deadline, free)


def _free(holder: Any) -> None:
    holder.value = 0
    futex.wake(holder, _ALL)


def _lives(thread: int) -> bool:
    try:
        os.kill(thread, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def replace(segment: Segment, repair: Callable[[], None]) -> int:
    """Repair, and put the next mutex in place of the lost one, locked. Returns its number. To be called exclusively."""
    number = segment.words[W_MUTEX] + 1
    if number >= MUTEX_COUNT:
        raise SegmentError(f"{path_of(segment.name)}: its lock was lost {number} times; start its server again")
    pthread.initialise(segment, number)
    fresh = pthread.reference(segment, number)
    pthread.trylock(fresh)  # nobody else knows it yet
    try:
        repair()
    except BaseException:
        pthread.unlock(fresh)
        raise
    segment.words[W_MUTEX] = number
    return int(number)


def exclusively(segment: Segment, deadline: float, work: Callable[[], _Result]) -> _Result:
    """Exclusion that does not need the mutex: a lock on a freshly opened file, which ends with the process."""
    # By /proc, because the name may be gone; opened anew, because a lock on an inherited descriptor is shared.
    try:
        own = OpenFile.open(f"/proc/self/fd/{segment.fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise trust.refusal(path_of(segment.name), error) from None
    try:
        while True:
            try:
                fcntl.flock(own.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockTimeout(f"{segment.name}: another process is repairing the lock") from None
            time.sleep(0.005)
        return work()
    finally:
        own.close()
