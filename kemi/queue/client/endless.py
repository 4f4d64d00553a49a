# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking items for ever: the same for every client, of a Kamailio on this host or of an engine.

Each ends by `stop`, or when the client is closed in this process. `stop` is looked at before each item, and within
STOP_LOOK seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol, TypeVar

from kemi.errors import ClientClosed
from kemi.queue.delivery.reservation import AsyncReservation, Reservation
from kemi.queue.delivery.reserved import ReservedItem
from kemi.queue.format.item import Item
from kemi.queue.sync.stop import STOP_LOOK, Stop, stopper

_Got = TypeVar("_Got")


class Client(Protocol):
    """What it wants of a client, which also is what `Reservation` and `AsyncReservation` take items from."""

    @property
    def closed(self) -> bool:
        """Whether it was closed in this process."""

    def fetch(self, timeout: float | None) -> Item | None:
        """Take the oldest item."""

    async def afetch(self, timeout: float | None) -> Item | None:
        """`fetch` for asyncio."""

    def reserve_some(self, count: int, timeout: float | None, keep: Any) -> int | None:
        """See `reservation.Reserver`."""

    async def areserve_some(self, count: int, timeout: float | None, keep: Any) -> int | None:
        """See `reservation.AsyncReserver`."""


def consume(client: Client, stop: Stop) -> Iterator[Item]:
    """Give one item after the other, each gone from the queue."""
    return _each(client, stop, client.fetch)


def reserve_each(client: Client, stop: Stop) -> Iterator[Reservation[ReservedItem]]:
    """Give one reservation after the other, each with an item."""

    def reserve(timeout: float | None) -> Reservation[ReservedItem] | None:
        each: Reservation[ReservedItem] = Reservation(client, None, timeout)
        return each if each.fill() else None

    return _each(client, stop, reserve)


def _each(client: Client, stop: Stop, take: Callable[[float | None], _Got | None]) -> Iterator[_Got]:
    stopped = stopper(stop)
    try:
        while not stopped():
            found = take(None if stop is None else STOP_LOOK)
            if found is not None:
                yield found
    except ClientClosed:
        if not client.closed:
            raise


def aconsume(client: Client, stop: Stop) -> AsyncIterator[Item]:
    """`consume` for asyncio."""
    return _aeach(client, stop, client.afetch)


def areserve_each(client: Client, stop: Stop) -> AsyncIterator[AsyncReservation[ReservedItem]]:
    """`reserve_each` for asyncio."""

    async def reserve(timeout: float | None) -> AsyncReservation[ReservedItem] | None:
        each: AsyncReservation[ReservedItem] = AsyncReservation(client, None, timeout)
        return each if await each.fill() else None

    return _aeach(client, stop, reserve)


async def _aeach(
    client: Client, stop: Stop, take: Callable[[float | None], Awaitable[_Got | None]]
) -> AsyncIterator[_Got]:
    stopped = stopper(stop)
    try:
        while not stopped():
            found = await take(None if stop is None else STOP_LOOK)
            if found is not None:
                yield found
    except ClientClosed:
        if not client.closed:
            raise
