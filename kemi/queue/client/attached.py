# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue of an instance on this host, as a process outside of the server uses it: it outlives the server."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Callable, Literal, TypeVar, final, overload

from kemi import times
from kemi.errors import ClientClosed, QueueClosed
from kemi.owner import Owner
from kemi.queue.client import endless
from kemi.queue.client.address import Address, checked
from kemi.queue.client.api import Pair, QueueClient
from kemi.queue.client.current import CurrentQueue
from kemi.queue.delivery.reservation import AsyncReservation, Keep, Reservation
from kemi.queue.delivery.reserved import Batch, ReservedItem
from kemi.queue.format.item import Data, Item, item_of
from kemi.queue.format.outcome import BREAKS_OFF, CLOSED, AddResult, Stats, rest_after
from kemi.queue.kernel import choice
from kemi.queue.shm.trust import named_owner
from kemi.queue.sync.handlers import is_from_handler
from kemi.queue.sync.stop import Stop

if TYPE_CHECKING:
    from kemi.queue.queue import Queue

_MANY = 256  # pairs from which on an add runs in a thread of the event loop's
_Self = TypeVar("_Self", bound="AttachedQueue")


@final
class AttachedQueue(choice.Client, QueueClient):
    """A queue of an instance, whichever server runs it. Safe with threads and across fork."""

    def __init__(
        self,
        instance: str,
        name: str,
        lock_timeout: float = 1.0,
        *,
        reattach: bool = True,
        wait: float | None = 0.0,
        owner: str | int | None = None,
    ) -> None:
        """Attach to the queue. Raises UnknownQueue, NotAllowed, SegmentError, ConfigError.

        wait: seconds for the server and its queue to appear, None for ever.
        reattach: when the queue is closed, wait for the next one of its name; else raise QueueClosed.
        owner: one more user whose files are trusted, see `trust`.
        """
        self._current = CurrentQueue(checked(Address(instance, name, lock_timeout, reattach, named_owner(owner))))
        self._current.open_within(times.seconds(wait, "wait"))

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._current.address.name

    @property
    def instance(self) -> str:
        """The instance whose queue it is."""
        return self._current.address.instance

    where = instance

    @property
    def closed(self) -> bool:
        """Whether `close` was called here."""
        return self._current.closed

    @property
    def addmode(self) -> int:
        """What an add does with a key that is there: 0 adds, 1 keeps the older item, 2 the newer."""
        return self._current.queue.addmode

    def __reduce__(self) -> tuple[Callable[[Address], AttachedQueue], tuple[Address]]:
        if self.closed:
            raise ClientClosed(f"queue {self.name!r} is closed in this process: it cannot be given to another one")
        return _at_address, (self._current.address,)

    # --- in ---------------------------------------------------------------------------------------------------------

    def add(self, key: Data, value: Data) -> AddResult:
        """Add an item. A refused one is a false result: CLOSED while no server runs. Raises ItemError."""
        current = self._current
        queue = current.queue
        # The usual call, without the two functions that `current.add` needs.
        try:
            outcome = queue.add(key, value)
        except QueueClosed as error:
            if is_from_handler(error):
                raise
        else:
            if outcome is not CLOSED or not current.address.reattach or not current.renew(queue):
                return outcome
        return current.add(lambda queue: queue.add(key, value), lambda outcome: outcome is CLOSED)

    def add_many(self, pairs: Iterable[Pair]) -> list[AddResult]:
        """Add items; return one result for each, in order. One lock for 256 of them.

        Raises only while nothing was added. Otherwise the rest is NOT_TRIED, or CLOSED, and another call with it raises
        what is wrong.
        """
        all_pairs = list(pairs)
        outcomes: list[AddResult] = []

        def add(queue: Queue) -> list[AddResult]:
            # The server may have ended between two batches.
            del outcomes[outcomes.index(CLOSED) if CLOSED in outcomes else len(outcomes) :]
            try:
                outcomes.extend(queue.add_many(all_pairs[len(outcomes) :]))
            except BREAKS_OFF as error:
                if not outcomes or is_from_handler(error):
                    raise
                outcomes.extend(rest_after(error, len(all_pairs) - len(outcomes)))
            return outcomes

        return self._current.add(add, lambda found: CLOSED in found)

    def add_from(self, source: str | bytes, entries: Iterable[tuple[tuple[int, int], Data, Data]]) -> list[AddResult]:
        """Add what comes from a stream elsewhere, each entry once: for relays. See `Queue.add_from`."""
        all_entries = list(entries)
        return self._current.add(lambda queue: queue.add_from(source, all_entries), lambda found: CLOSED in found)

    def position(self, source: str | bytes) -> tuple[int, int] | None:
        """Return up to where a stream was added by `add_from`; None if nothing was."""
        return self._current.present().position(source)

    # --- out --------------------------------------------------------------------------------------------------------

    @overload
    def fetch(self, timeout: None) -> Item: ...
    @overload
    def fetch(self, timeout: float | None = 0.0) -> Item | None: ...
    def fetch(self, timeout: float | None = 0.0) -> Item | None:
        """Take the oldest item; wait for one at most `timeout` seconds (None: for ever). None when there is none."""
        if timeout.__class__ is not float or not timeout >= 0.0:
            timeout = times.seconds(timeout)  # spelled out: a call costs a tenth of a fetch
        queue = self._current.queue
        try:
            max_age = queue.max_age  # read before: nothing may fail once an item was taken
            record = queue.pop()
        except QueueClosed as error:
            if is_from_handler(error):
                raise
        else:
            if record is not None:
                return item_of(record, max_age) if max_age else Item(record)
        return self._current.wait_for(lambda queue, left: queue.fetch(left), timeout)

    def fetch_many(self, count: int, timeout: float | None = 0.0) -> list[Item]:
        """Take the oldest items, `count` at most; wait for the first one as `fetch` does."""
        seconds = times.seconds(timeout)
        if count <= 0:
            return []
        return self._current.wait_for(lambda queue, left: queue.fetch_many(count, left) or None, seconds) or []

    def consume(self, stop: Stop = None) -> Iterator[Item]:
        """Take items for ever, asleep while there are none. Ends by `stop`, or when this client is closed here.

        stop: an Event, or a function that says when to end; noticed within STOP_LOOK seconds, and before each item.
        """
        return endless.consume(self, stop)

    @overload
    def reserve(self, timeout: None) -> Reservation[ReservedItem]: ...
    @overload
    def reserve(self, timeout: float | None = 0.0) -> Reservation[ReservedItem | None]: ...
    def reserve(self, timeout: float | None = 0.0) -> Reservation[Any]:
        """`with queue.reserve(timeout) as item:` takes the oldest item for the time of the block. See `Reservation`."""
        return Reservation(self, None, times.seconds(timeout))

    def reserve_many(self, count: int, timeout: float | None = 0.0) -> Reservation[Batch]:
        """`with queue.reserve_many(count, timeout) as batch:` takes up to `count` items; waits for the first one."""
        return Reservation(self, count, times.seconds(timeout))

    def reserve_each(self, stop: Stop = None) -> Iterator[Reservation[ReservedItem]]:
        """`for each in queue.reserve_each(stop): with each as item:` - as `consume`, at least once."""
        return endless.reserve_each(self, stop)

    def reserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        """See `reservation.Reserver`."""
        return self._current.wait_for(lambda queue, left: queue.reserve_some(count, left, keep), timeout)

    # --- looking ----------------------------------------------------------------------------------------------------

    def peek(self, count: int | None = 1, *, reserved: bool = False) -> list[Item]:
        """Return the oldest `count` items, which stay; None: all. reserved: also those that somebody has reserved."""
        return self._current.present().peek(count, reserved=reserved)

    def undone(self) -> list[Item]:
        """Return what `peek(None, reserved=True)` does, which replaces it."""
        warnings.warn("undone() is peek(None, reserved=True)", DeprecationWarning, stacklevel=2)
        return self.peek(None, reserved=True)

    def stats(self) -> Stats:
        """Return counters and contents at one moment."""
        return self._current.present().stats()

    def reason(self, outcome: AddResult) -> str:
        """Return why this process's last add had that outcome: a sentence that says which limit was met."""
        return self._current.queue.reason(outcome)

    def owner(self) -> Owner:
        """Return the server's process: the one that made the queue, or took it over from a dead one."""
        return self._current.present().owner()

    def is_closed(self) -> bool:
        """Return True if the server has ended, and none has started since."""
        return self._current.present().is_closed()

    def is_moving(self) -> bool:
        """Return True while nobody can take the items: they were on their way to a table when that was broken off."""
        return self._current.present().is_moving()

    def __len__(self) -> int:
        return len(self._current.present())

    def __bool__(self) -> Literal[True]:
        return True

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the queue in this process; a later call on it raises ClientClosed. The queue itself stays."""
        self._current.close()

    def __enter__(self: _Self) -> _Self:  # noqa: PYI019 - typing.Self is newer than Python 3.9
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- asyncio ----------------------------------------------------------------------------------------------------

    async def aadd(self, key: Data, value: Data) -> AddResult:
        """`add` for asyncio: the event loop goes on meanwhile."""
        await self._current.unlocked()
        return self.add(key, value)

    async def aadd_many(self, pairs: Iterable[Pair]) -> list[AddResult]:
        """`add_many` for asyncio. Many of them are added in a thread, which goes on when this call is cancelled."""
        all_pairs = list(pairs)
        if len(all_pairs) < _MANY:
            await self._current.unlocked()
            return self.add_many(all_pairs)
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(None, self.add_many, all_pairs)

    @overload
    async def afetch(self, timeout: None) -> Item: ...
    @overload
    async def afetch(self, timeout: float | None = 0.0) -> Item | None: ...
    async def afetch(self, timeout: float | None = 0.0) -> Item | None:
        """`fetch` for asyncio. A call that is cancelled takes nothing."""
        return await self._current.look_for(lambda queue: queue.fetch(), timeout)

    async def afetch_many(self, count: int, timeout: float | None = 0.0) -> list[Item]:
        """`fetch_many` for asyncio. A call that is cancelled takes nothing."""
        seconds = times.seconds(timeout)
        if count <= 0:
            return []
        return await self._current.look_for(lambda queue: queue.fetch_many(count) or None, seconds) or []

    def aconsume(self, stop: Stop = None) -> AsyncIterator[Item]:
        """`consume` for asyncio. stop: also an asyncio.Event."""
        return endless.aconsume(self, stop)

    @overload
    def areserve(self, timeout: None) -> AsyncReservation[ReservedItem]: ...
    @overload
    def areserve(self, timeout: float | None = 0.0) -> AsyncReservation[ReservedItem | None]: ...
    def areserve(self, timeout: float | None = 0.0) -> AsyncReservation[Any]:
        """`async with queue.areserve(timeout) as item:` - `reserve` for asyncio."""
        return AsyncReservation(self, None, times.seconds(timeout))

    def areserve_many(self, count: int, timeout: float | None = 0.0) -> AsyncReservation[Batch]:
        """`async with queue.areserve_many(count, timeout) as batch:` - `reserve_many` for asyncio."""
        return AsyncReservation(self, count, times.seconds(timeout))

    def areserve_each(self, stop: Stop = None) -> AsyncIterator[AsyncReservation[ReservedItem]]:
        """`async for each in queue.areserve_each(stop): async with each as item:`. stop: also an asyncio.Event."""
        return endless.areserve_each(self, stop)

    async def areserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        """See `reservation.AsyncReserver`."""
        # What is reserved in the moment of a cancellation is nobody's: no await comes between it and the return.
        return await self._current.look_for(lambda queue: queue.reserve_some(count, 0.0, keep), timeout)

    async def apeek(self, count: int | None = 1, *, reserved: bool = False) -> list[Item]:
        """`peek` for asyncio."""
        await self._current.unlocked()
        return self.peek(count, reserved=reserved)

    async def astats(self) -> Stats:
        """`stats` for asyncio."""
        await self._current.unlocked()
        return self.stats()

    async def aclose(self) -> None:
        """`close` for asyncio."""
        try:
            await self._current.unlocked()
        finally:
            self.close()

    async def __aenter__(self: _Self) -> _Self:  # noqa: PYI019
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __dir__(self) -> list[str]:
        """Only what works here, for completion."""
        inside = ("reserve_some", "areserve_some", "add_from", "position")
        return [name for name in super().__dir__() if name[:2] == "__" or (name[0] != "_" and name not in inside)]

    def __repr__(self) -> str:
        about = f"Queue {self.name!r} of instance {self.instance!r}"
        if self.closed:
            return f"<{about}, closed in this process>"
        if not self._current.is_attached():
            return f"<{about}, attached at its first use>"
        queue = self._current.queue
        if queue.is_closed():
            return f"<{about}, its server has ended>"
        return f"<{about}, size={len(queue)} addmode={queue.addmode} server={queue.owner().pid}>"


choice.take_over_client(AttachedQueue)


def queue_in_use(client: AttachedQueue) -> Queue:
    """Return the queue that a client uses now, for tools of this package that need its segment."""
    return client._current.queue  # noqa: SLF001 - it is a part of the class above


def _at_address(address: Address) -> AttachedQueue:
    """Return what a pickled client becomes."""
    client = AttachedQueue.__new__(AttachedQueue)
    client._current = CurrentQueue(address)  # noqa: SLF001 - it is a part of the class above
    return client
