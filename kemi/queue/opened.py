"""A queue's segment as this process has it open: its log, its lock, and what becomes of what went wrong under it.

Lock contract: whatever is called with the lock goes through `_work`, which recovers first if an operation was broken
off. What an exception leaves half done under the lock (a signal handler may raise anywhere) is recovered before the
lock is given back, as after a kill. Whether the segment is corrupted, `verify` says, never the exception.
"""

from __future__ import annotations

import contextlib
import struct
from typing import Any, Callable, TypeVar

from kemi.errors import ClientClosed, CorruptedError, MqueueError, QueueClosed, SegmentError
from kemi.queue.catalog.memory import InstanceMemory
from kemi.queue.catalog.registry import Registry
from kemi.queue.delivery.holding import Holding
from kemi.queue.format import keyhash, layout
from kemi.queue.format.layout import FETCH_MOVED, PENDING, W_ADDED, W_EVENT, W_FLAGS, W_POPPED, Mapping
from kemi.queue.kernel import choice
from kemi.queue.lock.mutex import DOUBTED, Mutex
from kemi.queue.lock.section import hold
from kemi.queue.lock.undisturbed import undisturbed
from kemi.queue.log.contents import Log
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.plain import PlainLog
from kemi.queue.log.verify import verify
from kemi.queue.shm.segment import Segment, path_of
from kemi.queue.sync import futex
from kemi.queue.sync.eventcount import EventCount

# What bytes that are no log may raise. After one of these `verify` looks at them.
_SUSPECT = (CorruptedError, IndexError, ValueError, OverflowError, struct.error)

_Self = TypeVar("_Self", bound="Opened")
_Result = TypeVar("_Result")


class _Futex:
    """Implements `eventcount.Futex`."""

    def __init__(self, segment: Segment) -> None:
        self._word = segment.reference(W_EVENT * 8, 4)

    def wait(self, expected: int, seconds: float) -> bool:
        return futex.wait(self._word, expected, seconds)

    def wake(self, count: int) -> None:
        futex.wake(self._word, count)


class Opened(choice.Base):
    """The parts of a queue, and how they are used together."""

    def __init__(self, name: str, segment: Segment, registry: Registry | None, lock_timeout: float = 1.0) -> None:
        """Raises SegmentError for a segment whose parts do not fit together."""
        self.name = name
        self.segment = segment
        self.closed = False  # in this process
        self._u64 = segment.words
        self.addmode: int = self._u64[layout.W_ADDMODE]
        self._keyed = self.addmode != 0
        self._memory = InstanceMemory(segment, registry)
        try:
            self._log: Log = self._make_log()
        except CorruptedError as error:
            raise self._corrupted(error) from None
        # What `add` and `pop` have at hand: see `Queue`.
        self._bytes = segment.bytes
        self._u32 = segment.halves
        self._append = self._log.append
        self._pop = self._log.pop
        self._tail_low = self._tail_end = self._head_low = self._head_end = self._high = 0
        self._holding = Holding(self._log, segment)
        self._events = EventCount(self._log.core.mapping, _Futex(segment))
        self._registry = registry
        self._dead_letters: Any = None  # a queue, once it was needed
        self._asleep: set[int] = set()  # threads of this process that wait for an item
        # Another queue of the instance, in a process that has all of them at hand.
        self.sibling: Callable[[str], Any] = _no_sibling
        self._settles = False  # may this process use what was on its way elsewhere when its owner died?
        self._mutex = Mutex(segment, lock_timeout, self._repair, self._progress)
        choice.attach(self, segment)

    def _make_log(self) -> Log:
        mapping = Mapping(self.segment.bytes, self.segment.words, self.segment.halves)
        if self._keyed:
            return KeyedLog(mapping, self._memory, self._key_hash())
        return PlainLog(mapping, self._memory)

    def _key_hash(self) -> keyhash.KeyHash:
        return keyhash.function_of(self._u64[layout.W_HASH])

    def _held_bytes(self) -> int:
        """Bytes of memory that the segment holds."""
        chunks = self._log.core.chunks
        return layout.fixed_bytes_of(self._u64) + chunks.reserved()

    # --- the lock ---------------------------------------------------------------------------------------------------

    def _work(self, work: Callable[[], _Result]) -> _Result:
        """Call what is not as hot as `add` and `pop` with the lock held."""

        def recovered() -> _Result:
            if self._u64[W_FLAGS] & PENDING:
                self._repair()
            return work()

        return hold(self._mutex, recovered, self._put_right)

    # --- when something went wrong ----------------------------------------------------------------------------------

    def _repair(self) -> None:
        """Called with the lock held, when its last holder died with it, or left it by an exception."""
        if self._u64[W_FLAGS] & FETCH_MOVED and not self._settles:
            raise QueueClosed(
                f"queue {self.name!r}: its items were on their way to another place when that was broken off; "
                "the next server finds out where they are"
            )
        self._recover()

    def _recover(self) -> None:
        try:
            self._log.recover()
        except CorruptedError as error:
            raise self._corrupted(error) from None
        except _SUSPECT as error:
            raise self._corrupted(error) from error
        self._memory.account(self._held_bytes())
        self._events.notify_all()  # the dead one may have died before it woke somebody

    def _progress(self) -> int:
        return int(self._u64[W_ADDED] + self._u64[W_POPPED])

    def _clean_up(self, mutex: Mutex, error: BaseException, *, inside: bool) -> Any:
        """After an exception in `add` or `pop`: leave nothing half done. Returns what to unlock.

        Not inside: it came while the lock was taken.
        """
        if inside:
            self._put_right(mutex, error)
        return mutex.ref_after(inside=inside)

    def _clean_up_again(self, mutex: Mutex, error: BaseException, *, inside: bool) -> Any:
        """`_clean_up`, if it was broken off."""
        if inside and mutex.doubt.value == DOUBTED:
            self._put_right(mutex, error)
        return mutex.ref_after(inside=inside)

    def _put_right(self, mutex: Mutex, error: BaseException) -> None:
        """Leave nothing half done after an exception under the lock, and take the mutex out of doubt."""
        if self.closed or not mutex.is_mine():  # a process forked in a signal handler has not the lock
            mutex.trust()
            return

        def repair() -> None:
            try:
                self._repair()
                self._judge(error)
                self._give_back_forgotten()
            finally:
                mutex.trust()

        undisturbed(repair)

    def _give_back_forgotten(self) -> None:
        try:
            if self._holding.give_back_forgotten():
                self._events.notify_all()
        except _SUSPECT as error:
            self._recover()
            raise self._corrupted(error) from None

    def _judge(self, error: BaseException) -> None:
        """Raise SegmentError if this may have come from the segment, and it is corrupted."""
        if isinstance(error, CorruptedError):
            raise self._corrupted(error) from None
        if isinstance(error, _SUSPECT) and not isinstance(error, MqueueError) and (findings := self._verify()):
            raise self._corrupted("; ".join(findings[:3])) from error

    def _verify(self) -> list[str]:
        """What is wrong with the segment (locked, and nothing pending)."""
        return verify(self._log.core.mapping, self._key_hash() if self._keyed else None)

    def _corrupted(self, why: object) -> SegmentError:
        return SegmentError(
            f"{path_of(self.segment.name)} is corrupted: {why}; "
            "it is left as it is; copy it for inspection, and remove it only when its server has been stopped"
        )

    def close(self) -> None:
        """Let go of the queue in this process; a later call on it raises. The queue itself stays."""
        if self.closed:
            return
        hold(self._mutex, self._let_go, self._put_right)
        if self._dead_letters is not None:
            self._dead_letters.close()

    def _let_go(self) -> None:
        if self.closed:
            return
        with contextlib.suppress(SegmentError):  # what cannot be given back now is so when this process ends
            self._give_back_claimed()
            if self._asleep or choice.lib is not None:  # who sleeps in C is not entered
                self._events.notify_all()  # this process's own hear that it is closed
        choice.detach(self)
        self._holding.close()
        parts = dict.fromkeys(("_mutex", "_log", "_u64", "_append", "_pop", "_holding", "_events"), _Closed(self.name))
        self.__dict__.update(parts, closed=True)  # one call of C: a signal handler that raises finds it open, or closed
        self.segment.close()

    def _give_back_claimed(self) -> None:
        try:
            if self._u64[W_FLAGS] & PENDING:
                self._repair()
            self._holding.give_back_claimed(lambda by: getattr(by, "source", None) is self)
        except _SUSPECT:
            self._recover()

    def __enter__(self: _Self) -> _Self:  # noqa: PYI019 - typing.Self is newer than Python 3.9
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _no_sibling(_name: str) -> None:
    return None


class _Closed:
    """In place of all that a queue which was closed in this process would use."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: object) -> Any:
        raise ClientClosed(f"queue {self._name!r} is closed in this process")

    def __getattr__(self, _: str) -> Any:
        return self._refuse()

    __getitem__ = __len__ = __call__ = _refuse
