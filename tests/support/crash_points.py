"""A segment on plain memory whose every store can be the last, or raise: the crash-point walk.

`Segment` is the memory; `watched()` gives a mapping that checks each access and counts each store. `walk` does one
operation again and again, struck at its first store, its second, and so on, by a kill (all later stores fail too), by a
kill within a long store, and by an exception (only that store fails); after each it recovers, itself struck at each of
its own stores in the same way, and compares with the states that are allowed. A kill that leaves none of these must
leave the mark that there is something to recover.
"""

from __future__ import annotations

import mmap
import random
from typing import TYPE_CHECKING, Any

from kemi.errors import CorruptedError
from kemi.queue.format import geometry, layout
from kemi.queue.format.layout import CHUNK_MAP_AT, Mapping

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BITS = 12  # small chunks are full soon
POISON = 0xDD


class Killed(BaseException):
    """The process was killed here."""


class Raised(Exception):
    """A signal handler raised here."""


class Strike:
    """When which store fails."""

    def __init__(self, at: int | None = None, kind: str = "kill") -> None:
        """Fail at store number `at` (None: never). kind: kill, torn (a long store is done in part), raise."""
        self.count = 0
        self.at = at
        self.kind = kind
        self.stores: list[str] = []

    def store(self, do: Callable[[], None], part: Callable[[], None] | None = None) -> None:
        """Do a store, or fail."""
        number, self.count = self.count, self.count + 1
        if self.at is None or number < self.at or (self.kind == "raise" and number > self.at):
            do()
            return
        if self.kind == "raise":
            raise Raised
        if self.kind == "torn" and part and number == self.at:
            part()
        raise Killed


class _View:
    """A view of the memory that checks what is touched and strikes at what is stored. size: bytes of an element."""

    def __init__(self, segment: Segment, view: Any, size: int) -> None:
        self._segment = segment
        self._view = view
        self._size = size

    def __len__(self) -> int:
        return len(self._view)

    def _check(self, where: int | slice) -> None:
        first, last = (where.start, where.stop) if isinstance(where, slice) else (where, where + 1)
        assert first >= 0
        assert last <= len(self._view), f"{where} is behind the mapping"
        self._segment.check(first * self._size, last * self._size)

    def __getitem__(self, where: int | slice) -> Any:
        self._check(where)
        found = self._view[where]
        return bytes(found) if self._size == 1 and isinstance(where, slice) else found

    def __setitem__(self, where: int | slice, value: Any) -> None:
        self._check(where)
        part = None
        if isinstance(where, slice):
            start, stop = where.start, where.stop
            assert self._size == 1
            assert len(value) == stop - start

            def part() -> None:
                for at in range(start, stop, 8):  # a copy may store its words in any order
                    if self._segment.random.random() < 0.5:
                        end = min(at + 8, stop)
                        self._view[at:end] = value[at - start : end - start]

        self._segment.strike.store(lambda: self._view.__setitem__(where, value), part)


class Segment:
    """The memory of one queue. It is a `Memory` too, which poisons what it gives back."""

    def __init__(
        self,
        addmode: int = 0,
        *,
        chunks: int = 10,
        limit: int | None = None,
        capacity: int = 6,
        seed: int = 1,
        buckets: int = 8,
    ) -> None:
        place = geometry.geometry(chunks << CHUNK_BITS, keyed=addmode != 0, capacity=capacity, chunk_bits=CHUNK_BITS)
        self.place = place
        self.memory = mmap.mmap(-1, place.map_size)
        view = memoryview(self.memory)
        self.plain = Mapping(self.memory, view.cast("Q"), view.cast("I"))
        self.u64, self.u32 = self.plain.u64, self.plain.u32
        geometry.write(self.u64, place)
        if addmode:
            self.u64[layout.W_BUCKETS_PER_CHUNK] = buckets
            self.u64[layout.W_SECRET] = 0x01234567
        self.u64[layout.W_ADDMODE] = addmode
        self.there: set[int] = set()  # chunks that have memory
        self.limit = chunks if limit is None else limit
        self.strike = Strike()
        self.random = random.Random(seed)  # noqa: S311

    def watched(self) -> Mapping:
        """Return a mapping that checks and strikes."""
        plain = self.plain
        return Mapping(_View(self, plain.bytes, 1), _Words(self, plain.u64, 8), _Words(self, plain.u32, 4))

    def check(self, first: int, last: int) -> None:
        """Fail where memory is touched that is not there: in shared memory that is SIGBUS."""
        if last <= self.place.fixed_bytes():
            return
        size = 1 << CHUNK_BITS
        chunk = (first - self.place.data) // size
        assert (last - 1 - self.place.data) // size == chunk, f"{first} to {last} reach over the end of a chunk"
        assert self.place.data + chunk * size in self.there, f"{first} is touched, which has no memory"

    # --- Memory -------------------------------------------------------------------------------------------------------

    def reserve(self, offset: int, length: int) -> bool:
        """Make memory usable, within the limit."""
        assert length == 1 << CHUNK_BITS
        if offset not in self.there and len(self.there) >= self.limit:
            return False
        self.strike.store(lambda: self.there.add(offset))
        return True

    def has(self, offset: int, length: int) -> bool:
        """Return True if there is memory."""
        return length == 1 << CHUNK_BITS and offset in self.there

    def release(self, offset: int, length: int) -> None:
        """Give memory back."""

        def release() -> None:
            self.there.discard(offset)
            self.memory[offset : offset + length] = bytes([POISON]) * length

        self.strike.store(release)

    # --- states -------------------------------------------------------------------------------------------------------

    def save(self) -> tuple[bytes, frozenset[int]]:
        """Return all that there is."""
        return self.memory[:], frozenset(self.there)

    def load(self, saved: tuple[bytes, frozenset[int]]) -> None:
        """Go back to what `save` returned."""
        self.memory[:] = saved[0]
        self.there = set(saved[1])
        self.strike = Strike()

    def states(self) -> bytes:
        """Return the chunk map."""
        count = (self.place.map_size - self.place.data) >> CHUNK_BITS
        return self.memory[CHUNK_MAP_AT : CHUNK_MAP_AT + count]


class _Words(_View):
    """Numbers; a chunk map can be cut out of them, to be read only."""

    def __getitem__(self, where: int | slice) -> Any:
        if isinstance(where, slice):
            return self._view[where]
        return super().__getitem__(where)


class Walk:
    """What a walk needs to know of a log. state: all that counts, to be compared. sound: raises if it is not."""

    def __init__(
        self,
        segment: Segment,
        open_log: Callable[[Mapping], Any],
        state: Callable[[Any], Any],
        findings: Callable[[Segment], list[str]],
    ) -> None:
        self.segment = segment
        self.open_log = open_log
        self.state = state
        self.findings = findings
        self.strikes = 0

    def sound(self) -> Any:
        """Return the state of the log, which must be sound."""
        segment = self.segment
        segment.strike = Strike()
        findings = self.findings(segment)
        assert not findings, findings
        states = segment.states()
        size = 1 << CHUNK_BITS
        there = {segment.place.data + n * size for n, state in enumerate(states) if state != layout.ABSENT}
        assert segment.there == there, "memory is there that the map does not have, or the other way round"
        return self.state(self.open_log(segment.plain))

    def _marks(self) -> int:
        """What says that something is half done: PENDING, and the length of a list that counts."""
        u64 = self.segment.u64
        return int(u64[layout.W_FLAGS] & layout.PENDING | u64[layout.W_COMMIT])

    def _check_mark(self, allowed: list[Any]) -> None:
        """Where something is half done, FLAGS must say so: who takes the lock need not know of the death."""
        if self.segment.u64[layout.W_FLAGS] & layout.PENDING:
            return
        assert not self._marks(), "a list counts, and nothing is PENDING"
        try:
            is_whole = self.sound() in allowed
        except (AssertionError, CorruptedError, ValueError):
            is_whole = False
        assert is_whole, "half done, and nothing is PENDING"

    def walk(
        self,
        work: Callable[[Any], object],
        after: Callable[[Any], object] | None = None,
        between: Callable[[Any], Any] | None = None,
    ) -> int:
        """Strike at every store of `work`. Returns how many strikes there were, those in the repair included.

        after: work that must go well after each recovery. between: makes of the state before another that is allowed.
        """
        segment = self.segment
        saved = segment.save()
        allowed = [self.sound()]
        if between:
            allowed.insert(0, between(allowed[0]))
        work(self.open_log(segment.plain))
        allowed.append(self.sound())
        before = self.strikes
        for kind in ("kill", "torn", "raise"):
            number = 0
            while self._struck(saved, work, allowed, after, Strike(number, kind)):
                number += 1
        segment.load(saved)
        work(self.open_log(segment.plain))
        return self.strikes - before

    def _struck(
        self,
        saved: tuple[bytes, frozenset[int]],
        work: Callable[[Any], object],
        allowed: list[Any],
        after: Callable[[Any], object] | None,
        strike: Strike,
    ) -> bool:
        """Do the work with one strike. Returns False when it came to its end without."""
        segment = self.segment
        segment.load(saved)
        log = self.open_log(segment.watched())
        segment.strike = strike
        try:
            work(log)
        except (Killed, Raised):
            pass
        else:
            assert self.sound() == allowed[-1], "undisturbed, it came to something else"
            assert not self._marks(), "undisturbed, it left the mark that something is half done"
            return False
        self.strikes += 1
        left = segment.save()
        if strike.kind == "kill":
            self._check_mark(allowed)
        number = 0
        while True:  # a second strike, at each store of the repair
            segment.load(left)
            again = log if strike.kind == "raise" else self.open_log(segment.watched())
            segment.strike = Strike(None if strike.kind == "torn" else number, strike.kind)
            try:
                again.recover()
                ended = True
            except (Killed, Raised):
                ended = False
                self.strikes += 1
                segment.strike = Strike()
                again = log if strike.kind == "raise" else self.open_log(segment.watched())
                again.recover()
            found = self.sound()
            assert found in allowed, f"{strike.kind} at store {strike.at}: {found}, allowed are {allowed}"
            if ended:
                if after and strike.kind != "torn":
                    after(again)
                    self.sound()
                return True
            number += 1
