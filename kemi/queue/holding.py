"""Reserved items of one queue: who holds them, what is given back, and what was delivered too often.

Nobody waits for a holder's death: whoever takes an item while any are reserved looks for holders that are gone, and
gives their items back first; a sleeper looks at least once in `bell.RECHECK`. A dead process stays dead, so looking
needs no lock; only giving back does.

In this process each item that it holds is claimed by an object (see `claims`). What is claimed by none was forgotten
when a signal handler raised, and is given back, too.
"""

from __future__ import annotations

import os
import time
from typing import Any, Callable

from kemi.owner import Owner, this_process
from kemi.queue import claims, layout
from kemi.queue.aside import Holder, Slot
from kemi.queue.layout import W_ASIDE, W_HEAD, W_MOVING, W_RETURNED, W_TAIL
from kemi.queue.ring import Ring

_LOOK = 0.2  # seconds between looks for zombies and pids that are used again; who is gone is seen at once
_RETRY = 1.0  # seconds until a queue for dead letters that failed is tried again

_me: Holder | None = None


def this_holder() -> Holder:
    """The calling process."""
    global _me  # noqa: PLW0603 - asked for every item, and the answer costs a look into /proc
    me = _me
    if me is None or me.pid != os.getpid():
        owner = this_process()
        _me = me = Holder(owner.pid, owner.start, owner.namespace & 0xFFFFFFFF)
    return me


class DeadLetter:
    """An item on its way to the queue for dead letters, claimed meanwhile."""

    __slots__ = ("__weakref__", "record", "slot")

    def __init__(self, slot: Slot, record: bytes) -> None:
        self.slot = slot
        self.record = record


class _Late:
    """An item whose end could not be told to the queue, claimed meanwhile."""

    __slots__ = ("__weakref__", "done", "slot")

    def __init__(self, slot: Slot, *, done: bool) -> None:
        self.slot = slot
        self.done = done


class Holding:
    """What is reserved in one queue. What is marked "locked" is called with the queue's lock held."""

    def __init__(self, ring: Ring, words: Any) -> None:
        self._ring = ring
        self._words = words
        self._looked = 0.0
        self._letters_after = 0.0
        self._late: list[tuple[int, _Late]] = []
        self._created: int = words[layout.W_CREATED]

    def claim(self, slot: Slot, by: object) -> None:
        """Enter who has a reserved item in his hands (locked)."""
        claims.of(self._created)[slot] = claims.reference(self._created, slot, by)

    def give_back_claimed(self, by: Callable[[object], bool]) -> None:
        """Give back what objects have in their hands of which `by` is true (locked)."""
        for slot, claim in list(claims.of(self._created).items()):
            if by(claim()):
                self.put_back(slot)

    def dead(self) -> set[Holder]:
        """Holders that are gone; without the lock. This process is one of them when it has forgotten an item."""
        if self._words[W_ASIDE] == self._words[W_RETURNED]:
            return set()
        me = this_holder()
        now = time.monotonic()
        closely = now - self._looked >= _LOOK
        if closely:
            self._looked = now
        holders = self._ring.aside.holders()
        gone = {holder for holder in {*holders} - {me} if _is_gone(holder, closely=closely)}
        return gone | {me} if holders.count(me) > len(claims.of(self._created)) else gone

    def tend(self, dead: set[Holder]) -> int:
        """Give back what dead processes hold, and what this one could not (locked). Returns how many items come back.

        Every call that takes items comes here first, while anything is set aside.
        """
        back = 0
        while self._late:
            pid, late = self._late[-1]
            # Who was forked meanwhile leaves it to the parent.
            if pid == os.getpid():
                if late.done:
                    self.finish(late.slot)
                else:
                    back += self.put_back(late.slot)
            del self._late[-1]
        return back + self.give_back_of(dead)

    def give_back_of(self, holders: set[Holder]) -> int:
        """Give back what these hold; of what this process holds, only what it has forgotten (locked)."""
        me = this_holder()
        claimed = claims.of(self._created)
        slots = self._ring.aside.held_by(holders - {me}) if holders - {me} else []
        if me in holders:
            slots += [slot for slot in self._ring.aside.held_by({me}) if slot not in claimed]
        return sum(map(self.put_back, slots))

    def give_back_forgotten(self) -> int:
        """Give back what this process holds and has forgotten (locked)."""
        return self.give_back_of({this_holder()}) if self._words[W_ASIDE] != self._words[W_RETURNED] else 0

    def take(self) -> bytes | None:
        """The oldest item, of which nothing is left here (locked)."""
        for slot in self._ring.returned():
            if not self._is_due(slot):
                return self._ring.discard(slot)
        return self._ring.take()

    def reserve(self) -> tuple[Slot, bytes] | None:
        """The oldest item, which this process holds from now on (locked)."""
        me = this_holder()
        slot: Slot | None = None
        for returned in self._ring.returned():
            if not self._is_due(returned):
                slot = self._ring.hold(returned, me)
                break
        else:
            slot = self._ring.set_aside(me)
        return None if slot is None else (slot, self._ring.record_at(slot.at))

    def is_something_there(self) -> bool:
        """Is there an item to be taken (locked)?"""
        words = self._words
        if words[W_HEAD] != words[W_TAIL]:
            return True
        return bool(words[W_RETURNED]) and not all(map(self._is_due, self._ring.returned()))

    def is_full(self) -> bool:
        """Is there no slot for one reservation more (locked)?"""
        return self._ring.aside.free() < 0

    def finish(self, slot: Slot) -> bool:
        """An item is done (locked). False if it is not this delivery any more."""
        claims.of(self._created).pop(slot, None)
        if not self._ring.aside.same(slot):
            return False
        self._ring.finish(slot)
        return True

    def put_back(self, slot: Slot) -> bool:
        """An item is not done (locked). False if it is not this delivery any more, or not needed any more."""
        claims.of(self._created).pop(slot, None)
        if not self._ring.aside.same(slot) or not self._ring.put_back(slot):
            return False
        if self._is_over(slot) and not self._words[layout.DEAD_LETTER_AT >> 3]:
            self._words[layout.W_EXHAUSTED] += 1
        return True

    def later(self, slot: Slot, *, done: bool) -> None:
        """The lock was not to be had: `finish` or `put_back` with the next item that is taken."""
        late = _Late(slot, done=done)
        self.claim(slot, late)
        self._late.append((os.getpid(), late))

    # --- what was delivered too often -------------------------------------------------------------------------------

    def _is_over(self, slot: Slot) -> bool:
        most: int = self._words[layout.W_MAX_DELIVERIES]
        return bool(most and slot.deliveries >= most)

    def _is_due(self, slot: Slot) -> bool:
        return self._is_over(slot) and bool(self._words[layout.DEAD_LETTER_AT >> 3])

    def due(self) -> list[DeadLetter]:
        """What goes to the queue for dead letters, held by this process meanwhile (locked)."""
        words = self._words
        if not words[W_RETURNED] or words[W_MOVING] or time.monotonic() < self._letters_after:
            return []
        me = this_holder()
        slots = [slot for slot in self._ring.returned() if self._is_due(slot)]
        held = [self._ring.hold(slot, me, delivered=False) for slot in slots]
        letters = [DeadLetter(slot, self._ring.record_at(slot.at)) for slot in held]
        for letter in letters:
            self.claim(letter.slot, letter)
        return letters

    def settle_due(self, slot: Slot, *, moved: bool) -> None:
        """A dead letter is in its queue, or could not be put there (locked)."""
        if moved:
            if self.finish(slot):
                self._words[layout.W_DEAD_LETTERS] += 1
            return
        self._letters_after = time.monotonic() + _RETRY
        self.put_back(slot)
        self._words[layout.W_EXHAUSTED] += 1


def _is_gone(holder: Holder, *, closely: bool) -> bool:
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass  # there is one, of another user
    return bool(closely and holder.start and Owner(*holder).is_dead())
