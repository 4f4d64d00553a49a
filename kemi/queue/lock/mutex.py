# SPDX-License-Identifier: GPL-2.0-or-later
"""The one lock between processes: a robust pthread mutex that lies in the segment.

Lock contract: `section.hold` takes and frees it; a hot path takes it by `trylock` and frees it by `unlock` in a
`finally`. `unlock` by a thread that does not hold it does nothing. When its holder was killed, the next one who takes
it calls `repair` first.

`trylock` and `unlock` are plain C calls that keep the GIL (PyDLL): uncontended, that is half the price.

If repair fails, the lock is given back unrepaired. By POSIX that mutex is lost for all (ENOTRECOVERABLE), and they all
come to `_replace`, which puts another one in its place (see `lost`). So nobody ever works on what could not be
repaired. A living holder has the same when it frees a mutex in doubt (DOUBTED), which is what it is in while an
exception may have left something half done.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import time
from _thread import get_native_id
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, NoReturn

from kemi.errors import LockTimeout, Reentered, SegmentError
from kemi.queue.format import layout
from kemi.queue.lock import lost, onlymain, pthread, turns
from kemi.queue.lock.lockwait import lock_until
from kemi.queue.shm.naming import path_of
from kemi.queue.shm.segment import Segment
from kemi.queue.sync.undisturbed import undisturbed

_SPINS = range(100)  # looks before sleeping: a holder is done within a microsecond, a sleep costs fifty

trylock, unlock = pthread.trylock, pthread.unlock
DOUBTED = pthread.DOUBTED

# Functions in which a variable `mutex` is the lock that is held, or about to be: `section.hold`, the hot paths, and
# whatever has a token of its own.
sections: set[CodeType] = set()
_tokens: dict[str, list[Callable[[], object]]] = {}  # by segment: see Mutex.held_by


def not_had(name: str, timeout: float) -> LockTimeout:
    """Return what to raise when somebody has kept the lock of that segment for so many seconds."""
    return LockTimeout(f"{name}: lock not had within {timeout:g} s: its holder is stopped or very slow")


class Mutex:
    """The lock of one segment, as this process uses it.

    ref: what to pass to `trylock`, then to `unlock`. free: an unlock that takes one argument. doubt: see DOUBTED.

    A hot path calls these itself:

        ref = mutex.ref
        words = None
        try:
            if code := trylock(ref):
                if code == ENOTRECOVERABLE:
                    ref = pthread.NOWHERE
                ref = mutex.take_slowly(code)
            words = ...
            ...
        except BaseException as error:
            if words is not None:
                mutex.doubt.value = DOUBTED
                ... put right what is half done, then mutex.trust()
            ref = mutex.ref_after(inside=words is not None)
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
        self.stuck_at: int | None = None
        self._first: Callable[[], None] | None = None
        # Gives the token of the last `section.hold` of this process on the segment, while it lives.
        self.held_by: list[Callable[[], object]] = _tokens.setdefault(segment.name, [lambda: None])
        self.timeout = timeout
        self._turns = turns.of(segment.name)
        self._use(segment.words[layout.W_MUTEX])
        self._turns.join(self)

    def _use(self, number: int) -> None:
        """Turn to a mutex."""
        holder = pthread.word(self._segment, number, pthread.HOLDER_AT)
        # What makes it a lost one when it is unlocked; of no effect where that is not known.
        doubt = pthread.word(self._segment, number, pthread.OWNER_AT) if pthread.GLIBC else ctypes.c_uint32()
        ref = pthread.reference(self._segment, number)
        free = pthread.free(ref)
        # No call in between: all of it, or nothing. `ref` comes last for Python 3.9, where a handler may run even so:
        # who still has the lost one comes here again.
        self._holder, self.doubt, self.free, self._in_use, self.ref = holder, doubt, free, ref, ref

    def _use_none(self) -> None:
        self.ref, self._in_use, self.free = pthread.NOWHERE, pthread.NOWHERE, pthread.free_nothing

    def bar(self) -> None:
        """Send the next call of another thread to `take_slowly`, where it gives way."""
        self.ref = pthread.NOWHERE

    def unbar(self) -> None:
        """Let calls take the mutex at once again."""
        self.ref = self._in_use

    def call_before_next(self, call: Callable[[], None] | None) -> None:
        """Let the next take call this first; in a process that was just forked. None: no more."""
        self._first = call
        if call is None:
            self._use(self._segment.words[layout.W_MUTEX])
        else:
            self._use_none()  # so that it comes to `take_slowly`

    def _call_first(self) -> None:
        if self._first is not None:
            self._first()
            self.call_before_next(None)

    def take(self) -> None:
        """Lock, or raise LockTimeout. For tests: `section.hold` frees it whatever happens."""
        if code := trylock(self.ref):
            self.take_slowly(code)

    def is_mine(self) -> bool:
        """Return True if the calling thread holds the lock."""
        return self._holder_now() == get_native_id() and not self._is_lost()

    def _holder_now(self) -> int:
        holder: int = self._holder.value
        return holder & pthread.HOLDER_MASK

    def _is_lost(self) -> bool:
        return bool(pthread.GLIBC and self.doubt.value == pthread.LOST)

    def is_held(self) -> bool:
        """Return True if somebody holds it, or died with it."""
        return bool(self._holder.value)

    def refuse_twice(self) -> None:
        """Raise Reentered if a call of the calling thread, which this one interrupts, holds the lock."""
        if self.is_mine():
            self._give_up(errno.EDEADLK)

    def trust(self) -> None:
        """Nothing is half done any more: what is unlocked is free."""
        self.doubt.value = self._holder.value & pthread.HOLDER_MASK

    def ref_after(self, *, inside: bool) -> Any:
        """Return what to unlock after an exception. Not inside: it came while the lock was taken."""
        if inside:
            return self._in_use
        if self._is_lost():
            lost.let_go(self._segment)
            return pthread.NOWHERE
        return pthread.NOWHERE if self._is_outer(sys._getframe(1)) else self._in_use  # noqa: SLF001

    def free_after(self) -> Callable[[Any], object]:
        """As `ref_after`, for a token; not inside."""
        if self._is_lost():
            lost.let_go(self._segment)
            return pthread.free_nothing
        return self.free

    def _is_outer(self, frame: FrameType | None) -> bool:
        """Return True if the lock belongs to a call that was interrupted by the signal handler that made this call."""
        return (self.held_by[0]() is not None and self.is_mine()) or self._calls(frame) > 1

    def _calls(self, frame: FrameType | None) -> int:
        """How many calls of this thread on the queue are under way, from `frame` outwards."""
        calls = 0
        while frame is not None:
            if frame.f_code in sections:
                mutex = frame.f_locals.get("mutex")
                calls += isinstance(mutex, Mutex) and mutex.held_by is self.held_by  # of the same segment
            frame = frame.f_back
        return calls

    def try_for_end(self) -> bool:
        """Take the lock for the queue's end, without a repair; False if it is not to be had."""
        self._call_first()
        code = trylock(self._in_use)
        if code == errno.EBUSY:
            code = self._lock_until(time.monotonic() + self.timeout)
        if code == errno.EOWNERDEAD:
            unlock(self._in_use)  # who goes on using what is left repairs it
            self._use_none()
        elif code == errno.ENOTRECOVERABLE:
            lost.let_go(self._segment)
        return code == 0

    def take_slowly(self, code: int) -> Any:
        """Go on after `trylock` returned `code`: wait, repair, replace.

        Returns with the lock held, what to unlock; or raises.
        """
        onlymain.check()
        if self._first is not None:
            self._call_first()
            code = trylock(self._in_use)
        elif code == errno.EINVAL:  # it was barred a moment ago
            if not self.is_mine():
                self._turns.give_way()
            self.unbar()
            code = trylock(self._in_use)
        if code == errno.EBUSY:
            code = self._spin()
        if code:
            self._take_patiently(code)
        self.stuck_at = None
        return self._in_use

    def _lock_until(self, deadline: float) -> int:
        code = lock_until(self._in_use, self._holder_now, deadline, self._turns.ask)
        self._turns.had()
        return code

    def _take_patiently(self, code: int) -> None:
        deadline = time.monotonic() + self._patience()
        while code:
            if code == errno.EOWNERDEAD:
                self._repair_or_poison()
                break
            if code == errno.EDEADLK and self._is_lost():  # left taken when a signal handler raised
                code = errno.ENOTRECOVERABLE
            if code == errno.ENOTRECOVERABLE or self._in_use is pthread.NOWHERE:
                code = self._replace(deadline)
                continue
            if code == errno.EBUSY:
                code = self._lock_until(deadline)
            elif code == errno.ETIMEDOUT:
                lost.free_orphan(self._segment, self._holder, time.monotonic() + self.timeout)
                code = trylock(self._in_use)  # or who was to be woken for it was killed
                if code == errno.EBUSY:
                    self._give_up(code)
            else:
                self._give_up(code)

    def _spin(self) -> int:
        """Try for a moment; returns what trylock says in the end."""
        holder, ref = self._holder, self._in_use
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
            self.stuck_at = self._progress()
            raise not_had(name, self.timeout)
        if code == errno.EDEADLK:
            raise Reentered(f"{name}: this thread holds the lock (called in a signal handler?)")
        raise SegmentError(f"{path_of(name)}: the lock in it is damaged ({os.strerror(code)})")

    def _patience(self) -> float:
        """Seconds to wait.

        Who waited in vain, and sees that nothing has moved since, does not wait that long again: a holder that was
        stopped must not cost a SIP worker `timeout` for every message.
        """
        if self.stuck_at is None:
            return self.timeout
        if self.stuck_at == self._progress():
            return self.timeout / 20
        self.stuck_at = None
        return self.timeout

    def _repair_or_poison(self) -> None:
        def repair() -> None:
            self._repair()
            pthread.consistent(self._in_use)

        try:
            undisturbed(repair)
        except BaseException:
            if self.doubt.value == DOUBTED:
                unlock(self._in_use)  # not made consistent: from now on ENOTRECOVERABLE
                self._use_none()
            raise

    def _replace(self, deadline: float) -> int:
        """Put the next mutex in place of one that is beyond repair, once, by whoever comes first.

        Returns what trylock says of the one that is in use then.
        """
        lost.let_go(self._segment)
        return lost.exclusively(self._segment, deadline, self._replace_alone)

    def _replace_alone(self) -> int:
        # Another thread or process may have been here before.
        self._use(self._segment.words[layout.W_MUTEX])
        code = trylock(self._in_use)
        if code != errno.ENOTRECOVERABLE:
            return code
        lost.let_go(self._segment)
        self._use_none()
        undisturbed(lambda: self._use(lost.replace(self._segment, self._repair)))
        return 0
