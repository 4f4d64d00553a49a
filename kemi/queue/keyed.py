"""A ring whose keys are unique: addmode 1 keeps the oldest item of a key, addmode 2 the newest.

The same stream as `ring`, with the key index beside it. addmode 2 takes items out of the middle (see `thinned`).

`append` and `pop` spell out what small functions would say, for records that lie in one chunk.
"""

from __future__ import annotations

import struct
from itertools import chain
from typing import Any

from kemi.errors import NoMemory
from kemi.queue.aside import Slot
from kemi.queue.chunks import Memory
from kemi.queue.index import Index
from kemi.queue.layout import (
    CHUNK_BITS,
    CHUNK_DEAD,
    CHUNK_FIRST,
    CHUNK_MASK,
    CHUNK_PREVIOUS,
    DEAD,
    LINK_SHIFT,
    R_KEY_LENGTH,
    R_LINK,
    RECORD_HEAD,
    STEP_MASK,
    W_ADDED,
    W_ADDMODE,
    W_ASIDE,
    W_DEAD,
    W_GATE,
    W_HEAD,
    W_REMOVED,
    W_REPLACED,
    W_RETURNED,
    W_TAIL,
)
from kemi.queue.outcome import AddResult
from kemi.queue.ring import ADDED, FULL, KEPT, LOOK_ASIDE
from kemi.queue.thinned import LOOK_AT, ThinnedRing

KEEP_OLDEST, KEEP_NEWEST = 1, 2
_key_length = struct.Struct("=4xI").unpack_from


class KeyedRing(ThinnedRing):
    """A ring that holds each key once."""

    inside = 0

    def __init__(self, buffer: Any, words: Any, halves: Any, memory: Memory) -> None:
        super().__init__(buffer, words, halves, memory)
        self._index = Index(buffer, words, halves, self.chunks, self._key_at)
        self._mode: int = words[W_ADDMODE]

    def format(self) -> bool:
        """As `Ring.format`, with an empty index."""
        if not (super().format() and self._index.format()):
            return False
        self._note_first(self._words[W_TAIL])
        return True

    def close(self) -> None:
        """As `Ring.close`."""
        del self._index

    # --- append and pop ---------------------------------------------------------------------------------------------

    def append(self, record: bytes, step: int, limit: int = 0) -> AddResult:
        """As `Ring.append`; KEPT when addmode 1 keeps the record that has the key. limit: see `append_within`."""
        words, index = self._words, self._index
        key = record[RECORD_HEAD : RECORD_HEAD + _key_length(record)[0]]
        place, old, leading = index.seek(key)
        returned = self._returned_with(key) if words[W_RETURNED] else None
        if (old or returned) and self._mode == KEEP_OLDEST:
            return KEPT
        if limit and self._bytes_with(step, old, returned or []) > limit:
            return FULL
        at: int = words[W_TAIL]
        end = at + step
        if end <= at | CHUNK_MASK:
            self._bytes[at : at + len(record)] = record
            words[W_TAIL] = end  # commit
            words[W_ADDED] += 1
        else:
            outcome = self._append_across(record, step)
            if outcome is not ADDED:
                return outcome
            at = self._started_at(at)
        # The new one first: a kill in between leaves both, and `recover` knows which of them goes.
        if old:
            self._replace(leading, old, at)
        else:
            index.insert(place, at, words[W_ADDED] - words[W_REMOVED])
        if returned:
            self._discard_all(returned)
        return ADDED

    def _replace(self, leading: int, old: int, at: int) -> None:
        """The record at `at` has the key of an old one, which dies: what `Index.replace` and `_bury` do."""
        words, halves = self._words, self._halves
        half = old >> 2
        halves[(at >> 2) + R_LINK] = halves[half + R_LINK]
        halves[leading] = at - self.chunks.base >> LINK_SHIFT
        words[W_REPLACED] += 1
        step = halves[half]
        if old + step > old | CHUNK_MASK:
            self._bury(old)
            return
        halves[half] = DEAD | step  # commit
        words[W_REMOVED] += 1
        words[W_DEAD] += step
        word = (old >> CHUNK_BITS << CHUNK_BITS - 3) + CHUNK_DEAD
        words[word] = dead = words[word] + step
        if dead >= LOOK_AT:
            self._look_at(old & ~CHUNK_MASK, dead, step)

    def _discard_all(self, slots: list[Slot]) -> None:
        for slot in slots:
            self._words[W_REPLACED] += 1
            self.discard(slot)

    def _bytes_with(self, step: int, old: int, returned: list[Slot]) -> int:
        """Bytes alive when a record of `step` bytes is added and these are replaced."""
        replaced: int = sum(self._halves[at >> 2] for at in (old, *(slot.at for slot in returned)) if at)
        return self.used_bytes() + self.aside_bytes() + step - replaced

    def append_within(self, record: bytes, step: int, limit: int) -> AddResult:
        """As `append`, unless there would be more than `limit` bytes alive."""
        return self.append(record, step, limit)

    def pop(self) -> bytes | None:
        """As `Ring.pop`."""
        words = self._words
        head = words[W_HEAD]
        tail = words[W_TAIL]
        if head == tail:
            return LOOK_ASIDE if words[W_ASIDE] else None
        removed = words[W_REMOVED]
        items = words[W_ADDED] - removed
        if items > words[W_GATE]:
            return self._pop_at_gate()
        half = head >> 2
        end = head + self._halves[half]
        key_end = head + RECORD_HEAD + self._halves[half + R_KEY_LENGTH]
        if end > head | CHUNK_MASK or key_end > end:  # it is dead, or goes on in the next chunk, or is no record
            if not self._halves[half] & DEAD:
                return self._pop_across()
            self._skip_dead()
            return self.pop()
        record: bytes = self._bytes[head:end]
        index = self._index
        index.remove(index.place(record[RECORD_HEAD : key_end - head]), head, items - 1)
        words[W_HEAD] = end  # commit
        words[W_REMOVED] = removed + 1
        if end == tail and end > self.far:
            self._return_to_front()
        return record

    def _pop_across(self) -> bytes | None:
        self._skip_dead()
        head = self._words[W_HEAD]
        if head != self._words[W_TAIL]:
            step = self._halves[head >> 2]
            self._check_record(head, step)
            self._withdraw(head, step)
        return super()._pop_across()

    def _withdraw(self, head: int, step: int) -> None:
        """Keys are unique among the items that can be taken: one that is reserved may be added again."""
        del step
        self._index.remove(self._index.place(self._key_at(head)), head, len(self) - 1)

    def _moved(self, old: int, new: int) -> None:
        self._index.move(self._index.place(self._key_at(old)), old, new)

    def put_back(self, slot: Slot) -> bool:
        """As `Ring.put_back`; of two items with its key, one stays."""
        twins = self._returned_with(self._key_at(slot.at))
        super().put_back(slot)
        return self._settle(self.aside.at(slot.number), twins)

    def _settle(self, slot: Slot, twins: list[Slot]) -> bool:
        """Leave one of the items that have this key: a returned one, other returned ones, and one in the ring."""
        key = self._key_at(slot.at)
        there = self._index.find(key)
        same = sorted([slot, *twins], key=lambda each: each.turn)
        if self._mode == KEEP_NEWEST:
            goes = same if there else same[:-1]
        else:
            goes = same[1:]
            if there:
                self._index.remove(self._index.place(key), there, len(self) - 1)
                self._words[W_REPLACED] += 1
                self._bury(there)
        self._discard_all(goes)
        return slot not in goes

    def _returned_with(self, key: bytes) -> list[Slot]:
        return [slot for slot in self.returned() if self._key_at(slot.at) == key]

    def _key_at(self, at: int) -> bytes:
        length = self._halves[(at >> 2) + R_KEY_LENGTH]
        start = at + RECORD_HEAD
        if start + length <= at | CHUNK_MASK:
            return bytes(self._bytes[start : start + length])
        return self.read(at, RECORD_HEAD + length)[RECORD_HEAD:]

    # --- recovery ---------------------------------------------------------------------------------------------------

    def recover_quickly(self) -> None:
        """As `recover`, in no less time: the index is made anew from all records."""
        self.recover()

    def recover(self) -> None:
        """As `Ring.recover`; also what is alive where, and the index, from the records."""
        walk = self._walk()
        self._sound_slots()
        buried = self._bury_twins()
        void, slots = self._sound_slots()
        self._index.forget()  # what breaks off behind this leaves no way to memory that is not there
        self._put_right(walk._replace(items=walk.items - buried), void, slots)
        self._words[W_DEAD] = 0
        previous = 0
        for chunk in walk.chunks:
            word = chunk >> 3
            self._words[word + CHUNK_PREVIOUS] = previous
            self._words[word + CHUNK_DEAD] = self._words[word + CHUNK_FIRST] = 0
            previous = chunk
        if not self._index.format(len(self)):
            raise NoMemory("no memory to build the key index anew: make room in shared memory")
        items = 0
        at, tail = self._words[W_HEAD], self._words[W_TAIL]
        while at != tail:
            step = self._halves[at >> 2]
            if step & DEAD and step & STEP_MASK > (at | CHUNK_MASK) + 1 - at:
                self._mark_dead(at, step & STEP_MASK)  # it died, and was not yet divided
                step = self._halves[at >> 2]
            self._note_first(at)
            if step & DEAD:
                self._count_dead(at, step & STEP_MASK)
            else:
                items += 1
                self._index.insert(self._index.place(self._key_at(at)), at, items)
            at, _ = self.follow(at, step & STEP_MASK)
        self._note_first(tail)

    def _bury_twins(self) -> int:
        """Several items of one key: a replacement, or a return, that was not finished. None is counted yet.

        Returns how many died in the ring.
        """
        buried = 0
        seen: dict[bytes, int | Slot] = {}
        items: list[int | Slot] = [slot for slot in self._sound_slots()[1] if slot.returned]
        for item in chain(items, self.scan()):
            key = self._key_at(item.at if isinstance(item, Slot) else item)
            twin = seen.setdefault(key, item)
            if twin is not item:
                goes = item if self._mode == KEEP_OLDEST else twin
                seen[key] = twin if self._mode == KEEP_OLDEST else item
                if isinstance(goes, Slot):
                    self.aside.clear([goes])
                else:
                    self._mark_dead(goes, self._halves[goes >> 2])
                    buried += 1
        return buried
