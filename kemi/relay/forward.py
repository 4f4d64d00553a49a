# SPDX-License-Identifier: GPL-2.0-or-later
"""The relay from a queue of this host to an engine: nothing is lost, and nothing comes twice.

An item is reserved here, kept by the engine as durably as was asked for, and only then done here. Whatever is killed in
between, the item is reserved and sent again, and the engine drops what it had: it knows the last turn of each slot.

    slot    the item's in-flight entry here: one item at a time
    turn    the item's number among all that left the queue; it stays the same when the item is given back
    source  host, instance, queue, and when the queue was made: slots and turns mean something in one source alone

With durability=memory an engine that is killed forgets what it acknowledged last. Then what was sent in the last
seconds is sent again after each new connection, in order.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from kemi.errors import MqueueError, SegmentError, Unavailable
from kemi.queue.client.attached import AttachedQueue, queue_in_use
from kemi.queue.delivery.hold import DONE, Hold, Settlement, settle_all
from kemi.queue.delivery.reserved import ReservedItem, holds_of
from kemi.queue.format.item import flags_of
from kemi.queue.format.layout import W_CREATED
from kemi.queue.shm.naming import path_of
from kemi.queue.sync.lifelock import MAX_NUMBER, LifeLock
from kemi.relay.engine import Engine, Entry
from kemi.relay.link import LONGEST_PAUSE, Backoff, EngineBusy

BATCH = 400  # items; the next batch is reserved while the engine works on one
BATCH_BYTES = 1 << 20
IDLE = 1.0  # seconds between two looks whether the engine is still there, while there is nothing to send
_LOCK_NUMBER = MAX_NUMBER  # of the lock of the queue's relay, on the queue's file

Tell = Callable[[str], None]


def host_id() -> str:
    """What tells this host from others: a hash of its machine-id, which itself is not for others to know."""
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            own = file.read().strip()
    except (OSError, UnicodeDecodeError):
        own = ""
    return sha256(f"mqueue_kemi {own or socket.gethostname()}".encode()).hexdigest()[:12]


@dataclass
class Counts:
    """What a relay did since it was started."""

    sent: int = 0
    resent: int = 0  # dropped by the engine, which had them
    refused: int = 0  # times that the engine refused a batch
    disconnected: int = 0  # times that the connection broke, or could not be made
    connected: bool = False
    last_error: str = ""


@dataclass
class _Batch:
    """Reserved items of one source. As long as it lives they are this process's."""

    created: int  # the queue's word of that name
    source: str
    queue: Any  # where they are settled
    holds: list[Hold] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    is_sent: bool = False  # nothing is put into it any more


class Forward:
    """The relay of one queue."""

    def __init__(
        self,
        queue: AttachedQueue,
        engine: Engine,
        *,
        host: str = "",
        batch: int = BATCH,
        replay: float = 0.0,
        longest_pause: float = LONGEST_PAUSE,
        tell: Tell = lambda _: None,
    ) -> None:
        """host: what to call this host. replay: seconds of what was sent that a new connection gets again.

        longest_pause: seconds between two tries.
        """
        self.queue = queue
        self.engine = engine
        self.counts = Counts()
        self._prefix = f"{host or host_id()}/{queue.instance}/{queue.name}/"
        self._most = batch
        self._replay = replay
        self._tell = tell
        self._window: deque[tuple[float, str, list[Entry]]] = deque()  # what a new connection gets again
        self._backoff = Backoff(longest=longest_pause)
        self._told = ""
        self._lock: tuple[int, LifeLock] | None = None  # of the source with that time of creation
        self._connections = -1
        self._ready: deque[_Batch] = deque()  # reserved; the first one is being sent
        self._stuck = False  # items could not be reserved

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self, stopped: Callable[[], bool], pause: Callable[[float], None]) -> None:
        """Relay until it is time to stop; what is not certainly with the engine then goes back to the queue.

        pause: sleeps; may raise what ends this. Raises at the start what does not pass: ConfigError, NotAllowed,
        EngineError, and SegmentError when the queue has another relay.
        """
        segment = queue_in_use(self.queue).segment
        self.take_lock(segment.name, segment.words[W_CREATED])
        try:
            while not stopped():
                try:
                    self._connect()
                    break
                except (Unavailable, EngineBusy) as error:
                    self._note(error)
                    pause(self._backoff.seconds())
            while not stopped():
                if not self._ready:
                    self._take(IDLE)
                if self._ready:
                    self._deliver(self._ready[0], stopped, pause)
                else:
                    self._look(pause)
        finally:
            for batch in self._ready:
                self._settle(batch, Settlement("give back", counted=False))
            self._ready.clear()
            self.counts.connected = False
            self.engine.close()
            if self._lock:
                self._lock[1].close()

    def take_lock(self, segment: str, created: int) -> None:
        """Be the only relay of a queue. Raises SegmentError when there is another one."""
        if self._lock and self._lock[0] == created:
            return
        try:
            lock = LifeLock(path_of(segment), _LOCK_NUMBER)
        except SegmentError:
            raise SegmentError(
                f"queue {self.queue.name!r} of instance {self.queue.instance!r} has a relay already, in another process"
            ) from None
        except OSError as error:
            raise SegmentError(f"{path_of(segment)}: cannot be locked for the relay: {error.strerror}") from None
        if self._lock:
            self._lock[1].close()
        self._lock = (created, lock)

    def _connect(self) -> None:
        """Have a connection that was told all that the one before may have lost."""
        engine = self.engine
        engine.connect()
        if engine.connections != self._connections:
            for number, (_, source, entries) in enumerate(list(self._window)):
                sent = engine.send(source, entries, lambda: None)
                self.counts.resent += sent.resent
                if sent.added:  # it had lost them, and can lose them again: they are sent from now on
                    self._window[number] = (time.monotonic(), source, entries)
            self._connections = engine.connections
        if not self.counts.connected:
            self.counts.connected = True
            self._say(f"connected to {engine}")

    def _take(self, timeout: float) -> None:
        """Reserve items, by their source, if none are ready to be sent."""
        batches = self._ready
        left, size = self._most - sum(len(batch.holds) for batch in batches), 0

        def keep(item: ReservedItem) -> None:
            nonlocal left, size
            (hold,) = holds_of((item,))
            queue = hold.source
            created = queue._u64[W_CREATED]  # type: ignore[attr-defined]  # noqa: SLF001
            if not batches or batches[-1].created != created or batches[-1].is_sent:
                batches.append(_Batch(created, f"{self._prefix}{created:x}", queue))
            batch = batches[-1]
            batch.holds.append(hold)
            slot, turn = hold.token[:2]
            key, value = item.key_bytes, item.value_bytes
            flags = flags_of(item._record)  # noqa: SLF001 - the record's own bits, for nobody else
            batch.entries.append(Entry(slot, turn, hold.id, item.added, key, value, flags))
            left -= 1
            size += len(key) + len(value)

        try:
            while left > 0 and size < BATCH_BYTES:
                if not self.queue.reserve_some(left, timeout, keep) or not len(self.queue):
                    break  # there are no more: the engine should not wait for another look
                timeout = 0.0
        except MqueueError as error:  # what came before it is to be sent; the next call meets it again
            self._say(f"{error}; trying again")
            self._stuck = not size

    def _take_more(self) -> None:
        """Reserve the next batch while the engine works on this one."""
        if len(self._ready) == 1:
            self._ready[0].is_sent = True
            self._take(0.0)

    def _look(self, pause: Callable[[float], None]) -> None:
        """Notice an engine that went away while there was nothing to send: what it lost must be sent again soon."""
        if self._stuck:
            self._stuck = False
            pause(self._backoff.seconds())
        try:
            self._connect()
            self.engine.ping()
            self._forget_old()
        except MqueueError as error:
            self._note(error)

    def _deliver(self, batch: _Batch, stopped: Callable[[], bool], pause: Callable[[float], None]) -> None:
        """Have the engine keep a batch, however long that takes, if it is not time to stop."""
        sent = None
        while sent is None:
            try:
                self._connect()
                self.take_lock(batch.queue.segment.name, batch.created)
                sent = self.engine.send(batch.source, batch.entries, self._take_more)
            except MqueueError as error:
                self._note(error)
                if stopped():
                    return
                pause(self._backoff.seconds())
        self._settle(batch, DONE)
        self._ready.popleft()
        self.counts.sent += sent.added
        self.counts.resent += sent.resent
        self._backoff.reset()
        self._told = ""
        if self._replay:
            self._window.append((time.monotonic(), batch.source, batch.entries))
            self._forget_old()

    def _settle(self, batch: _Batch, how: Settlement) -> None:
        try:
            settle_all(batch.holds, how)
        except MqueueError as error:  # LockTimeout: kept in mind, and settled with this process's next call
            self._say(str(error))

    def _forget_old(self) -> None:
        oldest = time.monotonic() - self._replay
        while self._window and self._window[0][0] < oldest:
            self._window.popleft()

    # --- what people hear -------------------------------------------------------------------------------------------

    def _note(self, error: MqueueError) -> None:
        """Count what went wrong, and say it once until something else happens."""
        counts = self.counts
        if isinstance(error, Unavailable):
            counts.disconnected += 1
            counts.connected = False
        else:
            counts.refused += 1
        counts.last_error = str(error)
        self._say(f"{error}; trying again")

    def _say(self, text: str) -> None:
        if text != self._told:
            self._told = text
            with contextlib.suppress(OSError):
                self._tell(f"queue {self.queue.name!r}: {text}")

    def lag(self) -> tuple[int, float]:
        """Items that are still here, on their way or not, and the age of the oldest one, seconds. For any thread."""
        stats = self.queue.stats()
        known = [stats.oldest] if stats.oldest else []
        with contextlib.suppress(IndexError):  # the batch that is on its way, of which the first item is the oldest
            known.append(self._ready[0].entries[0].added)
        return stats.size + stats.reserved, max(0.0, time.time() - min(known)) if known else 0.0
