"""Taking what is there, or sleeping until something is.

Whatever takes items and is not the hot `pop` goes through `_take_or_prepare`: it looks after what is in flight, and is
counted as a waiter in the same moment in which it finds nothing. The hot `pop` comes here, too, when items may be in
two places (FETCH_MOVED), and is refused.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Callable, TypeVar

from kemi import times
from kemi.errors import MqueueError, QueueClosed
from kemi.queue.delivery.holding import DeadLetter
from kemi.queue.format.layout import (
    ADD_CLOSED,
    FETCH_AGING,
    FETCH_FLAGS,
    FETCH_IN_FLIGHT,
    FETCH_MOVED,
    W_ADDED,
    W_BURIED,
    W_FLAGS,
    W_POPPED,
    W_RETURNED,
)
from kemi.queue.opened import Opened
from kemi.queue.store.inflight import Holder
from kemi.queue.sync.eventcount import RECHECK

# Looks before a sleep, some 0.1 µs each: as many as an item costs that comes to a sleeper.
MIN_LOOKS, MAX_LOOKS = 8, 400

_Found = TypeVar("_Found")
_Result = TypeVar("_Result")


class Waiting(Opened):
    """A queue that can be waited for."""

    _looks = MAX_LOOKS

    def _take(self) -> bytes | None:
        """The oldest item (locked)."""
        return self._holding.take()

    def _wait(self, take: Callable[[], _Found | None], timeout: float | None) -> _Found | None:
        """Call `take` with the lock held until it finds something, asleep while there is nothing."""
        deadline = time.monotonic() + times.seconds(timeout)
        key: int | None = None  # while this process is counted as a waiter
        woken = False
        thread = threading.get_ident()
        try:
            while True:
                left = deadline - time.monotonic()
                if left > 0:
                    self._asleep.add(thread)  # before this process is counted, so that `close` wakes it
                    self._look_a_moment()
                found, key, seconds = self._take_or_prepare(take, key, woken=woken, sleeps=left > 0)
                if key is None:
                    return found
                woken = False
                woken = self._events.wait(key, min(left, seconds))
        finally:
            self._asleep.discard(thread)
            if key is not None:  # an exception ends the sleep, and counts more than any of ours
                with contextlib.suppress(MqueueError):
                    self._cancel_wait(key, woken=woken)

    def _look_a_moment(self) -> None:
        """Look for an item without the lock: while items come fast, a sleep would cost more than it saves.

        Twice as long after it was worth it, half as long after it was not.
        """
        u64 = self._u64
        for _ in range(self._looks):
            removed = u64[W_POPPED] + u64[W_BURIED]
            if u64[W_ADDED] != removed or u64[W_FLAGS] >= FETCH_FLAGS:
                self._looks = min(self._looks * 2, MAX_LOOKS)
                return
        self._looks = max(self._looks // 2, MIN_LOOKS)

    def _take_or_prepare(
        self, take: Callable[[], _Found | None], key: int | None, *, woken: bool, sleeps: bool
    ) -> tuple[_Found | None, int | None, float]:
        """Take what `take` finds, or in the same moment be counted as a waiter.

        Returns what it found, the key to wait with, and for how many seconds at most; None for the key when this
        process is counted no more.
        """
        stale = self._holding.stale() if self._u64[W_FLAGS] & FETCH_IN_FLIGHT else set()
        self._release_stale(stale)
        letters: list[DeadLetter] = []

        def work() -> tuple[_Found | None, int | None, float, int]:
            found = self._take_and_tend(take, letters)
            if found is None and self._holding.is_behind:
                return None, key, -1.0, 0
            if found is None and sleeps:
                if self._u64[W_FLAGS] & ADD_CLOSED:
                    raise QueueClosed(f"queue {self.name!r} was closed by its server")
                seconds = self._holding.seconds_to_due(RECHECK)
                return None, self._events.prepare_wait(key, woken=woken), seconds, 0
            return found, None, 0.0, self._leave(key, woken=woken, took=found is not None)

        found, new_key, seconds, called = self._work_and_move(work, letters)
        while seconds < 0.0:  # so much was too old that the lock was given back for a moment
            found, new_key, seconds, called = self._work_and_move(work, letters)
        if called:
            self._events.wake(called)
        return found, new_key, seconds

    def _work_and_move(self, work: Callable[[], _Result], letters: list[DeadLetter]) -> _Result:
        """Call `work` with the lock held, and afterwards move what it left in `letters`."""
        try:
            return self._work(work)
        finally:
            while letters:
                self._move_dead_letter(letters.pop(0))

    def _take_and_tend(self, take: Callable[[], _Found | None], letters: list[DeadLetter]) -> _Found | None:
        """Call `take`, and look after what is in flight or too old (locked). `letters` gets what is to be moved."""
        self._holding.is_behind = False
        if self._u64[W_FLAGS] >= FETCH_FLAGS:
            letters.extend(self._tend())
        found = take()
        if self._u64[W_FLAGS] & FETCH_AGING:
            letters.extend(self._holding.aged_letters())
        return found

    def _leave(self, key: int | None, *, woken: bool, took: bool = False) -> int:
        """Be counted no more as a waiter (locked). Returns how many others are to be woken for what this one left.

        Who takes something also leaves what it would have woken up for in time: the next item that is not due yet.
        """
        if key is None:
            return 0
        meant = self._events.cancel_wait(key, woken=woken)
        if took:
            return self._events.notify() if self._u64[W_RETURNED] else 0
        return self._notify_if_there() if meant else 0

    def _notify_if_there(self) -> int:
        """Prepare to wake another one for what is there, or will be due (locked)."""
        return self._events.notify() if self._u64[W_RETURNED] or self._holding.is_there() else 0

    def _release_stale(self, stale: set[Holder]) -> None:
        """Give back what dead processes hold, some of it with each lock."""

        def release() -> bool:
            self._refuse_moved()
            back, more = self._holding.release_stale(stale)
            if back > 1:
                self._events.notify_all()  # more than this process can take
            return more

        more = bool(stale)
        while more:
            more = self._work(release)

    def _refuse_moved(self) -> None:
        if self._u64[W_FLAGS] & FETCH_MOVED:
            raise QueueClosed(f"queue {self.name!r}: the next server finds out where its items are")

    def _tend(self) -> list[DeadLetter]:
        """Look after what is in flight (locked). Returns what is to go to the queue for dead letters."""
        self._refuse_moved()
        if self._holding.release_late() > 1:
            self._events.notify_all()
        return self._holding.dead_letters()

    def _cancel_wait(self, key: int, *, woken: bool) -> None:
        called = self._work(lambda: self._leave(key, woken=woken))
        if called:
            self._events.wake(called)

    def _move_dead_letter(self, letter: DeadLetter) -> None:
        raise NotImplementedError
