"""A ring from whose middle records can be taken: they are marked dead where they lie.

A chunk with nothing alive leaves the chain at once, and two neighbours that are nearly empty become one, so that a
record that is never fetched cannot make the dead pile up behind it.

What is dead is counted, for each chunk and for all, because records that come and go in turn do not change it. A dead
record never goes on in the next chunk: it is divided when it dies.
"""

from __future__ import annotations

from kemi.errors import DamagedRing
from kemi.queue.layout import (
    CHUNK,
    CHUNK_DEAD,
    CHUNK_FIRST,
    CHUNK_HEAD,
    CHUNK_MASK,
    CHUNK_NEXT,
    CHUNK_PREVIOUS,
    CHUNK_ROOM,
    DEAD,
    RECORD_HEAD,
    STEP_MASK,
    W_CHUNKS,
    W_DEAD,
    W_HEAD,
    W_REMOVED,
    W_TAIL,
)
from kemi.queue.outcome import AddResult
from kemi.queue.ring import ADDED, Ring

# Two neighbours with no more alive than this become one chunk. It bounds what one add may have to copy, and with it
# the memory: on average a chunk is at least nearly half as full as this.
_MERGE_AT = CHUNK_ROOM // 4
# So much must be dead in a chunk before it is looked at, and then again after each so many bytes more: most looks find
# that the neighbours are too full.
LOOK_AT = CHUNK_ROOM - _MERGE_AT
_LOOK_BITS = 12


class ThinnedRing(Ring):
    """A ring that may have dead records anywhere."""

    def _moved(self, old: int, new: int) -> None:
        """Called when the bytes of a record are at another place as well."""

    def used_bytes(self) -> int:
        """Bytes of the live records with their heads."""
        return super().used_bytes() - int(self._words[W_DEAD])

    def _mark(self, at: int, serial: int) -> None:
        """Its chunks say what is dead in them instead."""

    # --- where the first record of a chunk begins ------------------------------------------------------------------

    def _append_across(self, record: bytes, step: int) -> AddResult:
        tail: int = self._words[W_TAIL]
        outcome = super()._append_across(record, step)
        if outcome is ADDED:
            at = self._started_at(tail)
            if at != tail:
                self._note_first(at)
                self._count_dead(tail, (tail | CHUNK_MASK) + 1 - tail)
            self._note_first(self._words[W_TAIL])
        return outcome

    def _started_at(self, tail: int) -> int:
        """Where the record begins that was appended over the end of the chunk when TAIL stood at `tail`."""
        if (tail | CHUNK_MASK) + 1 - tail >= RECORD_HEAD:
            return tail
        return self.next_chunk(tail & ~CHUNK_MASK) + CHUNK_HEAD  # a dead record fills the chunk's end

    def _note_first(self, at: int) -> None:
        word = ((at & ~CHUNK_MASK) >> 3) + CHUNK_FIRST
        if not self._words[word]:
            self._words[word] = at

    def _return_to_front(self) -> None:
        super()._return_to_front()
        self._note_first(self._words[W_TAIL])

    # --- what is dead where -----------------------------------------------------------------------------------------

    def _bury(self, at: int) -> None:
        """Take a record of any length out of the middle; the index does not know it any more."""
        chunks = self._chunks_of(at)
        parts = self._mark_dead(at, self._halves[at >> 2])
        self._words[W_REMOVED] += 1
        for part in parts:
            self._count_dead(part, self._halves[part >> 2] & STEP_MASK)
        for chunk in chunks:
            # A merge for one chunk may have taken the next one already.
            if self.chunks.holds(chunk) and self._words[(chunk >> 3) + CHUNK_DEAD] >= LOOK_AT:
                self._tidy(chunk)

    def _mark_dead(self, at: int, step: int) -> list[int]:
        """Make a record dead, one dead record for each chunk it has bytes in; returns where these are."""
        self._halves[at >> 2] = DEAD | step  # commit
        room = (at | CHUNK_MASK) + 1 - at
        parts = [at]
        if step <= room:
            return parts
        chunk, rest = at & ~CHUNK_MASK, step - room
        while rest:
            chunk = self.next_chunk(chunk)
            part = min(rest, CHUNK_ROOM)
            parts.append(chunk + CHUNK_HEAD)
            self._halves[(chunk + CHUNK_HEAD) >> 2] = DEAD | part
            self._words[(chunk >> 3) + CHUNK_FIRST] = chunk + CHUNK_HEAD
            rest -= part
        # Until now the first part led over the others, so at any moment the steps end at the same place.
        self._halves[at >> 2] = DEAD | room
        return parts

    def _count_dead(self, at: int, step: int) -> None:
        """Count a dead record in, or out again (-step)."""
        words = self._words
        word = ((at & ~CHUNK_MASK) >> 3) + CHUNK_DEAD
        here, everywhere = words[word] + step, words[W_DEAD] + step
        if here < 0 or everywhere < 0:
            raise DamagedRing(f"more is dead at {at} than was counted")
        words[word], words[W_DEAD] = here, everywhere

    def _live(self, chunk: int) -> int:
        """Bytes alive in a chunk of the stream that is not the last one."""
        head = self._words[W_HEAD]
        begin = head if head & ~CHUNK_MASK == chunk else chunk + CHUNK_HEAD
        live = chunk + CHUNK - begin - self._words[(chunk >> 3) + CHUNK_DEAD]
        if live < 0:
            raise DamagedRing(f"more is dead in the chunk at {chunk} than it has room for")
        return int(live)

    # --- HEAD passes the dead ---------------------------------------------------------------------------------------

    def _leave(self, head: int, step: int) -> None:
        if self._halves[head >> 2] & DEAD:
            self._count_dead(head, -step)
        super()._leave(head, step)

    def _skip_dead(self) -> None:
        """As `Ring._skip_dead`: there may be thousands of them, so one store for all that end in HEAD's chunk."""
        words, halves = self._words, self._halves
        tail = words[W_TAIL]
        at = head = words[W_HEAD]
        while at != tail:
            step = halves[at >> 2]
            while step > DEAD and at + step - DEAD <= at | CHUNK_MASK and at != tail and not step & 7:
                at += step - DEAD
                step = halves[at >> 2]
            if at != head:
                if head < tail < at:
                    raise DamagedRing(f"a record ends at {at}, behind the tail {tail}")
                words[W_HEAD] = at  # commit
                self._count_dead(head, head - at)
            if at == tail or not step & DEAD:
                return
            self._leave(at, step & STEP_MASK)
            at = head = words[W_HEAD]

    # --- chunks that became empty -----------------------------------------------------------------------------------

    def _look_at(self, chunk: int, dead: int, step: int) -> None:
        """Tidy a chunk if it is time: `step` bytes of the dead in it are new."""
        if chunk == self._words[W_TAIL] & ~CHUNK_MASK:
            return
        if dead == CHUNK_ROOM or dead - step < LOOK_AT or dead >> _LOOK_BITS != dead - step >> _LOOK_BITS:
            self._tidy(chunk)

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
            self._count_dead(chunk, -CHUNK_ROOM)
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
        words = self._words
        second = self.next_chunk(first)
        if second == words[W_TAIL] & ~CHUNK_MASK:
            return False
        live = self._live(first) + self._live(second)
        if live > _MERGE_AT:
            return False
        is_head = first == words[W_HEAD] & ~CHUNK_MASK
        before = 0 if is_head else self._previous_chunk(first)
        fresh = self.chunks.take()
        if not fresh:
            return False
        self._start_chunk(fresh, 0)
        for old, new in self._copy_live(first, second, fresh):
            self._moved(old, new)
        self._link(fresh, self.next_chunk(second))
        if is_head:
            words[W_HEAD] = fresh + CHUNK_HEAD  # commit
        else:
            self._link(before, fresh)  # commit
        words[W_CHUNKS] -= 1
        self._count_dead(fresh, CHUNK_ROOM - live)
        kept = self._kept()
        for chunk in (second, first):
            self._count_dead(chunk, -words[(chunk >> 3) + CHUNK_DEAD])
            if chunk not in kept:
                self.chunks.give(chunk)
        return True

    def _copy_live(self, first: int, second: int, fresh: int) -> list[tuple[int, int]]:
        """Fill `fresh` with the live bytes of two neighbours; returns where each record was and is.

        What came from the chunk before stays at the beginning, what goes on in the chunk behind stays at the end; a
        dead record fills the gap between.
        """
        halves = self._halves
        at = self._first_in(first)
        to = fresh + CHUNK_HEAD
        end = (fresh | CHUNK_MASK) + 1
        if at != self._words[W_HEAD]:
            to = self._put(to, self._bytes[first + CHUNK_HEAD : at], end)
        self._words[(fresh >> 3) + CHUNK_FIRST] = to
        moved: list[tuple[int, int]] = []
        while at & ~CHUNK_MASK in (first, second):
            step = halves[at >> 2]
            while step > DEAD and at + step - DEAD <= at | CHUNK_MASK and not step & 7:  # so are most of them
                at += step - DEAD
                step = halves[at >> 2]
            if at + step <= at | CHUNK_MASK and step >= RECORD_HEAD and not step & 7:  # and so are nearly all others
                moved.append((at, to))
                to = self._put(to, self._bytes[at : at + step], end)
                at += step
                continue
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
            halves[to >> 2] = DEAD | (end - to)
        return moved

    def _first_in(self, chunk: int) -> int:
        """Where the first record begins that the merge of a chunk has to look at."""
        head = self._words[W_HEAD]
        at: int = head if head & ~CHUNK_MASK == chunk else self._words[(chunk >> 3) + CHUNK_FIRST]
        if at & ~CHUNK_MASK != chunk or at & CHUNK_MASK < CHUNK_HEAD or at & 7:
            raise DamagedRing(f"the first record of the chunk at {chunk} is said to be at {at}")
        return at

    def _put(self, to: int, data: bytes, end: int) -> int:
        if to + len(data) > end:
            raise DamagedRing(f"more is alive than the chunks say that become the one at {to & ~CHUNK_MASK}")
        self._bytes[to : to + len(data)] = data
        return to + len(data)
