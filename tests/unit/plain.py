"""A ring on plain memory that checks every access, and what must hold for a ring between two operations."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

from kemi.queue import index, keyhash, layout
from kemi.queue.chunks import SPARES
from kemi.queue.keyed import KeyedRing
from kemi.queue.layout import CHUNK, CHUNK_FREE, CHUNK_MASK, CHUNK_USED, DEAD, PAGE, RECORD, STEP_MASK
from kemi.queue.ring import ADDED, Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POISON = b"\xdd" * CHUNK
SECRET = 0x01234567

Pair = tuple[bytes, bytes]


class Died(BaseException):
    """A process was killed here."""


class Stores:
    """Every store and every call for memory goes through here, and any of them can be the last."""

    def __init__(self, last: int | None = None, *, torn: bool = False) -> None:
        """Let `last` stores happen, all without it; torn: half of the next one too, if it is a long one."""
        self.count = 0
        self._last = last
        self._torn = torn

    def happen(self, store: Callable[[], None], half: Callable[[], None] | None = None) -> None:
        """Do a store, unless the process is dead."""
        if self._last is not None and self.count >= self._last:
            if self._torn and half and self.count == self._last:
                half()
            self.count += 1
            raise Died
        self.count += 1
        store()


class PlainMemory:
    """Implements `chunks.Memory` on a buffer; memory that is given back holds rubbish."""

    def __init__(self, buffer: mmap.mmap, fixed: int, base: int) -> None:
        self._buffer = buffer
        self._fixed = fixed
        self._base = base
        self.limit = (len(buffer) - base) // CHUNK
        self.chunks: set[int] = set()  # offsets that are reserved
        self.accounted = fixed
        self.stores = Stores()

    def reserve(self, offset: int, length: int) -> bool:
        """Make memory usable, within the limit."""
        assert length == CHUNK
        assert offset not in self.chunks, "reserved twice"
        if len(self.chunks) >= self.limit:
            return False

        def reserve() -> None:
            self.chunks.add(offset)
            self.accounted += length

        self.stores.happen(reserve)
        return True

    def release(self, offset: int, length: int) -> None:
        """Give memory back."""

        def release() -> None:
            self.chunks.discard(offset)
            self.accounted -= length
            self._buffer[offset : offset + length] = POISON

        self.stores.happen(release)

    def truncate(self, length: int) -> None:
        """Forget all behind `length`."""

        def truncate() -> None:
            for offset in [offset for offset in self.chunks if offset >= length]:
                self.chunks.remove(offset)
                self._buffer[offset : offset + CHUNK] = POISON

        self.stores.happen(truncate)

    def account(self, length: int) -> None:
        """Take `length` for what is reserved."""
        self.accounted = length

    def check(self, at: int, length: int) -> None:
        """Fail where memory is touched that is not reserved: in shared memory that is SIGBUS."""
        if at + length <= self._fixed:
            return
        chunk = (at - self._base) // CHUNK * CHUNK + self._base
        assert chunk in self.chunks, f"{at} is touched, which is not reserved"
        assert at + length <= chunk + CHUNK, f"{length} bytes at {at} reach over the end of a chunk"


class Watched:
    """A view of the memory that checks each access and counts each store. `size`: bytes of one element."""

    def __init__(self, view: Any, size: int, memory: PlainMemory) -> None:
        self._view = view
        self._size = size
        self._memory = memory

    def _check(self, where: int | slice) -> None:
        if isinstance(where, slice):
            self._memory.check(where.start, where.stop - where.start)
        else:
            self._memory.check(where * self._size, self._size)

    def __getitem__(self, where: int | slice) -> Any:
        self._check(where)
        return self._view[where]

    def __setitem__(self, where: int | slice, value: Any) -> None:
        self._check(where)
        half = None
        if isinstance(where, slice) and where.stop - where.start > 8:
            middle = (where.stop - where.start) // 2

            def half() -> None:
                self._view[where.start : where.start + middle] = value[:middle]

        self._memory.stores.happen(lambda: self._view.__setitem__(where, value), half)

    def find(self, what: bytes, start: int, end: int) -> int:
        """As `bytes.find`."""
        return int(self._view.find(what, start, end))

    def rfind(self, what: bytes, start: int, end: int) -> int:
        """As `bytes.rfind`."""
        return int(self._view.rfind(what, start, end))


class Plain:
    """The memory of one queue without a segment, and rings over it."""

    def __init__(self, addmode: int = 0, chunks: int = 12) -> None:
        keyed = addmode != 0
        window = layout.data_offset(chunks * CHUNK, keyed) + chunks * CHUNK
        base = layout.data_offset(window, keyed)
        self.addmode = addmode
        self.buffer = mmap.mmap(-1, window)
        view = memoryview(self.buffer)
        self.words, self.halves = view.cast("Q"), view.cast("I")
        self.memory = PlainMemory(self.buffer, layout.fixed_bytes(window, keyed), base)
        self.words[layout.W_WINDOW] = window
        self.words[layout.W_DATA] = base
        self.words[layout.W_ADDMODE] = addmode
        self.words[layout.W_ASIDE_AT] = layout.aside_offset(window, keyed)
        if keyed:
            self.words[layout.W_BUCKETS_AT] = PAGE + layout.map_bytes(window)
            self.words[layout.W_SECRET], self.words[layout.W_HASH] = SECRET, keyhash.FORM
        assert self.ring().format()

    def ring(self) -> Ring:
        """Return a ring as another process has it."""
        kind = KeyedRing if self.addmode else Ring
        return kind(self.buffer, self.words, self.halves, self.memory)

    def watched(self) -> Ring:
        """Return a ring whose every access is checked and whose stores are counted."""
        kind = KeyedRing if self.addmode else Ring
        memory = self.memory
        return kind(
            Watched(self.buffer, 1, memory), Watched(self.words, 8, memory), Watched(self.halves, 4, memory), memory
        )

    def save(self) -> tuple[bytes, set[int], int]:
        """Return all that there is."""
        return self.buffer[:], set(self.memory.chunks), self.memory.accounted

    def load(self, saved: tuple[bytes, set[int], int]) -> None:
        """Go back to what `save` returned."""
        self.buffer[:], chunks, self.memory.accounted = saved
        self.memory.chunks = set(chunks)

    # --- what is there ------------------------------------------------------------------------------------------------

    def contents(self) -> list[Pair]:
        """Return key and value of each item, the oldest first."""
        ring = self.ring()
        return [pair(ring.record_at(at)) for at in ring.waiting()]

    def reserved(self) -> list[tuple[Pair, int]]:
        """Return what is reserved, with its deliveries, in the order in which it left the ring."""
        ring = self.ring()
        return [(pair(ring.record_at(slot.at)), slot.deliveries) for slot in ring.aside.slots() if not slot.returned]

    def records(self) -> Iterator[tuple[int, int, bool]]:
        """Give offset, step and deadness of all records from HEAD to TAIL."""
        ring = self.ring()
        at, tail = self.words[layout.W_HEAD], self.words[layout.W_TAIL]
        while at != tail:
            step = self.halves[at >> 2]
            yield at, step & STEP_MASK, bool(step & DEAD)
            at, _ = ring.follow(at, step & STEP_MASK)

    def chain(self) -> list[int]:
        """Return the chunks of the stream."""
        chunk, last = (self.words[word] & ~CHUNK_MASK for word in (layout.W_HEAD, layout.W_TAIL))
        chunks = [chunk]
        while chunk != last:
            chunk = self.words[(chunk >> 3) + layout.CHUNK_NEXT]
            assert chunk not in chunks, "the chunks go in a circle"
            chunks.append(chunk)
        return chunks

    def mapped(self, state: int) -> set[int]:
        """Return the chunks that the chunk map has in this state."""
        base = self.words[layout.W_DATA]
        states = self.buffer[PAGE : PAGE + (len(self.buffer) - base) // CHUNK]
        return {base + number * CHUNK for number, found in enumerate(states) if found == state}

    def check(self) -> list[Pair]:
        """Return the contents, after everything else is compared with them."""
        words = self.words
        contents = self.contents()
        chain = self.chain()
        assert words[layout.W_ADDED] - words[layout.W_REMOVED] == len(contents) == len(self.ring())
        assert words[layout.W_CHUNKS] == len(chain)
        used = set(chain) | self._check_aside()
        if self.addmode:
            used |= self._check_index()
        assert self.mapped(CHUNK_USED) == used
        assert words[layout.W_SPARE] == len(self.mapped(CHUNK_FREE)) <= SPARES
        assert self.memory.chunks == used | self.mapped(CHUNK_FREE)
        assert self.memory.accounted == self.ring().chunks.reserved()
        if self.addmode:
            self._check_dead(chain)
        else:
            assert self.ring().used_bytes() == sum(step for _, step, _ in self.records())
            self._check_marks(chain)
        return contents

    def _check_aside(self) -> set[int]:
        """Compare the counters with the slots. Returns the chunks that the slots keep."""
        words, ring = self.words, self.ring()
        slots = ring.aside.slots(layout.SLOTS)
        assert slots == ring.aside.slots()
        assert words[layout.W_ASIDE] == len(slots)
        assert words[layout.W_RETURNED] == sum(slot.returned for slot in slots)
        assert not (slots and words[layout.W_GATE])
        assert words[layout.W_GATE] <= words[layout.W_HIGH]
        assert len({slot.turn for slot in slots}) == len({slot.at for slot in slots}) == len(slots)
        live = {at for at, _, dead in self.records() if not dead}
        assert live.isdisjoint(slot.at for slot in slots)
        if self.addmode:
            keys = [pair(ring.record_at(at))[0] for at in ring.waiting()]
            assert len(set(keys)) == len(keys)
        return ring._kept()

    def _check_marks(self, chain: list[int]) -> None:
        """Compare what each chunk says of the items before it with the records behind, and the way back."""
        ring = self.ring()
        marks = {chunk: mark for chunk in chain if (mark := ring._mark_of(chunk))}
        assert chain[-1] in marks
        for chunk, mark in marks.items():
            steps = [self.halves[at >> 2] for at in self._places(mark.at)]
            live = sum(not step & DEAD for step in steps)
            assert mark.serial == (self.words[layout.W_ADDED] - live) % (1 << 32), f"the mark of {chunk}"
        ends = {ring.follow(at, step)[0] & ~CHUNK_MASK for at, step, dead in self.records() if not dead}
        assert ends - {chain[0]} <= marks.keys(), "records end in a chunk without a mark"
        for before, chunk in zip(chain, chain[1:]):
            assert self.words[(chunk >> 3) + layout.CHUNK_PREVIOUS] == before

    def _places(self, at: int) -> Iterator[int]:
        """Give the offsets of all records, dead or alive, from one to TAIL."""
        ring = self.ring()
        while at != self.words[layout.W_TAIL]:
            yield at
            at, _ = ring.follow(at, self.halves[at >> 2] & STEP_MASK)

    def _check_dead(self, chain: list[int]) -> None:
        """Compare what is counted for each chunk, and the way back, with the records."""
        dead_in = dict.fromkeys(chain, 0)
        first: dict[int, int] = {}
        live = 0
        for at, step, dead in self.records():
            chunk = at & ~CHUNK_MASK
            first.setdefault(chunk, at)
            if dead:
                assert step <= (at | CHUNK_MASK) + 1 - at, "a dead record goes on in the next chunk"
                dead_in[chunk] += step
            else:
                live += step
        tail = self.words[layout.W_TAIL]
        first.setdefault(tail & ~CHUNK_MASK, tail)
        assert self.ring().used_bytes() == live
        assert self.words[layout.W_DEAD] == sum(dead_in.values())
        for before, chunk in zip([0, *chain], chain):
            word = chunk >> 3
            assert self.words[word + layout.CHUNK_DEAD] == dead_in[chunk]
            if before:
                assert self.words[word + layout.CHUNK_PREVIOUS] == before
                assert self.words[word + layout.CHUNK_FIRST] == first.get(chunk, 0)

    def _check_index(self) -> set[int]:
        """Find each key by the index, and nothing else in it. Returns its chunks."""
        ring = self.ring()
        assert isinstance(ring, KeyedRing)
        table = ring._index
        there = set()
        for at, _, dead in self.records():
            if not dead:
                key = pair(ring.record_at(at))[0]
                assert table.find(key) == at
                there.add(at)
        size: int = vars(index)["BUCKETS_PER_CHUNK"]  # which a test may have made few
        directory = self.words[layout.W_BUCKETS_AT] >> 3
        chunks = self.words[directory : directory - (-table.count() // size)].tolist()
        buckets = [link for chunk in chunks for link in self.halves[chunk >> 2 : (chunk >> 2) + size].tolist() if link]
        chained = []
        for bucket in buckets:
            link = bucket
            while link:
                chained.append(int(self.words[layout.W_DATA]) + (link << layout.LINK_SHIFT))
                assert len(chained) <= len(there), "a circle, or a record too many, in the index"
                link = self.halves[(chained[-1] >> 2) + layout.R_LINK]
        assert set(chained) == there
        return set(chunks)


def record(key: bytes, value: bytes = b"") -> bytes:
    """Return the record of an item, without the padding."""
    return RECORD.pack(len(key) + len(value) + 31 & -8, len(key), len(value), 0, 0.0) + key + value


def pair(data: bytes) -> Pair:
    """Return key and value of a record."""
    _, key, value, _, _ = RECORD.unpack_from(data)
    value &= layout.LENGTH_MASK
    return bytes(data[24 : 24 + key]), bytes(data[24 + key : 24 + key + value])


def put(ring: Ring, key: bytes, value: bytes = b"") -> int:
    """Append an item."""
    data = record(key, value)
    return ring.append(data, len(data) + 7 & -8)


def fill(ring: Ring, *items: Pair) -> None:
    """Append items that must fit."""
    for key, value in items:
        assert put(ring, key, value) == ADDED


def take(ring: Ring) -> Pair | None:
    """Pop an item."""
    data = ring.pop()
    return None if data is None else pair(data)


def drain(ring: Ring) -> list[Pair]:
    """Pop everything."""
    items = []
    while (item := take(ring)) is not None:
        items.append(item)
    return items


def sized(step: int, key: bytes = b"k") -> Pair:
    """Return an item whose record has `step` bytes, its value told by its key."""
    assert not step % 8
    length = step - 24 - len(key)
    return key, (key * (length // max(1, len(key)) + 1))[:length] if key else bytes(length)


def room(plain: Plain) -> int:
    """Return the bytes from TAIL to the end of its chunk."""
    tail = int(plain.words[layout.W_TAIL])
    return (tail | CHUNK_MASK) + 1 - tail
