# SPDX-License-Identifier: GPL-2.0-or-later
"""`with queue.reserve() as item:` and `with queue.reserve_many(count) as batch:` - at least once.

The item stays where it was, in the name of this process, until it is settled. An exception in the block gives it back;
when the process is killed, the next one that takes an item sees that, and gives it back too.

A reservation is the owner of its items until its block ends: they are settled at the latest when it dies, wherever a
signal handler raises. `take` hands them to the caller.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Generic, Protocol, TypeVar, cast, final

from kemi.errors import LockTimeout, MqueueError
from kemi.queue.delivery.hold import DONE, GIVE_BACK, Settlement, asettle_all, settle_all
from kemi.queue.delivery.reserved import Batch, ReservedItem, holds_of
from kemi.queue.sync.handlers import is_from_handler

Got_co = TypeVar("Got_co", covariant=True)  # a Batch; or ReservedItem, with None where the wait may end
Keep = Callable[[ReservedItem], None]


class Reserver(Protocol):
    """What a reservation wants of a queue."""

    def reserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        """Reserve up to `count` items, as many as is quick, and call `keep` with each; wait for the first one.

        Returns how many; None if none came, or if there are certainly no more now: to ask for more would be in vain.
        """


class AsyncReserver(Protocol):
    """What a reservation in asyncio wants of a queue."""

    async def areserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        """`Reserver.reserve_some`, while the event loop goes on. Cancelled, it has reserved nothing."""


class _Owned:
    """The items of one reservation. While there are any it is a `_Held`."""

    __slots__ = ("entered", "filled", "items", "left", "queue", "single", "timeout")

    def __init__(self, queue: object, count: int | None, timeout: float | None) -> None:
        """count: None for one item that is not in a batch."""
        self.queue: Any = queue
        self.single = count is None
        self.left = 1 if count is None else count
        self.timeout = timeout
        self.items: list[ReservedItem] = []
        self.filled = self.entered = False

    def keep(self, item: ReservedItem) -> None:
        """Own one item more. Called with the queue's lock held."""
        self.items.append(item)
        self.left -= 1
        self.__class__ = _Held

    def fill(self) -> None:
        """Reserve the items. What an error keeps from coming after others have come is met by the next call."""
        self.filled = True
        try:
            while self.left > 0 and self.queue.reserve_some(self.left, self.timeout, self.keep):
                self.timeout = 0.0
        except BaseException as error:
            if not self._is_enough(error):
                raise

    async def afill(self) -> None:
        """`fill`, while the event loop goes on."""
        self.filled = True
        try:
            while self.left > 0 and await self.queue.areserve_some(self.left, self.timeout, self.keep):
                self.timeout = 0.0
        except BaseException as error:
            if not self._is_enough(error):
                raise

    def _is_enough(self, error: BaseException) -> bool:
        """Return True if the block gets what came before this error. Otherwise it is given back."""
        if isinstance(error, MqueueError) and not is_from_handler(error):
            return bool(self.items)
        self.undo()  # a signal's exception may come just after an item was reserved
        return False

    def enter(self) -> Any:
        """Return what the block gets."""
        if not self.single:
            return Batch(self.items)
        return self.items[0] if self.items else None

    def begin(self) -> None:
        """Begin the one use. Raises RuntimeError when it has begun before."""
        if self.entered:
            raise RuntimeError(f"a reservation is for one use: call reserve() for each block ({self.queue!r})")
        self.entered = True

    def release(self) -> Any:
        """`enter`, and let the caller settle the items."""
        result = self.enter()
        for hold in holds_of(self.items):
            hold.take()
        self.let_go()
        return result

    def settle(self, how: Settlement) -> None:
        """Settle what is unsettled."""
        if self.single:
            for item in self.items:
                item._hold.settle(how)  # noqa: SLF001 - it is a part of the package
        else:
            settle_all(holds_of(self.items), how)

    def undo(self) -> None:
        """Give back what is unsettled. Whoever calls this has an exception that counts more than an error of ours."""
        with contextlib.suppress(MqueueError):
            self.settle(GIVE_BACK)
        self.let_go()

    def let_go(self) -> None:
        """Own nothing any more."""
        self.items = []
        self.__class__ = _Owned

    def __repr__(self) -> str:
        unsettled = sum(not item.settled for item in self.items)
        holds = f"{unsettled} item{'s' * (unsettled > 1)}" if unsettled else "nothing"
        return f"Reservation of {self.queue!r}: holds {holds}"


class _Held(_Owned):
    """Others die without a method: Python drops what a signal handler raises in it."""

    __slots__ = ()

    def __del__(self) -> None:
        self.undo()


@final
class Reservation(Generic[Got_co]):
    """`with`: at the end what is unsettled is done; after an exception, given back. The exception passes. For one use.

    None when nothing came within the timeout (an empty batch for `reserve_many`).
    """

    __slots__ = ("_owned",)

    def __init__(self, queue: Reserver, count: int | None, timeout: float | None) -> None:
        """count: items of a batch; None for one item that is in none. timeout: seconds to wait for the first one."""
        self._owned = _Owned(queue, count, timeout)

    def fill(self) -> bool:
        """Reserve the items now, before the block begins. Return True if one came."""
        self._owned.fill()
        return bool(self._owned.items)

    def __enter__(self) -> Got_co:
        owned = self._owned
        owned.begin()
        try:
            if not owned.filled:
                owned.fill()
            found: Got_co = owned.enter()
            return found  # noqa: TRY300 - a handler may raise here, too
        except BaseException:
            owned.undo()  # a signal's exception
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        owned = self._owned
        if kind is not None:
            owned.undo()
            return
        try:
            owned.settle(DONE)
        except BaseException as error:
            if isinstance(error, LockTimeout) and not is_from_handler(error):
                owned.let_go()  # the queue remembers that it is done
            else:
                owned.undo()  # if it was not done yet
            raise
        owned.let_go()

    def take(self) -> Got_co:
        """Reserve without a block: settle by hand. What is forgotten goes back, with a ResourceWarning."""
        owned = self._owned
        owned.begin()
        if not owned.filled:
            owned.fill()
        return cast("Got_co", owned.release())

    def __repr__(self) -> str:
        return f"<{self._owned!r}>"


@final
class AsyncReservation(Generic[Got_co]):
    """`Reservation` for `async with`."""

    __slots__ = ("_owned",)

    def __init__(self, queue: AsyncReserver, count: int | None, timeout: float | None) -> None:
        """As `Reservation`."""
        self._owned = _Owned(queue, count, timeout)

    async def fill(self) -> bool:
        """Reserve the items now, before the block begins. Return True if one came."""
        await self._owned.afill()
        return bool(self._owned.items)

    async def __aenter__(self) -> Got_co:
        owned = self._owned
        owned.begin()
        if not owned.filled:
            await owned.afill()
        return cast("Got_co", owned.enter())

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        owned = self._owned
        holds = holds_of(owned.items)
        how = DONE if kind is None else GIVE_BACK
        try:
            await asettle_all(holds, how)
        except LockTimeout as error:
            owned.undo() if is_from_handler(error) else owned.let_go()
            if kind is None:
                raise
        except MqueueError:
            owned.undo()
            if kind is None:
                raise
        except BaseException:  # cancelled once more: how the block ended is what counts
            with contextlib.suppress(MqueueError):
                settle_all(holds, how)
            owned.undo()
            raise
        owned.let_go()

    async def take(self) -> Got_co:
        """As `Reservation.take`."""
        owned = self._owned
        owned.begin()
        if not owned.filled:
            await owned.afill()
        return cast("Got_co", owned.release())

    def __repr__(self) -> str:
        return f"<{self._owned!r}>"
