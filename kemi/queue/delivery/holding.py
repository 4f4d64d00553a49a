# SPDX-License-Identifier: GPL-2.0-or-later
"""Reserved items of one queue: who holds them, and what is given back. What is delivered no more, `letters` says.

Nobody waits for a holder's death: whoever takes an item while any are in flight looks for holders that are gone (see
`holders`), and gives their items back first; a sleeper looks at least once in `eventcount.RECHECK`. A dead process
stays dead, so looking needs no lock; only giving back does.

In this process each item that it holds is claimed by an object (see `claims`). What is claimed by none was forgotten
when a signal handler raised, and is given back, too.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from functools import partial
from typing import Any, Callable, final

from kemi.queue.delivery import claims
from kemi.queue.delivery.holders import File, Holders
from kemi.queue.delivery.letters import DeadLetter, Letters
from kemi.queue.format.item import item_id
from kemi.queue.format.layout import (
    FETCH_AGING,
    FETCH_MOVED,
    PENDING,
    QUESTION,
    R_VALUE,
    W_CREATED,
    W_DROPPED,
    W_EXHAUSTED,
    W_EXPIRED,
    W_FLAGS,
    W_IN_FLIGHT,
    W_RETURNED,
)
from kemi.queue.format.question import envelope_of
from kemi.queue.log.contents import Log
from kemi.queue.log.core import Delivery
from kemi.queue.store.inflight import Holder
from kemi.queue.sync.clock import LockTime
from kemi.queue.sync.clock import now as _now

_LOOK = 0.2  # seconds between looks for zombies and pids that are used again; who is gone is seen at once
_LOOKS_APART = 20  # times of what a look for dead holders takes, while there are other items
_NOT_QUICK = PENDING | FETCH_AGING | FETCH_MOVED


class _Late:
    """An item whose end could not be told to the queue, claimed meanwhile."""

    __slots__ = ("__weakref__", "counted", "done", "due", "held")

    def __init__(self, held: Delivery, due: int, *, done: bool, counted: bool) -> None:
        self.held = held
        self.due = due
        self.counted = counted
        self.done = done


@final
class Holding:
    """What is reserved in one queue. What is marked "locked" is called with the queue's lock held."""

    def __init__(self, log: Log, file: File | None = None) -> None:
        """file: the queue's own, for life locks; None for a log on a plain buffer."""
        self._log = log
        self._holders = Holders(file)
        self._me: Holder | None = None
        self._in_flight = log.core.in_flight
        self._mapping = log.core.mapping
        self._u64 = log.core.mapping.u64
        self._looked = self._next_look = 0.0
        self.lock_time = LockTime()
        self.letters = Letters(log, self._holders, self.lock_time)
        self._mine: dict[Delivery, Any] = {}  # `claims.of` this queue, since `begin`
        self._late: list[tuple[int, _Late]] = []
        self._created: int = self._u64[W_CREATED]
        self._id_start = item_id(self._created, 0)[:-1]

    def begin(self) -> None:
        """Before this process reserves: take its life lock, if it has none, or has it no more."""
        me = self._holders.me()
        if me is not self._me:
            self._mine = claims.of(self._created)  # first: another thread takes `_me` for the sign that it is there
            self._me = me

    def is_quick(self) -> bool:
        """Is there nothing to look after before an item is reserved? Without the lock.

        Nothing was returned or is too old, nothing is to be told, and no other process has died since the last look, as
        far as a look is worth its time: it takes a twentieth of this process's time at most.
        """
        u64 = self._u64
        return not (
            u64[W_FLAGS] & _NOT_QUICK
            or u64[W_RETURNED]
            or self._late
            or (u64[W_IN_FLIGHT] > len(self._mine) and time.monotonic() >= self._next_look)
        )

    def reserve_quickly(self) -> tuple[Delivery, bytes] | None:
        """`reserve`, if nothing has to be looked after before (locked). None where it takes more."""
        u64, me = self._u64, self._me
        if me is None or u64[W_FLAGS] & _NOT_QUICK or u64[W_RETURNED]:
            return None
        return self._log.reserve_oldest(me)

    def has_workers(self) -> bool:
        """Does a process live that reserved items here, or tried to?"""
        return self._holders.has_any()

    def close(self) -> None:
        """Let go of what is open."""
        self._holders.close()

    def claim(self, held: Delivery, by: object) -> None:
        """Enter who has a reserved item in his hands (locked)."""
        claims.enter(self._created, held, by)

    def claim_reserved(self, held: Delivery, by: object) -> None:
        """`claim`, of what was reserved since `begin` (locked)."""
        self._mine[held] = weakref.ref(by, partial(self._mine.pop, held))  # as `claims.reference`

    def give_back_claimed(self, by: Callable[[object], bool]) -> None:
        """Give back what objects have in their hands of which `by` is true (locked)."""
        for held, claim in list(claims.of(self._created).items()):
            if by(claim()):
                self.put_back(held)

    # --- stale holders ----------------------------------------------------------------------------------------------

    def stale(self) -> set[Holder]:
        """Holders that are gone; without the lock. This process is one of them when it has forgotten an item."""
        if self._u64[W_IN_FLIGHT] == self._u64[W_RETURNED]:
            return set()
        me = self._holders.me()
        now = time.monotonic()
        closely = now - self._looked >= _LOOK
        if closely:
            self._looked = now
        began = time.thread_time()  # a look that had to wait for the processor is not dear
        holders = self._in_flight.holders()
        gone = {holder for holder in holders if holder != me and self._holders.is_gone(holder, closely=closely)}
        self._next_look = time.monotonic() + _LOOKS_APART * (time.thread_time() - began)
        return gone | {me} if holders[me] > len(claims.of(self._created)) else gone

    def release_late(self) -> int:
        """Tell the queue what could not be told it, as long as there is time (locked).

        Returns how many items come back.
        """
        back, goes_on = 0, True
        while self._late and goes_on:
            pid, late = self._late[-1]
            # Who was forked meanwhile leaves it to the parent.
            if pid == os.getpid():
                if late.done:
                    self.finish(late.held)
                else:
                    back += self.put_back(late.held, late.due, counted=late.counted)
            del self._late[-1]
            goes_on = self.lock_time.is_left()
        return back

    def is_late(self) -> bool:
        """Return True if something could not be told the queue yet."""
        return bool(self._late)

    def held_by(self, holders: set[Holder]) -> list[Delivery]:
        """What these hold; of what this process holds, only what it has forgotten. Without the lock."""
        claimed = {held[:3] for held in list(claims.of(self._created))} if self._holders.me() in holders else set()
        return [Delivery.of(entry) for entry in self._in_flight.held_by(holders, claimed)]

    def release(self, held_by: list[Delivery], holders: set[Holder]) -> int:
        """Give back what is these holders' still, as long as there is time (locked). Returns how many items came back.

        held_by: what these held; what was looked at goes off the list.
        """
        claimed = claims.of(self._created)
        back, goes_on = 0, True
        while held_by and goes_on:
            held = held_by[0]
            entry = self._in_flight.held(*held[:3])
            if entry and entry.holder in holders and held not in claimed:
                back += self.put_back(held)
            del held_by[0]
            goes_on = self.lock_time.is_left()
        return back

    def give_back_forgotten(self) -> int:
        """Give back what this process holds and has forgotten, as long as there is time (locked)."""
        if self._u64[W_IN_FLIGHT] == self._u64[W_RETURNED]:
            return 0
        me = {self._holders.me()}
        return self.release(self.held_by(me), me)

    # --- one item ---------------------------------------------------------------------------------------------------

    def next(self) -> int:
        """Offset of the record of the oldest item; 0 if there is none to be taken (locked)."""
        if self._u64[W_FLAGS] & FETCH_AGING and not self.letters.pass_aged():
            return 0
        now = _now()
        return 0 if self.letters.are_next(now) else self._log.next(now)

    def is_there(self) -> bool:
        """Is there something to be taken, if it is not too old (locked)?"""
        return self._log.next(_now()) > 0

    def take(self) -> bytes | None:
        """The oldest item, of which nothing is left here (locked)."""
        if self._u64[W_FLAGS] & FETCH_AGING and not self.letters.pass_aged():
            return None
        now = _now()
        return None if self.letters.are_next(now) else self._log.fetch(now)

    def reserve(self) -> tuple[Delivery, bytes] | None:
        """The oldest item, which this process holds from now on (locked); not what nobody waits for."""
        if self._u64[W_FLAGS] & FETCH_AGING and not self.letters.pass_aged():
            return None
        if not self._pass_expired():
            return None
        now = _now()
        return None if self.letters.are_next(now) else self._log.reserve(self._me or self._holders.me(), now)

    def _pass_expired(self) -> bool:
        """Drop questions that nobody waits for any more (locked). False when there may be more; see `pass_aged`."""
        while self._is_next_expired(now := _now()):
            self._log.fetch(now)
            self._u64[W_EXPIRED] += 1
            if not self.lock_time.is_left():
                self.letters.is_behind = True
                return False
        return True

    def _is_next_expired(self, now: int) -> bool:
        at = self._log.next(now)
        if not at:
            return False
        self._log.core.records.step_at(at)  # raises where it is none
        if not self._mapping.u32[(at >> 2) + R_VALUE] & QUESTION:
            return False
        envelope = envelope_of(self._log.core.records.read(at))
        return envelope is not None and now >= envelope.deadline

    def record_of(self, held: Delivery) -> bytes | None:
        """The record of a reserved item (locked); None if it is not this delivery any more."""
        entry = self._in_flight.held(*held[:3])
        return None if entry is None else self._log.core.records.read(entry.at)

    def seconds_to_due(self, most: float) -> float:
        """Seconds until the next item that was given back may be taken, `most` at most (locked)."""
        entry = self._in_flight.first()
        return min(most, max(0.0, (entry.due - _now()) / 1e9)) if entry else most

    def is_full(self) -> bool:
        """Is there no entry for one reservation more (locked)?"""
        return not self._in_flight.has_room()

    def is_due(self) -> bool:
        """Is there an item that was given back, and may be taken (locked)?"""
        return self._in_flight.first_due(_now()) is not None

    def count_later(self) -> int:
        """How many items were given back for later."""
        return self._in_flight.count_later(_now())

    def _latest(self, held: Delivery, due: int) -> int:
        """`due`, or when the item is too old, so that it is seen then."""
        entry = self._in_flight.held(*held[:3])
        if entry is None:
            return due
        left = self._log.core.records.added_at(entry.at) - self.letters.oldest_allowed()
        return min(due, _now() + int(max(0.0, left) * 1e9) + 1) if math.isfinite(left) else due

    def finish(self, held: Delivery) -> bool:
        """An item is done (locked). False if it is not this delivery any more."""
        self._mine.pop(held, None)
        return self._log.ack(held)

    def put_back(self, held: Delivery, due: int = 0, *, counted: bool = True) -> bool:
        """An item is not done (locked). False if it is not this delivery any more, or not needed any more.

        due: when it may be taken again, by `clock`. counted: the delivery that ends so counts.
        """
        claims.of(self._created).pop(held, None)
        if due and self._u64[W_FLAGS] & FETCH_AGING:
            due = self._latest(held, due)
        if not self._log.nack(held, due, counted=counted):
            return False
        if counted and self.letters.is_over(held) and not self.letters.has_queue():
            self._u64[W_EXHAUSTED] += 1
        return True

    def reject(self, held: Delivery) -> tuple[bool, DeadLetter | None]:
        """Let an item never be delivered again (locked). Returns whether it was this delivery until now.

        Where there is a dead letter queue it is this process's until it was moved there; else it is dropped.
        """
        entry = self._in_flight.held(*held[:3])
        if entry is None:
            return False, None
        if not self.letters.has_queue():
            claims.of(self._created).pop(held, None)
            return self._log.ack(held, W_DROPPED), None
        letter = DeadLetter(held, self._log.core.records.read(entry.at))
        self.claim(held, letter)
        return True, letter

    def id_of(self, held: Delivery) -> str:
        """The item's id."""
        return f"{self._id_start}{held.seq:x}"

    def later(self, held: Delivery, due: int = 0, *, done: bool, counted: bool = True) -> None:
        """The lock was not to be had: `finish` or `put_back` with the next item that is taken."""
        late = _Late(held, due, done=done, counted=counted)
        self.claim(held, late)
        self._late.append((os.getpid(), late))
