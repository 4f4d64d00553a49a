# SPDX-License-Identifier: GPL-2.0-or-later
"""Reserved items of a queue: how they are taken and settled, and what was delivered too often.

Where the lock is not to be had a settlement is kept in mind, and done with the next item that this process takes.
"""

from __future__ import annotations

import contextlib
import math
import time
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from typing import final

from kemi.errors import LockTimeout, MqueueError, Reentered
from kemi.queue.delivery import answering
from kemi.queue.delivery.hold import Hold, Settlement, Source
from kemi.queue.delivery.letters import DeadLetter
from kemi.queue.delivery.reservation import Keep
from kemi.queue.delivery.reserved import ReservedItem
from kemi.queue.format import layout
from kemi.queue.format.item import deadline_after
from kemi.queue.format.layout import FETCH_FLAGS, W_ADDED, W_BURIED, W_FLAGS, W_MAX_AGE, W_POPPED, W_RETURNED
from kemi.queue.format.question import is_question
from kemi.queue.handle import Handle
from kemi.queue.lock.section import hold
from kemi.queue.log.core import Delivery
from kemi.queue.others import Others
from kemi.queue.sync.handlers import is_from_handler
from kemi.queue.waiting import Taker

TOLD_APART = 60.0  # seconds between two lines of the log that say the same


@final
class DeadLetters:
    """Takes what was delivered too often to the queue for that."""

    def __init__(self, handle: Handle, others: Others) -> None:
        self._handle = handle
        self._others = others
        self._told = -math.inf

    def move(self, letter: DeadLetter) -> None:
        """Put what was delivered too often into its queue. A kill in between leaves it in both: at least once."""
        held, record = letter.held, letter.record
        moved = False
        # No error here: the caller may have an item in his hands.
        why: object = ""
        try:
            outcome = self._others.dead_letter_queue().add_record(record)
            moved, why = bool(outcome), outcome.reason
        except (MqueueError, OSError, ValueError) as error:
            if is_from_handler(error):
                raise
            why = error
        if not moved:
            self._tell_unmoved(why)
        try:
            self._handle.work(lambda: self._handle.holding.letters.settle(held, moved=moved))
        except MqueueError as error:
            if is_from_handler(error):
                raise
            self._handle.holding.later(held, done=moved)

    def _tell_unmoved(self, why: object) -> None:
        """Say in the log, once a minute, that an item stays that should be in the queue for dead letters."""
        if time.monotonic() - self._told >= TOLD_APART:
            self._told = time.monotonic()
            import logging  # never needed as a rule

            logging.getLogger("mqueue_kemi").warning(
                "queue %r: an item could not be moved to its queue for dead letters and stays (%s); it is tried again, "
                "and counted as unmoved",
                *(self._handle.name, why),
            )


@final
class Reserver:
    """Reserves and settles items of one queue."""

    def __init__(self, handle: Handle, source: Source, others: Others, taker: Taker, letters: DeadLetters) -> None:
        """source: of what is reserved, which settles it by `settle`."""
        self._handle = handle
        self._source = source
        self._others = others
        self._taker = taker
        self._letters = letters
        self._told_full = -math.inf

    def reserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        """Reserve up to `count` items, as many as one lock is for; see `reservation.Reserver`."""
        holding, max_age = self._handle.holding, self._handle.u64[W_MAX_AGE]

        def take(reserve: Callable[[], tuple[Delivery, bytes] | None] = holding.reserve) -> int | None:
            number, goes_on = 0, True
            while goes_on and number < count and (found := reserve()):
                self._keep(*found, keep, max_age)
                number += 1
                goes_on = holding.lock_time.is_left()
            if not number and reserve == holding.reserve:
                self._refuse_full()
            return number or None

        def take_quickly() -> int | None:
            holding.lock_time.begin()
            return take(holding.reserve_quickly)

        holding.begin()
        u64 = self._handle.u64
        removed = u64[W_POPPED] + u64[W_BURIED]
        if u64[W_ADDED] != removed and holding.is_quick():
            # The usual case: there is something, and nothing else to look after.
            if number := hold(self._handle.mutex, take_quickly, self._handle.put_right):
                return number
        elif u64[W_FLAGS] < FETCH_FLAGS and timeout is not None and timeout <= 0 and u64[W_ADDED] == removed:
            return None
        return self._taker.wait(take, timeout)

    def _keep(self, held: Delivery, record: bytes, keep: Keep, max_age: int) -> None:
        """Hand over what was reserved (locked)."""
        asked = is_question(record)
        one = Hold(self._source, held, self._handle.holding.id_of(held), held.deliveries, asked=asked)
        deadline = answering.deadline_of(record) if asked else deadline_after(record, max_age)
        keep(ReservedItem(record, one, deadline))
        self._handle.holding.claim_reserved(held, one)  # last: what an exception leaves unclaimed is given back at once

    def _refuse_full(self) -> None:
        """Raise MqueueError if there is an item, and processes hold all that can be reserved (locked).

        Where some were given back for later, the next one of these is waited for, and a line of the log says so.
        """
        holding, u64 = self._handle.holding, self._handle.u64
        if not holding.is_full() or holding.letters.is_behind or not holding.is_there():
            return
        if not u64[W_RETURNED]:
            raise MqueueError(f"queue {self._handle.name!r}: {layout.CAPACITY} items are reserved")
        if time.monotonic() - self._told_full >= TOLD_APART:
            self._told_full = time.monotonic()
            import logging  # never needed as a rule

            logging.getLogger("mqueue_kemi").warning(
                "queue %r: %d items are reserved or were given back for later, the most there can be; reserve() waits "
                "for the next of these, due in %.1f s",
                *(self._handle.name, layout.CAPACITY, holding.seconds_to_due(math.inf)),
            )

    def settle(self, tokens: Sequence[Delivery], how: Settlement) -> int:
        """Settle reserved items; see `hold.Source`. Returns how many were this process's until then."""
        told = self._tell(tokens, how) if how.kind in ("answer", "reject") else 0
        if how.kind == "reject":
            return sum([self._reject(held) for held in tokens])
        done = how.kind != "give back"
        due = how.due()
        settled, left = 0, list(tokens)
        while left:
            try:
                settled += self._settle_some(left, due, done=done, counted=how.counted)
            except LockTimeout as error:
                if is_from_handler(error):
                    raise
                for held in left[:-1]:
                    self._handle.holding.later(held, due, done=done, counted=how.counted)
                self.end_later(left[-1], error, due, done=done, counted=how.counted)
                raise
        if settled and not done:
            self._move_over()
        return settled if how.kind != "answer" else told

    def _tell(self, tokens: Sequence[Delivery], how: Settlement) -> int:
        """Tell who asked. Returns how many wait for it."""
        told = 0
        for held in tokens:
            try:
                record = self._handle.work(lambda held=held: self._handle.holding.record_of(held))  # type: ignore[misc]
                if record is None:
                    continue
                if how.kind == "answer":
                    told += answering.answer(self._others, record, how.value)
                else:
                    answering.fail(self._others, record, how.reason)
            except LockTimeout as error:
                if not is_from_handler(error):
                    self.end_later(held, error, done=False)
                raise
        return told

    def _settle_some(self, left: list[Delivery], due: int, *, done: bool, counted: bool) -> int:
        """Settle as many as there is time for with one lock, and take them off the list."""
        holding = self._handle.holding

        def settle() -> tuple[int, int]:
            settled, goes_on = 0, True
            while left and goes_on:
                held = left[0]
                settled += holding.finish(held) if done else holding.put_back(held, due, counted=counted)
                del left[0]
                goes_on = holding.lock_time.is_left()
            return settled, 0 if done or not settled else self._handle.events.notify(settled)

        settled, called = self._handle.work(settle)
        if called:
            self._handle.events.wake(called)
        return settled

    def _move_over(self) -> None:
        """Move what was delivered as often as it may be. Where the lock is not to be had, who takes next does."""
        letters = self._handle.holding.letters
        try:
            while letters.has_queue() and (over := self._handle.work(letters.over)):
                for letter in over:
                    self._letters.move(letter)
        except LockTimeout as error:
            if is_from_handler(error):
                raise

    def _reject(self, held: Delivery) -> bool:
        """Let a reserved item never be delivered again. Where the lock is not to be had it is given back."""
        try:
            mine, letter = self._handle.work(lambda: self._handle.holding.reject(held))
        except LockTimeout as error:
            if not is_from_handler(error):
                self.end_later(held, error, done=False)
            raise
        if letter is not None:
            self._letters.move(letter)
        return mine

    def end_later(self, held: Delivery, error: LockTimeout, due: int = 0, *, done: bool, counted: bool = True) -> None:
        """End a reservation with the next item that is taken; if this thread has the lock, as soon as it is free.

        A handler ends one in the middle of a call, or the garbage collector finds one there.
        """
        self._handle.holding.later(held, due, done=done, counted=counted)
        if isinstance(error, Reentered):
            with contextlib.suppress(RuntimeError):  # no thread to be had, as at the interpreter's end
                start_new_thread(self._end_late, ())

    def _end_late(self) -> None:
        with contextlib.suppress(MqueueError):
            self._taker.take_now(lambda: None)
            self._taker.pass_on()
