"""After a process died in the middle: make everything follow from HEAD, TAIL, the chain, the records and the slots.

Two ways lead to the same. `recover` reads every record. `recover_quickly` is for when others wait behind the lock: its
time does not grow with the number of items. It changes nothing before all that it read fits together, to one operation;
where it does not, `recover` decides.
"""

from __future__ import annotations

from typing import Any

from kemi.errors import DamagedRing
from kemi.queue.aside import Aside, Slot
from kemi.queue.chunks import Memory
from kemi.queue.layout import (
    CHUNK_MASK,
    RESERVED,
    RETURNED,
    SLOT_STATE,
    SLOTS,
    W_ADDED,
    W_ASIDE,
    W_CHUNKS,
    W_HEAD,
    W_HIGH,
    W_RECOVERED,
    W_REMOVED,
    W_TAIL,
)
from kemi.queue.marks import Marked
from kemi.queue.stream import Walk


class Recoverable(Marked):
    """A stream, with what is set aside, that can be put right."""

    def __init__(self, buffer: Any, words: Any, halves: Any, memory: Memory) -> None:
        super().__init__(buffer, words, halves, memory)
        self.aside = Aside(words)

    def recover(self) -> None:
        """Make everything follow from HEAD, TAIL, the chain and the records.

        Raises DamagedRing, having changed nothing, when what lies between the cursors is no ring.
        """
        walk = self._walk()
        void, slots = self._sound_slots()
        self._forget_marks(walk)
        self._put_right(walk, void, slots)
        self._mark_anew(walk)

    def recover_quickly(self) -> None:
        """`recover`, reading the records of two chunks at most, unless something is not as it must be.

        It may overlook a damaged record between: who comes to it finds out.
        """
        words = self._words
        if words[W_HEAD] & ~CHUNK_MASK == words[W_TAIL] & ~CHUNK_MASK:
            self.recover()
            return
        try:
            walk, appended = self._walk_by_marks()
            void, slots = self._sound_slots()
            self._check_counters(appended, walk.items + sum(slot.returned for slot in slots))
        except DamagedRing:
            self.recover()
        else:
            self._put_right(walk, void, slots)

    def _check_counters(self, appended: int, items: int) -> None:
        """Is what one killed process leaves? It had moved a cursor and not counted, or made ready to give an item back.

        appended: modulo 2**32.
        """
        added = self._words[W_ADDED]
        missing = added - self._words[W_REMOVED] - items
        if ((appended - added) % (1 << 32), missing) not in ((0, 0), (0, 1), (1, -1)):
            raise DamagedRing(
                f"the marks tell of {appended} items in all and {items} left, which is not what is counted"
            )

    def _put_right(self, walk: Walk, void: list[Slot], slots: list[Slot]) -> None:
        words = self._words
        words[(words[W_TAIL] & ~CHUNK_MASK) >> 3] = 0  # a chunk that was linked, but not committed
        words[W_CHUNKS] = len(walk.chunks)
        self.aside.clear(void)
        items = walk.items + sum(slot.returned for slot in slots)
        # One operation at most was under way. It had moved a cursor, but not yet counted.
        if items > words[W_ADDED] - words[W_REMOVED]:
            words[W_ADDED] = words[W_REMOVED] + items
        else:
            words[W_REMOVED] = words[W_ADDED] - items
        words[W_HIGH] = max(words[W_HIGH], items)
        self.aside.count()
        self.chunks.rebuild({*walk.chunks, *self._kept()})
        words[W_RECOVERED] += 1

    def _sound_slots(self) -> tuple[list[Slot], list[Slot]]:
        """Slots that never came to count, and those that do, each of which is checked."""
        void, slots = [], []
        for slot in self.aside.slots(SLOTS):
            if slot.at == self._words[W_HEAD]:
                void.append(slot)
                continue
            if slot.state & SLOT_STATE not in (RESERVED, RETURNED):
                raise DamagedRing(f"slot {slot.number} of what is set aside has the state {slot.state:#x}")
            self._chunks_of(slot.at)
            slots.append(slot)
        return void, slots

    def _kept(self) -> set[int]:
        """Chunks that are in use for what is set aside."""
        if not self._words[W_ASIDE]:
            return set()
        return {chunk for slot in self.aside.slots() for chunk in self._chunks_of(slot.at)}
