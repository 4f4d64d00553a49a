# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue's segment as this process has it open: its log, its lock, and what becomes of what went wrong under it.

Lock contract: whatever is called with the lock goes through `work`, which recovers first if an operation was broken
off. What an exception leaves half done under the lock (a signal handler may raise anywhere) is recovered before the
lock is given back, as after a kill. Whether the segment is corrupted, `verify` says, never the exception.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, TypeVar, final

from kemi.errors import ClientClosed, CorruptedError, MqueueError, QueueClosed, SegmentError
from kemi.queue.catalog.memory import InstanceMemory
from kemi.queue.catalog.registry import Registry
from kemi.queue.delivery.holding import Holding
from kemi.queue.format import geometry, keyhash, layout
from kemi.queue.format.layout import FETCH_MOVED, PENDING, W_ADDED, W_EVENT, W_FLAGS, W_POPPED, Mapping
from kemi.queue.kernel import choice
from kemi.queue.lock.mutex import DOUBTED, Mutex
from kemi.queue.lock.section import hold
from kemi.queue.log.contents import Log
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.plain import PlainLog
from kemi.queue.shm.naming import path_of
from kemi.queue.shm.segment import Segment
from kemi.queue.sync import futex
from kemi.queue.sync.eventcount import EventCount
from kemi.queue.sync.handlers import is_from_handler
from kemi.queue.sync.undisturbed import undisturbed
from kemi.queue.verify.segment import UNREADABLE, verify

# What bytes that are no log may raise. After one of these `verify` looks at them.
_SUSPECT = (CorruptedError, *UNREADABLE)

_Result = TypeVar("_Result")


class _Futex:
    """Implements `eventcount.Futex`."""

    def __init__(self, segment: Segment) -> None:
        self._word = segment.reference(W_EVENT * 8, 4)

    def wait(self, expected: int, seconds: float) -> bool:
        return futex.wait(self._word, expected, seconds)

    def wake(self, count: int) -> None:
        futex.wake(self._word, count)


@final
class Handle:
    """The parts of a queue, and how they are used together. After `close` each of them refuses all."""

    def __init__(self, name: str, segment: Segment, registry: Registry | None, lock_timeout: float = 1.0) -> None:
        """Make the parts. Raises SegmentError for a segment in which they do not fit together."""
        self.name = name
        self.segment = segment
        self.registry = registry
        self.closed = False  # in this process
        self.u64, self.u32, self.bytes = segment.words, segment.halves, segment.bytes
        self.addmode: int = self.u64[layout.W_ADDMODE]
        self.memory = InstanceMemory(segment, registry)
        try:
            self.log: Log = self._make_log()
        except CorruptedError as error:
            raise self.corrupted(error) from None
        except UNREADABLE as error:
            raise self.corrupted(f"it cannot be read ({error!r})") from None
        self.holding = Holding(self.log, segment)
        self.events = EventCount(self.log.core.mapping, _Futex(segment))
        self.asleep: set[int] = set()  # threads of this process that wait for an item
        self.settles = False  # may this process use what was on its way elsewhere when its owner died?
        self.mutex = Mutex(segment, lock_timeout, self.repair, self._progress)

    def _make_log(self) -> Log:
        mapping = Mapping(self.bytes, self.u64, self.u32)
        if self.addmode:
            return KeyedLog(mapping, self.memory, self.key_hash())
        return PlainLog(mapping, self.memory)

    def key_hash(self) -> keyhash.KeyHash:
        """Return what the keys of a keyed log are hashed with."""
        return keyhash.function_of(self.u64[layout.W_HASH])

    def held_bytes(self) -> int:
        """Bytes of memory that the segment holds."""
        chunks = self.log.core.chunks
        return geometry.read(self.u64).fixed_bytes() + chunks.reserved()

    # --- the lock ---------------------------------------------------------------------------------------------------

    def work(self, work: Callable[[], _Result]) -> _Result:
        """Call what is not as hot as `add` and `pop` with the lock held."""

        def recovered() -> _Result:
            self.holding.lock_time.begin()
            if self.u64[W_FLAGS] & PENDING:
                self.repair()
            return work()

        return hold(self.mutex, recovered, self.put_right)

    def is_locked(self) -> bool:
        """Return True if somebody holds the lock, or died with it."""
        return self.mutex.is_held()

    def wait_until_unlocked(self) -> None:
        """Take the lock, repair if that is needed, and let go. Raises LockTimeout."""
        self.work(lambda: None)

    # --- when something went wrong ----------------------------------------------------------------------------------

    def repair(self) -> None:
        """Recover (locked): the last holder of the lock died with it, or left it by an exception."""
        if self.u64[W_FLAGS] & FETCH_MOVED and not self.settles:
            raise QueueClosed(
                f"queue {self.name!r}: its items were on their way to another place when that was broken off; "
                "the next server finds out where they are"
            )
        self.recover()

    def recover(self) -> None:
        """Finish or undo what was broken off (locked)."""
        try:
            self.log.recover()
        except CorruptedError as error:
            raise self.corrupted(error) from None
        except _SUSPECT as error:
            raise self.corrupted(error) from error
        self.memory.account(self.held_bytes())
        self.events.notify_all()  # the dead one may have died before it woke somebody

    def _progress(self) -> int:
        return int(self.u64[W_ADDED] + self.u64[W_POPPED])

    def clean_up(self, mutex: Mutex, error: BaseException, *, inside: bool) -> Any:
        """After an exception in `add` or `pop`: leave nothing half done. Returns what to unlock.

        Not inside: it came while the lock was taken.
        """
        if inside:
            self.put_right(mutex, error)
        return mutex.ref_after(inside=inside)

    def clean_up_again(self, mutex: Mutex, error: BaseException, *, inside: bool) -> Any:
        """`clean_up`, if it was broken off."""
        if inside and mutex.doubt.value == DOUBTED:
            self.put_right(mutex, error)
        return mutex.ref_after(inside=inside)

    def put_right(self, mutex: Mutex, error: BaseException) -> None:
        """Leave nothing half done after an exception under the lock, and take the mutex out of doubt."""
        if self.closed or not mutex.is_mine():  # a process forked in a signal handler has not the lock
            mutex.trust()
            return

        def repair() -> None:
            try:
                self.repair()
                self.judge(error)
                self.give_back_forgotten()
            finally:
                mutex.trust()

        undisturbed(repair)

    def give_back_forgotten(self) -> int:
        """Give back what this process holds and no object claims, while there is time (locked). Returns how many."""
        try:
            self.holding.lock_time.begin()
            back = self.holding.give_back_forgotten()
            if back:
                self.events.notify_all()
        except _SUSPECT as error:
            self.recover()
            raise self.corrupted(error) from None
        else:
            return back

    def judge(self, error: BaseException) -> None:
        """Raise SegmentError if this may have come from the segment, and it is corrupted."""
        if isinstance(error, CorruptedError):
            raise self.corrupted(error) from None
        if isinstance(error, _SUSPECT) and not isinstance(error, MqueueError) and (findings := self.verify()):
            raise self.corrupted("; ".join(findings[:3])) from error

    def verify(self) -> list[str]:
        """Return what is wrong with the segment (locked, and nothing pending)."""
        return verify(self.log.core.mapping, self.key_hash() if self.addmode else None)

    def corrupted(self, why: object) -> SegmentError:
        """Return what to raise."""
        return SegmentError(
            f"{path_of(self.segment.name)} is corrupted: {why}; "
            "it is left as it is; copy it for inspection, and remove it only when its server has been stopped"
        )

    def refuse_moved(self) -> None:
        """Raise QueueClosed if it is not known where the items are."""
        if self.u64[W_FLAGS] & FETCH_MOVED:
            raise QueueClosed(f"queue {self.name!r}: the next server finds out where its items are")

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self, source: object, at_hand: Callable[[Closed], None]) -> None:
        """Let go of the queue in this process; a later call on it raises. The queue itself stays.

        source: of the items that go back. at_hand: called with what is to stand for all parts from now on.
        """
        if not self.closed:
            hold(self.mutex, lambda: self._let_go(source, at_hand), self.put_right)

    def _let_go(self, source: object, at_hand: Callable[[Closed], None]) -> None:
        if self.closed:
            return
        with contextlib.suppress(SegmentError):  # what cannot be given back now is so when this process ends
            self._give_back_claimed(source)
            if self.asleep or choice.lib is not None:  # who sleeps in C is not entered
                self.events.notify_all()  # this process's own hear that it is closed
        self.holding.close()
        closed = Closed(self.name)
        at_hand(closed)
        parts = dict.fromkeys(("mutex", "log", "u64", "holding", "events"), closed)
        self.__dict__.update(parts, closed=True)  # one call of C: a signal handler that raises finds it open, or closed
        self.segment.close()

    def _give_back_claimed(self, source: object) -> None:
        try:
            if self.u64[W_FLAGS] & PENDING:
                self.repair()
            self.holding.give_back_claimed(lambda by: getattr(by, "source", None) is source)
        except _SUSPECT as error:
            if is_from_handler(error):
                raise
            self.recover()


@final
class Closed:
    """In place of all that a queue which was closed in this process would use."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: object) -> Any:
        raise ClientClosed(f"queue {self._name!r} is closed in this process")

    def __getattr__(self, _: str) -> Any:
        return self._refuse()

    __getitem__ = __len__ = __call__ = _refuse
