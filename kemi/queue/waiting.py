# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking what is there, or sleeping until something is.

Whatever takes items and is not the hot `pop` goes through `take_or_prepare`: it looks after what is in flight, and is
counted as a waiter in the same moment in which it finds nothing. The hot `pop` comes here, too, when items may be in
two places (FETCH_MOVED), and is refused.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Callable, TypeVar, final

from kemi import times
from kemi.errors import MqueueError, QueueClosed
from kemi.queue.delivery.letters import DeadLetter
from kemi.queue.format.layout import (
    ADD_CLOSED,
    FETCH_AGING,
    FETCH_FLAGS,
    FETCH_IN_FLIGHT,
    W_ADDED,
    W_BURIED,
    W_FLAGS,
    W_POPPED,
    W_RETURNED,
)
from kemi.queue.format.outcome import BREAKS_OFF
from kemi.queue.handle import Handle
from kemi.queue.log.core import Delivery
from kemi.queue.log.plain import PlainLog
from kemi.queue.store.inflight import Holder
from kemi.queue.sync.eventcount import RECHECK
from kemi.queue.sync.handlers import is_from_handler

# One lock for so much of a batch at most, however fast.
BATCH = 256  # items
BATCH_BYTES = 1 << 20
# Looks before a sleep, some 0.1 µs each: as many as an item costs that comes to a sleeper.
MIN_LOOKS, MAX_LOOKS = 8, 400

_Found = TypeVar("_Found")
_Result = TypeVar("_Result")


@final
class Taker:
    """Takes items of one queue, and waits for them."""

    def __init__(self, handle: Handle, move: Callable[[DeadLetter], None]) -> None:
        """move: called without the lock, with what is to go to the queue for dead letters."""
        self._handle = handle
        self._move = move
        self._looks = MAX_LOOKS

    def take(self) -> bytes | None:
        """The oldest item (locked)."""
        return self._handle.holding.take()

    def take_now(self, take: Callable[[], _Found | None]) -> _Found | None:
        """What `take` finds, which is called with the lock held."""
        return self.take_or_prepare(take, None, woken=False, sleeps=False)[0]

    def take_if(self, accept: Callable[[bytes], bool]) -> bytes | None:
        """The oldest item, if `accept` wants it, which stays otherwise. It is called under the lock: be short."""

        def take() -> bytes | None:
            oldest = self._handle.holding.next()
            if not oldest or not accept(self._handle.log.core.records.read(oldest)):
                return None
            return self.take()

        return self.take_now(take)

    def many(self, count: int, timeout: float | None) -> list[bytes]:
        """The oldest items, `count` at most, some with each lock; waits for the first one."""
        records: list[bytes] = []

        def take() -> bool | None:
            return self._take_batch(count - len(records), records) or None

        while len(records) < count:
            try:
                if not self.wait(take, 0.0 if records else timeout):
                    break
            except BREAKS_OFF as error:
                if not records or is_from_handler(error):
                    raise
                break  # what was taken is not lost, and the next call meets the error again
        return records

    def _take_batch(self, count: int, records: list[bytes]) -> bool:
        """Append oldest items to `records`, also those before an error, as long as there is time (locked)."""
        before, size, goes_on = len(records), 0, True
        while goes_on and (left := min(count, BATCH) + before - len(records)) > 0 and size < BATCH_BYTES:
            run = self._handle.log.pop_run(left) if isinstance(self._handle.log, PlainLog) else []
            if not run:
                record = self.take()
                if record is None:
                    break
                run = [record]
            records += run
            size += sum(map(len, run))
            goes_on = self._handle.holding.lock_time.is_left()
        return len(records) > before

    def wait(
        self, take: Callable[[], _Found | None], timeout: float | None, key: int | None = None, *, woken: bool = False
    ) -> _Found | None:
        """Call `take` with the lock held until it finds something, asleep while there is nothing.

        key: while this process is counted as a waiter; the native kernel hands it over with a wait under way.
        """
        deadline = time.monotonic() + times.seconds(timeout)
        thread = threading.get_ident()
        try:
            while True:
                left = deadline - time.monotonic()
                if left > 0:
                    self._handle.asleep.add(thread)  # before this process is counted, so that `close` wakes it
                    self._look_a_moment()
                found, key, seconds = self.take_or_prepare(take, key, woken=woken, sleeps=left > 0)
                if key is None:
                    return found
                woken = False
                woken = self._handle.events.wait(key, min(left, seconds))
        finally:
            self._handle.asleep.discard(thread)
            if key is not None:  # an exception ends the sleep, and counts more than any of ours
                self.wait_no_more(key, woken=woken)

    def _look_a_moment(self) -> None:
        """Look for an item without the lock: while items come fast, a sleep would cost more than it saves.

        Twice as long after it was worth it, half as long after it was not.
        """
        u64 = self._handle.u64
        for _ in range(self._looks):
            removed = u64[W_POPPED] + u64[W_BURIED]
            if u64[W_ADDED] != removed or u64[W_FLAGS] >= FETCH_FLAGS:
                self._looks = min(self._looks * 2, MAX_LOOKS)
                return
        self._looks = max(self._looks // 2, MIN_LOOKS)

    def take_or_prepare(
        self, take: Callable[[], _Found | None], key: int | None, *, woken: bool, sleeps: bool
    ) -> tuple[_Found | None, int | None, float]:
        """Take what `take` finds, or in the same moment be counted as a waiter.

        Returns what it found, the key to wait with, and for how many seconds at most; None for the key when this
        process is counted no more.
        """
        stale = self._handle.holding.stale() if self._handle.u64[W_FLAGS] & FETCH_IN_FLIGHT else set()
        self._release_stale(stale)
        letters: list[DeadLetter] = []

        def work() -> tuple[_Found | None, int | None, float, int]:
            found = self._take_and_tend(take, letters)
            if found is None and self._handle.holding.letters.is_behind:
                return None, key, -1.0, 0
            if found is None and sleeps:
                if self._handle.u64[W_FLAGS] & ADD_CLOSED:
                    raise QueueClosed(f"queue {self._handle.name!r} was closed by its server")
                seconds = self._handle.holding.seconds_to_due(RECHECK)
                return None, self._handle.events.prepare_wait(key, woken=woken), seconds, 0
            return found, None, 0.0, self._leave(key, woken=woken, took=found is not None)

        found, new_key, seconds, called = self._work_and_move(work, letters)
        while seconds < 0.0:  # so much was too old that the lock was given back for a moment
            found, new_key, seconds, called = self._work_and_move(work, letters)
        if called:
            self._handle.events.wake(called)
        return found, new_key, seconds

    def _work_and_move(self, work: Callable[[], _Result], letters: list[DeadLetter]) -> _Result:
        """Call `work` with the lock held, and afterwards move what it left in `letters`."""
        try:
            return self._handle.work(work)
        finally:
            while letters:
                self._move(letters.pop(0))

    def _take_and_tend(self, take: Callable[[], _Found | None], letters: list[DeadLetter]) -> _Found | None:
        """Call `take`, and look after what is in flight or too old (locked). `letters` gets what is to be moved."""
        self._handle.holding.letters.is_behind = False
        if self._handle.u64[W_FLAGS] >= FETCH_FLAGS and not self._tend(letters):
            self._handle.holding.letters.is_behind = True
            return None
        found = take()
        if self._handle.u64[W_FLAGS] & FETCH_AGING:
            letters.extend(self._handle.holding.letters.aged())
        return found

    def _leave(self, key: int | None, *, woken: bool, took: bool = False) -> int:
        """Be counted no more as a waiter (locked). Returns how many others are to be woken for what this one left.

        Who takes something also leaves what it would have woken up for in time: the next item that is not due yet.
        """
        if key is None:
            return 0
        meant = self._handle.events.cancel_wait(key, woken=woken)
        if took:
            return self._handle.events.notify() if self._handle.u64[W_RETURNED] else 0
        return self._notify_if_there() if meant else 0

    def _notify_if_there(self) -> int:
        """Prepare to wake another one for what is there, or will be due (locked)."""
        return self._handle.events.notify() if self._handle.u64[W_RETURNED] or self._handle.holding.is_there() else 0

    def _release_stale(self, stale: set[Holder]) -> None:
        """Give back what dead processes hold, some of it with each lock."""
        holding = self._handle.holding
        # Who is dead takes nothing more; but the first lock may finish what he was killed in.
        for _ in range(2 if stale else 0):
            held = holding.held_by(stale)

            def release(held: list[Delivery] = held) -> None:
                self._handle.refuse_moved()
                if holding.release(held, stale) > 1:
                    self._handle.events.notify_all()  # more than this process can take

            while held:
                self._handle.work(release)

    def _tend(self, letters: list[DeadLetter]) -> bool:
        """Look after what is in flight (locked). False when that took its time, and there may be more.

        letters: gets what is to go to the queue for dead letters.
        """
        self._handle.refuse_moved()
        holding = self._handle.holding
        late = holding.is_late()
        if late and holding.release_late() > 1:
            self._handle.events.notify_all()
        over = [] if holding.is_late() else holding.letters.over()
        letters.extend(over)
        return not (late or over) or holding.lock_time.is_left()

    def wait_no_more(self, key: int, *, woken: bool) -> None:
        """Be counted no more as a waiter, as far as that can be done: who calls this has an error to tell already."""
        with contextlib.suppress(MqueueError):
            self._cancel_wait(key, woken=woken)

    def _cancel_wait(self, key: int, *, woken: bool) -> None:
        called = self._handle.work(lambda: self._leave(key, woken=woken))
        if called:
            self._handle.events.wake(called)

    # --- for asyncio (see `client.aio`) -------------------------------------------------------------------------------

    def wait_ready(self, seconds: float) -> bool:
        """Sleep until there is something to take, which stays. True: it is for the caller to take, or to `pass_on`."""

        def look() -> bool | None:
            holding = self._handle.holding
            return (holding.is_due() if holding.is_full() else holding.next() > 0) or None

        return bool(self.wait(look, seconds))

    def pass_on(self) -> None:
        """Wake somebody else for what is there."""
        if called := self._handle.work(self._notify_if_there):
            self._handle.events.wake(called)
