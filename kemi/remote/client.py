# SPDX-License-Identifier: GPL-2.0-or-later
"""The QueueClient of an engine's queue.

What a local queue's client promises holds here too: at most once with `fetch`, at least once with `reserve`, in the
order of each source with one consumer. In asyncio threads do the waiting; a call that is cancelled gives back what its
thread has reserved by then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar, overload

from kemi import times
from kemi.errors import Disconnected, MqueueError, OutcomeUnknown
from kemi.queue.client import endless
from kemi.queue.delivery.hold import Hold, Settlement
from kemi.queue.delivery.reservation import AsyncReservation, Keep, Reservation
from kemi.queue.delivery.reserved import Batch, ReservedItem
from kemi.queue.format.item import Item, encode
from kemi.queue.format.outcome import AddResult, Stats
from kemi.queue.sync.stop import Stop
from kemi.relay.link import EngineBusy
from kemi.relay.url import parse
from kemi.remote.group import SLICE, Entry, Group
from kemi.remote.items import BATCH, LARGEST, batch_of, id_of, parts_of_pair, record_from
from kemi.remote.threads import Attempt, Threads

Data = Any  # str, bytes, bytearray, memoryview
_RETRY = 0.1  # seconds between two tries to attach

_Self = TypeVar("_Self", bound="EngineQueue")


class EngineQueue:
    """A queue of an engine. Safe with threads and across fork; pickles as its URL, with the password that is in it."""

    def __init__(self, queue: str, where: str, *, wait: float | None = 0.0, lock_timeout: float = 1.0) -> None:
        """Connect. Raises Disconnected, NotAllowed, EngineError, ConfigError.

        wait: seconds for the engine to appear, None for ever. lock_timeout: seconds for one reply.
        """
        why = "no call waits longer than that for a reply"
        self._address = queue, where, times.finite_seconds(lock_timeout, "lock_timeout", why)
        self._prepare(*self._address)
        deadline = time.monotonic() + times.seconds(wait, "wait")
        while True:
            try:
                self._group.ping()
            except (Disconnected, EngineBusy):
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY)
            else:
                return

    def _prepare(self, queue: str, where: str, lock_timeout: float) -> None:
        address = parse(where) if "timeout=" in where else parse(where, timeout=lock_timeout)
        self._group = Group(address, queue)
        self._threads = Threads()

    def __reduce__(self) -> tuple[Any, ...]:
        if self.closed:
            raise ValueError(f"queue {self.name!r} is closed in this process: it cannot be given to another one")
        return _at_address, self._address

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._group.queue

    @property
    def where(self) -> str:
        """The engine's URL, without a password."""
        return str(self._group.address)

    @property
    def closed(self) -> bool:
        """Was `close` called here?"""
        return self._group.closed

    # --- in ---------------------------------------------------------------------------------------------------------

    def add(self, key: Data, value: Data) -> AddResult:
        """Add an item. A refused one is a false result. Raises ItemError, Disconnected, OutcomeUnknown."""
        record = encode(key, value)
        if len(record[0]) + len(record[1]) > LARGEST:
            return AddResult.TOO_LARGE
        try:
            return AddResult.ADDED if self._group.add([record]) else AddResult.FULL
        except EngineBusy as error:
            return _refused(error)

    def add_many(self, pairs: Iterable[Any]) -> list[AddResult]:
        """Add items; one result for each. Raises only while nothing was sent; see `QueueClient.add_many`."""
        records = [encode(*parts_of_pair(pair)) for pair in pairs]
        results: list[AddResult] = []
        while len(results) < len(records):
            batch = batch_of(records, len(results))
            if not batch:
                results.append(AddResult.TOO_LARGE)
                continue
            try:
                added = self._group.add(batch)
                results += [AddResult.ADDED] * added + [AddResult.FULL] * (len(batch) - added)
            except EngineBusy as error:
                results += [_refused(error)] * len(batch)
            except OutcomeUnknown:
                results += [AddResult.UNKNOWN] * len(batch)
                results += [AddResult.NOT_TRIED] * (len(records) - len(results))
            except MqueueError:
                if not any(results):
                    raise
                results += [AddResult.NOT_TRIED] * (len(records) - len(results))
        return results

    def reason(self, outcome: AddResult) -> str:
        """Why an add had that outcome: a sentence that says which limit was met."""
        if outcome is AddResult.FULL:
            return f"the queue has max_len={self._group.address.max_len} items"
        if outcome is AddResult.NO_MEMORY:
            return f"no memory: maxmemory of {self.where} is reached"
        return outcome.reason

    # --- out --------------------------------------------------------------------------------------------------------

    @overload
    def fetch(self, timeout: None) -> Item: ...
    @overload
    def fetch(self, timeout: float | None = 0) -> Item | None: ...
    def fetch(self, timeout: float | None = 0) -> Item | None:
        """Take the oldest item, which is then gone from the queue. None: none came in time."""
        found = self.fetch_many(1, timeout)
        return found[0] if found else None

    def fetch_many(self, count: int, timeout: float | None = 0) -> list[Item]:
        """Take up to `count` items; wait for the first one."""
        deadline = time.monotonic() + times.seconds(timeout)
        items: list[Item] = []
        while len(items) < count:
            try:
                left = 0.0 if items else max(0.0, deadline - time.monotonic())
                entries = self._wait_for(count - len(items), left)
                taken = self._group.take_for_good(entries)
            except MqueueError:
                if not items:
                    raise
                break  # what was taken is not lost, and the next call meets the error again
            if not entries:
                break
            items += [Item(record_from(entry)) for entry in taken]
        return items

    def consume(self, stop: Stop = None) -> Iterator[Item]:
        """Take items for ever. Ends by `stop`, or when the client is closed here."""
        return endless.consume(self, stop)

    @overload
    def reserve(self, timeout: None) -> Reservation[ReservedItem]: ...
    @overload
    def reserve(self, timeout: float | None = 0) -> Reservation[ReservedItem | None]: ...
    def reserve(self, timeout: float | None = 0) -> Reservation[Any]:
        """`with queue.reserve(timeout) as item:` takes the oldest item for the time of the block."""
        times.seconds(timeout)
        return Reservation(self, None, timeout)

    def reserve_many(self, count: int, timeout: float | None = 0) -> Reservation[Batch]:
        """`with queue.reserve_many(count, timeout) as batch:` takes up to `count` items; waits for the first one."""
        times.seconds(timeout)
        return Reservation(self, count, timeout)

    def reserve_each(self, stop: Stop = None) -> Iterator[Reservation[ReservedItem]]:
        """`for each in queue.reserve_each(stop): with each as item:` - as `consume`, at least once."""
        return endless.reserve_each(self, stop)

    def reserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        """See `reservation.Reserver`."""
        return self._kept(self._wait_for(count, timeout), count, keep)

    def settle(self, tokens: Sequence[str], how: Settlement) -> int:
        """See `hold.Source`."""
        return self._group.settle(tokens, how)

    def _kept(self, entries: Sequence[Entry], count: int, keep: Keep) -> int | None:
        """Keep them. Returns how many; None if there were no more: to look again costs a reply of the engine."""
        for entry in entries:
            hold = Hold(self, entry.name, id_of(entry), entry.deliveries)
            self._group.holds(entry.name, hold)
            keep(ReservedItem(record_from(entry), hold))
        return len(entries) if len(entries) >= min(count, BATCH) else None

    def _wait_for(self, count: int, timeout: float | None) -> list[Entry]:
        deadline = time.monotonic() + times.seconds(timeout)
        while count > 0:
            count_now = min(count, BATCH)
            found = self._group.take(count_now)
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            found = self._group.wait(count_now, left)
            if found:
                return found
        return []

    # --- looking ----------------------------------------------------------------------------------------------------

    def peek(self, count: int | None = 1, *, reserved: bool = False) -> list[Item]:
        """The oldest `count` items, which stay; None: all. reserved: also those that somebody has reserved."""
        if count is not None and count <= 0:
            return []
        return [Item(record_from(entry)) for entry in self._group.peek(count, reserved=reserved)]

    def stats(self) -> Stats:
        """Counters and contents at one moment. What an engine does not count is 0."""
        items, pending, due, later, added, counters = self._group.numbers()
        oldest = self.peek(1)
        memory = self._group.memory()
        address = self._group.address
        return Stats(
            size=items - pending + due,
            bytes=memory,
            memory=memory,
            added=added,
            fetched=counters.get("fetched", 0),
            dropped=counters.get("dropped", 0),
            replaced=0,
            refused=counters.get("refused", 0),
            recovered=0,
            high_water=0,
            size_limit=address.max_len,
            byte_limit=None,
            addmode=0,
            reserved=pending - due - later,
            dead_lettered=counters.get("dead_lettered", 0),
            max_deliveries=address.max_deliveries,
            oldest=oldest[0].added if oldest else None,
            due=later,
        )

    def __len__(self) -> int:
        items, pending, due, *_ = self._group.numbers()
        return items - pending + due

    def __bool__(self) -> Literal[True]:
        return True  # an empty queue is a queue

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the queue here: waiting calls raise ClientClosed, what is reserved goes back. Idempotent."""
        self._group.close()
        self._threads.close()

    def __enter__(self: _Self) -> _Self:  # noqa: PYI019 - typing.Self is newer than Python 3.9
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Queue {self.name!r} of {self.where}{', closed in this process' if self.closed else ''}>"

    # --- asyncio ----------------------------------------------------------------------------------------------------

    async def _run(self, call: Callable[[Attempt], Any], undo: Callable[[Any], object] = lambda _: None) -> Any:
        """`call` in a thread. undo: gets what it returned when nobody waits for that any more."""
        if self.closed:
            raise self._group.closed_error()
        return await self._threads.run(call, undo)

    async def aadd(self, key: Data, value: Data) -> AddResult:
        """`add` for asyncio."""
        result: AddResult = await self._run(lambda _: self.add(key, value))
        return result

    async def aadd_many(self, pairs: Iterable[Any]) -> list[AddResult]:
        """`add_many` for asyncio."""
        all_pairs = list(pairs)
        results: list[AddResult] = await self._run(lambda _: self.add_many(all_pairs))
        return results

    @overload
    async def afetch(self, timeout: None) -> Item: ...
    @overload
    async def afetch(self, timeout: float | None = 0) -> Item | None: ...
    async def afetch(self, timeout: float | None = 0) -> Item | None:
        """`fetch` for asyncio."""
        found = await self.afetch_many(1, timeout)
        return found[0] if found else None

    async def afetch_many(self, count: int, timeout: float | None = 0) -> list[Item]:
        """`fetch_many` for asyncio."""
        entries = await self._await_for(count, timeout, for_good=True)
        return [Item(record_from(entry)) for entry in entries]

    def aconsume(self, stop: Stop = None) -> AsyncIterator[Item]:
        """`consume` for asyncio. stop: also an asyncio.Event."""
        return endless.aconsume(self, stop)

    @overload
    def areserve(self, timeout: None) -> AsyncReservation[ReservedItem]: ...
    @overload
    def areserve(self, timeout: float | None = 0) -> AsyncReservation[ReservedItem | None]: ...
    def areserve(self, timeout: float | None = 0) -> AsyncReservation[Any]:
        """`reserve` for asyncio."""
        times.seconds(timeout)
        return AsyncReservation(self, None, timeout)

    def areserve_many(self, count: int, timeout: float | None = 0) -> AsyncReservation[Batch]:
        """`reserve_many` for asyncio."""
        times.seconds(timeout)
        return AsyncReservation(self, count, timeout)

    def areserve_each(self, stop: Stop = None) -> AsyncIterator[AsyncReservation[ReservedItem]]:
        """`reserve_each` for asyncio. stop: also an asyncio.Event."""
        return endless.areserve_each(self, stop)

    async def areserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        """See `reservation.AsyncReserver`."""
        return self._kept(await self._await_for(count, timeout), count, keep)

    async def asettle(self, tokens: Sequence[str], how: Settlement) -> int:
        """See `hold.Source`."""
        settled: int = await self._run(lambda _: self._group.settle(tokens, how))
        return settled

    async def _await_for(self, count: int, timeout: float | None, *, for_good: bool = False) -> list[Entry]:
        """`_wait_for`, by a thread for a moment at a time. for_good: the items are gone from the queue then."""
        deadline = time.monotonic() + times.seconds(timeout)
        group = self._group

        def look(attempt: Attempt) -> tuple[list[Entry], bool]:
            """What there is, and whether it is gone from the queue."""
            entries = self._wait_for(count, min(SLICE, max(0.0, deadline - time.monotonic())))
            if not entries or not for_good or attempt.is_cancelled():
                return entries, False
            return group.take_for_good(entries), True

        def undo(found: tuple[list[Entry], bool]) -> None:
            entries, is_gone = found
            if is_gone:
                group.add_again(entries)
            else:
                group.give_back([entry.name for entry in entries])

        while True:
            found: list[Entry] = (await self._run(look, undo))[0]
            if found or time.monotonic() >= deadline:
                return found

    async def apeek(self, count: int | None = 1, *, reserved: bool = False) -> list[Item]:
        """`peek` for asyncio."""
        found: list[Item] = await self._run(lambda _: self.peek(count, reserved=reserved))
        return found

    async def astats(self) -> Stats:
        """`stats` for asyncio."""
        found: Stats = await self._run(lambda _: self.stats())
        return found

    async def aclose(self) -> None:
        """`close` for asyncio."""
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    async def __aenter__(self: _Self) -> _Self:  # noqa: PYI019
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _at_address(queue: str, where: str, lock_timeout: float) -> EngineQueue:
    """What a pickled client becomes: it connects when it is used first."""
    client = EngineQueue.__new__(EngineQueue)
    client._address = queue, where, lock_timeout  # noqa: SLF001 - it is a part of the class above
    client._prepare(queue, where, lock_timeout)  # noqa: SLF001
    return client


def _refused(error: EngineBusy) -> AddResult:
    """What a refusal that may pass means for an item; an engine that is no master, or loads, is not there."""
    return AddResult.NO_MEMORY if "OOM" in str(error) or "maxmemory" in str(error) else AddResult.CLOSED
