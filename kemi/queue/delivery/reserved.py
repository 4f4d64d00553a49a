# SPDX-License-Identifier: GPL-2.0-or-later
"""Reserved items, and several of them together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

from kemi import times
from kemi.errors import ItemError
from kemi.queue.delivery.hold import DONE, Hold, Nowhere, Settlement, asettle_all, settle_all
from kemi.queue.format.item import Data, Item


class ReservedItem(Item):
    """This process's until it is settled; killed or collected unsettled it goes back, ahead of the others, in order.

    Settling is final: it returns True the first time, and False when the item was settled, or is not this process's any
    more (its queue was made anew). Pickled, or in a process that was forked meanwhile, it is a copy: settling returns
    False there.
    """

    __slots__ = ("_hold",)

    def __init__(self, record: bytes, hold: Hold, deadline: float | None = None) -> None:
        self._record = record
        self._deadline = deadline
        self._hold = hold

    @property
    def id(self) -> str:
        """The same at each delivery and after a relay, and never used again: the key to do it exactly once."""
        return self._hold.id

    @property
    def deliveries(self) -> int:
        """How often it was delivered: 1 the first time."""
        return self._hold.deliveries

    @property
    def asked(self) -> bool:
        """Whether somebody waits for `answer`."""
        return self._hold.asked

    @property
    def settled(self) -> bool:
        """Whether this process has nothing to settle any more."""
        return self._hold.is_over()

    def done(self) -> bool:
        """Be done with it (ack). Raises LockTimeout: it is kept in mind, and done with this process's next call."""
        return self._hold.settle(DONE)

    def give_back(self, *, after: float = 0) -> bool:
        """Let it be delivered again (nack), not before `after` seconds. Raises as `done`."""
        return self._hold.settle(Settlement("give back", after=times.delay(after)))

    def reject(self, reason: str = "") -> bool:
        """Let it never be delivered again: it goes to the dead letter queue, or is dropped and counted.

        reason: a sentence for people. Raises as `done`.
        """
        return self._hold.settle(Settlement("reject", reason=reason))

    def answer(self, value: Data) -> bool:
        """Answer the question that it is, and be done with it. False: nobody asked, or nobody waits any more."""
        return self._hold.settle(Settlement("answer", value=_bytes(value)))

    async def adone(self) -> bool:
        """`done` for asyncio."""
        return await self._hold.asettle(DONE)

    async def agive_back(self, *, after: float = 0) -> bool:
        """`give_back` for asyncio."""
        return await self._hold.asettle(Settlement("give back", after=times.delay(after)))

    async def areject(self, reason: str = "") -> bool:
        """`reject` for asyncio."""
        return await self._hold.asettle(Settlement("reject", reason=reason))

    async def aanswer(self, value: Data) -> bool:
        """`answer` for asyncio."""
        return await self._hold.asettle(Settlement("answer", value=_bytes(value)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _copy, (self._record, self._deadline, self.id, self.deliveries, self.asked)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, deliveries={self.deliveries})"


def _copy(record: bytes, deadline: float | None, item_id: str, deliveries: int, asked: bool) -> ReservedItem:
    """Return what a pickled item becomes."""
    return ReservedItem(record, Hold(Nowhere(), None, item_id, deliveries, asked=asked, pid=0), deadline)


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise ItemError(f"an answer must be UTF-8, and this text is not: {error.reason} at {error.start}") from None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise ItemError(f"an answer must be str or bytes, not {type(value).__name__}")


def settle(item: ReservedItem, how: Settlement) -> bool:
    """Settle an item in a way that has no method of its own. Raises as `ReservedItem.done`."""
    return item._hold.settle(how)  # noqa: SLF001 - it is a part of the class above


async def asettle(item: ReservedItem, how: Settlement) -> bool:
    """`settle` for asyncio."""
    return await item._hold.asettle(how)  # noqa: SLF001


def holds_of(items: Iterable[ReservedItem]) -> list[Hold]:
    """Return what items are held by. Raises ItemError for what is no reserved item."""
    holds = []
    for item in items:
        if not isinstance(item, ReservedItem):
            raise ItemError(f"only reserved items can be settled, not {type(item).__name__}")
        holds.append(item._hold)  # noqa: SLF001 - it is a part of the class above
    return holds


@final
class Batch(tuple[ReservedItem, ...]):
    """Reserved together, the oldest first; false when none came in time.

    Without `items`, a call settles all that is unsettled.
    """

    __slots__ = ()

    @property
    def unsettled(self) -> list[ReservedItem]:
        """Those that this process has yet to settle."""
        return [item for item in self if not item.settled]

    def done(self, items: Iterable[ReservedItem] | None = None) -> int:
        """Be done with these. Return how many were settled by this call.

        Raises LockTimeout: it is kept in mind, and they are done with this process's next call.
        """
        return settle_all(self._holds(items), DONE)

    def give_back(self, items: Iterable[ReservedItem] | None = None, *, after: float = 0) -> int:
        """Let these be delivered again, before all other items, not before `after` seconds; else as `done`."""
        return settle_all(self._holds(items), Settlement("give back", after=times.delay(after)))

    async def adone(self, items: Iterable[ReservedItem] | None = None) -> int:
        """`done` for asyncio."""
        return await asettle_all(self._holds(items), DONE)

    async def agive_back(self, items: Iterable[ReservedItem] | None = None, *, after: float = 0) -> int:
        """`give_back` for asyncio."""
        return await asettle_all(self._holds(items), Settlement("give back", after=times.delay(after)))

    def _holds(self, items: Iterable[ReservedItem] | None) -> list[Hold]:
        return holds_of(self if items is None else items)
