# SPDX-License-Identifier: GPL-2.0-or-later
"""The surface of a queue for the processes that use it, whatever it is a queue of.

One Protocol for a queue of a Kamailio on this host, for one of an engine (Redis, Valkey), and for the double that tests
use. Use it, do not implement it: it may gain methods.

- Time is float seconds. `timeout`: most seconds to wait; 0 (or less) never waits, None (or inf) waits for ever; NaN,
  bool and other types raise at once. A call ends within timeout + lock_timeout.
- An expected outcome is a value (None, an empty list, a false result); misuse and broken things raise MqueueError.
  Every call may raise Unavailable, SegmentError or EngineError.
- Items come in the order in which they were added, each to one consumer. `fetch` and `consume`: at most once; `reserve`
  and its kin: at least once.
- x() blocks its thread, ax() its coroutine: same arguments, result, errors. A cancelled ax() has taken nothing.
- A client may be used by any thread, works on after a fork, and pickles as its address.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import wraps
from types import FunctionType
from typing import Literal, Protocol, TypeVar, Union, overload, runtime_checkable

from kemi.queue.delivery.reservation import AsyncReservation, Reservation
from kemi.queue.delivery.reserved import Batch, ReservedItem
from kemi.queue.format.item import Data, Item
from kemi.queue.format.outcome import AddResult, Stats
from kemi.queue.sync.stop import Stop

Pair = Union[tuple[Data, Data], Item]
_Self = TypeVar("_Self", bound="QueueClient")


@runtime_checkable
class QueueClient(Protocol):
    """A queue, as the processes that add to it and take from it have it."""

    @property
    def name(self) -> str:
        """The queue's name."""

    @property
    def where(self) -> str:
        """Whose queue it is: an instance on this host, or an engine's URL with its password masked."""

    # --- in ---

    def add(self, key: Data, value: Data) -> AddResult:
        """Add an item. A refused one is a false result. Raises ItemError for another type."""

    def add_many(self, pairs: Iterable[Pair]) -> list[AddResult]:
        """Add items; return one result for each, in order. Reads `pairs` to its end first.

        Raises only while nothing was added: after that the rest is NOT_TRIED, CLOSED or UNKNOWN, and another call with
        it raises what is wrong. (Not so for what is no error of ours, like KeyboardInterrupt.)
        """

    # --- out, at most once ---

    @overload
    def fetch(self, timeout: None) -> Item: ...
    @overload
    def fetch(self, timeout: float | None = 0) -> Item | None: ...
    def fetch(self, timeout: float | None = 0) -> Item | None:
        """Take the oldest item, which is then gone from the queue. None: none came in time."""

    def fetch_many(self, count: int, timeout: float | None = 0) -> list[Item]:
        """Take up to `count` items; wait for the first one."""

    def consume(self, stop: Stop = None) -> Iterator[Item]:
        """Take items for ever; each is gone when it is yielded. Ends by `stop`, or when the client is closed here.

        stop: an event, or a function; looked at before each item, and five times a second.
        """

    # --- out, at least once ---

    @overload
    def reserve(self, timeout: None) -> Reservation[ReservedItem]: ...
    @overload
    def reserve(self, timeout: float | None = 0) -> Reservation[ReservedItem | None]: ...
    def reserve(self, timeout: float | None = 0) -> Reservation[ReservedItem] | Reservation[ReservedItem | None]:
        """`with queue.reserve(timeout) as item:` takes the oldest item for the time of the block. See `Reservation`."""

    def reserve_many(self, count: int, timeout: float | None = 0) -> Reservation[Batch]:
        """`with queue.reserve_many(count, timeout) as batch:` takes up to `count` items; waits for the first one."""

    def reserve_each(self, stop: Stop = None) -> Iterator[Reservation[ReservedItem]]:
        """`for each in queue.reserve_each(stop): with each as item:` - as `consume`, at least once."""

    # --- looking ---

    def peek(self, count: int | None = 1, *, reserved: bool = False) -> list[Item]:
        """Return the oldest `count` items, which stay; None: all. reserved: also those that somebody has reserved."""

    def stats(self) -> Stats:
        """Return counters and contents at one moment."""

    def __len__(self) -> int:
        """Return how many items can be taken now."""

    def __bool__(self) -> Literal[True]:
        """Return True: an empty queue is a queue."""

    # --- the end ---

    def close(self) -> None:
        """Let go of the queue in this process, as often as you like; it stays for others.

        Waiting calls raise ClientClosed, and what this client has reserved goes back.
        """

    def __enter__(self: _Self) -> _Self: ...  # noqa: PYI019 - typing.Self is newer than Python 3.9
    def __exit__(self, *error: object) -> None: ...

    # --- asyncio ---

    async def aadd(self, key: Data, value: Data) -> AddResult:
        """`add` for asyncio."""

    async def aadd_many(self, pairs: Iterable[Pair]) -> list[AddResult]:
        """`add_many` for asyncio."""

    @overload
    async def afetch(self, timeout: None) -> Item: ...
    @overload
    async def afetch(self, timeout: float | None = 0) -> Item | None: ...
    async def afetch(self, timeout: float | None = 0) -> Item | None:
        """`fetch` for asyncio."""

    async def afetch_many(self, count: int, timeout: float | None = 0) -> list[Item]:
        """`fetch_many` for asyncio."""

    def aconsume(self, stop: Stop = None) -> AsyncIterator[Item]:
        """`consume` for asyncio."""

    @overload
    def areserve(self, timeout: None) -> AsyncReservation[ReservedItem]: ...
    @overload
    def areserve(self, timeout: float | None = 0) -> AsyncReservation[ReservedItem | None]: ...
    def areserve(
        self, timeout: float | None = 0
    ) -> AsyncReservation[ReservedItem] | AsyncReservation[ReservedItem | None]:
        """`async with queue.areserve(timeout) as item:` - `reserve` for asyncio."""

    def areserve_many(self, count: int, timeout: float | None = 0) -> AsyncReservation[Batch]:
        """`reserve_many` for asyncio."""

    def areserve_each(self, stop: Stop = None) -> AsyncIterator[AsyncReservation[ReservedItem]]:
        """`reserve_each` for asyncio: `async for each in ...: async with each as item:`."""

    async def apeek(self, count: int | None = 1, *, reserved: bool = False) -> list[Item]:
        """`peek` for asyncio."""

    async def astats(self) -> Stats:
        """`stats` for asyncio."""

    async def aclose(self) -> None:
        """`close` for asyncio."""

    async def __aenter__(self: _Self) -> _Self: ...  # noqa: PYI019
    async def __aexit__(self, *error: object) -> None: ...


def _refusing(name: str, method: FunctionType) -> Callable[..., object]:
    """Return what a method of the Protocol does when its class is called: else it would do, and say, nothing."""

    @wraps(method)
    def refuse(*_: object, **__: object) -> object:
        raise TypeError(f"QueueClient.{name} says what a queue has: call {name} on what attach() gave")

    return refuse


for _name, _method in list(vars(QueueClient).items()):
    if isinstance(_method, FunctionType) and not _name.startswith("_"):
        setattr(QueueClient, _name, _refusing(_name, _method))
