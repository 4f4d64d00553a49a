"""What was taken out of the ring and is not done: one slot for each item, with its holder and its deliveries.

The record itself stays where it lies: HEAD has gone past it, and its chunks stay in use until it is done. So setting an
item aside needs no memory, and giving it back cannot fail. The rules:

- A slot counts when its state is not 0, and HEAD is not at its record: until HEAD has moved, the item is in the ring.
  (HEAD never comes there a second time, because the chunk is not used again before the slot is free.)
- One store of the state changes everything: whose turn it is, how often it was delivered, that it is done. The holder
  is written before it.
- The counters W_ASIDE, W_RETURNED and W_TOP follow from the slots; `Ring.recover` makes them right after a kill.
  W_ASIDE is raised before anything is set aside, so who reads 0 without the lock misses nothing.

Called with the queue's lock held, but for `holders`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from kemi.queue.layout import (
    MOST_DELIVERIES,
    RESERVED,
    RETURNED,
    SLOT_AT,
    SLOT_DELIVERIES,
    SLOT_STATE,
    SLOTS,
    W_ASIDE,
    W_ASIDE_AT,
    W_GATE,
    W_HIGH,
    W_RETURNED,
    W_TOP,
    W_TURN,
)

_HALF = (1 << 32) - 1


class Holder(NamedTuple):
    """A process as the slots have it."""

    pid: int
    start: int
    namespace: int


class Slot(NamedTuple):
    """A slot in use. `state` is the whole word: who finds it unchanged later has the same delivery before him."""

    number: int
    state: int
    turn: int

    @property
    def at(self) -> int:
        """Offset of the record."""
        return self.state & SLOT_AT

    @property
    def returned(self) -> bool:
        """Was it given back?"""
        return self.state & SLOT_STATE == RETURNED

    @property
    def deliveries(self) -> int:
        """How often it was delivered, with the present time."""
        return self.state >> SLOT_DELIVERIES


class Aside:
    """The slots of one segment."""

    def __init__(self, words: Any) -> None:
        self._words = words
        self._states: int = words[W_ASIDE_AT] >> 3
        self._turns = self._states + SLOTS
        self._starts = self._turns + SLOTS
        self._holders = self._starts + SLOTS

    # --- looking ----------------------------------------------------------------------------------------------------

    def _top(self) -> int:
        return min(int(self._words[W_TOP]), SLOTS)

    def slots(self, top: int | None = None) -> list[Slot]:
        """All slots in use, those that left the ring first at the beginning."""
        top = self._top() if top is None else top
        states = self._words[self._states : self._states + top]
        turns = self._words[self._turns : self._turns + top]
        found = [Slot(number, state, turn) for number, (state, turn) in enumerate(zip(states, turns)) if state]
        return sorted(found, key=lambda slot: slot.turn)

    def free(self) -> int:
        """A slot that is not in use; -1 if there is none."""
        top = self._top()
        for number, state in enumerate(self._words[self._states : self._states + top]):
            if not state:
                return number
        return top if top < SLOTS else -1

    def same(self, slot: Slot) -> bool:
        """Is it still that delivery?"""
        number = slot.number
        return bool(self._words[self._states + number] == slot.state and self._words[self._turns + number] == slot.turn)

    def holders(self) -> list[Holder]:
        """Who holds something, once for each item.

        Without the lock it may name a process that never was, but misses none that is dead.
        """
        top = self._top()
        columns = [self._words[at : at + top] for at in (self._states, self._holders, self._starts)]
        return [
            Holder(holder & _HALF, start, holder >> 32)
            for state, holder, start in zip(*columns)
            if state & SLOT_STATE == RESERVED
        ]

    def held_by(self, holders: Iterable[Holder]) -> list[Slot]:
        """What these hold, in order."""
        wanted = set(holders)
        return [slot for slot in self.slots() if not slot.returned and self._holder(slot.number) in wanted]

    def _holder(self, number: int) -> Holder:
        holder = self._words[self._holders + number]
        return Holder(holder & _HALF, self._words[self._starts + number], holder >> 32)

    # --- changes ----------------------------------------------------------------------------------------------------

    def put(self, number: int, at: int, holder: Holder) -> None:
        """Set the record at HEAD aside, in a free slot. It counts when HEAD has moved."""
        words = self._words
        self._write_holder(number, holder)
        words[W_TURN] += 1
        words[self._turns + number] = words[W_TURN]
        words[W_TOP] = max(words[W_TOP], number + 1)
        words[W_ASIDE] += 1
        words[W_GATE] = 0
        words[self._states + number] = 1 << SLOT_DELIVERIES | at | RESERVED

    def hold(self, slot: Slot, holder: Holder, *, delivered: bool = True) -> Slot:
        """Take one that was returned. delivered: count it as a delivery."""
        deliveries = min(slot.deliveries + delivered, MOST_DELIVERIES)
        self._write_holder(slot.number, holder)
        self._store(slot.number, deliveries << SLOT_DELIVERIES | slot.at | RESERVED)
        self._words[W_RETURNED] -= 1
        return self.at(slot.number)

    def give_back(self, slot: Slot) -> None:
        """Let it be the next one's."""
        self._store(slot.number, slot.deliveries << SLOT_DELIVERIES | slot.at | RETURNED)
        self._words[W_RETURNED] += 1

    def drop(self, slot: Slot) -> None:
        """It is done, or it is somewhere else."""
        words = self._words
        self._store(slot.number, 0)
        if slot.returned:
            words[W_RETURNED] -= 1
        words[W_ASIDE] -= 1
        top = self._top()
        while top and not words[self._states + top - 1]:
            top -= 1
        words[W_TOP] = top
        if not words[W_ASIDE]:
            words[W_GATE] = words[W_HIGH]

    def bar_short_way(self) -> None:
        """Have everybody who takes an item go through `Waiting._take_or_count_in`, until `count` ends that.

        One more seems to be returned, which is harmless: whoever looks finds the slots as they are.
        """
        words = self._words
        words[W_ASIDE] += 1
        words[W_RETURNED] += 1
        words[W_GATE] = 0

    def at(self, number: int) -> Slot:
        """The slot of that number."""
        return Slot(number, self._words[self._states + number], self._words[self._turns + number])

    def clear(self, slots: Iterable[Slot]) -> None:
        """Forget slots, without the counters."""
        for slot in slots:
            self._store(slot.number, 0)

    def count(self) -> None:
        """Make the counters follow from the slots."""
        words = self._words
        slots = self.slots(SLOTS)
        words[W_ASIDE] = len(slots)
        words[W_RETURNED] = sum(slot.returned for slot in slots)
        words[W_TOP] = max((slot.number + 1 for slot in slots), default=0)
        words[W_TURN] = max(words[W_TURN], max((slot.turn for slot in slots), default=0))
        words[W_GATE] = 0 if slots else words[W_HIGH]

    def _store(self, number: int, state: int) -> None:
        self._words[self._states + number] = state

    def _write_holder(self, number: int, holder: Holder) -> None:
        self._words[self._starts + number] = holder.start
        self._words[self._holders + number] = holder.pid | holder.namespace << 32
