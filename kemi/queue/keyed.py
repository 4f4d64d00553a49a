"""A ring whose keys are unique: addmode 1 keeps the oldest item of a key, addmode 2 the newest.

The same stream as `ring`, with the key index beside it. addmode 2 takes items out of the middle: such a record is
marked dead where it lies. A chunk with nothing alive leaves the chain at once, and two neighbours that are nearly
empty become one, so that a key that is never fetched cannot make the others' dead records pile up behind it.

`live` of a chunk counts the bytes of live records in it; a record that goes on in the next chunk counts in both for
what lies there. A dead record never goes on in the next chunk: it is divided when it dies.
"""

from __future__ import annotations

import struct
from itertools import chain
from typing import Any

from kemi.errors import DamagedRing, NoMemory
from kemi.queue.aside import Slot
from kemi.queue.chunks import Memory
from kemi.queue.index import Index
from kemi.queue.layout import (
    CHUNK,
    CHUNK_FIRST,
    CHUNK_HEAD,
    CHUNK_LIVE,
    CHUNK_MASK,
    CHUNK_NEXT,
    CHUNK_PREVIOUS,
    CHUNK_ROOM,
    DEAD,
    R_KEY_LENGTH,
    RECORD_HEAD,
    STEP_MASK,
    W_ADDED,
    W_ADDMODE,
    W_ASIDE,
    W_CHUNKS,
    W_HEAD,
    W_LIVE,
    W_REMOVED,
    W_REPLACED,
    W_RETURNED,
    W_TAIL,
)
from kemi.queue.ring import ADDED, FULL, KEPT, LOOK_ASIDE, Ring

KEEP_OLDEST, KEEP_NEWEST = 1, 2
_TOO_MANY_DIED = "more of it died than was alive"
_key_length = struct.Struct("=4xI").unpack_from
# Two neighbours with no more alive than this become one chunk. It bounds what one add may have to copy, and with it
# the memory: on average a chunk is at least half as full as this.
_MERGE_AT = CHUNK_ROOM // 4


class KeyedRing(Ring):
    """A ring that holds each key once."""

    inside = 0

    def __init__(self, buffer: Any, words: Any, halves: Any, memory: Memory) -> None:
        super().__init__(buffer, words, halves, memory)
        self._index = Index(buffer, words, halves, self.chunks, self._key_at)
        self._mode: int = words[W_ADDMODE]

    def format(self) -> bool:
        """As `Ring.format`, with an empty index."""
        return super().format() and self._index.format()

    def close(self) -> None:
        """As `Ring.close`."""
        del self._index

    def used_bytes(self) -> int:
        """Bytes of the live records with their heads."""
        return int(self._words[W_LIVE])

    # --- append and pop ---------------------------------------------------------------------------------------------

    def append(self, record: bytes, step: int, limit: int = 0) -> int:
        """As `Ring.append`; KEPT when addmode 1 keeps the record that has the key. limit: see `append_within`."""
        words, index = self._words, self._index
        key = record[RECORD_HEAD : RECORD_HEAD + _key_length(record)[0]]
        place = index.place(key)
        old, before = index.locate(place, key)
        returned = self._returned_with(key) if words[W_RETURNED] else []
        if (old or returned) and self._mode == KEEP_OLDEST:
            return KEPT
        if limit and self._bytes_with(step, old, returned) > limit:
            return FULL
        at: int = words[W_TAIL]
        outcome = Ring.append(self, record, step)
        if outcome != ADDED:
            return outcome
        if at + step > at | CHUNK_MASK:
            at = self._started_at(at)
            self._count(at, step, 1)
        else:  # what these two do, for nearly all records
            word = (at & ~CHUNK_MASK) >> 3
            if not words[word + CHUNK_FIRST]:
                words[word + CHUNK_FIRST] = at
            words[W_LIVE] += step
            words[word + CHUNK_LIVE] += step
        # The new one first: a kill in between leaves both, and `recover` knows which of them goes.
        if old:
            index.move_at(place, before, old, at)
            words[W_REPLACED] += 1
            self._bury(old)
        else:
            index.insert_at(place, at, words[W_ADDED] - words[W_REMOVED])
        for slot in returned:
            words[W_REPLACED] += 1
            self.discard(slot)
        return ADDED

    def _bytes_with(self, step: int, old: int, returned: list[Slot]) -> int:
        """Bytes alive when a record of `step` bytes is added and these are replaced."""
        replaced = sum(self._halves[at >> 2] for at in (old, *(slot.at for slot in returned)) if at)
        return int(self._words[W_LIVE] + self.aside_bytes() + step - replaced)

    def append_within(self, record: bytes, step: int, limit: int) -> int:
        """As `append`, unless there would be more than `limit` bytes alive."""
        return self.append(record, step, limit)

    def _started_at(self, tail: int) -> int:
        """Where the record begins that was appended when TAIL stood at `tail`."""
        chunk = tail & ~CHUNK_MASK
        if (tail | CHUNK_MASK) + 1 - tail >= RECORD_HEAD:
            self._note_first(tail)
            return tail
        self._note_first(tail)  # the dead record that fills the chunk's end
        at = self.next_chunk(chunk) + CHUNK_HEAD
        self._note_first(at)
        return at

    def _note_first(self, at: int) -> None:
        word = ((at & ~CHUNK_MASK) >> 3) + CHUNK_FIRST
        if not self._words[word]:
            self._words[word] = at

    def pop(self) -> bytes | None:
        """As `Ring.pop`."""
        if self._words[W_ASIDE]:
            return LOOK_ASIDE
        self._withdraw_head()
        return Ring.pop(self)

    def take(self) -> bytes | None:
        """As `Ring.take`."""
        self._withdraw_head()
        return super().take()

    def _withdraw_head(self) -> None:
        words = self._words
        head: int = words[W_HEAD]
        if head != words[W_TAIL]:
            step = self._halves[head >> 2]
            if step & DEAD:
                self._skip_dead()
                head = words[W_HEAD]
                if head == words[W_TAIL]:
                    return
                step = self._halves[head >> 2]
            self._check_record(head, step)
            self._withdraw(head, step)

    def _withdraw(self, head: int, step: int) -> None:
        """Keys are unique among the items that can be taken: one that is reserved may be added again."""
        index, words = self._index, self._words
        key = self._key_at(head)
        place = index.place(key)
        found, before = index.locate(place, key)
        if found != head:
            raise DamagedRing(f"the record at {head} is not in the key index")
        index.remove_at(place, before, head, words[W_ADDED] - words[W_REMOVED] - 1)
        self._count(head, step, -1)

    def put_back(self, slot: Slot) -> bool:
        """As `Ring.put_back`; of two items with its key, one stays."""
        twins = self._returned_with(self._key_at(slot.at))
        super().put_back(slot)
        return self._settle(self.aside.at(slot.number), twins)

    def _settle(self, slot: Slot, twins: list[Slot]) -> bool:
        """Leave one of the items that have this key: a returned one, other returned ones, and one in the ring."""
        key = self._key_at(slot.at)
        hashed = self._index.hash(key)
        there = self._index.find(hashed, key)
        same = sorted([slot, *twins], key=lambda each: each.turn)
        if self._mode == KEEP_NEWEST:
            goes = same if there else same[:-1]
        else:
            goes = same[1:]
            if there:
                self._index.remove(hashed, there, len(self) - 1)
                self._words[W_REPLACED] += 1
                self._bury(there)
        for each in goes:
            self._words[W_REPLACED] += 1
            self.discard(each)
        return slot not in goes

    def _returned_with(self, key: bytes) -> list[Slot]:
        return [slot for slot in self.returned() if self._key_at(slot.at) == key]

    def _key_at(self, at: int) -> bytes:
        length = self._halves[(at >> 2) + R_KEY_LENGTH]
        start = at + RECORD_HEAD
        if start + length <= at | CHUNK_MASK:
            return bytes(self._bytes[start : start + length])
        return self.read(at, RECORD_HEAD + length)[RECORD_HEAD:]

    # --- what is alive where ----------------------------------------------------------------------------------------

    def _count(self, at: int, step: int, sign: int) -> list[int]:
        """Count a record in (sign 1) or out (-1) of `live`; returns the chunks in which it has bytes."""
        words = self._words
        chunk = at & ~CHUNK_MASK
        room = chunk + CHUNK - at
        if step <= room:
            live = words[W_LIVE] + sign * step
            here = words[(chunk >> 3) + CHUNK_LIVE] + sign * step
            if live < 0 or here < 0:
                raise DamagedRing(_TOO_MANY_DIED)
            words[W_LIVE] = live
            words[(chunk >> 3) + CHUNK_LIVE] = here
            return [chunk]
        self._change(W_LIVE, sign * step)
        touched = []
        while True:
            part = min(step, room)
            self._change((chunk >> 3) + CHUNK_LIVE, sign * part)
            touched.append(chunk)
            step -= part
            if not step:
                return touched
            chunk, room = self.next_chunk(chunk), CHUNK_ROOM

    def _change(self, word: int, difference: int) -> None:
        value = self._words[word] + difference
        if value < 0:
            raise DamagedRing(_TOO_MANY_DIED)
        self._words[word] = value

    def _live(self, chunk: int) -> int:
        return int(self._words[(chunk >> 3) + CHUNK_LIVE])

    def _bury(self, at: int) -> None:
        """Take a record out of the middle; the index does not know it any more."""
        words = self._words
        step = self._halves[at >> 2]
        self._check_record(at, step)
        chunk = at & ~CHUNK_MASK
        if at + step > chunk + CHUNK:
            self._bury_parts(at, step)
            return
        self._halves[at >> 2] = DEAD | step  # commit
        words[W_REMOVED] += 1
        word = (chunk >> 3) + CHUNK_LIVE
        live, here = words[W_LIVE] - step, words[word] - step
        if live < 0 or here < 0:
            raise DamagedRing(_TOO_MANY_DIED)
        words[W_LIVE], words[word] = live, here
        if here <= _MERGE_AT:
            self._tidy(chunk)

    def _bury_parts(self, at: int, step: int) -> None:
        """`_bury` of a record that has bytes in several chunks."""
        self._mark_dead(at, step)
        self._words[W_REMOVED] += 1
        for chunk in self._count(at, step, -1):
            # A merge for one chunk may have taken the next one already.
            if self.chunks.holds(chunk) and self._live(chunk) <= _MERGE_AT:
                self._tidy(chunk)

    def _mark_dead(self, at: int, step: int) -> None:
        """Make a record dead, one dead record for each chunk it has bytes in."""
        self._halves[at >> 2] = DEAD | step  # commit
        room = (at | CHUNK_MASK) + 1 - at
        if step <= room:
            return
        chunk, rest = at & ~CHUNK_MASK, step - room
        while rest:
            chunk = self.next_chunk(chunk)
            part = min(rest, CHUNK_ROOM)
            self._halves[(chunk + CHUNK_HEAD) >> 2] = DEAD | part
            self._words[(chunk >> 3) + CHUNK_FIRST] = chunk + CHUNK_HEAD
            rest -= part
        # Until now the first part led over the others, so at any moment the steps end at the same place.
        self._halves[at >> 2] = DEAD | room

    # --- chunks that became empty -----------------------------------------------------------------------------------

    def _tidy(self, chunk: int) -> None:
        """Take an empty chunk out of the chain, or merge a nearly empty one with a neighbour."""
        head, tail = self._words[W_HEAD] & ~CHUNK_MASK, self._words[W_TAIL] & ~CHUNK_MASK
        if chunk == tail:
            return
        if chunk == head:
            self._skip_dead()
            head = self._words[W_HEAD] & ~CHUNK_MASK
            if chunk != head:
                return
        elif not self._live(chunk):
            before = self._previous_chunk(chunk)
            self._link(before, self.next_chunk(chunk))  # commit
            self._words[W_CHUNKS] -= 1
            self.chunks.give(chunk)
            chunk = before
        if not self._merge(chunk) and chunk != head:
            self._merge(self._previous_chunk(chunk))

    def _previous_chunk(self, chunk: int) -> int:
        """The chunk before this one in the stream."""
        before: int = self._words[(chunk >> 3) + CHUNK_PREVIOUS]
        if not self.chunks.holds(before) or self._words[(before >> 3) + CHUNK_NEXT] != chunk:
            raise DamagedRing(f"the chunk at {chunk} follows {before}, which is not the one before it")
        return before

    def _merge(self, first: int) -> bool:
        """Copy what is alive in a chunk and in the next one to a new chunk, which takes their place."""
        second = self.next_chunk(first)
        live = self._live(first) + self._live(second)
        if second == self._words[W_TAIL] & ~CHUNK_MASK or live > _MERGE_AT:
            return False
        is_head = first == self._words[W_HEAD] & ~CHUNK_MASK
        before = 0 if is_head else self._previous_chunk(first)
        fresh = self.chunks.take()
        if not fresh:
            return False
        self._start_chunk(fresh, 0)
        moved = self._copy_live(first, second, fresh)
        self._words[(fresh >> 3) + CHUNK_LIVE] = live
        for old, new in moved:
            self._index.move(self._index.hash(self._key_at(old)), old, new)
        self._link(fresh, self.next_chunk(second))
        if is_head:
            self._words[W_HEAD] = fresh + CHUNK_HEAD  # commit
        else:
            self._link(before, fresh)  # commit
        self._words[W_CHUNKS] -= 1
        kept = self._kept()
        for chunk in (second, first):
            if chunk not in kept:
                self.chunks.give(chunk)
        return True

    def _copy_live(self, first: int, second: int, fresh: int) -> list[tuple[int, int]]:
        """Fill `fresh` with the live bytes of two neighbours; returns where each record was and is.

        What came from the chunk before stays at the beginning, what goes on in the chunk behind stays at the end; a
        dead record fills the gap between.
        """
        head = self._words[W_HEAD]
        is_head = first == head & ~CHUNK_MASK
        at: int = head if is_head else self._words[(first >> 3) + CHUNK_FIRST]
        if at & ~CHUNK_MASK != first or at & CHUNK_MASK < CHUNK_HEAD or at & 7:
            raise DamagedRing(f"the first record of the chunk at {first} is said to be at {at}")
        to = fresh + CHUNK_HEAD
        end = (fresh | CHUNK_MASK) + 1
        if not is_head:
            to = self._put(to, self._bytes[first + CHUNK_HEAD : at], end)
        self._words[(fresh >> 3) + CHUNK_FIRST] = to
        moved: list[tuple[int, int]] = []
        while at & ~CHUNK_MASK in (first, second):
            step = self._halves[at >> 2]
            after, passed = self.follow(at, step & STEP_MASK)
            if not step & DEAD:
                inside = (at | CHUNK_MASK) + 1 - at + (CHUNK_ROOM if first in passed else 0)
                if second in passed and step > inside:  # it goes on behind
                    end -= inside
                    self._put(max(to, end), self.read(at, inside), end + inside)
                    moved.append((at, end))
                else:
                    moved.append((at, to))
                    to = self._put(to, self.read(at, step), end)
            at = after
        if to < end:
            self._halves[to >> 2] = DEAD | (end - to)
        return moved

    def _put(self, to: int, data: bytes, end: int) -> int:
        if to + len(data) > end:
            raise DamagedRing(f"more is alive than the chunks say that become the one at {to & ~CHUNK_MASK}")
        self._bytes[to : to + len(data)] = data
        return to + len(data)

    # --- recovery ---------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """As `Ring.recover`; also what is alive where, and the index, from the records."""
        self._walk()
        self._sound_slots()
        self._bury_twins()
        super().recover()
        self._words[W_LIVE] = 0
        at, tail = self._words[W_HEAD], self._words[W_TAIL]
        previous = 0
        for chunk in self._walk().chunks:
            word = chunk >> 3
            self._words[word + CHUNK_PREVIOUS] = previous
            self._words[word + CHUNK_LIVE] = self._words[word + CHUNK_FIRST] = 0
            previous = chunk
        if not self._index.format():
            raise NoMemory("no memory to build the key index anew: make room in shared memory")
        items = 0
        while at != tail:
            step = self._halves[at >> 2]
            if step & DEAD and step & STEP_MASK > (at | CHUNK_MASK) + 1 - at:
                self._mark_dead(at, step & STEP_MASK)  # it died, and was not yet divided
                step = self._halves[at >> 2]
            self._note_first(at)
            if not step & DEAD:
                items += 1
                self._count(at, step, 1)
                self._index.insert(self._index.hash(self._key_at(at)), at, items)
            at, _ = self.follow(at, step & STEP_MASK)

    def _bury_twins(self) -> None:
        """Several items of one key: a replacement, or a return, that was not finished. None is counted yet."""
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
