# SPDX-License-Identifier: GPL-2.0-or-later
"""The queue that has a name now, in one server after the other.

When a server ends (or makes a queue anew), the queue that was mapped is closed for good, and a new one appears under
the same name later. `CurrentQueue` lets what is left in the old one be taken, then waits for the new one and goes on
with that. A server that is killed and started again takes its queues over: then there is nothing to notice.

What may change, the queue that is in use, is one attribute: each call takes it once, so that no call ever uses the lock
of one queue and the log of another. It waits for a server by looking for the file every RETRY seconds, which costs
next to nothing; a watch (inotify) of /dev/shm would wake it for every other program's shared memory.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Callable, TypeVar, cast, final

from kemi import times
from kemi.errors import ClientClosed, QueueClosed, SegmentError, SegmentMissing, UnknownQueue
from kemi.queue.catalog.registry import Registry
from kemi.queue.client.address import Address, Unattached, refuse_to_block, waited
from kemi.queue.queue import Queue
from kemi.queue.shm.presence import why_missing
from kemi.queue.shm.trust import CLIENT_ADVICE, SAME_ADVICE, client_users
from kemi.queue.sync import futex
from kemi.queue.sync.handlers import is_from_handler, suppress
from kemi.queue.sync.undisturbed import undisturbed

if TYPE_CHECKING:
    from kemi.queue.client.aio import Doorbell

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


@final
class CurrentQueue:
    """The queue of an address. Safe with threads and across fork."""

    def __init__(self, address: Address) -> None:
        """address: a checked one. Nothing is attached before `open_within`, or the first use."""
        self.address = address
        self.closed = False
        self.queue = cast("Queue", Unattached(self._attach_now))  # in use now
        self._users = client_users(address.owner)
        self._advice = CLIENT_ADVICE
        self._looked = 0.0
        self._doorbell: Doorbell | None = None

    def is_attached(self) -> bool:
        """Return False as long as nothing was asked of the queue in this process."""
        return not isinstance(self.queue, Unattached)

    def open_within(self, seconds: float) -> None:
        """Attach once the server has made the queue. Raises UnknownQueue, SegmentError.

        A client that does not attach again takes a closed queue for one that is not there yet.
        """
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            found = undisturbed(self._open)
            if isinstance(found, UnknownQueue):
                if left <= 0:
                    raise UnknownQueue(f"{found}{waited(seconds)}")
            elif self.address.reattach or left <= 0 or not found.is_closed():
                self.queue = found
                self._trust_only(found)
                return
            futex.pause(min(left, RETRY))

    def _attach_now(self) -> Queue:
        """Find the queue of a client that came from another process. Raises UnknownQueue, SegmentError."""
        with _renewal:
            self._refuse_if_closed()
            if isinstance(present := self.queue, Unattached):  # else another thread was first
                found = undisturbed(self._open)
                if isinstance(found, UnknownQueue):
                    raise found
                self._turn_to(found, present)
            return self.queue

    def _open(self) -> Queue | UnknownQueue:
        """Attach to the queue that has the name now, or return why there is none."""
        instance, name, lock_timeout, _, _ = self.address
        while True:
            try:
                registry = Registry.attach(instance, lock_timeout, self._users, self._advice)
            except SegmentMissing as error:
                why = why_missing(self._users, instance)
                return UnknownQueue(f"no instance {instance!r} on this host ({error}); {why}")
            try:
                queue = Queue.attach(instance, name, registry, lock_timeout)
            except SegmentMissing as error:
                return UnknownQueue(f"instance {instance!r} has no queue {name!r} ({error})")
            if registry.segment.is_current():
                return queue
            # Between the two, one server ended and another one started.

    def _turn_to(self, new: Queue, old: object) -> None:
        """Use `new`. Raises ClientClosed. A signal handler may have turned to another one already, or closed this."""
        if self.closed:
            self._refuse_if_closed()
        elif self.queue is old:  # no call since the look at `closed`, in which a handler could close it
            self.queue = new
            self._trust_only(new)

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise ClientClosed(f"queue {self.address.name!r} is closed in this process")

    def _trust_only(self, queue: Queue) -> None:
        """Refuse another user from now on: the next queue must belong to this one."""
        with suppress(SegmentError):  # its descriptor was closed by others: as before
            self._users, self._advice = frozenset({queue.segment.user()}), SAME_ADVICE

    # --- from one server to the next --------------------------------------------------------------------------------

    def is_over(self, queue: Queue) -> bool:
        """Return True if this is the queue of a server that has ended."""
        if queue.is_closed():
            return True
        now = time.monotonic()
        if now - self._looked < LOOK:
            return False
        self._looked = now
        return not queue.segment.is_current()

    def renew(self, old: Queue) -> bool:
        """Turn to the queue that has the name now. False if there is none yet, or it may not be used.

        Raises QueueClosed where that is not wanted, and NotAllowed when it is another user's than the one before.
        """
        if not self.address.reattach:
            name, instance = self.address.name, self.address.instance
            raise QueueClosed(f"queue {name!r} of instance {instance!r} was closed by its server")
        with _renewal:
            if self.queue is not old:
                return True
            self._refuse_if_closed()
            self._trust_only(old)  # a server that took it over may have given it to its user
            new = undisturbed(self._open)
            if isinstance(new, UnknownQueue) or new.is_closed() or not new.segment.is_current():
                return False
            # The old one is not closed: other threads may be about to use it. It goes with the last of them.
            self._turn_to(new, old)
            return True

    def present(self) -> Queue:
        """Return the queue to look at; the old one while there is no new one."""
        queue = self.queue
        if self.address.reattach and not self.closed and self.is_over(queue):
            self.renew(queue)
        return self.queue

    def add(self, call: Callable[[Queue], _Found], is_closed: Callable[[_Found], bool]) -> _Found:
        """Return what `call` returns, of the next queue where it says that this one is closed."""
        while True:
            queue = self.queue
            try:
                outcome = call(queue)
            except QueueClosed as error:
                if is_from_handler(error) or not self.address.reattach or not self.renew(queue):
                    raise
                continue
            if not is_closed(outcome) or not self.address.reattach or not self.renew(queue):
                return outcome

    def wait_for(  # noqa: C901 - a call costs much
        self, call: Callable[[Queue, float], _Found | None], timeout: float | None, sleep: float = LOOK
    ) -> _Found | None:
        """Call `call(queue, seconds)` until it finds something, in one queue after the other."""
        seconds = times.seconds(timeout)
        if seconds > 0:
            refuse_to_block()
        deadline = time.monotonic() + seconds
        while True:
            queue = self.queue
            left = deadline - time.monotonic()
            try:
                found = call(queue, max(0.0, min(left, sleep)))
            except QueueClosed as error:
                if is_from_handler(error):
                    raise
                found = None
            if found is not None:
                return found
            over = self.is_over(queue)
            if over and self.renew(queue):
                continue
            if left <= 0:
                return None
            if over:
                futex.pause(min(left, RETRY))

    async def look_for(self, call: Callable[[Queue], _Found | None], timeout: float | None) -> _Found | None:
        """Call `call(queue)`, which does not wait, until it finds something, in one queue after the other."""
        from kemi.queue.lock.unlocked import unlocked  # a server never needs asyncio

        deadline = time.monotonic() + times.seconds(timeout)
        while True:
            queue = self.queue
            found = None
            with suppress(QueueClosed):
                await unlocked(queue.handle)
                found = call(queue)
            if found is not None:
                return found
            over = self.is_over(queue)
            if over and self.renew(queue):
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            await self._pause(left, over=over)

    async def _pause(self, left: float, *, over: bool) -> None:
        """Wait for an item, or for a server."""
        import asyncio

        from kemi.queue.client.aio import Doorbell

        if over:
            await asyncio.sleep(min(left, RETRY))
            return
        if self._doorbell is None:
            self._doorbell = Doorbell(lambda: self.queue)
        await self._doorbell.wait(min(left, LOOK))

    async def unlocked(self) -> None:
        """Return when the lock of the queue in use is free, without blocking the event loop. Raises LockTimeout."""
        from kemi.queue.lock.unlocked import unlocked

        await unlocked(self.queue.handle)

    def close(self) -> None:
        """Let go of the queue in this process: calls that wait raise ClientClosed, and what is reserved goes back."""
        with _renewal:
            self.closed = True
            if self.is_attached():
                self.queue.close()
            if self._doorbell is not None:
                self._doorbell.close()
