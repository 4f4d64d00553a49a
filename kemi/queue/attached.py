"""A queue as a process outside of the server uses it: it outlives the server.

When the server ends (or makes the queue anew), the queue that was mapped is closed for good, and a new one appears
under the same name later. `AttachedQueue` takes what is left in the old one, then waits for the new one and goes on
with that. A server that is killed and started again takes its queues over: then there is nothing to notice.

What may change, the queue that is in use, is one attribute: each call takes it once, so that no call ever uses the lock
of one queue and the ring of another. It waits for a server by looking for the file every RETRY seconds, which costs
next to nothing; a watch (inotify) of /dev/shm would wake it for every other program's shared memory.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, Callable, TypeVar, cast, overload

from kemi import times
from kemi.errors import ClientClosed, MqueueError, QueueClosed, SegmentError, SegmentMissing, UnknownQueue
from kemi.owner import Owner
from kemi.queue import futex
from kemi.queue.address import (
    OF_THE_SERVER,
    SURFACE,
    Address,
    Unattached,
    checked,
    refuse_to_block,
    refused_name,
    wait_seconds,
    waited,
)
from kemi.queue.delivery.reservation import AsyncReservation, Keep
from kemi.queue.delivery.reserved import ReservedItem
from kemi.queue.format.item import Item
from kemi.queue.format.outcome import CLOSED, AddResult, Stats, rest_after
from kemi.queue.opened import PARTS
from kemi.queue.presence import why_missing
from kemi.queue.queue import Queue
from kemi.queue.registry import Registry
from kemi.queue.stop import STOP_LOOK, Stop, stopper
from kemi.queue.trust import CLIENT_ADVICE, SAME_ADVICE, client_users, named_owner

if TYPE_CHECKING:
    from kemi.queue.aio import Doorbell

RETRY = 0.2  # seconds between two looks for a new server
LOOK = 1.0  # seconds between two looks whether the file is still that of the queue in use

_Found = TypeVar("_Found")
# Held for some system calls; one for all queues, so that a fork can make it anew. A signal handler may use or close a
# queue while its own thread has it.
_renewal = threading.RLock()


def _after_fork() -> None:
    global _renewal  # noqa: PLW0603 - another thread may have held it, and is not here
    _renewal = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


class AttachedQueue(Queue):
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
        """Raises UnknownQueue, NotAllowed, SegmentError, ConfigError.

        wait: seconds for the server and its queue to appear, None for ever.
        reattach: when the queue is closed, wait for the next one of its name; else raise QueueClosed.
        owner: one more user whose files are trusted, see `trust`.
        """
        self._prepare(checked(Address(instance, name, lock_timeout, reattach, named_owner(owner))))
        self._use(self._open_within(wait_seconds(wait)))

    def _prepare(self, address: Address) -> None:
        self.instance, self.name, self._lock_timeout, self._reattach, self._owner = address
        self._users = client_users(self._owner)
        self._advice = CLIENT_ADVICE
        self.closed = False
        self._inner = cast("Queue", Unattached(self._attach_now))
        self._looked = 0.0
        self._doorbell: Doorbell | None = None

    def __reduce__(self) -> tuple[Callable[[Address], AttachedQueue], tuple[Address]]:
        if self.closed:
            raise ValueError(f"queue {self.name!r} is closed in this process: it cannot be given to another one")
        return _at_address, (Address(self.instance, self.name, self._lock_timeout, self._reattach, self._owner),)

    def _attach_now(self) -> Queue:
        """Find the queue of a client that came from another process. Raises UnknownQueue, SegmentError."""
        with _renewal:
            self._refuse_if_closed()
            if isinstance(present := self._inner, Unattached):  # else another thread was first
                self._turn_to(self._open(), present)
            return self._inner

    # --- which queue ------------------------------------------------------------------------------------------------

    def _open_within(self, seconds: float) -> Queue:
        """The queue, once its server has made it. One that is closed is not there yet for who would not outlive it."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            try:
                queue = self._open()
                if self._reattach or left <= 0 or not queue.is_closed():
                    return queue
            except UnknownQueue as error:
                if left <= 0:
                    raise UnknownQueue(f"{error}{waited(seconds)}") from None
            futex.pause(min(left, RETRY))

    def _open(self) -> Queue:
        while True:
            try:
                registry = Registry.attach(self.instance, self._lock_timeout, self._users, self._advice)
            except SegmentMissing as error:
                raise UnknownQueue(
                    f"no instance {self.instance!r} on this host ({error}); {why_missing(self._users, self.instance)}"
                ) from None
            try:
                queue = Queue.attach(self.instance, self.name, registry, self._lock_timeout)
            except SegmentMissing as error:
                raise UnknownQueue(f"instance {self.instance!r} has no queue {self.name!r} ({error})") from None
            if registry.segment.is_current():
                return queue
            # Between the two, one server ended and another one started.

    def _use(self, queue: Queue) -> None:
        """From here on this is the queue in use, and the next one must belong to the same user."""
        self._inner = queue
        self._trust_only(queue)

    def _turn_to(self, new: Queue, old: object) -> None:
        """Use `new`. Raises ClientClosed. A signal handler may have turned to another one already, or closed this."""
        if self.closed:
            self._refuse_if_closed()
        elif self._inner is old:  # no call since the look at `closed`, in which a handler could close it
            self._inner = new
            self._trust_only(new)

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise ClientClosed(f"queue {self.name!r} is closed in this process")

    def _trust_only(self, queue: Queue) -> None:
        with contextlib.suppress(SegmentError):  # its descriptor was closed by others: as before
            self._users, self._advice = frozenset({queue.segment.user()}), SAME_ADVICE

    def _is_over(self, queue: Queue) -> bool:
        """Is this the queue of a server that has ended?"""
        if queue.is_closed():
            return True
        now = time.monotonic()
        if now - self._looked < LOOK:
            return False
        self._looked = now
        return not queue.segment.is_current()

    def _renew(self, old: Queue) -> bool:
        """Turn to the queue that has the name now. False if there is none yet, or it may not be used.

        Raises NotAllowed when it is another user's than the one before.
        """
        if not self._reattach:
            raise QueueClosed(f"queue {self.name!r} of instance {self.instance!r} was closed by its server")
        with _renewal:
            if self._inner is not old:
                return True
            self._refuse_if_closed()
            self._trust_only(old)  # a server that took it over may have given it to its user
            try:
                new = self._open()
            except UnknownQueue:
                return False
            if new.is_closed() or not new.segment.is_current():
                return False
            # The old one is not closed: other threads may be about to use it. It goes with the last of them.
            self._turn_to(new, old)
            return True

    def _present(self) -> Queue:
        """The queue to look at; the old one while there is no new one."""
        queue = self._inner
        if self._reattach and not self.closed and self._is_over(queue):
            self._renew(queue)
        return self._inner

    def _wait_for(
        self, call: Callable[[Queue, float], _Found | None], timeout: float | None, sleep: float = LOOK
    ) -> _Found | None:
        """Call `call(queue, seconds)` until it finds something, in one queue after the other."""
        deadline = _begin_to_wait(timeout)
        while True:
            queue = self._inner
            left = deadline - time.monotonic()
            try:
                found = call(queue, max(0.0, min(left, sleep)))
            except QueueClosed:
                found = None
            if found is not None:
                return found
            over = self._is_over(queue)
            if over and self._renew(queue):
                continue
            if left <= 0:
                return None
            if over:
                futex.pause(min(left, RETRY))

    # --- the work ---------------------------------------------------------------------------------------------------

    def add(self, key: str | bytes, value: str | bytes) -> AddResult:
        """As `Queue.add`. While no server runs it is CLOSED."""
        queue = self._inner
        # The usual call, without the two functions that `_add` needs.
        try:
            outcome = queue.add(key, value)
        except QueueClosed:
            pass
        else:
            if outcome is not CLOSED or not self._reattach or not self._renew(queue):
                return outcome
        return self._add(lambda queue: queue.add(key, value), lambda outcome: outcome is CLOSED)

    def add_many(self, pairs: Iterable[tuple[str | bytes, str | bytes]]) -> list[AddResult]:
        """As `Queue.add_many`."""
        all_pairs = list(pairs)
        outcomes: list[AddResult] = []

        def add(queue: Queue) -> list[AddResult]:
            # The server may have ended between two batches.
            del outcomes[outcomes.index(CLOSED) if CLOSED in outcomes else len(outcomes) :]
            try:
                outcomes.extend(queue.add_many(all_pairs[len(outcomes) :]))
            except MqueueError as error:
                if not outcomes:
                    raise
                outcomes.extend(rest_after(error, len(all_pairs) - len(outcomes)))
            return outcomes

        return self._add(add, lambda found: CLOSED in found)

    def add_record(self, record: bytes) -> AddResult:
        """As `Queue.add_record`."""
        return self._add(lambda queue: queue.add_record(record), lambda outcome: outcome is CLOSED)

    def _add(self, call: Callable[[Queue], _Found], is_closed: Callable[[_Found], bool]) -> _Found:
        while True:
            queue = self._inner
            try:
                outcome = call(queue)
            except QueueClosed:
                if not self._reattach or not self._renew(queue):
                    raise
                continue
            if not is_closed(outcome) or not self._reattach or not self._renew(queue):
                return outcome

    def pop(self) -> bytes | None:
        """As `Queue.pop`."""
        return self.pop_wait(0.0)

    def pop_wait(self, timeout: float | None) -> bytes | None:
        """As `Queue.pop_wait`, in one server after the other. Raises QueueClosed where that is not wanted."""
        try:
            record = self._inner.pop()
        except QueueClosed:
            record = None
        return record or self._wait_for(Queue.pop_wait, timeout)

    def fetch_many(self, count: int, timeout: float | None = 0.0) -> list[Item]:
        """As `Queue.fetch_many`."""
        if count <= 0:
            return []
        return self._wait_for(lambda queue, left: queue.fetch_many(count, left) or None, timeout) or []

    def reserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        """As `Queue.reserve_some`."""
        return self._wait_for(lambda queue, left: queue.reserve_some(count, left, keep), timeout)

    # --- asyncio ----------------------------------------------------------------------------------------------------

    @overload
    async def afetch(self, timeout: None) -> Item: ...
    @overload
    async def afetch(self, timeout: float | None = 0.0) -> Item | None: ...
    async def afetch(self, timeout: float | None = 0.0) -> Item | None:
        """`fetch` for asyncio: the event loop goes on meanwhile. A call that is cancelled takes nothing."""
        record: bytes | None = await self._look_for(Queue.pop, timeout)
        return None if record is None else Item(record)

    async def aconsume(self, stop: Stop = None) -> AsyncIterator[Item]:
        """`consume` for asyncio. stop: also an asyncio.Event."""
        stopped = stopper(stop)
        while not stopped():
            item = await self.afetch(None if stop is None else STOP_LOOK)
            if item is not None:
                yield item

    @overload
    def areserve(self, timeout: None) -> AsyncReservation[ReservedItem]: ...
    @overload
    def areserve(self, timeout: float | None = 0.0) -> AsyncReservation[ReservedItem | None]: ...
    def areserve(self, timeout: float | None = 0.0) -> AsyncReservation[Any]:
        """`async with queue.areserve(timeout) as item:` - `reserve` for asyncio."""
        return AsyncReservation(self, None, times.seconds(timeout))

    async def areserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        """See `reservation.AsyncReserver`."""
        # What is reserved in the moment of a cancellation is nobody's: no await comes between it and the return.
        found: int | None = await self._look_for(lambda queue: queue.reserve_some(count, 0.0, keep), timeout)
        return found

    async def _look_for(self, call: Callable[[Queue], Any], timeout: float | None) -> Any:
        """`call(queue)`, which does not wait, until it finds something, in one queue after the other."""
        from kemi.queue.delivery.unlocked import unlocked  # the server never needs it

        deadline = time.monotonic() + times.seconds(timeout)
        while True:
            queue = self._inner
            found = None
            with contextlib.suppress(QueueClosed):
                await unlocked(queue)
                found = call(queue)
            if found is not None:
                return found
            over = self._is_over(queue)
            if over and self._renew(queue):
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            await self._pause(left, over=over)

    async def _pause(self, left: float, *, over: bool) -> None:
        """Wait for an item, or for a server."""
        import asyncio

        from kemi.queue.aio import Doorbell

        if over:
            await asyncio.sleep(min(left, RETRY))
            return
        if self._doorbell is None:
            self._doorbell = Doorbell(lambda: self._inner)
        await self._doorbell.wait(min(left, LOOK))

    # --- looking ----------------------------------------------------------------------------------------------------

    def peek(self, count: int | None = 1, *, reserved: bool = False) -> list[Item]:
        """As `Queue.peek`."""
        return self._present().peek(count, reserved=reserved)

    def undone(self) -> list[Item]:
        """As `Queue.undone`."""
        return self._present().undone()

    def stats(self) -> Stats:
        """As `Queue.stats`."""
        return self._present().stats()

    def __len__(self) -> int:
        return len(self._present())

    def owner(self) -> Owner:
        """As `Queue.owner`."""
        return self._present().owner()

    def is_closed(self) -> bool:
        """Did the server end, and has none started since?"""
        return self._present().is_closed()

    def close(self) -> None:
        """As `Queue.close`."""
        with _renewal:
            self.closed = True
            if not isinstance(self._inner, Unattached):
                self._inner.close()
            if self._doorbell is not None:
                self._doorbell.close()

    @property
    def where(self) -> str:
        """The instance."""
        return self.instance

    def __dir__(self) -> list[str]:
        return sorted({*SURFACE, *(name for name in super().__dir__() if name.startswith("__"))})

    def __repr__(self) -> str:
        about = f"Queue {self.name!r} of instance {self.instance!r}"
        if self.closed:
            return f"<{about}, closed in this process>"
        if isinstance(self._inner, Unattached):
            return f"<{about}, attached at its first use>"
        queue = self._inner
        if queue.is_closed():
            return f"<{about}, its server has ended>"
        return f"<{about}, size={len(queue)} addmode={queue.addmode} server={queue.owner().pid}>"


def _begin_to_wait(timeout: float | None) -> float:
    """Return when the wait ends. Raises MqueueError where it would stop others."""
    seconds = times.seconds(timeout)
    if seconds > 0:
        refuse_to_block()
    return time.monotonic() + seconds


def _of_the_inner(name: str) -> property:
    return property(lambda queue: getattr(queue._inner, name))  # noqa: SLF001 - it is a part of the class above


# What a queue knows of itself is that of the queue in use. (`__getattr__` would say the same, and make every attribute
# of these objects slower, also those that are found.)
for _name in PARTS:
    setattr(AttachedQueue, _name, _of_the_inner(_name))
for _name in OF_THE_SERVER:
    setattr(AttachedQueue, _name, refused_name(_name))


def _at_address(address: Address) -> AttachedQueue:
    """What a pickled client becomes."""
    client = AttachedQueue.__new__(AttachedQueue)
    client._prepare(address)  # noqa: SLF001 - it is a part of the class above
    return client
