# SPDX-License-Identifier: GPL-2.0-or-later
"""The calls of a queue that are made for each item, each spelled out: add, pop, and the usual reserve and settle.

Lock contract: they spell out what `section.hold` does, because another call costs a tenth of their time, and `add` and
`pop` also what `PlainLog.append` and `PlainLog.pop` do with a record that lies within a chunk, which saves another
tenth. Encode before the lock, log and wake after it. What an exception leaves half done under the lock (a signal
handler may raise anywhere) is put right by the same `recover` that follows a kill.

They are methods of `Queue`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from errno import ENOTRECOVERABLE
from functools import wraps
from typing import Any, Protocol

from kemi.errors import LockTimeout
from kemi.queue.adding import Adder, record_of
from kemi.queue.delivery.hold import DONE, Hold, Settlement, Source
from kemi.queue.delivery.holding import Holding
from kemi.queue.delivery.reservation import Keep
from kemi.queue.delivery.reserved import ReservedItem
from kemi.queue.format.item import Data, encode
from kemi.queue.format.layout import (
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
    W_POPPED,
    W_REFUSED,
    W_TAIL,
    W_TAIL_ODD,
)
from kemi.queue.format.outcome import AddResult
from kemi.queue.handle import Handle
from kemi.queue.lock import onlymain
from kemi.queue.lock.mutex import DOUBTED, Mutex, sections, trylock, unlock
from kemi.queue.lock.pthread import NOWHERE
from kemi.queue.log.core import ADDED, KEPT, TOO_LARGE, Delivery
from kemi.queue.reserving import Reserver
from kemi.queue.sync.handlers import is_from_handler
from kemi.queue.waiting import Taker

_pack = RECORD.pack
_now = time.time


class Parts(Source, Protocol):
    """What a queue has at hand for them."""

    handle: Handle
    _u64: Any
    _u32: Any
    _bytes: Any
    _mutex: Mutex
    _log: Any
    _holding: Holding
    _append: Any  # of the log
    _pop: Callable[[], bytes | None]
    _adder: Adder
    _taker: Taker
    _reserver: Reserver
    _keyed: bool
    _more: bool  # did the last `pop` leave items? In a keyed log always
    # Bounds of the chunks that `add` and `pop` were in last, and how many items a fetch saw at most.
    _tail_low: int
    _tail_end: int
    _head_low: int
    _head_end: int
    _high: int


def pop(self: Parts) -> bytes | None:  # noqa: C901, PLR0912, PLR0915 - as `add`
    """Take the oldest item as its record (see `Item`); None if there is none."""
    u64: Any = self._u64
    # Without the lock. What left is read before what was added, so equal means empty at the first look. What was
    # committed by a process killed since is not overlooked: these counters are the commit.
    if not self._more:
        if u64[W_POPPED] == u64[W_ADDED] and u64[W_FLAGS] < FETCH_FLAGS:
            return None
    elif self._keyed and u64[W_POPPED] + u64[W_BURIED] == u64[W_ADDED] and u64[W_FLAGS] < FETCH_FLAGS:
        return None
    mutex = self._mutex
    ref = mutex.ref
    u64 = None
    try:
        if code := trylock(ref):
            if code == ENOTRECOVERABLE:
                ref = NOWHERE  # a lost mutex must not be unlocked
            ref = mutex.take_slowly(code)
        u64 = self._u64
        if u64[W_FLAGS] >= FETCH_FLAGS:
            pass  # there is more to do, without this lock
        elif self._keyed:
            return self._pop()
        else:
            popped = u64[W_POPPED]
            left = u64[W_ADDED] - popped
            odd = popped & 1
            head = u64[W_HEAD + odd]
            if self._head_low <= head < self._head_end and 0 < left <= self._high:
                end = head + self._u32[head >> 2]
                if head + RECORD_HEAD <= end < self._head_end:
                    record: bytes | None = self._bytes[head:end]
                    self._more = left > 1
                    u64[W_HEAD_ODD - odd] = end
                    u64[W_POPPED] = popped + 1  # commit
                    return record
            record = self._pop()
            self._more = record is not None
            self._head_low, self._head_end = self._log.head_low, self._log.head_end
            self._high = u64[W_HIGH_WATER]
            return record
    except BaseException as error:
        if u64 is not None:
            mutex.doubt.value = DOUBTED  # no call, so nothing comes before this
        try:
            ref = self.handle.clean_up(mutex, error, inside=u64 is not None)
        except BaseException:  # another signal has come
            ref = self.handle.clean_up_again(mutex, error, inside=u64 is not None)
            raise
        raise
    finally:
        unlock(ref)
    return self._taker.take_now(self._taker.take)  # FLAGS says that there is more to do


def add(self: Parts, key: Data, value: Data) -> AddResult:  # noqa: C901, PLR0912, PLR0915 - a call costs much
    """Append an item. What comes back is true when it is in the queue, and says why otherwise.

    Raises ItemError for other types, LockTimeout, SegmentError.
    """
    try:
        k = key.encode()  # type: ignore[union-attr]
        v = value.encode()  # type: ignore[union-attr]
        flags = 0
    except (AttributeError, UnicodeEncodeError) as error:
        if is_from_handler(error):
            raise
        k, v, flags = encode(key, value)
    key_length = len(k)
    value_length = len(v)
    size = key_length + value_length + RECORD_HEAD
    step = size + 7 & -8
    if step > MAX_STEP:
        return self._adder.refuse(TOO_LARGE)
    record = _pack(step, key_length, value_length | flags, 0, _now()) + k + v
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
            outcome, called = self._adder.add_slowly(record, step)
        elif self._keyed:
            outcome, called = self._append(record, step), 0
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
            outcome, called = self._append(record, step), 0
            self._tail_low, self._tail_end = self._log.tail_low, self._log.tail_end
        if outcome is not ADDED and outcome is not KEPT:
            u64[W_REFUSED - FIRST_REFUSAL + outcome] += 1
    except BaseException as error:
        if u64 is not None:
            mutex.doubt.value = DOUBTED  # no call, so nothing comes before this
        try:
            ref = self.handle.clean_up(mutex, error, inside=u64 is not None)
        except BaseException:  # another signal has come
            ref = self.handle.clean_up_again(mutex, error, inside=u64 is not None)
            raise
        raise
    finally:
        unlock(ref)
    if called:
        self.handle.events.wake(called)
    return outcome


def reserve_some(self: Parts, count: int, timeout: float | None, keep: Keep) -> int | None:
    """Reserve up to `count` items, as many as one lock is for; see `reservation.Reserver`."""
    onlymain.check()
    holding, u64 = self._holding, self._u64
    holding.begin()
    if count != 1 or u64[W_ADDED] == u64[W_POPPED] + u64[W_BURIED] or not holding.is_quick():
        return self._reserver.reserve_some(count, timeout, keep)
    # The usual case: there is something, and nothing else to look after.
    mutex = self._mutex
    ref = mutex.ref
    inside = False
    try:
        if code := trylock(ref):
            if code == ENOTRECOVERABLE:
                ref = NOWHERE
            ref = mutex.take_slowly(code)
        inside = True
        if found := holding.reserve_quickly():
            held, record = found
            hold = Hold(self, held, holding.id_of(held), held.deliveries)
            keep(ReservedItem(record, hold))
            holding.claim_reserved(held, hold)  # last: what an exception leaves unclaimed is given back at once
            return 1
    except BaseException as error:
        if inside:
            mutex.doubt.value = DOUBTED
        try:
            ref = self.handle.clean_up(mutex, error, inside=inside)
        except BaseException:
            ref = self.handle.clean_up_again(mutex, error, inside=inside)
            raise
        raise
    finally:
        unlock(ref)
    return self._reserver.reserve_some(count, timeout, keep)


def settle(self: Parts, tokens: Sequence[Delivery], how: Settlement) -> int:  # noqa: C901 - as `add`
    """Settle reserved items; see `hold.Source`. Returns how many were this process's until then."""
    if how is not DONE or len(tokens) != 1:
        return self._reserver.settle(tokens, how)
    onlymain.check()
    mutex = self._mutex
    ref = mutex.ref
    inside = False
    try:
        if code := trylock(ref):
            if code == ENOTRECOVERABLE:
                ref = NOWHERE
            ref = mutex.take_slowly(code)
        inside = True
        if self._u64[W_FLAGS] & PENDING:
            self.handle.repair()
        return self._holding.finish(tokens[0])
    except BaseException as error:
        if inside:
            mutex.doubt.value = DOUBTED
        try:
            ref = self.handle.clean_up(mutex, error, inside=inside)
        except BaseException:
            ref = self.handle.clean_up_again(mutex, error, inside=inside)
            raise
        if isinstance(error, LockTimeout) and not inside and not is_from_handler(error):
            self._reserver.end_later(tokens[0], error, done=True)
        raise
    finally:
        unlock(ref)


sections.update((add.__code__, pop.__code__, reserve_some.__code__, settle.__code__))


# --- where a `finally` can be skipped (Python 3.9): slower, and safe --------------------------------------------------


def use_tokens(queue_type: Any) -> None:
    """Put forms that take the lock by `section.hold` in place of a class's methods."""
    forms: dict[str, Callable[..., Any]] = {"add": _add_by_hold, "pop": _pop_by_hold}
    forms.update(reserve_some=_reserve_by_hold, settle=_settle_by_hold)
    for name, function in forms.items():
        setattr(queue_type, name, wraps(getattr(queue_type, name))(function))
        del getattr(queue_type, name).__wrapped__


def _add_by_hold(self: Parts, key: Data, value: Data) -> AddResult:
    outcomes: list[AddResult] = []
    self._adder.add_batch([record_of(key, value)], outcomes)
    return outcomes[0]


def _pop_by_hold(self: Parts) -> bytes | None:
    if not self._log.core.size() and not self._u64[W_FLAGS] >= FETCH_FLAGS:
        return None
    return self._taker.take_now(self._taker.take)


def _reserve_by_hold(self: Parts, count: int, timeout: float | None, keep: Keep) -> int | None:
    return self._reserver.reserve_some(count, timeout, keep)


def _settle_by_hold(self: Parts, tokens: Sequence[Delivery], how: Settlement) -> int:
    return self._reserver.settle(tokens, how)
