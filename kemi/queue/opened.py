"""A queue's segment as this process has it open: its ring, its lock, and what becomes of what went wrong under it.

Lock contract: work is done in `_working`, what only looks in `_locked`. What an exception leaves half done under the
lock (a signal handler may raise anywhere) is put right as it is after a kill.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any, TypeVar

from kemi.errors import DamagedRing, QueueClosed, Reentered, SegmentError
from kemi.queue import layout
from kemi.queue.bell import Bell
from kemi.queue.holding import Holding
from kemi.queue.keyed import KeyedRing
from kemi.queue.memory import InstanceMemory
from kemi.queue.mutex import Mutex, trylock, unlock
from kemi.queue.registry import Registry
from kemi.queue.ring import Ring
from kemi.queue.segment import Segment, path_of

# What comes of bytes that are no ring, wherever it is noticed first.
_DAMAGE = (DamagedRing, IndexError, ValueError, struct.error)

_Self = TypeVar("_Self", bound="Opened")

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
        self._settles = False  # may this process use what was moving when its owner died?
        self._mutex = Mutex(segment, lock_timeout, self._repair, self._progress)

    # --- the lock ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        """The lock, for what changes something and is not as hot as `add` and `pop`."""
        mutex = self._mutex
        ref = mutex.ref
        try:
            if code := trylock(ref):
                ref = mutex.take_slowly(code)
            yield
        except BaseException as error:
            ref = self._clean_up(mutex, error)
            raise
        finally:
            unlock(ref)

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

    def _clean_up(self, mutex: Mutex, error: BaseException) -> Any:
        """An exception under the lock: leave nothing half done. Returns what to unlock."""
        if not isinstance(error, Reentered) and not self.closed and mutex.is_mine():
            try:
                is_damage = _comes_from_memory(error)
                self._repair(thorough=is_damage)
                if is_damage:
                    raise self._damaged(error)
            except BaseException:
                unlock(mutex.ref)
                raise
        return mutex.ref_after(error)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The lock, for what only looks."""
        with self._mutex:
            try:
                yield
            except _DAMAGE as error:
                raise self._damaged(error) from None

    def _damaged(self, error: BaseException) -> SegmentError:
        return SegmentError(
            f"{path_of(self.segment.name)} is damaged: {error}; "
            "it is left as it is, save it for inspection or remove it"
        )

    def close(self) -> None:
        """Let go of the queue in this process; a later call on it raises. The queue itself stays."""
        if self.closed:
            return
        with self._mutex:
            self.closed = True
            self.segment.close()
            self._ring.close()
            closed: Any = _Closed(self.name)
            self._mutex = self._ring = self._words = self._append = self._pop = self._holding = closed
        if self._dead_letters is not None:
            self._dead_letters.close()

    def __enter__(self: _Self) -> _Self:  # noqa: PYI019 - typing.Self is newer than Python 3.9
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _comes_from_memory(error: BaseException) -> bool:
    """Was this raised by what lies in the segment, and not by a signal handler of the application?"""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if isinstance(error, UnicodeError):
        return False  # nothing is decoded under the lock: Kamailio left it behind (see kemi.server.left)
    return isinstance(error, _DAMAGE) and bool(trace and trace.tb_frame.f_globals["__name__"].startswith("kemi."))


class _Closed:
    """In place of all that a queue which was closed in this process would use."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: object) -> Any:
        raise ValueError(f"queue {self._name!r} is closed in this process")

    def __getattr__(self, _: str) -> Any:
        return self._refuse()

    __enter__ = __getitem__ = __len__ = __call__ = _refuse

    def __exit__(self, *_: object) -> None:
        pass
