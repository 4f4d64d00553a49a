# SPDX-License-Identifier: GPL-2.0-or-later
"""Adding to a queue in every way but the hot one, which is `Queue.add`: by batches, from streams, under conditions.

Lock contract: what is marked "locked" is called with the queue's lock held, and says how many waiters are to be woken
after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import final

from kemi.errors import MqueueError
from kemi.queue.format import layout
from kemi.queue.format.item import Data, Item, encode
from kemi.queue.format.layout import (
    ADD_CLOSED,
    ADD_LIMITED,
    FIRST_REFUSAL,
    MAX_STEP,
    PENDING,
    RECORD,
    RECORD_HEAD,
    W_FLAGS,
    W_REFUSED,
)
from kemi.queue.format.outcome import BREAKS_OFF, CLOSED, NOT_TRIED, AddResult, rest_after
from kemi.queue.handle import Handle
from kemi.queue.log.core import ADDED, TOO_LARGE
from kemi.queue.log.plain import PlainLog
from kemi.queue.sync.handlers import is_from_handler
from kemi.queue.waiting import BATCH, BATCH_BYTES

_PADDING = [bytes(length) for length in range(8)]
_pack = RECORD.pack
_now = time.time


@final
class Adder:
    """Adds to one queue."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def refuse(self, outcome: AddResult) -> AddResult:
        """Count what is refused without a look at the queue, and return it."""

        def count() -> None:
            self._handle.u64[W_REFUSED - FIRST_REFUSAL + outcome] += 1

        self._handle.work(count)
        return outcome

    def add_slowly(self, record: bytes, step: int) -> tuple[AddResult, int]:
        """Append where FLAGS says that there is more to do (locked). Returns the outcome, and how many to wake."""
        u64 = self._handle.u64
        if u64[W_FLAGS] & PENDING:
            self._handle.repair()
        flags = u64[W_FLAGS]
        if flags & ADD_CLOSED:
            return CLOSED, 0
        outcome = (
            self._handle.log.append_with(record, step) if flags & ADD_LIMITED else self._handle.log.append(record, step)
        )
        return outcome, self._handle.events.notify() if outcome is ADDED else 0

    def many(self, pairs: Iterable[tuple[Data, Data] | Item]) -> list[AddResult]:
        """Append items; what became of each, as `add` returns it, in order; some with each lock.

        Raises an error only when nothing was added. Otherwise the rest is NOT_TRIED, or CLOSED, and another call with
        it raises what is wrong.
        """
        records = [record_of(key, value) for key, value in pairs]
        outcomes: list[AddResult] = []
        while len(outcomes) < len(records):
            try:
                self.add_batch(_batch(records, len(outcomes)), outcomes)
            except BREAKS_OFF as error:
                if not outcomes or is_from_handler(error):
                    raise
                outcomes += rest_after(error, len(records) - len(outcomes))
        return outcomes

    def record(self, record: bytes) -> AddResult:
        """Append an item as its record, with the time that is in it."""
        outcomes: list[AddResult] = []
        self.add_batch([record], outcomes)
        return outcomes[0]

    def from_stream(
        self, source: str | bytes, entries: Iterable[tuple[tuple[int, int], Data, Data]]
    ) -> list[AddResult]:
        """Append what comes from a stream elsewhere, each entry once, whatever is killed on the way.

        source: what tells this stream from others, of which a queue knows POSITIONS at most. entries: position, key and
        value of each; positions are two numbers below 1 << 64 that grow. The position is stored by the same commit
        as the item, so an entry at or before the stored one is KEPT: it was added already. From the first refusal on
        entries are NOT_TRIED. Else as `add_many`; raises MqueueError when there is no place for one more stream.
        """
        number = _source_number(source)
        records = [(position, record_of(key, value)) for position, key, value in entries]
        outcomes: list[AddResult] = []
        while len(outcomes) < len(records) and (not outcomes or outcomes[-1]):
            first = len(outcomes)
            batch = _batch([record for _, record in records[first:]], 0)
            try:
                self._add_batch_from(number, list(zip((position for position, _ in records[first:]), batch)), outcomes)
            except BREAKS_OFF as error:
                if not outcomes or is_from_handler(error):
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
                    self._handle.u64[W_REFUSED - FIRST_REFUSAL + outcome] += 1
                if not outcome or not self._handle.holding.lock_time.is_left():
                    break
            return called

        if called := self._handle.work(add):
            self._handle.events.wake(called)

    def _add_one_from(self, source: int, place: tuple[int, int], record: bytes) -> tuple[AddResult, int]:
        """Append an entry of a stream, if it is a new one (locked). Returns the outcome, and how many to wake."""
        present = self._handle.log.core.position_of(source)
        if present is None:
            raise MqueueError(f"queue {self._handle.name!r} takes items from {layout.POSITIONS} streams already")
        if place <= (present.major, present.minor):
            return AddResult.KEPT, 0
        if self._handle.u64[W_FLAGS] & ADD_CLOSED:
            return CLOSED, 0
        step = len(record) + 7 & -8
        outcome = self._handle.log.append_with(record, step, present._replace(major=place[0], minor=place[1]))
        return outcome, self._handle.events.notify() if outcome is ADDED else 0

    def position(self, source: str | bytes) -> tuple[int, int] | None:
        """How far a stream was added by `from_stream`; None if nothing of it was."""
        number = _source_number(source)
        found = self._handle.work(lambda: self._handle.log.core.position_of(number))
        return (found.major, found.minor) if found and (found.major or found.minor) else None

    def record_if(self, record: bytes, accept: Callable[[], bool], *, wakes: bool = True) -> AddResult:
        """`record`, unless `accept` is false, which makes it FULL. It is called under the lock: be short.

        wakes: False where it is enough that a sleeper finds the item within RECHECK, or with the next one.
        """

        def add() -> tuple[AddResult, int]:
            if not accept():
                self._handle.u64[W_REFUSED - FIRST_REFUSAL + AddResult.FULL] += 1
                return AddResult.FULL, 0
            run, called = self._add_run([record], 0) if wakes else self._add_quietly(record)
            return run[0], called

        outcome, called = self._handle.work(add)
        if called:
            self._handle.events.wake(called)
        return outcome

    def _add_quietly(self, record: bytes) -> tuple[list[AddResult], int]:
        """Append a record, and wake nobody (locked)."""
        if self._handle.u64[W_FLAGS] & ADD_CLOSED:
            return [CLOSED], 0
        return [self._handle.log.append_with(record, len(record) + 7 & -8)], 0

    def add_batch(self, records: list[bytes], outcomes: list[AddResult]) -> None:
        """Append records as long as there is time.

        outcomes: gets what became of each, also of those before an error.
        """

        def add() -> int:
            done = called = 0
            goes_on = True
            while goes_on and done < len(records):
                run, more = self._add_run(records, done)
                outcomes.extend(run)
                done += len(run)
                called += more
                goes_on = self._handle.holding.lock_time.is_left()
            return called

        if called := self._handle.work(add):
            self._handle.events.wake(called)

    def _add_run(self, records: list[bytes], first: int) -> tuple[list[AddResult], int]:
        """Append some of the records from `first` on (locked). Returns what became of them, and how many to wake."""
        u64 = self._handle.u64
        added = 0 if u64[W_FLAGS] & (ADD_LIMITED | ADD_CLOSED) else self._append_run(records, first)
        if added:
            return [ADDED] * added, self._handle.events.notify(added)
        record = records[first]
        step = len(record) + 7 & -8
        outcome, called = (TOO_LARGE, 0) if step > MAX_STEP else self.add_slowly(record, step)
        if not outcome:
            u64[W_REFUSED - FIRST_REFUSAL + outcome] += 1
        return [outcome], called

    def _append_run(self, records: list[bytes], first: int) -> int:
        log = self._handle.log
        return log.append_run(records, first) if isinstance(log, PlainLog) else 0


def record_of(key: Data, value: Data) -> bytes:
    """An item as the ring has it, as long as its step. Raises ItemError."""
    try:
        k = key.encode()  # type: ignore[union-attr]
        v = value.encode()  # type: ignore[union-attr]
        flags = 0
    except (AttributeError, UnicodeEncodeError) as error:
        if is_from_handler(error):
            raise
        k, v, flags = encode(key, value)
    size = len(k) + len(v) + RECORD_HEAD
    # What is too large for a record's head is refused by its length.
    return _pack(min(size + 7 & -8, layout.STEP_MASK), len(k), len(v) | flags, 0, _now()) + k + v + _PADDING[-size & 7]


def _source_number(source: str | bytes) -> int:
    """What a stream is called in the header."""
    from hashlib import sha256  # an OpenSSL, which takes long to load

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
