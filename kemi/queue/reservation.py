"""`with queue.reserve() as item:` - at least once.

The item stays in shared memory, in the name of this process, until the block ends. An exception in the block gives it
back; when the process is killed, the next one that takes an item sees that, and gives it back too.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, Generic, Protocol, TypeVar

from kemi.errors import LockTimeout, MqueueError
from kemi.queue.format.item import Item
from kemi.queue.log.core import Delivery


class Source(Protocol):
    """What it wants of a queue."""

    def reserve_wait(self, timeout: float | None, keep: Callable[[Delivery, Source], None]) -> bytes | None:
        """Reserve the oldest item: its record. `keep` gets it, and whom to tell the end, with the lock held."""

    def claim(self, held: Delivery, by: object) -> None:
        """Enter who stands for the item, with the lock held."""

    def done(self, held: Delivery) -> bool:
        """The item is done."""

    def give_back(self, held: Delivery) -> bool:
        """The item is not done."""


class ReservedItem(Item):
    """An item, and how often it was delivered: 1 for the first time."""

    __slots__ = ("deliveries",)

    def __init__(self, record: bytes, deliveries: int) -> None:
        super().__init__(record)
        self.deliveries = deliveries

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, deliveries={self.deliveries})"


Got_co = TypeVar("Got_co", covariant=True)  # ReservedItem where the wait has no end, else ReservedItem or None


class Reservation(Generic[Got_co]):
    """Reserves an item when the block begins, for at most `timeout` seconds of waiting; None if none came.

    The item is done, or given back, at the latest when this object dies, wherever a signal handler raises.
    """

    _held: Delivery | None = None

    def __init__(self, queue: Source, timeout: float | None) -> None:
        self._queue = queue
        self._timeout = timeout
        self._pid = 0
        self._holder: Any = queue

    @property
    def holder(self) -> Any:
        """The queue that the item is of."""
        return self._holder

    def __enter__(self) -> Got_co:
        item: Got_co = self._enter(self._queue, self._timeout)
        return item

    def enter_now(self, queue: Source) -> ReservedItem | None:
        """Begin the block with an item of this queue, without waiting."""
        found: ReservedItem | None = self._enter(queue, 0.0)
        return found

    def _enter(self, queue: Source, timeout: float | None) -> Any:
        if self._held is not None:
            raise RuntimeError(f"{self!r} is in use: call reserve() for each block")
        self._pid = os.getpid()
        try:
            record = queue.reserve_wait(timeout, self._keep)
            return None if record is None else ReservedItem(record, self._deliveries())
        except BaseException:
            self._undo()  # a signal's exception may come just after the item was reserved
            raise

    def _deliveries(self) -> int:
        return 0 if self._held is None else self._held.deliveries

    def _keep(self, held: Delivery, holder: Source) -> None:
        """Called with the lock held."""
        holder.claim(held, self)
        self._holder = holder
        self._held = held
        self.__class__ = _Held

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._undo()
            return
        held = self._held
        # A process forked in the block does not hold the item: its parent does.
        if held is None or self._pid != os.getpid():
            self._let_go()
            return
        try:
            self._holder.done(held)
            self._let_go()
        except LockTimeout:
            self._let_go()  # the queue remembers that it is done
            raise
        except BaseException:
            self._undo()  # if it was not done yet
            raise

    def _undo(self) -> None:
        """Give back what is held. Whoever calls this has an exception that counts more than an error of the queue."""
        held = self._held
        if held is not None and self._pid == os.getpid():
            with contextlib.suppress(MqueueError):
                self._holder.give_back(held)
        self._let_go()

    def _let_go(self) -> None:
        self._held = None
        self.__class__ = Reservation

    def __repr__(self) -> str:
        state = "holds nothing" if self._held is None else f"delivery {self._held.deliveries} of an item"
        return f"<Reservation of {self._queue!r}: {state}>"


class _Held(Reservation[Got_co]):
    """A reservation that holds an item. Others die without a method: Python drops what a handler raises in it."""

    def __del__(self) -> None:
        self._undo()
