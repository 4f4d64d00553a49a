"""One queue: a ring, its lock, its limits, and waiting.

Lock contract: `add` and `pop` spell out what `with self._mutex` means, because a context manager costs a third of
their time. Encode before the lock, log and wake after it. What an exception leaves half done under the lock (a signal
handler may raise anywhere) is put right by the same `recover` that follows a kill.
"""

from __future__ import annotations

import contextlib
import math
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from kemi.errors import DamagedRing, LockTimeout, MqueueError, NoMemory, QueueClosed, Reentered, SegmentError
from kemi.owner import Owner, this_process
from kemi.queue import header, layout
from kemi.queue.aside import Slot
from kemi.queue.bell import Bell
from kemi.queue.holding import Holding
from kemi.queue.item import Item, encode
from kemi.queue.keyed import KeyedRing
from kemi.queue.layout import (
    MAX_STEP,
    RECORD,
    W_ASIDE,
    W_HEAD,
    W_RETURNED,
    W_TAIL,
    W_WATCH,
    WATCH_CLOSED,
    WATCH_LIMITS,
)
from kemi.queue.memory import InstanceMemory
from kemi.queue.mutex import Mutex, trylock, unlock
from kemi.queue.registry import Registry
from kemi.queue.reservation import Reservation, Source
from kemi.queue.ring import ADDED, FULL, KEPT, NO_MEMORY, TOO_LARGE, Ring
from kemi.queue.segment import (
    PRIVATE,
    SHM_DIR,
    Access,
    Segment,
    draft_name,
    path_of,
    queue_name,
    segment_name,
    sibling_name,
)
from kemi.queue.stop import STOP_LOOK, Stop, stopper

# What became of an add, beside the outcomes of the ring.
CLOSED = 6
NOT_TRIED = 7

REASONS = {
    NO_MEMORY: f"no memory: {SHM_DIR} or max_memory is full",
    TOO_LARGE: "the item is too large",
    FULL: "maxbytes of the queue is reached",
    CLOSED: "the queue was closed by its server",
    NOT_TRIED: "the queue's lock could not be had in time",
}

# One lock for so much of a batch at most: some 0.5 ms.
BATCH = 256  # items
BATCH_BYTES = 1 << 20

_DROPS = 64  # items thrown away by one add at most, when the size limit was lowered

# What comes of bytes that are no ring, wherever it is noticed first.
_DAMAGE = (DamagedRing, IndexError, ValueError, struct.error)

_pack = RECORD.pack
_now = time.time
_Found = TypeVar("_Found")
_Self = TypeVar("_Self", bound="Queue")


class Stats(NamedTuple):
    """What a queue did since it was made, and what it holds."""

    size: int  # items that can be taken
    bytes: int  # of all records, with 24 bytes and padding for each; reserved ones too
    memory: int  # bytes of shared memory
    added: int
    fetched: int
    dropped: int  # the oldest, when size was exceeded
    replaced: int  # by a newer one of the same key (addmode 2)
    refused: int  # for lack of memory, over maxbytes, or too large
    recovered: int  # times that a process died in the middle of its work here
    high_water: int  # most items at a time
    size_limit: int  # 0 = none
    byte_limit: int  # 0 = none
    addmode: int
    reserved: int = 0  # items that are taken and not done
    dead_lettered: int = 0  # moved to the queue dead_letter, after max_deliveries
    exhausted: int = 0  # times that an item came back after its last delivery, and no queue for dead letters took it
    max_deliveries: int = 0  # 0 = any number
    oldest: float | None = None  # when the oldest item was added, seconds since the epoch


class Queue:
    """A queue in shared memory, as this process uses it. Safe with threads and across fork."""

    def __init__(self, name: str, segment: Segment, registry: Registry | None, lock_timeout: float = 1.0) -> None:
        self.name = name
        self.segment = segment
        self.closed = False  # in this process
        words = self._words = segment.words
        self.addmode: int = words[layout.W_ADDMODE]
        kind = KeyedRing if self.addmode else Ring
        self._memory = InstanceMemory(segment, registry)
        self._ring: Ring = kind(segment.bytes, words, segment.halves, self._memory)
        self._append = self._ring.append
        self._pop = self._ring.pop
        self._holding = Holding(self._ring, words)
        self._bell = Bell(segment)
        self._registry = registry
        self._dead_letters: Queue | None = None
        self._mutex = Mutex(segment, lock_timeout, self._repair, self._progress)

    # --- life -------------------------------------------------------------------------------------------------------

    @classmethod
    def create(  # noqa: PLR0913 - keywords, each of them a property of the queue
        cls,
        instance: str,
        name: str,
        *,
        window: int,
        addmode: int = 0,
        size_limit: int = 0,
        byte_limit: int = 0,
        registry: Registry | None = None,
        owner: Owner | None = None,
        lock_timeout: float = 1.0,
        access: Access = PRIVATE,
        draft: bool = False,
    ) -> Queue:
        """Make a queue. Raises FileExistsError when its segment exists, NoMemory when there is no room.

        window: bytes that it may grow to. size_limit, byte_limit: see `set_limits`. draft: to be filled before it
        gets its name with `publish`.
        """
        keyed = addmode != 0
        window = layout.data_offset(window, keyed) + -(-window // layout.CHUNK) * layout.CHUNK
        fixed = layout.fixed_bytes(window, keyed)
        full_name = segment_name(instance, name)
        if draft:
            full_name = draft_name(full_name) + "~new"

        def fill(segment: Segment) -> None:
            header.write_queue(segment, owner or this_process(), addmode)
            queue = cls(name, segment, registry, lock_timeout)
            queue._memory.open(fixed)
            undo.callback(queue._memory.account, 0)
            if not queue._ring.format():
                raise NoMemory(
                    f"{path_of(full_name)}: no memory for the first {layout.CHUNK} bytes of the queue: make room in "
                    f'{SHM_DIR}, or raise modparam("mqueue", "max_memory", ...)'
                )
            queue._store_limits(size_limit, byte_limit)

        with contextlib.ExitStack() as undo:
            segment = Segment.create(full_name, fixed, window, fill, access)
            undo.pop_all()
        return cls(name, segment, registry, lock_timeout)

    @classmethod
    def attach(cls, instance: str, name: str, registry: Registry | None = None, lock_timeout: float = 1.0) -> Queue:
        """Use a queue that exists. Raises SegmentMissing, SegmentError."""
        return cls.of_segment(segment_name(instance, name), registry, lock_timeout, name)

    @classmethod
    def of_segment(
        cls, full_name: str, registry: Registry | None = None, lock_timeout: float = 1.0, name: str = ""
    ) -> Queue:
        """`attach` by the segment's name in /dev/shm."""
        segment = Segment.attach(full_name, header.checker(layout.MAGIC, "queue"))
        if not header.owner_of(segment).shares_pids():
            raise SegmentError(
                f"{path_of(segment.name)} was made in another pid namespace, where the lock's thread ids mean other "
                "threads; run both in one (for containers: --pid)"
            )
        return cls(name or queue_name(full_name), segment, registry, lock_timeout)

    def adopt(self, owner: Owner) -> int:
        """Take over from an owner that is dead: repair, and become its owner. Returns the number of items."""
        words = self._words
        with self._mutex:
            self._memory.open(self.segment.size())
            words[W_WATCH] &= WATCH_LIMITS
            self._repair()
            header.set_owner(self.segment, owner)
        return len(self._ring)

    def publish(self, instance: str) -> None:
        """Give a draft its name, in place of the queue that has it."""
        self.segment.rename(segment_name(instance, self.name))

    def append_record(self, record: bytes) -> None:
        """Append a record as it came from `records`. Raises NoMemory."""
        with self._mutex:
            outcome = self._append(record, len(record))
        if outcome > KEPT:
            raise NoMemory(f"{path_of(self.segment.name)}: {REASONS[outcome]}")

    def is_closed(self) -> bool:
        """Did its server end it?"""
        return bool(self._words[W_WATCH] & WATCH_CLOSED)

    def owner(self) -> Owner:
        """The process that made the queue, or took it over from a dead one."""
        return header.owner_of(self.segment)

    def set_limits(self, size_limit: int, byte_limit: int) -> None:
        """Change the limits; 0 is none. Nothing is thrown away before the next add.

        size_limit: items, the oldest goes when it is exceeded. byte_limit: bytes of records, an add beyond it is
        refused.
        """
        with self._mutex:
            self._store_limits(size_limit, byte_limit)

    def _store_limits(self, size_limit: int, byte_limit: int) -> None:
        words = self._words
        words[layout.W_SIZE_LIMIT] = size_limit
        words[layout.W_BYTE_LIMIT] = byte_limit
        words[W_WATCH] = words[W_WATCH] & ~WATCH_LIMITS | (WATCH_LIMITS if size_limit or byte_limit else 0)

    def set_deliveries(self, most: int, dead_letter: str = "") -> None:
        """Change how often a reserved item is delivered at most (0: any number), and to which queue it goes then.

        Without such a queue it is delivered again all the same, and counted.
        """
        if len(dead_letter.encode("utf-8", "surrogatepass")) > layout.DEAD_LETTER_MOST:
            raise ValueError(f"dead_letter: a name has {layout.DEAD_LETTER_MOST} bytes at most")
        with self._mutex:
            self._words[layout.W_MAX_DELIVERIES] = most
            header.set_dead_letter(self.segment, dead_letter)

    def remove(self) -> None:
        """End the queue for all processes: refuse adds, wake who waits, take its name and its line away."""
        mutex = self._mutex
        held = mutex.try_for_end()  # the name goes in any case, and nothing is repaired that ends
        try:
            self._words[W_WATCH] |= WATCH_CLOSED
            self._bell.call_all()
        finally:
            if held:
                unlock(mutex.ref)
            self.segment.unlink()
            self._memory.account(0)

    @contextlib.contextmanager
    def moving(self) -> Iterator[Iterator[bytes]]:
        """All records in order, for a queue that takes this one's place; nobody else adds or takes meanwhile.

        Also what is reserved: whoever holds it has it as delivered from a queue that is gone.

        Afterwards this queue is empty and closed; after an exception it is as before.
        """
        words = self._words
        with self._locked():
            yield map(self._ring.record_at, self._ring.undone())
            words[W_WATCH] |= WATCH_CLOSED
            words[W_HEAD] = words[W_TAIL]
            self._ring.aside.clear(self._ring.aside.slots())
            self._ring.recover()

    def close(self) -> None:
        """Let go of the queue in this process; a later call on it raises. The queue itself stays."""
        if self.closed:
            return
        with self._mutex:
            self.closed = True
            self.segment.close()
            closed: Any = _Closed(self.name)
            self._mutex = self._ring = self._words = self._append = self._pop = self._holding = closed
        if self._dead_letters is not None:
            self._dead_letters.close()

    def __enter__(self: _Self) -> _Self:  # noqa: PYI019 - typing.Self is newer than Python 3.9
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the work ---------------------------------------------------------------------------------------------------

    def add(self, key: str | bytes, value: str | bytes) -> int:
        """Append an item. Returns ADDED, KEPT (addmode 1: the key is there), or what is in REASONS.

        Raises ItemError for other types, LockTimeout, SegmentError.
        """
        try:
            k = key.encode()  # type: ignore[union-attr]
            v = value.encode()  # type: ignore[union-attr]
            flags = 0
        except (AttributeError, UnicodeEncodeError):
            k, v, flags = encode(key, value)
        step = len(k) + len(v) + 31 & -8
        if step > MAX_STEP:
            return self._refuse(TOO_LARGE)
        record = _pack(step, len(k), len(v) | flags, 0, _now()) + k + v
        call = False
        mutex = self._mutex
        ref = mutex.ref
        try:
            if code := trylock(ref):
                ref = mutex.take_slowly(code)
            if self._words[W_WATCH]:
                outcome, call = self._add_watched(record, step)
            else:
                outcome = self._append(record, step)
            if outcome > KEPT:
                self._words[layout.W_REFUSED] += 1
        except BaseException as error:
            ref = self._clean_up(mutex, error)
            raise
        finally:
            unlock(ref)
        if call:
            self._bell.wake_one()
        return outcome

    def _refuse(self, outcome: int) -> int:
        with self._mutex:
            self._words[layout.W_REFUSED] += 1
        return outcome

    def _add_watched(self, record: bytes, step: int) -> tuple[int, bool]:
        """Append where there are limits to keep, or somebody to wake. Returns the outcome, and whether to wake one."""
        words = self._words
        if words[W_WATCH] & WATCH_CLOSED:
            return CLOSED, False
        byte_limit = words[layout.W_BYTE_LIMIT]
        ring = self._ring
        outcome = ring.append_within(record, step, byte_limit) if byte_limit else ring.append(record, step)
        if outcome != ADDED:
            return outcome, False
        limit = words[layout.W_SIZE_LIMIT]
        if limit:
            excess = min(len(ring) - limit, _DROPS)
            for _ in range(excess):
                ring.drop()
                words[layout.W_DROPPED] += 1
        return outcome, self._bell.call_one()

    def add_many(self, pairs: Iterable[tuple[str | bytes, str | bytes]]) -> list[int]:
        """Append items; what became of each, as `add` returns it, in order. One lock for BATCH of them.

        Raises ItemError before anything is added, LockTimeout when nothing was; when the lock is not had later, the
        rest is NOT_TRIED.
        """
        records = [_record(key, value) for key, value in pairs]
        outcomes: list[int] = []
        while len(outcomes) < len(records):
            batch = _batch(records, len(outcomes))
            try:
                outcomes += self._add_batch(batch)
            except LockTimeout:
                if not outcomes:
                    raise
                return outcomes + [NOT_TRIED] * (len(records) - len(outcomes))
        return outcomes

    def add_record(self, record: bytes) -> int:
        """`add` of an item as its record, with the time that is in it."""
        return self._add_batch([record])[0]

    def _add_batch(self, records: list[bytes]) -> list[int]:
        outcomes = []
        calls = 0
        with self._working():
            for record in records:
                step = len(record) + 7 & -8
                outcome, call = (TOO_LARGE, False) if step > MAX_STEP else self._add_watched(record, step)
                self._words[layout.W_REFUSED] += outcome > KEPT
                outcomes.append(outcome)
                calls += call
        for _ in range(calls):
            self._bell.wake_one()
        return outcomes

    def pop(self) -> bytes | None:
        """Take the oldest item as its record (see `Item`); None if there is none."""
        words = self._words
        # Without the lock: HEAD is read before TAIL, which only moves away from it, so equal means empty at the first
        # look. What was committed by a process killed since is not overlooked: the cursors are the commit.
        if words[W_HEAD] == words[W_TAIL] and not words[W_ASIDE]:
            return None
        mutex = self._mutex
        ref = mutex.ref
        try:
            if code := trylock(ref):
                ref = mutex.take_slowly(code)
            record = self._pop()
        except BaseException as error:
            ref = self._clean_up(mutex, error)
            raise
        finally:
            unlock(ref)
        return record or self._look_aside(record)

    def _look_aside(self, record: bytes | None) -> bytes | None:
        """Go on after the ring's pop gave None, or LOOK_ASIDE."""
        return None if record is None else self._take_or_count_in(self._take, None, goes_to_sleep=False)[0]

    def pop_wait(self, timeout: float | None) -> bytes | None:
        """`pop` that sleeps until there is an item, at most `timeout` seconds (None: for ever)."""
        record = self.pop()
        if record is not None or (timeout is not None and timeout <= 0):
            return record
        return self._wait(self._take, timeout)

    def _take(self) -> bytes | None:
        """The oldest item (locked)."""
        return self._pop() or (self._holding.take() if self._words[W_ASIDE] else None)

    def _wait(self, take: Callable[[], _Found | None], timeout: float | None) -> _Found | None:
        """Call `take` with the lock held until it finds something, asleep while there is nothing."""
        if timeout is not None and math.isnan(timeout):
            raise ValueError("timeout must be a number of seconds, or None")
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        remembered: int | None = None  # while this process is counted as a sleeper
        try:
            while True:
                left = deadline - time.monotonic()
                found, remembered = self._take_or_count_in(take, remembered, goes_to_sleep=left > 0)
                if remembered is None:
                    return found
                self._bell.sleep(remembered, left)
        finally:
            if remembered is not None:  # an exception ends the sleep
                with contextlib.suppress(LockTimeout):
                    self._count_out(remembered)

    def _take_or_count_in(
        self, take: Callable[[], _Found | None], remembered: int | None, *, goes_to_sleep: bool
    ) -> tuple[_Found | None, int | None]:
        """Take what `take` finds, or in the same moment be counted as a sleeper.

        Returns what it found, and the signal to sleep on; None for the signal when this process is counted no more.
        """
        words = self._words
        dead = self._holding.dead() if words[W_ASIDE] else set()
        due: list[tuple[Slot, bytes]] = []
        signal: int | None = None
        call = False
        with self._working():
            if words[W_ASIDE]:
                if self._holding.tend(dead) > 1:
                    self._bell.call_all()  # more than this process can take
                due = self._holding.due()
            found = take()
            if found is None and goes_to_sleep:
                if words[W_WATCH] & WATCH_CLOSED:
                    raise QueueClosed(f"queue {self.name!r} was closed by its server")
                signal = self._bell.signal()
                if signal != remembered:
                    self._bell.count_in()
            else:
                call = remembered is not None and self._bell.count_out(remembered, took_item=found is not None)
        if call:
            self._bell.wake_one()
        for slot, record in due:
            self._move_dead_letter(slot, record)
        return found, signal

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        """The lock, for what changes something and is not as hot as `add` and `pop`."""
        mutex = self._mutex
        ref = mutex.ref
        try:
            if code := trylock(ref):
                ref = mutex.take_slowly(code)
            yield
        except BaseException as error:
            ref = self._clean_up(mutex, error)
            raise
        finally:
            unlock(ref)

    def _count_out(self, remembered: int) -> None:
        with self._mutex:
            call = self._bell.count_out(remembered, took_item=False)
        if call:
            self._bell.wake_one()

    def fetch(self, timeout: float | None = 0.0) -> Item | None:
        """Take the oldest item; wait for one at most `timeout` seconds (None: for ever). None when there is none."""
        record = self.pop_wait(timeout)
        return None if record is None else Item(record)

    def fetch_many(self, count: int, timeout: float | None = 0.0) -> list[Item]:
        """Take the oldest items, `count` at most; wait for the first one as `fetch` does.

        One lock for BATCH of them.
        """
        records: list[bytes] = []

        def take() -> list[bytes] | None:
            return self._take_batch(count - len(records))

        while len(records) < count:
            try:
                batch = self._wait(take, 0.0 if records else timeout)
            except LockTimeout:
                if not records:
                    raise
                break  # what was taken is not lost
            if not batch:
                break
            records += batch
        return [Item(record) for record in records]

    def _take_batch(self, count: int) -> list[bytes] | None:
        """Some of the oldest items (locked)."""
        records: list[bytes] = []
        size = 0
        while len(records) < min(count, BATCH) and size < BATCH_BYTES:
            record = self._take()
            if record is None:
                break
            records.append(record)
            size += len(record)
        return records or None

    def consume(self, stop: Stop = None) -> Iterator[Item]:
        """Take items for ever, asleep while there are none.

        stop: an Event, or a function that says when to end; noticed within STOP_LOOK seconds, and before each item.
        """
        stopped = stopper(stop)
        while not stopped():
            item = self.fetch(None if stop is None else STOP_LOOK)
            if item is not None:
                yield item

    # --- at least once ----------------------------------------------------------------------------------------------

    def reserve(self, timeout: float | None = 0.0) -> Reservation:
        """`with queue.reserve(timeout) as item:` takes the oldest item, as `fetch`, for the time of the block.

        When the block ends without an exception, the item is done. After an exception, or when this process is killed,
        it is the next one's to take, before all others; `item.deliveries` is then one more. `item` is None when none
        came.
        """
        return Reservation(self, timeout)

    def reserve_wait(self, timeout: float | None, keep: Callable[[Slot, Source], None]) -> bytes | None:
        """Reserve the oldest item: its record.

        `keep` gets what `done` and `give_back` want, and the queue whose they are, with the lock held.
        """

        def take() -> bytes | None:
            found = self._holding.reserve()
            if found is None:
                if self._bell.is_something_there() and self._holding.is_full():
                    raise MqueueError(f"queue {self.name!r}: {layout.SLOTS} items are reserved or were given back")
                return None
            keep(found[0], self)
            return found[1]

        words = self._words
        if words[W_HEAD] == words[W_TAIL] and not words[W_ASIDE] and timeout is not None and timeout <= 0:
            return None
        return self._wait(take, timeout)

    def done(self, slot: Slot) -> bool:
        """A reserved item is done. False if it is not this process's any more: its queue was made anew."""
        try:
            with self._working():
                return self._holding.finish(slot)
        except LockTimeout:
            self._holding.later(slot, done=True)
            raise

    def give_back(self, slot: Slot) -> bool:
        """A reserved item is not done: let another process take it, before all others."""
        due: list[tuple[Slot, bytes]] = []
        call = False
        try:
            with self._working():
                back = self._holding.put_back(slot)
                due = self._holding.due()
                call = back and self._bell.call_one()
        except LockTimeout:
            self._holding.later(slot, done=False)
            raise
        if call:
            self._bell.wake_one()
        for each, record in due:
            self._move_dead_letter(each, record)
        return back

    def _move_dead_letter(self, slot: Slot, record: bytes) -> None:
        """Put what was delivered too often into its queue. A kill in between leaves it in both: at least once."""
        moved = False
        # No error here: the caller may have an item in his hands.
        with contextlib.suppress(MqueueError, OSError, ValueError):
            moved = self._dead_letter_queue().add_record(record) in (ADDED, KEPT)
        try:
            with self._working():
                self._holding.settle_due(slot, moved=moved)
        except MqueueError:
            self._holding.later(slot, done=moved)

    def _dead_letter_queue(self) -> Queue:
        name = header.dead_letter_of(self.segment)
        present = self._dead_letters
        if present is None or present.name != name or not present.segment.is_current():
            full_name = sibling_name(self.segment.name, name)
            present = self._dead_letters = Queue.of_segment(full_name, self._registry, self._mutex.timeout, name)
        return present

    # --- for asyncio (see `aio`) ------------------------------------------------------------------------------------

    def wait_ready(self, seconds: float) -> bool:
        """Sleep until there is something to take, which stays. True: it is for the caller to take, or to `pass_on`."""
        return bool(self._wait(lambda: self._holding.is_something_there() or None, seconds))

    def pass_on(self) -> None:
        """Wake somebody else for what is there."""
        with self._working():
            call = self._holding.is_something_there() and self._bell.call_one()
        if call:
            self._bell.wake_one()

    def is_locked(self) -> bool:
        """Does somebody hold the lock, or did he die with it?"""
        return self._mutex.is_held()

    def settle(self) -> None:
        """Take the lock, repair if that is needed, and let go."""
        with self._working():
            pass

    # --- looking ----------------------------------------------------------------------------------------------------

    def peek(self, count: int = 1) -> list[Item]:
        """The oldest `count` items, which stay."""
        items: list[Item] = []
        with self._locked():
            for at in self._ring.waiting():
                if len(items) >= count:
                    break
                items.append(Item(self._ring.record_at(at)))
        return items

    def undone(self) -> list[Item]:
        """All items that would be there if every process that holds one were killed now, the oldest first."""
        with self._locked():
            return [Item(self._ring.record_at(at)) for at in self._ring.undone()]

    def __len__(self) -> int:
        """Items that can be taken; reserved ones do not count."""
        words = self._words
        size = len(self._ring)
        if not size and words[W_HEAD] != words[W_TAIL]:
            # Who added was killed before it counted. Taking the lock repairs that.
            with self._mutex:
                size = len(self._ring)
        return size

    def __bool__(self) -> bool:
        return True  # an empty queue is still a queue

    def stats(self) -> Stats:
        """Counters and contents at one moment."""
        words = self._words
        with self._locked():
            size = len(self._ring)
            oldest = next((Item(self._ring.record_at(at)).added for at in self._ring.waiting()), None)
            reserved = words[W_ASIDE] - words[W_RETURNED]
            dead_lettered = words[layout.W_DEAD_LETTERS]
            added, removed = words[layout.W_ADDED], words[layout.W_REMOVED]
            dropped, replaced = words[layout.W_DROPPED], words[layout.W_REPLACED]
            return Stats(
                size=size,
                bytes=self._ring.used_bytes() + self._ring.aside_bytes(),
                memory=self._ring.chunks.reserved(),
                added=added,
                fetched=removed - dropped - replaced - reserved - dead_lettered,
                dropped=dropped,
                replaced=replaced,
                refused=words[layout.W_REFUSED],
                recovered=words[layout.W_RECOVERED],
                high_water=max(words[layout.W_HIGH], size),
                size_limit=words[layout.W_SIZE_LIMIT],
                byte_limit=words[layout.W_BYTE_LIMIT],
                addmode=self.addmode,
                reserved=reserved,
                dead_lettered=dead_lettered,
                exhausted=words[layout.W_EXHAUSTED],
                max_deliveries=words[layout.W_MAX_DELIVERIES],
                oldest=oldest,
            )

    # --- when something went wrong ----------------------------------------------------------------------------------

    def _repair(self) -> None:
        """Called with the lock held, when its last holder died with it."""
        try:
            self._ring.recover()
        except _DAMAGE as error:
            raise self._damaged(error) from None
        self._bell.call_all()  # the dead one may have died before it woke somebody

    def _progress(self) -> int:
        return int(self._words[layout.W_ADDED] + self._words[layout.W_REMOVED])

    def _clean_up(self, mutex: Mutex, error: BaseException) -> Any:
        """An exception under the lock: leave nothing half done. Returns what to unlock."""
        if not isinstance(error, Reentered) and not self.closed and mutex.is_mine():
            try:
                self._repair()
                if _comes_from_memory(error):
                    raise self._damaged(error)
            except BaseException:
                unlock(mutex.ref)
                raise
        return mutex.ref_after(error)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The lock, for what only looks."""
        with self._mutex:
            try:
                yield
            except _DAMAGE as error:
                raise self._damaged(error) from None

    def _damaged(self, error: BaseException) -> SegmentError:
        return SegmentError(
            f"{path_of(self.segment.name)} is damaged: {error}; "
            "it is left as it is, save it for inspection or remove it"
        )

    def __repr__(self) -> str:
        if self.closed:
            return f"<Queue {self.name!r} closed>"
        return f"<Queue {self.name!r} size={len(self._ring)} addmode={self.addmode} pid={self.owner().pid}>"


def _record(key: str | bytes, value: str | bytes) -> bytes:
    """An item as the ring has it. Raises ItemError."""
    k, v, flags = encode(key, value)
    length = len(k) + len(v)
    # What is too large for a record's head is refused by its length.
    return _pack(min(length + 31 & -8, layout.STEP_MASK), len(k), len(v) | flags, 0, _now()) + k + v


def _batch(records: list[bytes], start: int) -> list[bytes]:
    """As many records from there on as one lock is for."""
    size = 0
    for number, record in enumerate(records[start : start + BATCH], 1):
        size += len(record)
        if size >= BATCH_BYTES:
            return records[start : start + number]
    return records[start : start + BATCH]


def _comes_from_memory(error: BaseException) -> bool:
    """Was this raised by what lies in the segment, and not by a signal handler of the application?"""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return isinstance(error, _DAMAGE) and bool(trace and trace.tb_frame.f_globals["__name__"].startswith("kemi."))


class _Closed:
    """In place of all that a queue which was closed in this process would use."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: object) -> Any:
        raise ValueError(f"queue {self._name!r} is closed in this process")

    def __getattr__(self, _: str) -> Any:
        return self._refuse()

    __enter__ = __getitem__ = __len__ = __call__ = _refuse

    def __exit__(self, *_: object) -> None:
        pass
