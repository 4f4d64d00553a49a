# SPDX-License-Identifier: GPL-2.0-or-later
"""What is delivered no more: what is too old, and what was delivered too often.

Where the queue has one for dead letters, such an item is held by this process, as a `DeadLetter`, until it was moved
there after the lock. Else what is too old is dropped, and what was delivered too often is delivered again, and counted.
"""

from __future__ import annotations

import math
import time
from typing import final

from kemi.queue.delivery import claims
from kemi.queue.delivery.holders import Holders
from kemi.queue.format.layout import (
    DEAD_LETTER_AT,
    FETCH_AGING,
    W_CREATED,
    W_DEAD_LETTERS,
    W_EXHAUSTED,
    W_FLAGS,
    W_MAX_AGE,
    W_MAX_DELIVERIES,
    W_RETURNED,
    W_UNMOVED,
)
from kemi.queue.log.contents import Log
from kemi.queue.log.core import Delivery
from kemi.queue.store.inflight import Entry
from kemi.queue.sync.clock import LockTime
from kemi.queue.sync.clock import now as _now

_RETRY = 1_000_000_000  # ns until a queue for dead letters that failed is tried again

_time = time.time


class DeadLetter:
    """An item on its way to the queue for dead letters, claimed meanwhile."""

    __slots__ = ("__weakref__", "held", "record")

    def __init__(self, held: Delivery, record: bytes) -> None:
        self.held = held
        self.record = record


@final
class Letters:
    """What one queue delivers no more. What is marked "locked" is called with the queue's lock held."""

    def __init__(self, log: Log, holders: Holders, lock_time: LockTime) -> None:
        self._log = log
        self._holders = holders
        self._lock_time = lock_time
        self._in_flight = log.core.in_flight
        self._u64 = log.core.mapping.u64
        self._created: int = self._u64[W_CREATED]
        self._aged: list[DeadLetter] = []
        self.is_behind = False  # is there more to look after, so that nothing was found to take?

    def has_queue(self) -> bool:
        """Is there a queue for dead letters?"""
        return bool(self._u64[DEAD_LETTER_AT >> 3])

    # --- what is too old --------------------------------------------------------------------------------------------

    def oldest_allowed(self) -> float:
        """What was added before then is too old; seconds since the epoch."""
        if not self._u64[W_FLAGS] & FETCH_AGING or not self._u64[W_MAX_AGE]:
            return -math.inf
        return _time() - float(self._u64[W_MAX_AGE]) / 1e9

    def pass_aged(self) -> bool:
        """Drop what is too old, or hold it for the queue for dead letters (locked).

        False when there may be more: the caller lets go of the lock, moves what is `aged`, and comes again.
        """
        before, letters, goes_on = self.oldest_allowed(), self.has_queue(), True
        while goes_on:
            if not letters:
                if not self._log.drop_aged(_now(), before):
                    return True
            else:
                at = self._log.next(_now())
                if not at or not self._log.core.records.added_at(at) < before:
                    return True
                if not self._hold_next():
                    return False  # in flight are as many as can be: another time
            goes_on = self._lock_time.is_left()
        self.is_behind = True
        return False

    def _hold_next(self) -> bool:
        """Hold the item that would be taken next, as a dead letter (locked). False if no entry is free for it."""
        me, now = self._holders.me(), _now()
        entry = self._in_flight.first_due(now)
        found = self._log.hold(entry, me, counted=False) if entry else self._log.reserve(me, now)
        if found is None:
            return False
        self._aged.append(self._letter(*found))
        return True

    def _letter(self, held: Delivery, record: bytes) -> DeadLetter:
        letter = DeadLetter(held, record)
        claims.enter(self._created, held, letter)
        return letter

    def aged(self) -> list[DeadLetter]:
        """What was too old, and is to go to the queue for dead letters now (locked)."""
        letters, self._aged = self._aged, []
        return letters

    # --- what was delivered too often -------------------------------------------------------------------------------

    def is_over(self, item: Entry | Delivery) -> bool:
        """Was it delivered as often as it may be?"""
        most: int = self._u64[W_MAX_DELIVERIES]
        return bool(most and item.deliveries >= most)

    def are_next(self, now: int) -> bool:
        """Was what would be taken next delivered too often? (locked)

        Its time came after `over` had looked: the caller lets go of the lock, and comes again.
        """
        u64 = self._u64
        if not u64[W_RETURNED] or not u64[W_MAX_DELIVERIES] or not self.has_queue():
            return False
        entry = self._in_flight.first_due(now)
        if entry is None or not self.is_over(entry):
            return False
        self.is_behind = True
        return True

    def over(self) -> list[DeadLetter]:
        """Hold what goes to the queue for dead letters next, as long as there is time (locked)."""
        letters: list[DeadLetter] = []
        if not self.has_queue():
            return letters
        me, now, goes_on = self._holders.me(), _now(), True
        while goes_on and (entry := self._in_flight.first_due(now)) and self.is_over(entry):
            letters.append(self._letter(*self._log.hold(entry, me, counted=False)))
            goes_on = self._lock_time.is_left()
        return letters

    def settle(self, held: Delivery, *, moved: bool) -> None:
        """A dead letter is in its queue, or could not be put there (locked)."""
        mine = claims.of(self._created)
        if moved:
            mine.pop(held, None)
            self._log.ack(held, W_DEAD_LETTERS)
            return
        self._log.nack(held, _now() + _RETRY)
        mine.pop(held, None)
        self._u64[W_UNMOVED] += 1
        if self.is_over(held):
            self._u64[W_EXHAUSTED] += 1
