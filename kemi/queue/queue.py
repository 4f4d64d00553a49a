"""One queue as its users have it: add, take, reserve, look.

Lock contract: `add` and `pop` spell out what `section.hold` does, because another call costs a tenth of their time, and
what `PlainLog.append` and `PlainLog.pop` do with a record that lies within a chunk, which saves another tenth.
Encode before the lock, log and wake after it. What an exception leaves half done under the lock (a signal
handler may raise anywhere) is put right by the same `recover` that follows a kill.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from _thread import start_new_thread
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from errno import ENOTRECOVERABLE
from functools import wraps
from hashlib import sha256
from itertools import islice
from types import MappingProxyType
from typing import Any, TypeVar, overload

from kemi import times
from kemi.errors import LockTimeout, MqueueError, Reentered, SegmentMissing
from kemi.queue import answering
from kemi.queue.catalog import header
from kemi.queue.delivery.hold import DONE, Hold, Settlement
from kemi.queue.delivery.holding import DeadLetter
from kemi.queue.delivery.reservation import Keep, Reservation
from kemi.queue.delivery.reserved import Batch, ReservedItem
from kemi.queue.format import layout
from kemi.queue.format.item import Data, Item, deadline_after, encode, item_of
from kemi.queue.format.layout import (
    ADD_CLOSED,
    ADD_LIMITED,
    FETCH_FLAGS,
    FIRST_REFUSAL,
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
    W_MAX_AGE,
    W_POPPED,
    W_REFUSED,
    W_RETURNED,
    W_TAIL,
    W_TAIL_ODD,
)
from kemi.queue.format.outcome import CLOSED, NOT_TRIED, AddResult, Stats, rest_after
from kemi.queue.format.question import is_question
from kemi.queue.format.statistics import stats_of
from kemi.queue.kernel import choice
from kemi.queue.life import Life
from kemi.queue.lock import onlymain
from kemi.queue.lock.mutex import DOUBTED, sections, trylock, unlock
from kemi.queue.lock.pthread import NOWHERE
from kemi.queue.lock.section import hold
from kemi.queue.log import contents
from kemi.queue.log.core import ADDED, KEPT, TOO_LARGE, Delivery
from kemi.queue.log.plain import PlainLog
from kemi.queue.shm.segment import answers_name, sibling_name
from kemi.queue.stop import STOP_LOOK, Stop, stopper
from kemi.queue.sync.clock import now

# One lock for so much of a batch at most: some 0.5 ms.
BATCH = 256  # items
BATCH_BYTES = 1 << 20
# Reserving and settling store more: some 0.1 ms.
RESERVES, ACKS = 12, 24
_TOLD = 60.0  # seconds between two lines that all entries are in use

_Result = TypeVar("_Result")

_PADDING = [bytes(length) for length in range(8)]
_pack = RECORD.pack
_now = time.time


class Queue(Life):
    """A queue in shared memory, as this process uses it. Safe with threads and across fork."""

    _told_full = _told_unmoved = -math.inf
    _answers: Mapping[int, Queue] = MappingProxyType({})  # by shard, as they were needed

    # --- the work ---------------------------------------------------------------------------------------------------

    def add(self, key: Data, value: Data) -> AddResult:  # noqa: C901, PLR0912, PLR0915 - a call costs much
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
                u64[W_REFUSED - FIRST_REFUSAL + outcome] += 1
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
            self._u64[W_REFUSED - FIRST_REFUSAL + outcome] += 1

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

    def add_many(self, pairs: Iterable[tuple[Data, Data] | Item]) -> list[AddResult]:
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

    def add_from(self, source: str | bytes, entries: Iterable[tuple[tuple[int, int], Data, Data]]) -> list[AddResult]:
        """Append what comes from a stream elsewhere, each entry once, whatever is killed on the way.

        source: what tells this stream from others, of which a queue knows POSITIONS at most. entries: position, key and
        value of each; positions are two numbers below 1 << 64 that grow. The position is stored by the same commit
        as the item, so an entry at or before the stored one is KEPT: it was added already. From the first refusal on
        entries are NOT_TRIED. Else as `add_many`; raises MqueueError when there is no place for one more stream.
        """
        number = _source_number(source)
        records = [(position, _record(key, value)) for position, key, value in entries]
        outcomes: list[AddResult] = []
        while len(outcomes) < len(records) and (not outcomes or outcomes[-1]):
            first = len(outcomes)
            batch = _batch([record for _, record in records[first:]], 0)
            try:
                self._add_batch_from(number, list(zip((position for position, _ in records[first:]), batch)), outcomes)
            except MqueueError:
                if not outcomes:
                    raise
                break
        return outcomes + [NOT_TRIED] * (len(records) - len(outcomes))

    def _add_batch_from(
        self, source: int, entries: list[tuple[tuple[int, int], bytes]], outcomes: list[AddResult]
    ) -> None:
        def add() -> int:
            called = 0
            for place, record in entries:
                outcome, more = self._add_one_from(source, place, record)
                outcomes.append(outcome)
                called += more
                if not outcome:
                    self._u64[W_REFUSED - FIRST_REFUSAL + outcome] += 1
                    break
            return called

        if called := self._work(add):
            self._events.wake(called)

    def _add_one_from(self, source: int, place: tuple[int, int], record: bytes) -> tuple[AddResult, int]:
        """Append an entry of a stream, if it is a new one (locked). Returns the outcome, and how many to wake."""
        present = self._log.core.position_of(source)
        if present is None:
            raise MqueueError(f"queue {self.name!r} takes items from {layout.POSITIONS} streams already")
        if place <= (present.major, present.minor):
            return AddResult.KEPT, 0
        if self._u64[W_FLAGS] & ADD_CLOSED:
            return CLOSED, 0
        step = len(record) + 7 & -8
        outcome = self._log.append_with(record, step, present._replace(major=place[0], minor=place[1]))
        return outcome, self._events.notify() if outcome is ADDED else 0

    def position(self, source: str | bytes) -> tuple[int, int] | None:
        """How far a stream was added by `add_from`; None if nothing of it was."""
        number = _source_number(source)
        found = self._work(lambda: self._log.core.position_of(number))
        return (found.major, found.minor) if found and (found.major or found.minor) else None

    def add_record_if(self, record: bytes, accept: Callable[[], bool], *, wakes: bool = True) -> AddResult:
        """`add_record`, unless `accept` is false, which makes it FULL. It is called under the lock: be short.

        wakes: False where it is enough that a sleeper finds the item within RECHECK, or with the next one.
        """

        def add() -> tuple[AddResult, int]:
            if not accept():
                self._u64[W_REFUSED - FIRST_REFUSAL + AddResult.FULL] += 1
                return AddResult.FULL, 0
            run, called = self._add_run([record], 0) if wakes else self._add_quietly(record)
            return run[0], called

        outcome, called = self._work(add)
        if called:
            self._events.wake(called)
        return outcome

    def _add_quietly(self, record: bytes) -> tuple[list[AddResult], int]:
        """Append a record, and wake nobody (locked)."""
        if self._u64[W_FLAGS] & ADD_CLOSED:
            return [CLOSED], 0
        return [self._log.append_with(record, len(record) + 7 & -8)], 0

    def add_question(self, record: bytes) -> AddResult:
        """Append a question. It never takes the place of an older one: at the size limit it is FULL."""
        return self.add_record_if(record, lambda: not self.is_at_limit())

    def is_at_limit(self) -> bool:
        """Return True if one item more would make the oldest one go."""
        limit = self._u64[layout.W_SIZE_LIMIT]
        return bool(limit and len(self) >= limit)

    def count(self, word: int, by: int = 1) -> None:
        """Add to a word of the header."""

        def count() -> None:
            self._u64[word] += by

        self._work(count)

    def locked(self, work: Callable[[], _Result]) -> _Result:
        """Call `work` with the lock held: be short."""
        return self._work(work)

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
        added = 0 if u64[W_FLAGS] & (ADD_LIMITED | ADD_CLOSED) else self._append_run(records, first)
        if added:
            return [ADDED] * added, self._events.notify(added)
        record = records[first]
        step = len(record) + 7 & -8
        outcome, called = (TOO_LARGE, 0) if step > MAX_STEP else self._add_slowly(record, step)
        if not outcome:
            u64[W_REFUSED - FIRST_REFUSAL + outcome] += 1
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
        max_age = self.max_age  # read before: nothing may fail once an item was taken
        record = self.pop_wait(timeout)
        return None if record is None else item_of(record, max_age)

    @property
    def max_age(self) -> int:
        """For how many ns an item is delivered; 0: for ever."""
        age: int = self._u64[W_MAX_AGE]
        return age

    def fetch_many(self, count: int, timeout: float | None = 0.0) -> list[Item]:
        """Take the oldest items, `count` at most; wait for the first one as `fetch` does.

        One lock for BATCH of them.
        """
        records: list[bytes] = []
        max_age = self.max_age

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
        return [item_of(record, max_age) for record in records]

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
        holding, max_age, most = self._holding, self.max_age, min(count, RESERVES)

        def take(reserve: Callable[[], tuple[Delivery, bytes] | None] = holding.reserve) -> int | None:
            number = 0
            while number < most and (found := reserve()):
                self._keep(*found, keep, max_age)
                number += 1
            if not number and reserve == holding.reserve:
                self._refuse_full()
            return number or None

        holding.begin()
        u64 = self._u64
        removed = u64[W_POPPED] + u64[W_BURIED]
        if u64[W_ADDED] != removed and holding.is_quick():
            # The usual case: there is something, and nothing else to look after.
            if number := hold(self._mutex, lambda: take(holding.reserve_quickly), self._put_right):
                return number
        elif u64[W_FLAGS] < FETCH_FLAGS and timeout is not None and timeout <= 0 and u64[W_ADDED] == removed:
            return None
        return self._wait(take, timeout)

    def _keep(self, held: Delivery, record: bytes, keep: Keep, max_age: int) -> None:
        """Hand over what was reserved (locked)."""
        asked = is_question(record)
        one = Hold(self, held, self._holding.id_of(held), held.deliveries, asked=asked)
        deadline = answering.deadline_of(record) if asked else deadline_after(record, max_age)
        keep(ReservedItem(record, one, deadline))
        self._holding.claim_reserved(held, one)  # last: what an exception leaves unclaimed is given back at once

    def has_workers(self) -> bool:
        """Does a process live that reserved items of this queue, or tried to? Without the lock; one system call."""
        return self._holding.has_workers()

    def _refuse_full(self) -> None:
        """Raise MqueueError if there is an item, and processes hold all that can be reserved (locked).

        Where some were given back for later, the next one of these is waited for, and a line of the log says so.
        """
        holding, u64 = self._holding, self._u64
        if not holding.is_full() or holding.is_behind or not holding.is_there():
            return
        if not u64[W_RETURNED]:
            raise MqueueError(f"queue {self.name!r}: {layout.CAPACITY} items are reserved")
        if time.monotonic() - self._told_full >= _TOLD:
            self._told_full = time.monotonic()
            import logging  # never needed as a rule

            logging.getLogger("mqueue_kemi").warning(
                "queue %r: %d items are reserved or were given back for later, the most there can be; reserve() waits "
                "for the next of these, due in %.1f s",
                *(self.name, layout.CAPACITY, holding.seconds_to_due(math.inf)),
            )

    def settle(self, tokens: Sequence[Delivery], how: Settlement) -> int:
        """Settle reserved items; see `hold.Source`. Returns how many were this process's until then."""
        if how is DONE and len(tokens) == 1:
            return self._finish(tokens[0])
        told = self._tell(tokens, how) if how.kind in ("answer", "reject") else 0
        if how.kind == "reject":
            return sum(map(self._reject, tokens))
        done = how.kind != "give back"
        due = now() + int(how.after * 1e9) if how.after else 0
        settled = 0
        for first in range(0, len(tokens), ACKS):
            some = tokens[first : first + ACKS]
            try:
                settled += self._settle_some(some, due, done=done, counted=how.counted)
            except LockTimeout as error:
                for held in tokens[first:-1]:
                    self._holding.later(held, due, done=done, counted=how.counted)
                self._end_later(tokens[-1], error, due, done=done, counted=how.counted)
                raise
        return settled if how.kind != "answer" else told

    def _finish(self, held: Delivery) -> int:
        """`settle` of one item that is done, which most are."""

        def finish() -> int:
            if self._u64[W_FLAGS] & PENDING:
                self._repair()
            return self._holding.finish(held)

        try:
            return hold(self._mutex, finish, self._put_right)
        except LockTimeout as error:
            self._end_later(held, error, done=True)
            raise

    def _tell(self, tokens: Sequence[Delivery], how: Settlement) -> int:
        """Tell who asked. Returns how many wait for it."""
        told = 0
        for held in tokens:
            try:
                record = self._work(lambda held=held: self._holding.record_of(held))  # type: ignore[misc]
                if record is None:
                    continue
                if how.kind == "answer":
                    told += answering.answer(self, record, how.value)
                else:
                    answering.fail(self, record, how.reason)
            except LockTimeout as error:
                self._end_later(held, error, done=False)
                raise
        return told

    async def asettle(self, tokens: Sequence[Delivery], how: Settlement) -> int:
        """`settle`, while the event loop goes on."""
        from kemi.queue.delivery.unlocked import unlocked  # the server never needs asyncio

        await unlocked(self)
        return self.settle(tokens, how)

    def _settle_some(self, some: Sequence[Delivery], due: int, *, done: bool, counted: bool) -> int:
        def settle() -> tuple[int, list[DeadLetter], int]:
            if done:
                return sum(map(self._holding.finish, some)), [], 0
            back = sum(self._holding.put_back(held, due, counted=counted) for held in some)
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

    def _end_later(self, held: Delivery, error: LockTimeout, due: int = 0, *, done: bool, counted: bool = True) -> None:
        """End a reservation with the next item that is taken; if this thread has the lock, as soon as it is free.

        A handler ends one in the middle of a call, or the garbage collector finds one there.
        """
        self._holding.later(held, due, done=done, counted=counted)
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
        why: object = ""
        try:
            outcome = self._dead_letter_queue().add_record(record)
            moved, why = bool(outcome), outcome.reason
        except (MqueueError, OSError, ValueError) as error:
            why = error
        if not moved:
            self._tell_unmoved(why)
        try:
            self._work(lambda: self._holding.settle_letter(held, moved=moved))
        except MqueueError:
            self._holding.later(held, done=moved)

    def _tell_unmoved(self, why: object) -> None:
        """Say in the log, once a minute, that an item stays that should be in the queue for dead letters."""
        if time.monotonic() - self._told_unmoved >= _TOLD:
            self._told_unmoved = time.monotonic()
            import logging  # never needed as a rule

            logging.getLogger("mqueue_kemi").warning(
                "queue %r: an item could not be moved to its queue for dead letters and stays (%s); it is tried again, "
                "and counted as unmoved",
                *(self.name, why),
            )

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

    def answers_queue(self, shard: int, created: int) -> Queue | None:
        """The answers queue with that number and time of making; None if it is gone, as with its server."""
        present = self._answers.get(shard)
        if present is not None and present.segment.words[layout.W_CREATED] == created:
            return present
        try:
            found = Queue.of_segment(answers_name(self.segment.name, shard), self._registry, self._mutex.timeout)
        except SegmentMissing:
            return None
        if found.segment.words[layout.W_CREATED] != created:
            found.close()
            return None
        self._answers = {**self._answers, shard: found}
        return found

    # --- for asyncio (see `aio`) ------------------------------------------------------------------------------------

    def wait_ready(self, seconds: float) -> bool:
        """Sleep until there is something to take, which stays. True: it is for the caller to take, or to `pass_on`."""

        def look() -> bool | None:
            holding = self._holding
            return (holding.is_due() if holding.is_full() else holding.next() > 0) or None

        return bool(self._wait(look, seconds))

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
        """The oldest `count` items (None: all), which stay; none that is too old, or was given back for later.

        reserved: also these, and those that are reserved, where they would be if every process that holds one were
        killed now.
        """
        most = None if count is None else max(0, count)

        def look() -> list[Item]:
            if reserved:
                return self._items(islice(contents.undone(self._log), most))
            before, added_at = self._holding.oldest_allowed(), self._log.core.records.added_at
            there = (at for at in contents.waiting(self._log, now()) if not added_at(at) < before)
            return self._items(islice(there, most))

        return self._work(look)

    def undone(self) -> list[Item]:
        """All items that would be there if every process that holds one were killed now, the oldest first."""
        return self.peek(None, reserved=True)

    def _items(self, places: Iterable[int]) -> list[Item]:
        max_age = self.max_age
        return [item_of(self._log.core.records.read(at), max_age) for at in places]

    def reason(self, outcome: AddResult) -> str:
        """Why this process's last add had that outcome: a sentence that says which limit was met."""
        if outcome is AddResult.NO_MEMORY and self._memory.refused:
            return f"no memory: {self._memory.refused}"
        if outcome is AddResult.FULL:
            return f"{outcome.reason} (maxbytes={self._u64[layout.W_BYTE_LIMIT]})"
        return outcome.reason

    def __len__(self) -> int:
        """Items that can be taken; neither reserved ones count, nor those that were given back for later.

        One that is older than maxage counts until it is dropped, by whoever would take it.
        """
        size: int = self._log.core.size()
        return max(0, size - self._holding.count_later()) if self._u64[W_RETURNED] else size

    def held(self) -> int:
        """Items in the queue, with those that are reserved, or were given back for later."""
        u64 = self._u64
        return self._log.core.size() + max(0, int(u64[W_IN_FLIGHT] - u64[W_RETURNED]))

    def __bool__(self) -> bool:
        return True  # an empty queue is still a queue

    def stats(self) -> Stats:
        """Counters and contents at one moment."""

        def look() -> Stats:
            at = next(contents.waiting(self._log, now()), None)
            oldest = None if at is None else Item(self._log.core.records.read(at)).added
            return stats_of(self._u64, self._held_bytes(), oldest, self._holding.count_later())

        return self._work(look)

    def __repr__(self) -> str:
        if self.closed:
            return f"<Queue {self.name!r} closed>"
        return f"<Queue {self.name!r} size={len(self)} addmode={self.addmode} pid={self.owner().pid}>"


sections.update((Queue.add.__code__, Queue.pop.__code__))


def _add_by_hold(queue: Queue, key: Data, value: Data) -> AddResult:
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


choice.take_over(Queue, ADDED, KEPT)


def check_threads() -> None:
    """From now on `add` and `pop` ask `onlymain`, too: there is another thread, or is about to be one."""
    if choice.check_threads(_checked):
        return
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


def _record(key: Data, value: Data) -> bytes:
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


def _source_number(source: str | bytes) -> int:
    """What a stream is called in the header."""
    name = source.encode("utf-8", "surrogateescape") if isinstance(source, str) else source
    return int.from_bytes(sha256(name).digest()[:8], "big") | 1


def _batch(records: list[bytes], start: int) -> list[bytes]:
    """As many records from there on as one lock is for."""
    size = 0
    for number, record in enumerate(records[start : start + BATCH], 1):
        size += len(record)
        if size >= BATCH_BYTES:
            return records[start : start + number]
    return records[start : start + BATCH]
