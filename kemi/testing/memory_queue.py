# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue in this process's memory, for tests of what uses one: the same surface, order and redelivery as a real one.

Its clock runs with this host's, and `advance` moves it on: what is delayed becomes due, ages grow, nobody sleeps. Only
a call that waits for an item waits indeed, until one is added or becomes due. Any thread may use it; other processes
may not.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, final, overload

from kemi import times
from kemi.errors import ClientClosed, ConfigError, ItemError
from kemi.queue.client.api import Pair, QueueClient
from kemi.queue.delivery.hold import Hold, Settlement
from kemi.queue.delivery.reservation import AsyncReservation, Reservation
from kemi.queue.delivery.reserved import Batch, ReservedItem
from kemi.queue.format.item import Data, Item
from kemi.queue.format.outcome import AddResult, Stats
from kemi.queue.sync.stop import STOP_LOOK, Stop, stopper
from kemi.testing.item import record

if TYPE_CHECKING:
    from kemi.queue.delivery.reservation import Keep

_LOOK = 60.0  # seconds of one wait
_epochs = itertools.count(1)


class _Entry:
    """One item."""

    __slots__ = ("deliveries", "due", "record", "seq")

    def __init__(self, record: bytes, seq: int) -> None:
        self.record = record
        self.seq = seq
        self.deliveries = 0
        self.due = 0.0  # by the queue's clock


class _Clocked:
    """What an item's age is by the clock of its queue."""

    __slots__ = ()
    _clock: Callable[[], float]
    added: float
    deadline: float | None

    @property
    def age(self) -> float:
        """Seconds since it was added."""
        return max(0.0, self._clock() - self.added)

    @property
    def left(self) -> float | None:
        """Seconds to the deadline; None: there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - self._clock())


class _MemoryItem(_Clocked, Item):
    __slots__ = ("_clock",)

    def __init__(self, record: bytes, clock: Callable[[], float]) -> None:
        super().__init__(record)
        self._clock = clock


class _MemoryReserved(_Clocked, ReservedItem):
    __slots__ = ("_clock",)

    def __init__(self, record: bytes, hold: Hold, clock: Callable[[], float]) -> None:
        super().__init__(record, hold)
        self._clock = clock


@final
class MemoryQueue(QueueClient):
    """A `QueueClient` in this process's memory."""

    def __init__(
        self,
        name: str = "queue",
        *,
        items: Iterable[tuple[Data, Data]] = (),
        size: int | None = None,
        max_deliveries: int | None = None,
        dead_letter: Any = None,
    ) -> None:
        """size: most items; the oldest is dropped for one more. dead_letter: the queue for what is not delivered again.

        Raises ConfigError, ItemError.
        """
        limits: list[tuple[str, Any]] = [("size", size), ("max_deliveries", max_deliveries)]
        for option, limit in limits:
            if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
                raise ConfigError(f"{option}={limit!r}: write a whole number of 1 or more, or None for no limit")
        self._name = name
        self._size = size
        self._max_deliveries = max_deliveries
        self._dead_letter = dead_letter
        self._epoch = next(_epochs)
        self._changed = threading.Condition(threading.RLock())
        self._futures: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._fresh: deque[_Entry] = deque()
        self._returned: list[tuple[float, int, _Entry]] = []
        self._held: dict[int, _Entry] = {}  # by the number of the delivery
        self._numbers = itertools.count(1)
        self._offset = 0.0
        self._errors: list[Exception] = []
        self._closed = False
        names = ("added", "fetched", "dropped", "dead_lettered", "exhausted", "high_water")
        self._counts: dict[str, Any] = dict.fromkeys(names, 0)
        for key, value in items:
            self.add(key, value)

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def where(self) -> str:
        """Always "memory"."""
        return "memory"

    # --- for tests ----------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass: what is delayed becomes due, items become older."""
        with self._changed:
            self._offset += times.delay(seconds, "seconds")
            self._wake()

    def fail_next(self, error: Exception) -> None:
        """Let the next call raise this."""
        self._errors.append(error)

    def _now(self) -> float:
        return time.time() + self._offset

    def _begin(self) -> None:
        """Each call begins with it (locked)."""
        if self._errors:
            raise self._errors.pop(0)
        if self._closed:
            raise ClientClosed(f"queue {self._name!r} is closed in this process")

    def _wake(self) -> None:
        self._changed.notify_all()
        futures, self._futures = self._futures, []
        for loop, future in futures:
            try:
                loop.call_soon_threadsafe(_set, future)
            except RuntimeError:  # that event loop is closed
                continue

    # --- adding -------------------------------------------------------------------------------------------------------

    def add(self, key: Data, value: Data) -> AddResult:
        """Add an item. Raises ItemError."""
        return self.add_many([(key, value)])[0]

    def add_many(self, pairs: Iterable[Pair]) -> list[AddResult]:
        """Add items; nothing is added when one is none. Raises ItemError."""
        now = self._now()
        records = [record(*_pair(pair), now) for pair in pairs]
        with self._changed:
            self._begin()
            for one in records:
                self._counts["added"] += 1
                self._fresh.append(_Entry(one, self._counts["added"]))
                if self._size is not None and len(self) > self._size:
                    self._fresh.popleft()
                    self._counts["dropped"] += 1
            self._counts["high_water"] = max(self._counts["high_water"], len(self))
            self._wake()
        return [AddResult.ADDED] * len(records)

    # --- taking -------------------------------------------------------------------------------------------------------

    def _next(self) -> _Entry | None:
        """Take the oldest item (locked)."""
        if self._returned and self._returned[0][0] <= self._now():
            return heapq.heappop(self._returned)[2]
        return self._fresh.popleft() if self._fresh else None

    def _seconds_to_due(self) -> float:
        return self._returned[0][0] - self._now() if self._returned else math.inf

    def _wait(self, take: Callable[[], bool], timeout: float | None) -> bool:
        """Call `take`, with the lock held, until it is true, for `timeout` seconds. Return whether it was."""
        deadline = self._now() + times.seconds(timeout)
        with self._changed:
            self._begin()
            while not take():
                left = min(deadline - self._now(), self._seconds_to_due(), _LOOK)
                if deadline <= self._now():
                    return False
                self._changed.wait(max(0.0, left))
                self._begin()
            return True

    async def _await(self, take: Callable[[], bool], timeout: float | None) -> bool:
        """`_wait` for asyncio. Cancelled, it has taken nothing."""
        deadline = self._now() + times.seconds(timeout)
        while True:
            with self._changed:
                self._begin()
                if take():
                    return True
                left = min(deadline - self._now(), self._seconds_to_due(), _LOOK)
                if deadline <= self._now():
                    return False
                loop = asyncio.get_running_loop()
                future = loop.create_future()
                self._futures.append((loop, future))
            await asyncio.wait({future}, timeout=max(0.0, left))

    def _taker(self, count: int, found: list[Item]) -> Callable[[], bool]:
        def take() -> bool:
            while len(found) < count and (entry := self._next()) is not None:
                self._counts["fetched"] += 1
                found.append(_MemoryItem(entry.record, self._now))
            return bool(found)

        return take

    @overload
    def fetch(self, timeout: None) -> Item: ...
    @overload
    def fetch(self, timeout: float | None = 0) -> Item | None: ...
    def fetch(self, timeout: float | None = 0) -> Item | None:
        """Take the oldest item; None when none came within the timeout."""
        found: list[Item] = []
        self._wait(self._taker(1, found), timeout)
        return found[0] if found else None

    def fetch_many(self, count: int, timeout: float | None = 0) -> list[Item]:
        """Take up to `count` items; wait for the first one."""
        found: list[Item] = []
        if count > 0:
            self._wait(self._taker(count, found), timeout)
        return found

    def consume(self, stop: Stop = None) -> Iterator[Item]:
        """Take items for ever, or until `stop` says so."""
        stopped = stopper(stop)
        while not stopped():
            item = self.fetch(None if stop is None else STOP_LOOK)
            if item is not None:
                yield item

    # --- at least once ------------------------------------------------------------------------------------------------

    @overload
    def reserve(self, timeout: None) -> Reservation[ReservedItem]: ...
    @overload
    def reserve(self, timeout: float | None = 0) -> Reservation[ReservedItem | None]: ...
    def reserve(self, timeout: float | None = 0) -> Reservation[Any]:
        """Reserve the oldest item, for a block or, with `take`, to settle it by hand."""
        return Reservation(self, None, timeout)

    def reserve_many(self, count: int, timeout: float | None = 0) -> Reservation[Batch]:
        """Reserve up to `count` items; wait for the first one."""
        return Reservation(self, max(0, count), timeout)

    def reserve_each(self, stop: Stop = None) -> Iterator[Reservation[ReservedItem]]:
        """Reserve one item after the other: `for each in ...: with each as item:`."""
        stopped = stopper(stop)
        while not stopped():
            one: Reservation[ReservedItem] = Reservation(self, None, None if stop is None else STOP_LOOK)
            if one.fill():
                yield one

    def reserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        """See `reservation.Reserver`."""
        numbers: list[int] = []
        self._wait(self._reserver(count, keep, numbers), timeout)
        return len(numbers) or None

    def _reserver(self, count: int, keep: Keep, numbers: list[int]) -> Callable[[], bool]:
        def take() -> bool:
            while len(numbers) < count and (entry := self._next()) is not None:
                number = next(self._numbers)
                entry.deliveries += 1
                self._held[number] = entry
                numbers.append(number)
                hold = Hold(self, number, f"memory{self._epoch:x}-{entry.seq:x}", entry.deliveries)
                keep(_MemoryReserved(entry.record, hold, self._now))
            return bool(numbers)

        return take

    def settle(self, tokens: Sequence[Any], how: Settlement) -> int:
        """See `hold.Source`."""
        dead: list[_Entry] = []
        with self._changed:
            entries = [entry for token in tokens if (entry := self._held.pop(token, None)) is not None]
            for entry in entries:
                if how.kind == "give back":
                    self._give_back(entry, how, dead)
                elif how.kind == "reject":
                    dead.append(entry)
                else:
                    self._counts["fetched"] += 1
            self._wake()
        for entry in dead:
            self._bury(entry)
        return 0 if how.kind == "answer" else len(entries)  # nobody asked

    async def asettle(self, tokens: Sequence[Any], how: Settlement) -> int:
        """See `hold.Source`."""
        return self.settle(tokens, how)

    def _give_back(self, entry: _Entry, how: Settlement, dead: list[_Entry]) -> None:
        if not how.counted:
            entry.deliveries -= 1
        if self._max_deliveries is not None and entry.deliveries >= self._max_deliveries:
            if self._dead_letter is not None:
                dead.append(entry)
                return
            self._counts["exhausted"] += 1
        entry.due = self._now() + how.after if how.after else 0.0
        heapq.heappush(self._returned, (entry.due, entry.seq, entry))

    def _bury(self, entry: _Entry) -> None:
        if self._dead_letter is None:
            self._counts["dropped"] += 1
            return
        self._counts["dead_lettered"] += 1
        item = Item(entry.record)
        self._dead_letter.add(item.key_bytes, item.value_bytes)

    # --- looking ------------------------------------------------------------------------------------------------------

    def peek(self, count: int | None = 1, *, reserved: bool = False) -> list[Item]:
        """The oldest items, which stay. count: None for all. reserved: those too that are reserved."""
        with self._changed:
            self._begin()
            now = self._now()
            there = [entry for _, _, entry in sorted(self._returned) if reserved or entry.due <= now]
            if reserved:
                there = sorted([*there, *self._held.values()], key=lambda entry: entry.seq)
            all_items = [_MemoryItem(entry.record, self._now) for entry in [*there, *self._fresh]]
            return all_items[: None if count is None else max(0, count)]  # type: ignore[return-value]

    def stats(self) -> Stats:
        """Counts and contents of one moment."""
        with self._changed:
            self._begin()
            oldest = self.peek(1)
            entries = [*self._fresh, *self._held.values(), *(entry for _, _, entry in self._returned)]
            size = len(self)
            return Stats(
                size=size,
                bytes=sum(len(entry.record) + 7 & -8 for entry in entries),
                memory=0,
                replaced=0,
                refused=0,
                recovered=0,
                size_limit=self._size,
                byte_limit=None,
                addmode=0,
                reserved=len(self._held),
                max_deliveries=self._max_deliveries,
                oldest=oldest[0].added if oldest else None,
                due=len(self._fresh) + len(self._returned) - size,
                **self._counts,
            )

    def __len__(self) -> int:
        with self._changed:
            now = self._now()
            return len(self._fresh) + sum(due <= now for due, _, _ in self._returned)

    def __bool__(self) -> Literal[True]:
        return True  # an empty queue is a queue

    def close(self) -> None:
        """Waiting calls raise ClientClosed, reserved items go back."""
        with self._changed:
            self._closed = True
            for number in list(self._held):
                self.settle([number], Settlement("give back"))
            self._wake()

    def __enter__(self) -> MemoryQueue:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise ConfigError(f"{self!r} is in the memory of process {os.getpid()}, where no other process has it")

    def __repr__(self) -> str:
        return f"<MemoryQueue {self._name!r} size={len(self)}{' closed' * self._closed}>"

    # --- asyncio ------------------------------------------------------------------------------------------------------

    async def aadd(self, key: Data, value: Data) -> AddResult:
        """`add` for asyncio."""
        return self.add(key, value)

    async def aadd_many(self, pairs: Iterable[Pair]) -> list[AddResult]:
        """`add_many` for asyncio."""
        return self.add_many(pairs)

    @overload
    async def afetch(self, timeout: None) -> Item: ...
    @overload
    async def afetch(self, timeout: float | None = 0) -> Item | None: ...
    async def afetch(self, timeout: float | None = 0) -> Item | None:
        """`fetch` for asyncio."""
        found: list[Item] = []
        await self._await(self._taker(1, found), timeout)
        return found[0] if found else None

    async def afetch_many(self, count: int, timeout: float | None = 0) -> list[Item]:
        """`fetch_many` for asyncio."""
        found: list[Item] = []
        if count > 0:
            await self._await(self._taker(count, found), timeout)
        return found

    async def aconsume(self, stop: Stop = None) -> AsyncIterator[Item]:
        """`consume` for asyncio."""
        stopped = stopper(stop)
        while not stopped():
            item = await self.afetch(None if stop is None else STOP_LOOK)
            if item is not None:
                yield item

    @overload
    def areserve(self, timeout: None) -> AsyncReservation[ReservedItem]: ...
    @overload
    def areserve(self, timeout: float | None = 0) -> AsyncReservation[ReservedItem | None]: ...
    def areserve(self, timeout: float | None = 0) -> AsyncReservation[Any]:
        """`reserve` for asyncio."""
        return AsyncReservation(self, None, timeout)

    def areserve_many(self, count: int, timeout: float | None = 0) -> AsyncReservation[Batch]:
        """`reserve_many` for asyncio."""
        return AsyncReservation(self, max(0, count), timeout)

    async def areserve_each(self, stop: Stop = None) -> AsyncIterator[AsyncReservation[ReservedItem]]:
        """`reserve_each` for asyncio."""
        stopped = stopper(stop)
        while not stopped():
            one: AsyncReservation[ReservedItem] = AsyncReservation(self, None, None if stop is None else STOP_LOOK)
            if await one.fill():
                yield one

    async def areserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        """See `reservation.AsyncReserver`."""
        numbers: list[int] = []
        await self._await(self._reserver(count, keep, numbers), timeout)
        return len(numbers) or None

    async def apeek(self, count: int | None = 1, *, reserved: bool = False) -> list[Item]:
        """`peek` for asyncio."""
        return self.peek(count, reserved=reserved)

    async def astats(self) -> Stats:
        """`stats` for asyncio."""
        return self.stats()

    async def aclose(self) -> None:
        """`close` for asyncio."""
        self.close()

    async def __aenter__(self) -> MemoryQueue:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()


def _pair(pair: Any) -> tuple[Any, Any]:
    if isinstance(pair, Item):
        return pair.key_bytes, pair.value_bytes
    try:
        key, value = pair
    except (TypeError, ValueError):
        raise ItemError(f"an item to add is a pair of key and value, not {type(pair).__name__}") from None
    return key, value


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
