"""A queue's segment as this process has it open: its ring, its lock, and what becomes of what went wrong under it.

Lock contract: what changes something is called by `_work`, what only looks by `_look`. What an exception leaves half
done under the lock (a signal handler may raise anywhere) is put right as it is after a kill.
"""

from __future__ import annotations

import struct
from typing import Any, Callable, TypeVar

from kemi.errors import ClientClosed, DamagedRing, MqueueError, QueueClosed, SegmentError
from kemi.queue import layout
from kemi.queue.bell import Bell
from kemi.queue.holding import Holding
from kemi.queue.keyed import KeyedRing
from kemi.queue.memory import InstanceMemory
from kemi.queue.mutex import DOUBTED, Mutex
from kemi.queue.registry import Registry
from kemi.queue.ring import Ring
from kemi.queue.section import hold
from kemi.queue.segment import Segment, path_of
from kemi.queue.undisturbed import undisturbed

# What comes of bytes that are no ring, wherever it is noticed first.
_DAMAGE = (DamagedRing, IndexError, ValueError, struct.error)

_Self = TypeVar("_Self", bound="Opened")
_Result = TypeVar("_Result")

# The attributes of a queue beside `name` and `closed`, for what stands in for one.
PARTS = (
    "addmode",
    "segment",
    "_append",
    "_bell",
    "_bytes",
    "_dead_letters",
    "_far",
    "_halves",
    "_holding",
    "_inside",
    "_memory",
    "_mutex",
    "_pop",
    "_registry",
    "_ring",
    "_settles",
    "_words",
    "sibling",
)


class Opened:
    """The parts of a queue, and how they are used together."""

    def __init__(self, name: str, segment: Segment, registry: Registry | None, lock_timeout: float = 1.0) -> None:
        self.name = name
        self.segment = segment
        self.closed = False  # in this process
        words = self._words = segment.words
        self.addmode: int = words[layout.W_ADDMODE]
        kind = KeyedRing if self.addmode else Ring
        self._memory = InstanceMemory(segment, registry)
        self._ring: Ring = kind(segment.bytes, words, segment.halves, self._memory)
        # What `add` and `pop` have at hand.
        self._bytes = segment.bytes
        self._halves = segment.halves
        self._append = self._ring.append
        self._pop = self._ring.pop
        self._inside = self._ring.inside
        self._far = self._ring.far
        self._holding = Holding(self._ring, words)
        self._bell = Bell(segment)
        self._registry = registry
        self._dead_letters: Any = None  # a queue, once it was needed
        # Another queue of the instance, in a process that has all of them at hand.
        self.sibling: Callable[[str], Any] = _no_sibling
        self._settles = False  # may this process use what was moving when its owner died?
        self._mutex = Mutex(segment, lock_timeout, self._repair, self._progress)

    # --- the lock ---------------------------------------------------------------------------------------------------

    def _work(self, work: Callable[[], _Result]) -> _Result:
        """Call what changes something, and is not as hot as `add` and `pop`, with the lock held."""
        return hold(self._mutex, work, self._put_right)

    def _look(self, look: Callable[[], _Result]) -> _Result:
        """Call what only looks, with the lock held."""
        try:
            return hold(self._mutex, look)
        except _DAMAGE as error:
            self._explain(error)
            raise

    # --- when something went wrong ----------------------------------------------------------------------------------

    def _repair(self, *, thorough: bool = False) -> None:
        """Called with the lock held, when its last holder died with it, or left it by an exception.

        thorough: read every record, however long others have to wait.
        """
        if self._words[layout.W_MOVING] and not self._settles:
            raise QueueClosed(
                f"queue {self.name!r}: its items were on their way to another place when that was broken off; "
                "the next server finds out where they are"
            )
        try:
            if thorough:
                self._ring.recover()
            else:
                self._ring.recover_quickly()
        except _DAMAGE as error:
            raise self._damaged(error) from None
        self._bell.call_all()  # the dead one may have died before it woke somebody

    def _progress(self) -> int:
        return int(self._words[layout.W_ADDED] + self._words[layout.W_REMOVED])

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
        is_damage = _comes_from_memory(error)

        def repair() -> None:
            try:
                self._repair(thorough=is_damage)
                if self._holding.give_back_forgotten():
                    self._bell.call_all()
            finally:
                mutex.trust()

        undisturbed(repair)
        if is_damage:
            raise self._damaged(error)

    def _explain(self, error: BaseException) -> None:
        """Raise SegmentError if this comes from bytes that are no ring."""
        if _comes_from_memory(error):
            raise self._damaged(error) from None

    def _damaged(self, error: BaseException) -> SegmentError:
        return SegmentError(
            f"{path_of(self.segment.name)} is damaged: {error}; "
            "it is left as it is; copy it for inspection, and remove it only when its server has been stopped"
        )

    def close(self) -> None:
        """Let go of the queue in this process; a later call on it raises. The queue itself stays."""
        if self.closed:
            return
        hold(self._mutex, self._let_go)
        if self._dead_letters is not None:
            self._dead_letters.close()

    def _let_go(self) -> None:
        if self.closed:
            return
        self._holding.give_back_claimed(lambda by: getattr(by, "holder", None) is self)
        ring = self._ring
        closed: Any = _Closed(self.name)
        # No call in between: a signal handler that raises finds it open, or closed.
        self._mutex = self._ring = self._words = self._append = self._pop = self._holding = closed
        self.closed = True
        ring.close()
        self.segment.close()

    def __enter__(self: _Self) -> _Self:  # noqa: PYI019 - typing.Self is newer than Python 3.9
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _no_sibling(_name: str) -> None:
    return None


def _comes_from_memory(error: BaseException) -> bool:
    """Was this raised by what lies in the segment, and not by a signal handler of the application?"""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if isinstance(error, UnicodeError):
        return False  # nothing is decoded under the lock: Kamailio left it behind (see kemi.server.left)
    inside = bool(trace and trace.tb_frame.f_globals["__name__"].startswith("kemi."))
    return inside and isinstance(error, _DAMAGE) and not isinstance(error, MqueueError)


class _Closed:
    """In place of all that a queue which was closed in this process would use."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: object) -> Any:
        raise ClientClosed(f"queue {self._name!r} is closed in this process")

    def __getattr__(self, _: str) -> Any:
        return self._refuse()

    __getitem__ = __len__ = __call__ = _refuse
