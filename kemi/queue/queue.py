"""One queue as its users have it: add, take, reserve, look.

Lock contract: `add` and `pop` spell out what `section.hold` does, because another call costs a tenth of their time, and
what `PlainLog.append` and `PlainLog.pop` do with a record that lies within a chunk, which saves another tenth.
Encode before the lock, log and wake after it. What an exception leaves half done under the lock (a signal
handler may raise anywhere) is put right by the same `recover` that follows a kill.
"""

from __future__ import annotations

import contextlib
import sys
import time
from _thread import start_new_thread
from collections.abc import Callable, Iterable, Iterator, Sequence
from errno import ENOTRECOVERABLE
from functools import wraps
from itertools import islice
from typing import Any, overload

from kemi import times
from kemi.errors import LockTimeout, MqueueError, Reentered, SegmentMissing
from kemi.queue import header, onlymain
from kemi.queue.delivery.hold import Hold, Settlement
from kemi.queue.delivery.reservation import Keep, Reservation
from kemi.queue.delivery.reserved import Batch, ReservedItem
from kemi.queue.format import layout
from kemi.queue.format.item import Item, encode
from kemi.queue.format.layout import (
    ADD_CLOSED,
    ADD_LIMITED,
    FETCH_FLAGS,
    MAX_STEP,
    PENDING,
    RECORD,
    RECORD_HEAD,
    W_ADDED,
    W_BURIED,
    W_FLAGS,
    W_HEAD,
    W_HEAD_ODD,
    W_HIGH_WATER,
    W_IN_FLIGHT,
    W_POPPED,
    W_REFUSED,
    W_RETURNED,
    W_TAIL,
    W_TAIL_ODD,
)
from kemi.queue.format.outcome import CLOSED, AddResult, Stats, rest_after
from kemi.queue.holding import DeadLetter
from kemi.queue.life import Life
from kemi.queue.log import contents
from kemi.queue.log.core import ADDED, KEPT, TOO_LARGE, Delivery
from kemi.queue.log.plain import PlainLog
from kemi.queue.mutex import DOUBTED, sections, trylock, unlock
from kemi.queue.pthread import NOWHERE
from kemi.queue.segment import sibling_name
from kemi.queue.statistics import stats_of
from kemi.queue.stop import STOP_LOOK, Stop, stopper

# One lock for so much of a batch at most: some 0.5 ms.
BATCH = 256  # items
BATCH_BYTES = 1 << 20
# Reserving and settling store more: some 0.1 ms.
RESERVES, ACKS = 12, 24

_PADDING = [bytes(length) for length in range(8)]
_pack = RECORD.pack
_now = time.time


class Queue(Life):
    """A queue in shared memory, as this process uses it. Safe with threads and across fork."""

    # --- the work ---------------------------------------------------------------------------------------------------

    def add(self, key: str | bytes, value: str | bytes) -> AddResult:  # noqa: C901, PLR0912, PLR0915 - a call costs much
        """Append an item. What comes back is true when it is in the queue, and says why otherwise.

        Raises ItemError for other types, LockTimeout, SegmentError.
        """
        try:
            k = key.encode()  # type: ignore[union-attr]
            v = value.encode()  # type: ignore[union-attr]
            flags = 0
        except (AttributeError, UnicodeEncodeError):
            k, v, flags = encode(key, value)
        key_length = len(k)
        value_length = len(v)
        size = key_length + value_length + RECORD_HEAD
        step = size + 7 & -8
        if step > MAX_STEP:
            return self._refuse(TOO_LARGE)
        record = _pack(step, key_length, value_length | flags, 0, _now()) + k + v
        called = 0
        mutex = self._mutex
        ref = mutex.ref
        u64 = None
        try:
            if code := trylock(ref):
                if code == ENOTRECOVERABLE:
                    ref = NOWHERE  # a lost mutex must not be unlocked
                ref = mutex.take_slowly(code)
            u64 = self._u64
            if u64[W_FLAGS]:
                outcome, called = self._add_slowly(record, step)
            elif self._keyed:
                outcome = self._append(record, step)
            else:
                added = u64[W_ADDED]
                odd = added & 1
                tail = u64[W_TAIL + odd]
                end = tail + step
                if self._tail_low <= tail and end < self._tail_end:
                    self._bytes[tail : tail + size] = record
                    u64[W_TAIL_ODD - odd] = end
                    u64[W_ADDED] = added + 1  # commit
                    return ADDED
                outcome = self._append(record, step)
                self._tail_low, self._tail_end = self._log.tail_low, self._log.tail_end
            if outcome is not ADDED and outcome is not KEPT:
                u64[W_REFUSED] += 1
        except BaseException as error:
            if u64 is not None:
                mutex.doubt.value = DOUBTED  # no call, so nothing comes before this
            try:
                ref = self._clean_up(mutex, error, inside=u64 is not None)
            except BaseException:  # another signal has come
                ref = self._clean_up_again(mutex, error, inside=u64 is not None)
                raise
            raise
        finally:
            unlock(ref)
        if called:
            self._events.wake(called)
        return outcome

    def _refuse(self, outcome: AddResult) -> AddResult:
        def count() -> None:
            self._u64[W_REFUSED] += 1

        self._work(count)
        return outcome

    def _add_slowly(self, record: bytes, step: int) -> tuple[AddResult, int]:
        """Append where FLAGS says that there is more to do (locked). Returns the outcome, and how many to wake."""
        u64 = self._u64
        if u64[W_FLAGS] & PENDING:
            self._repair()
        flags = u64[W_FLAGS]
        if flags & ADD_CLOSED:
            return CLOSED, 0
        outcome = self._log.append_with(record, step) if flags & ADD_LIMITED else self._append(record, step)
        return outcome, self._events.notify() if outcome is ADDED else 0

    def add_many(self, pairs: Iterable[tuple[str | bytes, str | bytes]]) -> list[AddResult]:
        """Append items; what became of each, as `add` returns it, in order. One lock for BATCH of them.

        Raises an error only when nothing was added. Otherwise the rest is NOT_TRIED, or CLOSED, and another call with
        it raises what is wrong.
        """
        records = [_record(key, value) for key, value in pairs]
        outcomes: list[AddResult] = []
        while len(outcomes) < len(records):
            try:
                self._add_batch(_batch(records, len(outcomes)), outcomes)
            except MqueueError as error:
                if not outcomes:
                    raise
                outcomes += rest_after(error, len(records) - len(outcomes))
        return outcomes

    def add_record(self, record: bytes) -> AddResult:
        """`add` of an item as its record, with the time that is in it."""
        outcomes: list[AddResult] = []
        self._add_batch([record], outcomes)
        return outcomes[0]

    def _add_batch(self, records: list[bytes], outcomes: list[AddResult]) -> None:
        """Append records, and what became of each to `outcomes`, also of those before an error."""

        def add() -> int:
            done = called = 0
            while done < len(records):
                run, more = self._add_run(records, done)
                outcomes.extend(run)
                done += len(run)
                called += more
            return called

        if called := self._work(add):
            self._events.wake(called)

    def _add_run(self, records: list[bytes], first: int) -> tuple[list[AddResult], int]:
        """Append some of the records from `first` on (locked). Returns what became of them, and how many to wake."""
        u64 = self._u64
        added = 0 if self._keyed or u64[W_FLAGS] & (ADD_LIMITED | ADD_CLOSED) else self._append_run(records, first)
        if added:
            return [ADDED] * added, self._events.notify(added)
        record = records[first]
        step = len(record) + 7 & -8
        outcome, called = (TOO_LARGE, 0) if step > MAX_STEP else self._add_slowly(record, step)
        u64[W_REFUSED] += outcome > KEPT
        return [outcome], called

    def _append_run(self, records: list[bytes], first: int) -> int:
        log = self._log
        return log.append_run(records, first) if isinstance(log, PlainLog) else 0

    def pop(self) -> bytes | None:  # noqa: C901, PLR0915 - as `add`
        """Take the oldest item as its record (see `Item`); None if there is none."""
        u64: Any = self._u64
        # Without the lock. What left is read before what was added, so equal means empty at the first look. What was
        # committed by a process killed since is not overlooked: these counters are the commit.
        removed = u64[W_POPPED] + u64[W_BURIED] if self._keyed else u64[W_POPPED]
        added = u64[W_ADDED]  # it only grows; read once more where the lock was waited for
        if added == removed and u64[W_FLAGS] < FETCH_FLAGS:
            return None
        mutex = self._mutex
        ref = mutex.ref
        u64 = None
        try:
            if code := trylock(ref):
                if code == ENOTRECOVERABLE:
                    ref = NOWHERE  # a lost mutex must not be unlocked
                ref = mutex.take_slowly(code)
                added = self._u64[W_ADDED]
            u64 = self._u64
            if u64[W_FLAGS] < FETCH_FLAGS:
                popped = u64[W_POPPED]
                odd = popped & 1
                head = u64[W_HEAD + odd]
                if self._head_low <= head < self._head_end and 0 < added - popped <= self._high:
                    end = head + self._u32[head >> 2]
                    if head + RECORD_HEAD <= end < self._head_end:
                        record: bytes | None = self._bytes[head:end]
                        u64[W_HEAD_ODD - odd] = end
                        u64[W_POPPED] = popped + 1  # commit
                        return record
                if self._keyed:
                    return self._pop()
                record = self._pop()
                self._head_low, self._head_end = self._log.head_low, self._log.head_end
                self._high = u64[W_HIGH_WATER]
                return record
        except BaseException as error:
            if u64 is not None:
                mutex.doubt.value = DOUBTED  # no call, so nothing comes before this
            try:
                ref = self._clean_up(mutex, error, inside=u64 is not None)
            except BaseException:  # another signal has come
                ref = self._clean_up_again(mutex, error, inside=u64 is not None)
                raise
            raise
        finally:
            unlock(ref)
        return self._pop_slowly()

    def _pop_slowly(self) -> bytes | None:
        """`pop` where FLAGS says that there is more to do."""
        return self._take_or_prepare(self._take, None, woken=False, sleeps=False)[0]

    def pop_if(self, accept: Callable[[bytes], bool]) -> bytes | None:
        """`pop`, if `accept` wants the oldest item, which stays otherwise. It is called under the lock: be short."""

        def take() -> bytes | None:
            oldest = self._holding.next()
            if not oldest or not accept(self._log.core.records.read(oldest)):
                return None
            return self._take()

        return self._take_or_prepare(take, None, woken=False, sleeps=False)[0]

    def pop_wait(self, timeout: float | None) -> bytes | None:
        """`pop` that sleeps until there is an item, at most `timeout` seconds (None: for ever)."""
        seconds = times.seconds(timeout)
        record = self.pop()
        if record is not None or seconds <= 0:
            return record
        return self._wait(self._take, seconds)

    @overload
    def fetch(self, timeout: None) -> Item: ...
    @overload
    def fetch(self, timeout: float | None = 0.0) -> Item | None: ...
    def fetch(self, timeout: float | None = 0.0) -> Item | None:
        """Take the oldest item; wait for one at most `timeout` seconds (None: for ever). None when there is none."""
        record = self.pop_wait(timeout)
        return None if record is None else Item(record)

    def fetch_many(self, count: int, timeout: float | None = 0.0) -> list[Item]:
        """Take the oldest items, `count` at most; wait for the first one as `fetch` does.

        One lock for BATCH of them.
        """
        records: list[bytes] = []

        def take() -> bool | None:
            return self._take_batch(count - len(records), records) or None

        while len(records) < count:
            try:
                if not self._wait(take, 0.0 if records else timeout):
                    break
            except MqueueError:
                if not records:
                    raise
                break  # what was taken is not lost, and the next call meets the error again
        return [Item(record) for record in records]

    def _take_batch(self, count: int, records: list[bytes]) -> bool:
        """Append some of the oldest items to `records`, also those before an error (locked)."""
        before = len(records)
        size = 0
        while (left := min(count, BATCH) + before - len(records)) > 0 and size < BATCH_BYTES:
            run = self._log.pop_run(left) if isinstance(self._log, PlainLog) else []
            if not run:
                record = self._take()
                if record is None:
                    break
                run = [record]
            records += run
            size += sum(map(len, run))
        return len(records) > before

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

    @overload
    def reserve(self, timeout: None) -> Reservation[ReservedItem]: ...
    @overload
    def reserve(self, timeout: float | None = 0.0) -> Reservation[ReservedItem | None]: ...
    def reserve(self, timeout: float | None = 0.0) -> Reservation[Any]:
        """`with queue.reserve(timeout) as item:` takes the oldest item, as `fetch`, for the time of the block.

        When the block ends without an exception, the item is done. After an exception, or when this process is killed,
        it is the next one's to take, before all others; `item.deliveries` is then one more. `item` is None when none
        came.
        """
        return Reservation(self, None, times.seconds(timeout))

    def reserve_many(self, count: int, timeout: float | None = 0.0) -> Reservation[Batch]:
        """`with queue.reserve_many(count, timeout) as batch:` reserves up to `count` items; waits for the first one.

        Those that the block does not settle (`batch.done(items)`, `batch.give_back(items)`) are done when it ends, and
        given back after an exception.
        """
        return Reservation(self, count, times.seconds(timeout))

    def reserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        """Reserve up to `count` items, as many as one lock is for; see `reservation.Reserver`."""

        def take() -> int | None:
            number = 0
            while number < min(count, RESERVES) and (found := self._holding.reserve()):
                held, record = found
                hold = Hold(self, held, self._holding.id_of(held), held.deliveries)
                keep(ReservedItem(record, hold))
                self._holding.claim(held, hold)  # last: what an exception leaves unclaimed is given back at once
                number += 1
            if not number:
                self._refuse_full()
            return number or None

        u64 = self._u64
        removed = u64[W_POPPED] + u64[W_BURIED]
        nothing = u64[W_ADDED] == removed and u64[W_FLAGS] < FETCH_FLAGS
        if nothing and timeout is not None and timeout <= 0:
            return None
        return self._wait(take, timeout)

    def _refuse_full(self) -> None:
        """Raise MqueueError if there is an item that cannot be reserved (locked)."""
        if self._holding.is_full() and self._holding.next():
            raise MqueueError(f"queue {self.name!r}: {layout.CAPACITY} items are reserved or were given back")

    def settle(self, tokens: Sequence[Delivery], how: Settlement) -> int:
        """Settle reserved items; see `hold.Source`. Returns how many were this process's until then."""
        if how.kind == "reject":
            return sum(map(self._reject, tokens))
        done = how.kind != "give back"
        due = time.monotonic_ns() + int(how.after * 1e9) if how.after else 0
        settled = 0
        for first in range(0, len(tokens), ACKS):
            some = tokens[first : first + ACKS]
            try:
                settled += self._settle_some(some, done=done, due=due)
            except LockTimeout as error:
                for held in tokens[first:-1]:
                    self._holding.later(held, done=done)
                self._end_later(tokens[-1], error, done=done)
                raise
        return settled if how.kind != "answer" else 0  # nobody asked

    async def asettle(self, tokens: Sequence[Delivery], how: Settlement) -> int:
        """`settle`, while the event loop goes on."""
        from kemi.queue.delivery.unlocked import unlocked  # the server never needs asyncio

        await unlocked(self)
        return self.settle(tokens, how)

    def _settle_some(self, some: Sequence[Delivery], *, done: bool, due: int = 0) -> int:
        def settle() -> tuple[int, list[DeadLetter], int]:
            if done:
                return sum(map(self._holding.finish, some)), [], 0
            back = sum(self._holding.put_back(held, due) for held in some)
            return back, self._holding.dead_letters(), self._events.notify(back) if back else 0

        settled, letters, called = self._work(settle)
        if called:
            self._events.wake(called)
        for letter in letters:
            self._move_dead_letter(letter)
        return settled

    def _reject(self, held: Delivery) -> bool:
        """Let a reserved item never be delivered again. Where the lock is not to be had it is given back."""
        try:
            mine, letter = self._work(lambda: self._holding.reject(held))
        except LockTimeout as error:
            self._end_later(held, error, done=False)
            raise
        if letter is not None:
            self._move_dead_letter(letter)
        return mine

    def _end_later(self, held: Delivery, error: LockTimeout, *, done: bool) -> None:
        """End a reservation with the next item that is taken; if this thread has the lock, as soon as it is free.

        A handler ends one in the middle of a call, or the garbage collector finds one there.
        """
        self._holding.later(held, done=done)
        if isinstance(error, Reentered):
            with contextlib.suppress(RuntimeError):  # no thread to be had, as at the interpreter's end
                start_new_thread(self._end_late, ())

    def _end_late(self) -> None:
        with contextlib.suppress(MqueueError):
            self._take_or_prepare(lambda: None, None, woken=False, sleeps=False)
            self.pass_on()

    def _move_dead_letter(self, letter: DeadLetter) -> None:
        """Put what was delivered too often into its queue. A kill in between leaves it in both: at least once."""
        held, record = letter.held, letter.record
        moved = False
        # No error here: the caller may have an item in his hands.
        with contextlib.suppress(MqueueError, OSError, ValueError):
            moved = bool(self._dead_letter_queue().add_record(record))
        try:
            self._work(lambda: self._holding.settle_letter(held, moved=moved))
        except MqueueError:
            self._holding.later(held, done=moved)

    def _dead_letter_queue(self) -> Queue:
        name = header.dead_letter_of(self.segment)
        own: Queue | None = self.sibling(name)
        if own is not None:
            return own
        present: Queue | None = self._dead_letters
        if present is None or present.name != name or not present.segment.is_current():
            full_name = sibling_name(self.segment.name, name)
            try:
                present = Queue.of_segment(full_name, self._registry, self._mutex.timeout, name)
            except SegmentMissing:
                if present is None or present.name != name or present.is_closed():
                    raise
                # Its file was removed under a living server, which works on with what it has mapped; so does this one.
            self._dead_letters = present
        return present

    # --- for asyncio (see `aio`) ------------------------------------------------------------------------------------

    def wait_ready(self, seconds: float) -> bool:
        """Sleep until there is something to take, which stays. True: it is for the caller to take, or to `pass_on`."""
        there = self._wait(lambda: self._holding.next() or None, seconds)
        return bool(there)

    def pass_on(self) -> None:
        """Wake somebody else for what is there."""
        if called := self._work(self._notify_if_there):
            self._events.wake(called)

    def is_locked(self) -> bool:
        """Does somebody hold the lock, or did he die with it?"""
        return self._mutex.is_held()

    def wait_until_unlocked(self) -> None:
        """Take the lock, repair if that is needed, and let go."""
        self._work(lambda: None)

    # --- looking ----------------------------------------------------------------------------------------------------

    def peek(self, count: int | None = 1, *, reserved: bool = False) -> list[Item]:
        """The oldest `count` items (None: all), which stay.

        reserved: also those that are reserved, where they would be if every process that holds one were killed now.
        """
        most = None if count is None else max(0, count)
        places = contents.undone if reserved else contents.waiting
        return self._work(lambda: self._items(islice(places(self._log), most)))

    def undone(self) -> list[Item]:
        """All items that would be there if every process that holds one were killed now, the oldest first."""
        return self.peek(None, reserved=True)

    def _items(self, places: Iterable[int]) -> list[Item]:
        return [Item(self._log.core.records.read(at)) for at in places]

    def reason(self, outcome: AddResult) -> str:
        """Why this process's last add had that outcome: a sentence that says which limit was met."""
        if outcome is AddResult.NO_MEMORY and self._memory.refused:
            return f"no memory: {self._memory.refused}"
        if outcome is AddResult.FULL:
            return f"{outcome.reason} (maxbytes={self._u64[layout.W_BYTE_LIMIT]})"
        return outcome.reason

    def __len__(self) -> int:
        """Items that can be taken; reserved ones do not count."""
        return self._log.core.size()

    def held(self) -> int:
        """Items in the queue, with those that are reserved."""
        u64 = self._u64
        return len(self) + max(0, int(u64[W_IN_FLIGHT] - u64[W_RETURNED]))

    def __bool__(self) -> bool:
        return True  # an empty queue is still a queue

    def stats(self) -> Stats:
        """Counters and contents at one moment."""

        def look() -> Stats:
            at = next(contents.waiting(self._log), None)
            oldest = None if at is None else Item(self._log.core.records.read(at)).added
            return stats_of(self._u64, self._held_bytes(), oldest)

        return self._work(look)

    def __repr__(self) -> str:
        if self.closed:
            return f"<Queue {self.name!r} closed>"
        return f"<Queue {self.name!r} size={len(self)} addmode={self.addmode} pid={self.owner().pid}>"


sections.update((Queue.add.__code__, Queue.pop.__code__))


def _add_by_hold(queue: Queue, key: str | bytes, value: str | bytes) -> AddResult:
    outcomes: list[AddResult] = []
    queue._add_batch([_record(key, value)], outcomes)  # noqa: SLF001
    return outcomes[0]


def _pop_by_hold(queue: Queue) -> bytes | None:
    if not len(queue) and not queue._u64[W_FLAGS] >= FETCH_FLAGS:  # noqa: SLF001
        return None
    return queue._pop_slowly()  # noqa: SLF001


if sys.version_info < (3, 10):  # where a `finally` can be skipped: slower, and safe
    for _name, _function in (("add", _add_by_hold), ("pop", _pop_by_hold)):
        setattr(Queue, _name, wraps(getattr(Queue, _name))(_function))
        del getattr(Queue, _name).__wrapped__


def check_threads() -> None:
    """From now on `add` and `pop` ask `onlymain`, too: there is another thread, or is about to be one."""
    for name in ("add", "pop"):
        method = getattr(Queue, name)
        if not hasattr(method, "__wrapped__"):
            setattr(Queue, name, _checked(method))


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        onlymain.check()
        return method(*arguments, **named)

    return call


def _record(key: str | bytes, value: str | bytes) -> bytes:
    """An item as the ring has it, as long as its step. Raises ItemError."""
    try:
        k = key.encode()  # type: ignore[union-attr]
        v = value.encode()  # type: ignore[union-attr]
        flags = 0
    except (AttributeError, UnicodeEncodeError):
        k, v, flags = encode(key, value)
    size = len(k) + len(v) + RECORD_HEAD
    # What is too large for a record's head is refused by its length.
    return _pack(min(size + 7 & -8, layout.STEP_MASK), len(k), len(v) | flags, 0, _now()) + k + v + _PADDING[-size & 7]


def _batch(records: list[bytes], start: int) -> list[bytes]:
    """As many records from there on as one lock is for."""
    size = 0
    for number, record in enumerate(records[start : start + BATCH], 1):
        size += len(record)
        if size >= BATCH_BYTES:
            return records[start : start + number]
    return records[start : start + BATCH]
