"""The one lock between processes: a robust pthread mutex that lies in the segment.

Lock contract: `take` it, `unlock` it in a `finally`; `unlock` by a thread that does not hold it does nothing. When its
holder was killed, the next `take` calls `repair` before it returns.

`trylock` and `unlock` are plain C calls that keep the GIL (PyDLL): uncontended, that is half the price. Only the wait
for a lock that another process holds lets other threads run.

If repair fails, the lock is given back unrepaired. By POSIX that mutex is lost for all (ENOTRECOVERABLE), and they all
come to `_replace`: repair is tried again, and only when it succeeds does the next mutex of the header become the one in
use. So nobody ever works on what could not be repaired.

A lost mutex is never touched again by who knows that it is lost: glibc's trylock of it says so, but leaves it taken,
and an unlock would then take it out of a list in which it is not. Instead of a reference to it there is `_NOWHERE`,
which trylock and unlock both refuse.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import time
from _thread import get_native_id
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from kemi.errors import LockTimeout, Reentered, SegmentError
from kemi.queue import futex, layout, trust
from kemi.queue.segment import Segment, path_of

_PROCESS_SHARED = 1
_ROBUST = 1
_ERRORCHECK = 2  # so that a second lock by its holder is an error, not a wait for itself
_ALL = (1 << 31) - 1
_SPINS = range(100)  # looks before sleeping: a holder is done within a microsecond, a sleep costs fifty

_fast = ctypes.PyDLL(None)
_slow = ctypes.CDLL(None)
trylock: Callable[[Any], int] = _fast.pthread_mutex_trylock
unlock: Callable[[Any], None] = _fast.pthread_mutex_unlock
_fast.pthread_mutex_unlock.restype = None  # what it says is of no use, and costs a hundredth of an add
_consistent = _fast.pthread_mutex_consistent
_clocklock = getattr(_slow, "pthread_mutex_clocklock", None)


class _TimeSpec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def _lock_until(reference: Any, deadline: float) -> int:
    """Wait for a mutex until `deadline` on the monotonic clock; 0 or an error number."""
    if _clocklock is not None:
        moment = _TimeSpec(int(deadline), int(deadline % 1 * 1e9))
        return int(_clocklock(reference, time.CLOCK_MONOTONIC, ctypes.byref(moment)))
    # An older C library waits by the wall clock only, which may be set meanwhile.
    wall = time.time() + deadline - time.monotonic()
    return int(_slow.pthread_mutex_timedlock(reference, ctypes.byref(_TimeSpec(int(wall), int(wall % 1 * 1e9)))))


# What is no mutex of any kind: trylock and unlock give EINVAL and change nothing.
_NOWHERE = ctypes.byref(ctypes.create_string_buffer(b"\xff" * layout.MUTEX_STRIDE, layout.MUTEX_STRIDE))
# The kernel's part of a robust mutex is a word with its holder's thread id; where it lies is up to the C library.
_GLIBC = b"glibc" in layout.abi()
_HOLDER_AT = 0 if _GLIBC else 4
# What kind of mutex it is, which never changes: after four numbers in glibc, first in others.
_KIND = slice(16, 20) if _GLIBC else slice(0, 4)
# What glibc writes for an owner into a lost mutex, and where.
_GLIBC_OWNER_AT, _GLIBC_NOTRECOVERABLE = 8, 0x7FFFFFFE
_HOLDER_MASK = 0x3FFFFFFF
_OWNER_DIED = 0x40000000


def initialise(segment: Segment, number: int) -> None:
    """Make mutex `number` of a segment's header."""
    _make(_reference(segment, number))


def _make(reference: Any) -> None:
    attributes = ctypes.create_string_buffer(64)
    _fast.pthread_mutexattr_init(attributes)
    _fast.pthread_mutexattr_setpshared(attributes, _PROCESS_SHARED)
    _fast.pthread_mutexattr_settype(attributes, _ERRORCHECK)
    code = _fast.pthread_mutexattr_setrobust(attributes, _ROBUST)
    code = code or _fast.pthread_mutex_init(reference, attributes)
    _fast.pthread_mutexattr_destroy(attributes)
    if code:
        raise OSError(code, f"no robust mutex on this system: {os.strerror(code)}")


def is_one(data: bytes) -> bool:
    """Are these the bytes of a mutex such as `initialise` makes? The C library aborts the process for some others."""
    own = ctypes.create_string_buffer(layout.MUTEX_STRIDE)
    _make(ctypes.byref(own))
    return data[_KIND] == own.raw[_KIND]


def _reference(segment: Segment, number: int) -> Any:
    """What ctypes passes fastest: a reference made once."""
    at = layout.MUTEX_AT + number * layout.MUTEX_STRIDE
    return ctypes.byref(segment.reference(at, layout.MUTEX_STRIDE))


class Mutex:
    """The lock of one segment, as this process uses it.

    ref: what to pass to `trylock` and `unlock`. A hot path calls these itself:

        ref = mutex.ref
        try:
            if code := trylock(ref):
                ref = mutex.take_slowly(code)
            ...
        except BaseException as error:
            ref = mutex.ref_after(error)
            raise
        finally:
            unlock(ref)
    """

    def __init__(
        self, segment: Segment, timeout: float, repair: Callable[[], None], progress: Callable[[], int]
    ) -> None:
        """Wait `timeout` seconds at most.

        repair: called with the lock held. progress: any number that changes when the holder gets on with its work.
        """
        self._segment = segment
        self._repair = repair
        self._progress = progress
        self._stuck_at: int | None = None
        self.timeout = timeout
        self.ref: Any = _NOWHERE
        self._use_current()

    def _use_current(self) -> None:
        """Turn to the mutex that is in use."""
        number = self._segment.words[layout.W_MUTEX]
        self._holder = self._holder_of(number)
        self.ref = _reference(self._segment, number)

    def _holder_of(self, number: int) -> Any:
        """The thread id of the holder of mutex `number`."""
        return self._number_in(number, _HOLDER_AT)

    def _number_in(self, number: int, at: int) -> Any:
        """A 32-bit number within mutex `number`."""
        start = layout.MUTEX_AT + number * layout.MUTEX_STRIDE
        return ctypes.c_uint32.from_buffer(self._segment.bytes, start + at)

    def take(self) -> None:
        """Lock, or raise LockTimeout."""
        if code := trylock(self.ref):
            self.take_slowly(code)
        self._stuck_at = None

    def __enter__(self) -> None:
        try:
            self.take()
        except BaseException as error:
            unlock(self.ref_after(error))  # a signal's exception may have come after the lock was had
            raise

    def __exit__(self, *_: object) -> None:
        unlock(self.ref)

    def is_mine(self) -> bool:
        """Does the calling thread hold the lock?"""
        holder: int = self._holder.value
        return holder & _HOLDER_MASK == get_native_id()

    def is_held(self) -> bool:
        """Would `trylock` not simply have it?"""
        return bool(self._holder.value)

    def ref_after(self, error: BaseException) -> Any:
        """What to unlock after an exception: nothing when it is the lock of the call that was interrupted."""
        return _NOWHERE if isinstance(error, Reentered) else self.ref

    def try_for_end(self) -> bool:
        """Take the lock for the queue's end, without a repair; False if it is not to be had."""
        code = trylock(self.ref)
        if code == errno.EBUSY:
            code = _lock_until(self.ref, time.monotonic() + self.timeout)
        if code == errno.EOWNERDEAD:
            unlock(self.ref)  # who goes on using what is left repairs it
            self.ref = _NOWHERE
        elif code == errno.ENOTRECOVERABLE:
            self._let_go()
        return code == 0

    def take_slowly(self, code: int) -> Any:
        """Go on after `trylock` returned `code`: wait, repair, replace.

        Returns with the lock held, what to unlock; or raises.
        """
        if code == errno.EBUSY:
            code = self._spin()
        return self._take_patiently(code) if code else self.ref

    def _take_patiently(self, code: int) -> Any:
        deadline = time.monotonic() + self._patience()
        while code:
            if code == errno.EOWNERDEAD:
                self._repair_or_poison()
                break
            if code == errno.ENOTRECOVERABLE or self.ref is _NOWHERE:
                code = self._replace(deadline)
                continue
            if code == errno.EBUSY:
                code = _lock_until(self.ref, deadline)
            elif code == errno.ETIMEDOUT:
                self._free_orphan()
                code = trylock(self.ref)  # or who was to be woken for it was killed
                if code == errno.EBUSY:
                    self._give_up(code)
            else:
                self._give_up(code)
        return self.ref

    def _spin(self) -> int:
        """Try for a moment; returns what trylock says in the end."""
        holder, ref = self._holder, self.ref
        for _ in _SPINS:
            # A look leaves the word where it is; a try takes it away from the processor that will write it next.
            if not holder.value:
                code = trylock(ref)
                if code != errno.EBUSY:
                    return code
        return errno.EBUSY

    def _give_up(self, code: int) -> NoReturn:
        name = self._segment.name
        if code == errno.EBUSY:
            self._stuck_at = self._progress()
            raise LockTimeout(f"{name}: lock not had within {self.timeout:g} s: its holder is stopped or very slow")
        if code == errno.EDEADLK:
            raise Reentered(f"{name}: this thread holds the lock (called in a signal handler?)")
        raise SegmentError(f"{path_of(name)}: the lock in it is damaged ({os.strerror(code)})")

    def _let_go(self) -> None:
        """Leave what trylock took of lost mutexes: free, so that others are told at once that they are lost."""
        if not _GLIBC:
            return
        me = get_native_id()
        for number in range(self._segment.words[layout.W_MUTEX] + 1):
            holder = self._holder_of(number)
            # Not one that this thread holds rightly, in a call that was interrupted.
            owner = self._number_in(number, _GLIBC_OWNER_AT)
            if owner.value == _GLIBC_NOTRECOVERABLE and holder.value & _HOLDER_MASK == me:
                holder.value = 0
                futex.wake(holder, _ALL)

    def _free_orphan(self) -> None:
        """Free a mutex whose holder is gone without the kernel's mark of death.

        That is who was killed after trylock took a lost mutex, and before `_let_go`.
        """
        held = self._holder.value
        if not held or held & _OWNER_DIED or _lives(held & _HOLDER_MASK):
            return
        with _exclusive(self._segment, time.monotonic() + self.timeout):
            # While it has this value nobody can take it, and only here is it freed.
            if self._holder.value == held:
                self._holder.value = 0
                futex.wake(self._holder, _ALL)

    def _patience(self) -> float:
        """Seconds to wait.

        Who waited in vain, and sees that nothing has moved since, does not wait that long again: a holder that was
        stopped must not cost a SIP worker `timeout` for every message.
        """
        if self._stuck_at is None:
            return self.timeout
        if self._stuck_at == self._progress():
            return self.timeout / 20
        self._stuck_at = None
        return self.timeout

    def _repair_or_poison(self) -> None:
        try:
            self._repair()
        except BaseException:
            unlock(self.ref)  # not made consistent: from now on ENOTRECOVERABLE
            self.ref = _NOWHERE
            raise
        _consistent(self.ref)

    def _replace(self, deadline: float) -> int:
        """Put the next mutex in place of one that is beyond repair, once, by whoever comes first.

        Returns what trylock says of the one that is in use then.
        """
        words = self._segment.words
        self._let_go()
        with _exclusive(self._segment, deadline):
            # Another thread or process may have been here before.
            self._use_current()
            code = trylock(self.ref)
            if code != errno.ENOTRECOVERABLE:
                return code
            self._let_go()
            self.ref = _NOWHERE
            number = words[layout.W_MUTEX] + 1
            if number >= layout.MUTEX_COUNT:
                raise SegmentError(
                    f"{path_of(self._segment.name)}: its lock was lost {number} times; start its server again"
                )
            initialise(self._segment, number)
            fresh = _reference(self._segment, number)
            trylock(fresh)  # nobody else knows it yet
            try:
                self._repair()
            except BaseException:
                unlock(fresh)
                raise
            words[layout.W_MUTEX] = number
            self._use_current()
            return 0


def _lives(thread: int) -> bool:
    try:
        os.kill(thread, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def _exclusive(segment: Segment, deadline: float) -> Iterator[None]:
    """Exclusion that does not need the mutex: a lock on a freshly opened file, which ends with the process."""
    # By /proc, because the name may be gone; opened anew, because a lock on an inherited descriptor is shared.
    try:
        own = os.open(f"/proc/self/fd/{segment.fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise trust.refusal(path_of(segment.name), error) from None
    try:
        while True:
            try:
                fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockTimeout(f"{segment.name}: another process is repairing the lock") from None
            time.sleep(0.005)
        yield
    finally:
        os.close(own)
