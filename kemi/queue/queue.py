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
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kemi.errors import DamagedRing, LockTimeout, NoMemory, Reentered, SegmentError
from kemi.owner import Owner, this_process
from kemi.queue import header, layout
from kemi.queue.bell import Bell
from kemi.queue.item import Item, encode
from kemi.queue.keyed import KeyedRing
from kemi.queue.layout import (
    MAX_STEP,
    RECORD,
    W_HEAD,
    W_TAIL,
    W_WATCH,
    WATCH_CLOSED,
    WATCH_LIMITS,
)
from kemi.queue.memory import InstanceMemory
from kemi.queue.mutex import Mutex, trylock, unlock
from kemi.queue.registry import Registry
from kemi.queue.ring import ADDED, FULL, KEPT, NO_MEMORY, TOO_LARGE, Ring
from kemi.queue.segment import PRIVATE, SHM_DIR, Access, Segment, draft_name, path_of, segment_name

CLOSED = 6  # what became of an add, beside the outcomes of the ring

REASONS = {
    NO_MEMORY: f"no memory: {SHM_DIR} or max_memory is full",
    TOO_LARGE: "the item is too large",
    FULL: "maxbytes of the queue is reached",
    CLOSED: "the queue was closed by its server",
}

_DROPS = 64  # items thrown away by one add at most, when the size limit was lowered

# What comes of bytes that are no ring, wherever it is noticed first.
_DAMAGE = (DamagedRing, IndexError, ValueError, struct.error)

_pack = RECORD.pack
_now = time.time


class Stats(NamedTuple):
    """What a queue did since it was made, and what it holds."""

    size: int  # items
    bytes: int  # of all records, with 24 bytes and padding for each
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
    oldest: float | None  # when the oldest item was added, seconds since the epoch


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
        self._bell = Bell(segment)
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
        closed: bool = False,
    ) -> Queue:
        """Make a queue. Raises FileExistsError when its segment exists, NoMemory when there is no room.

        window: bytes that it may grow to. size_limit, byte_limit: see `set_limits`. draft: to be filled before it
        gets its name with `publish`. closed: nothing may be added before `open`.
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
            if closed:
                segment.words[W_WATCH] |= WATCH_CLOSED

        with contextlib.ExitStack() as undo:
            segment = Segment.create(full_name, fixed, window, fill, access)
            undo.pop_all()
        return cls(name, segment, registry, lock_timeout)

    @classmethod
    def attach(
        cls, instance: str, name: str, registry: Registry | None = None, lock_timeout: float = 1.0, suffix: str = ""
    ) -> Queue:
        """Use a queue that exists. Raises SegmentMissing, SegmentError. suffix: ends the name of a draft."""
        segment = Segment.attach(segment_name(instance, name) + suffix, header.checker(layout.MAGIC, "queue"))
        if not header.owner_of(segment).shares_pids():
            raise SegmentError(
                f"{path_of(segment.name)} was made in another pid namespace, where the lock's thread ids mean other "
                "threads; run both in one (for containers: --pid)"
            )
        return cls(name, segment, registry, lock_timeout)

    def adopt(self, owner: Owner, keep_closed: bool = False) -> int:
        """Take over from an owner that is dead: repair, and become its owner. Returns the number of items.

        keep_closed: when it is closed, it is so until `open`.
        """
        words = self._words
        with self._mutex:
            self._memory.open(self.segment.size())
            words[W_WATCH] &= WATCH_LIMITS | (WATCH_CLOSED if keep_closed else 0)
            self._repair()
            header.set_owner(self.segment, owner)
        return len(self._ring)

    def open(self) -> None:
        """From here on items may be added."""
        with self._mutex:
            self._words[W_WATCH] &= ~WATCH_CLOSED

    def publish(self, instance: str) -> None:
        """Give a draft its name, in place of the queue that has it."""
        self.segment.rename(segment_name(instance, self.name))

    def append_record(self, record: bytes) -> None:
        """Append a record as it came from `moving`, or from `record_of`. Raises NoMemory."""
        with self._mutex:
            outcome = self._append(record, len(record) + 7 & -8)
        if outcome > KEPT:
            raise NoMemory(f"{path_of(self.segment.name)}: {REASONS[outcome]}")

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

        Afterwards this queue is empty and closed; after an exception it is as before.
        """
        words = self._words
        with self._locked():
            yield map(self._ring.record_at, self._ring.scan())
            words[W_WATCH] |= WATCH_CLOSED
            words[W_HEAD] = words[W_TAIL]
            self._ring.recover()

    def clear(self) -> None:
        """Take all items away; they do not count as fetched."""
        words = self._words
        with self._changing():
            words[layout.W_DROPPED] += len(self._ring)
            words[W_HEAD] = words[W_TAIL]
            self._repair()

    def close(self) -> None:
        """Let go of the queue in this process; a later call on it raises. The queue itself stays."""
        if self.closed:
            return
        with self._mutex:
            self.closed = True
            self.segment.close()
            self._ring.close()
            closed: Any = _Closed(self.name)
            self._mutex = self._ring = self._words = self._append = self._pop = closed

    def __enter__(self) -> Queue:
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

    def pop(self) -> bytes | None:
        """Take the oldest item as its record (see `Item`); None if there is none."""
        words = self._words
        # Without the lock: HEAD is read before TAIL, which only moves away from it, so equal means empty at the first
        # look. What was committed by a process killed since is not overlooked: the cursors are the commit.
        if words[W_HEAD] == words[W_TAIL]:
            return None
        mutex = self._mutex
        ref = mutex.ref
        try:
            if code := trylock(ref):
                ref = mutex.take_slowly(code)
            return self._pop()
        except BaseException as error:
            ref = self._clean_up(mutex, error)
            raise
        finally:
            unlock(ref)

    def pop_if(self, accept: Callable[[bytes], bool]) -> bytes | None:
        """`pop`, if `accept` wants the oldest item, which stays otherwise. It is called under the lock: be short."""
        with self._changing():
            oldest = next(self._ring.scan(), None)
            if oldest is None or not accept(self._ring.record_at(oldest)):
                return None
            return self._pop()

    def pop_wait(self, timeout: float | None) -> bytes | None:
        """`pop` that sleeps until there is an item, at most `timeout` seconds (None: for ever)."""
        record = self.pop()
        if record is not None or (timeout is not None and timeout <= 0):
            return record
        if timeout is not None and math.isnan(timeout):
            raise ValueError("timeout must be a number of seconds, or None")
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        remembered: int | None = None  # while this process is counted as a sleeper
        try:
            while True:
                left = deadline - time.monotonic()
                record, remembered = self._pop_or_count_in(remembered, left > 0)
                if remembered is None:
                    return record
                self._bell.sleep(remembered, left)
        finally:
            if remembered is not None:  # an exception ends the sleep
                with contextlib.suppress(LockTimeout):
                    self._count_out(remembered)

    def _pop_or_count_in(self, remembered: int | None, goes_to_sleep: bool) -> tuple[bytes | None, int | None]:
        """Take an item, or in the same moment be counted as a sleeper.

        Returns the item, and the signal to sleep on; None for the signal when this process is counted no more.
        """
        mutex = self._mutex
        ref = mutex.ref
        try:
            if code := trylock(ref):
                ref = mutex.take_slowly(code)
            record = self._pop()
            if record is None and goes_to_sleep:
                if self._words[W_WATCH] & WATCH_CLOSED:
                    raise SegmentError(f"queue {self.name!r} was closed by its server")
                signal = self._bell.signal()
                if signal != remembered:
                    self._bell.count_in()
                return None, signal
            call = remembered is not None and self._bell.count_out(remembered, took_item=record is not None)
        except BaseException as error:
            ref = self._clean_up(mutex, error)
            raise
        finally:
            unlock(ref)
        if call:
            self._bell.wake_one()
        return record, None

    def _count_out(self, remembered: int) -> None:
        with self._mutex:
            call = self._bell.count_out(remembered, took_item=False)
        if call:
            self._bell.wake_one()

    def fetch(self, timeout: float | None = 0.0) -> Item | None:
        """Take the oldest item; wait for one at most `timeout` seconds (None: for ever). None when there is none."""
        record = self.pop_wait(timeout)
        return None if record is None else Item(record)

    def consume(self) -> Iterator[Item]:
        """Take items for ever, asleep while there are none."""
        while True:
            item = self.fetch(None)
            if item is not None:
                yield item

    def peek(self, count: int = 1) -> list[Item]:
        """The oldest `count` items, which stay."""
        items: list[Item] = []
        with self._locked():
            for at in self._ring.scan():
                if len(items) >= count:
                    break
                items.append(Item(self._ring.record_at(at)))
        return items

    def __len__(self) -> int:
        """Items in the queue."""
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
            oldest = next((Item(self._ring.record_at(at)).added for at in self._ring.scan()), None)
            added, removed = words[layout.W_ADDED], words[layout.W_REMOVED]
            dropped, replaced = words[layout.W_DROPPED], words[layout.W_REPLACED]
            return Stats(
                size=size,
                bytes=self._ring.used_bytes(),
                memory=self._ring.chunks.reserved(),
                added=added,
                fetched=removed - dropped - replaced,
                dropped=dropped,
                replaced=replaced,
                refused=words[layout.W_REFUSED],
                recovered=words[layout.W_RECOVERED],
                high_water=max(words[layout.W_HIGH], size),
                size_limit=words[layout.W_SIZE_LIMIT],
                byte_limit=words[layout.W_BYTE_LIMIT],
                addmode=self.addmode,
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
    def _changing(self) -> Iterator[None]:
        """The lock, for what moves cursors and is called too seldom to spell it out as `pop` does."""
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
