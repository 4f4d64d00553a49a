"""Append, pop and set aside on a plain writable buffer: no lock, no system call, no clock.

A stream of records through a chain of chunks (see `layout`). The rules:

- Called with the queue's lock held, by one process at a time. A process may be killed between any two stores.
- Commit by the last store: an append is nothing until TAIL moves, a pop is done when HEAD has moved. What comes after
  (counters, chunks given back) is made right by `recover`, which knows only HEAD, TAIL, the chain, the records, and
  what is set aside.
- A store is a slice of ready bytes, or one number of an aligned view. struct.pack_into writes zeros first, which a
  kill would leave behind.
- What is reserved counts as removed, and as an item again when it is given back: then it comes before all others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from kemi.errors import DamagedRing
from kemi.queue.aside import Holder, Slot
from kemi.queue.chunks import SPARES, Memory
from kemi.queue.layout import (
    CHUNK_HEAD,
    CHUNK_MASK,
    CHUNK_NEXT,
    CHUNK_PREVIOUS,
    CHUNK_ROOM,
    DEAD,
    MAX_STEP,
    RECORD_HEAD,
    STEP_MASK,
    W_ADDED,
    W_ASIDE,
    W_CHUNKS,
    W_GATE,
    W_HEAD,
    W_HIGH,
    W_REMOVED,
    W_RETURNED,
    W_TAIL,
)
from kemi.queue.outcome import AddResult
from kemi.queue.recovery import Recoverable

# What became of an append. As globals: looked up through the class they cost a tenth of an add.
ADDED = AddResult.ADDED
KEPT = AddResult.KEPT
NO_MEMORY = AddResult.NO_MEMORY
TOO_LARGE = AddResult.TOO_LARGE
FULL = AddResult.FULL


# What a pop gives that has found more than the ring to look at: no record is like that.
LOOK_ASIDE = b""


class Ring(Recoverable):
    """A first-in first-out ring of records."""

    # The bits of an offset within its chunk, for a caller that itself appends and pops within one; 0 forbids that.
    inside = CHUNK_MASK

    def __init__(self, buffer: Any, words: Any, halves: Any, memory: Memory) -> None:
        super().__init__(buffer, words, halves, memory)
        # An empty queue whose cursors are behind this goes back to the front, so that the segment can shrink.
        self.far = self.chunks.offset(SPARES + 1)

    # --- the whole ring ---------------------------------------------------------------------------------------------

    def format(self) -> bool:
        """Make an empty ring of a zeroed buffer. False if there is no memory."""
        first = self.chunks.take()
        if not first:
            return False
        self._start_chunk(first, 0)
        self._words[W_CHUNKS] = 1
        self._mark(first + CHUNK_HEAD, 0)
        self._words[W_HEAD] = self._words[W_TAIL] = first + CHUNK_HEAD
        return True

    def __len__(self) -> int:
        """Items. May be asked without the lock: REMOVED is read first, so it is never too small."""
        removed = self._words[W_REMOVED]
        return min(max(0, int(self._words[W_ADDED] - removed)), sys.maxsize)  # also when damaged, it is a length

    def used_bytes(self) -> int:
        """Bytes between the cursors: all records with their heads."""
        words = self._words
        tail, head = words[W_TAIL] & CHUNK_MASK, words[W_HEAD] & CHUNK_MASK
        return int((words[W_CHUNKS] - 1) * CHUNK_ROOM + tail - head)

    def aside_bytes(self) -> int:
        """Bytes of what is set aside."""
        if not self._words[W_ASIDE]:
            return 0
        return sum(self._halves[slot.at >> 2] for slot in self.slots())

    def close(self) -> None:
        """This process is done with it: let go of what leads back here, so that its memory is free at once."""

    # --- append -----------------------------------------------------------------------------------------------------

    def append(self, record: bytes, step: int) -> AddResult:
        """Add a record of `step` bytes (its length, rounded up to 8) behind all others."""
        words = self._words
        tail = words[W_TAIL]
        end = tail + step
        if end > tail | CHUNK_MASK:
            return self._append_across(record, step)
        self._bytes[tail : tail + len(record)] = record
        words[W_TAIL] = end  # commit
        words[W_ADDED] += 1
        return ADDED

    def append_run(self, records: list[bytes], first: int) -> int:
        """Add as many of the records from `first` on as the chunk has room for, in one go. Returns how many.

        None where more is to be done than to store it, or it is shorter than its step; then `append` does it.
        """
        words = self._words
        tail: int = words[W_TAIL]
        end = tail
        number = first
        while number < len(records):
            length = len(records[number])
            if length & 7 or end + length > tail | self.inside:
                break
            end += length
            number += 1
        if number > first:
            self._bytes[tail:end] = b"".join(records[first:number])
            words[W_TAIL] = end  # commit
            words[W_ADDED] += number - first
        return number - first

    def append_within(self, record: bytes, step: int, limit: int) -> AddResult:
        """`append`, unless the ring would then hold more than `limit` bytes."""
        if self.used_bytes() + self.aside_bytes() + step > limit:
            return FULL
        return self.append(record, step)

    def _append_across(self, record: bytes, step: int) -> AddResult:
        """Append a record that reaches the end of the chunk or goes beyond it."""
        if step > MAX_STEP or step > self.chunks.count * CHUNK_ROOM:
            return TOO_LARGE
        tail = self._words[W_TAIL]
        room = (tail | CHUNK_MASK) + 1 - tail
        here = room if room >= RECORD_HEAD else 0  # a record's head is never divided
        behind = step - here
        fresh = self._take_chain(behind // CHUNK_ROOM + 1)
        if not fresh:
            return NO_MEMORY
        if here:
            self._bytes[tail : tail + min(here, len(record))] = record[:here]
        else:
            self._halves[tail >> 2] = DEAD | room
        for number, chunk in enumerate(fresh):
            part = record[here + number * CHUNK_ROOM : here + (number + 1) * CHUNK_ROOM]
            self._bytes[chunk + CHUNK_HEAD : chunk + CHUNK_HEAD + len(part)] = part
        end = fresh[-1] + CHUNK_HEAD + behind % CHUNK_ROOM
        self._mark(end, self._words[W_ADDED] + 1)
        self._link(tail & ~CHUNK_MASK, fresh[0])
        self._words[W_CHUNKS] += len(fresh)
        self._words[W_TAIL] = end  # commit
        self._words[W_ADDED] += 1
        return ADDED

    def _take_chain(self, count: int) -> list[int]:
        """Chunks in use, linked to one another; none if there is not memory for all."""
        taken: list[int] = []
        for _ in range(count):
            chunk = self.chunks.take()
            if not chunk:
                for unused in reversed(taken):
                    self.chunks.give(unused)
                return []
            self._start_chunk(chunk, taken[-1] if taken else 0)
            taken.append(chunk)
        return taken

    def _start_chunk(self, chunk: int, previous: int) -> None:
        """Write the head of a chunk that becomes the last one."""
        self._bytes[chunk : chunk + CHUNK_HEAD] = bytes(CHUNK_HEAD)
        if previous:
            self._link(previous, chunk)

    def _link(self, chunk: int, following: int) -> None:
        self._words[(following >> 3) + CHUNK_PREVIOUS] = chunk
        self._words[(chunk >> 3) + CHUNK_NEXT] = following

    # --- pop --------------------------------------------------------------------------------------------------------

    def pop(self) -> bytes | None:
        """Take the oldest record; None if there is none. LOOK_ASIDE, and nothing done, while anything is set aside."""
        words = self._words
        head = words[W_HEAD]
        tail = words[W_TAIL]
        if head == tail:
            return LOOK_ASIDE if words[W_ASIDE] else None
        removed = words[W_REMOVED]
        if words[W_ADDED] - removed > words[W_GATE]:
            return self._pop_at_gate()
        step = self._halves[head >> 2]
        end = head + step
        if end > head | CHUNK_MASK or step < RECORD_HEAD:
            return self._pop_across()
        record: bytes = self._bytes[head:end]
        words[W_HEAD] = end  # commit
        words[W_REMOVED] = removed + 1
        if end == tail and end > self.far:
            self._return_to_front()
        return record

    def pop_run(self, most: int) -> list[bytes]:
        """Take up to `most` records that lie within the chunk at HEAD, in one go.

        None where more is to be done than to move HEAD, or anything is set aside; then `pop` does it.
        """
        words, halves, buffer = self._words, self._halves, self._bytes
        at = head = words[W_HEAD]
        tail = words[W_TAIL]
        removed = words[W_REMOVED]
        if words[W_ADDED] - removed > words[W_GATE]:
            return []
        last = head | self.inside
        found: list[bytes] = []
        while at != tail and len(found) < most:
            end = at + halves[at >> 2]
            if not at + RECORD_HEAD <= end <= last or end == tail > self.far or at < tail < end:
                break
            found.append(buffer[at:end])
            at = end
        if found:
            words[W_HEAD] = at  # commit
            words[W_REMOVED] = removed + len(found)
        return found

    def _pop_at_gate(self) -> bytes | None:
        """One comparison stands for two rare things: the most items that there ever were, and something set aside."""
        words = self._words
        if words[W_ASIDE]:
            return LOOK_ASIDE
        # The most there ever was is always there just before a pop.
        words[W_HIGH] = max(words[W_HIGH], words[W_ADDED] - words[W_REMOVED])
        words[W_GATE] = words[W_HIGH]
        return self.pop()

    def drop(self) -> bool:
        """Throw the oldest record away, for one that was added beyond a limit; False if there is none."""
        returned = self.returned()
        if returned:
            self.discard(returned[0])
            return True
        dropped = self._pop_across() is not None
        self._note_high()  # only now: the one that was too many never counted
        return dropped

    def take(self) -> bytes | None:
        """`pop`, whatever is set aside."""
        self._note_high()
        return self._pop_across()

    def _pop_across(self) -> bytes | None:
        """Pop where there is more to do than to move HEAD: dead records, the end of a chunk."""
        words = self._words
        record = None
        while record is None and words[W_HEAD] != words[W_TAIL]:
            head = words[W_HEAD]
            step = self._halves[head >> 2]
            if step & DEAD:
                self._leave(head, step & STEP_MASK)
                continue
            self._check_record(head, step)
            record = self.read(head, step)
            self._leave(head, step)
            words[W_REMOVED] += 1
        if words[W_HEAD] == words[W_TAIL] and words[W_HEAD] > self.far:
            self._return_to_front()
        return record

    def _note_high(self) -> None:
        words = self._words
        words[W_HIGH] = max(words[W_HIGH], words[W_ADDED] - words[W_REMOVED])

    def _leave(self, head: int, step: int) -> None:
        """Move HEAD behind the record there, and give back the chunks that it leaves."""
        end, passed = self.follow(head, step)
        if end & ~CHUNK_MASK in passed:
            raise DamagedRing(f"the chunks after {head} go in a circle")
        self._words[W_HEAD] = end  # commit
        if passed:
            self._words[W_CHUNKS] -= len(passed)
            kept = self._kept()
            for chunk in passed:
                if chunk not in kept:
                    self.chunks.give(chunk)

    def _return_to_front(self) -> None:
        """Empty, and far from the front of the segment: go on in a lower chunk, if there is one."""
        words = self._words
        here = words[W_TAIL]
        chunk = self.chunks.take()
        if not chunk or chunk > here:
            if chunk:
                self.chunks.give(chunk)
            return
        self._start_chunk(chunk, 0)
        self._mark(chunk + CHUNK_HEAD, words[W_ADDED])
        # Two cursors cannot move in one store. So TAIL goes first, over a dead record that fills the rest of the chunk.
        self._halves[here >> 2] = DEAD | ((here | CHUNK_MASK) + 1 - here)
        self._link(here & ~CHUNK_MASK, chunk)
        words[W_TAIL] = chunk + CHUNK_HEAD
        words[W_HEAD] = chunk + CHUNK_HEAD
        if here & ~CHUNK_MASK not in self._kept():
            self.chunks.give_back(here & ~CHUNK_MASK)

    # --- what is set aside ------------------------------------------------------------------------------------------

    def slots(self) -> list[Slot]:
        """What is set aside, in order. Each leads to a record: where memory was damaged it raises DamagedRing."""
        slots = self.aside.slots() if self._words[W_ASIDE] else []
        for slot in slots:
            self._chunks_of(slot.at)
        return slots

    def returned(self) -> list[Slot]:
        """Of these, what was given back."""
        return [slot for slot in self.slots() if slot.returned] if self._words[W_RETURNED] else []

    def set_aside(self, holder: Holder) -> Slot | None:
        """Reserve the oldest record of the ring; None if there is none, or no slot (`aside.free`)."""
        words = self._words
        self._skip_dead()
        head = words[W_HEAD]
        number = self.aside.free()
        if head == words[W_TAIL] or number < 0:
            return None
        step = self._halves[head >> 2]
        self._check_record(head, step)
        self._withdraw(head, step)
        self._note_high()
        self.aside.put(number, head, holder)
        self._leave(head, step)  # the commit is in it
        words[W_REMOVED] += 1
        if words[W_HEAD] == words[W_TAIL] and words[W_HEAD] > self.far:
            self._return_to_front()
        return self.aside.at(number)

    def _withdraw(self, head: int, step: int) -> None:
        """Called before HEAD goes past a record that is not popped."""

    def _skip_dead(self) -> None:
        words = self._words
        while words[W_HEAD] != words[W_TAIL]:
            step = self._halves[words[W_HEAD] >> 2]
            if not step & DEAD:
                return
            self._leave(words[W_HEAD], step & STEP_MASK)

    def hold(self, slot: Slot, holder: Holder, *, delivered: bool = True) -> Slot:
        """Reserve what was returned."""
        held = self.aside.hold(slot, holder, delivered=delivered)
        self._words[W_REMOVED] += 1
        return held

    def put_back(self, slot: Slot) -> bool:
        """Give a reserved record back. False if its key is there anew meanwhile, and it is not needed any more."""
        self._words[W_REMOVED] -= 1  # before the commit, so that nobody sees too few items
        self.aside.give_back(slot)
        return True

    def discard(self, slot: Slot) -> bytes:
        """Take a returned record."""
        record = self.record_at(slot.at)
        self.finish(slot)
        self._words[W_REMOVED] += 1
        return record

    def finish(self, slot: Slot) -> None:
        """It is done: free the slot, and the chunks that were in use for it alone."""
        chunks = self._chunks_of(slot.at)
        self.aside.drop(slot)  # commit
        # It lies before HEAD, so of its chunks only the one that HEAD is in belongs to the ring.
        kept = self._kept() | {self._words[W_HEAD] & ~CHUNK_MASK}
        for chunk in chunks:
            if chunk not in kept:
                self.chunks.give(chunk)

    def waiting(self) -> Iterator[int]:
        """Offsets of all records that are there to be taken, from the oldest on."""
        for slot in self.returned():
            yield slot.at
        yield from self.scan()

    def undone(self) -> Iterator[int]:
        """Offsets of all records that are not done: also of the reserved ones."""
        for slot in self.slots():
            yield slot.at
        yield from self.scan()
