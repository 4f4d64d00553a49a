# SPDX-License-Identifier: GPL-2.0-or-later
"""One queue as its users have it: add, take, reserve, look.

A queue HAS its parts: a handle (segment, log, lock), and what adds, takes and reserves with that. Its methods call
them, but for those that are called for each item (see `hot`), which have what they need at hand.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

from kemi import times
from kemi.queue import hot, life
from kemi.queue.adding import Adder
from kemi.queue.delivery.hold import DONE, Hold, Settlement
from kemi.queue.delivery.reservation import Reservation
from kemi.queue.delivery.reserved import Batch, ReservedItem
from kemi.queue.format import layout
from kemi.queue.format.item import Data, Item, item_of
from kemi.queue.format.layout import W_ADDED, W_BURIED, W_IN_FLIGHT, W_MAX_AGE, W_POPPED, W_RETURNED
from kemi.queue.format.outcome import BREAKS_OFF, CLOSED, AddResult, Stats, rest_after
from kemi.queue.format.statistics import stats_of
from kemi.queue.handle import Closed, Handle
from kemi.queue.kernel import choice
from kemi.queue.lock import onlymain
from kemi.queue.log import contents
from kemi.queue.log.core import ADDED, FULL, KEPT, Delivery
from kemi.queue.others import Others
from kemi.queue.reserving import DeadLetters, Reserver
from kemi.queue.shm.segment import Segment
from kemi.queue.sync.clock import now
from kemi.queue.waiting import Taker

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    _Properties = ParamSpec("_Properties")

_SMALL = (1 << 30) - 1  # up to there Python compares numbers faster
_PARTS = ("_u64", "_mutex", "_append", "_pop", "_log", "_holding", "_adder", "_taker", "_reserver")


def _queue_of(make: Callable[_Properties, Handle]) -> Callable[_Properties, Queue]:
    @wraps(make)
    def queue_of(*place: _Properties.args, **properties: _Properties.kwargs) -> Queue:
        return Queue(make(*place, **properties))

    return queue_of


class Queue(choice.Base):
    """A queue in shared memory, as this process uses it. Safe with threads and across fork."""

    def __init__(self, handle: Handle) -> None:
        """Its `segment` and `name` are the handle's."""
        self.handle = handle
        self.name = handle.name
        self.segment: Segment = handle.segment
        self.addmode = handle.addmode
        self._others = Others(handle.segment, partial(_attach_other, handle))
        letters = DeadLetters(handle, self._others)
        self._taker = Taker(handle, letters.move)
        self._reserver = Reserver(handle, self, self._others, self._taker, letters)
        self._adder = Adder(handle)
        # What `add` and `pop` have at hand; the bounds are those of chunks that they were in last.
        self._tail_low = self._tail_end = self._head_low = self._head_end = self._high = 0
        self._keyed = self._more = handle.addmode != 0
        self.have_at_hand()
        choice.attach(self, handle.segment)

    def have_at_hand(self) -> None:
        """Have the parts of the handle at hand, as they are now."""
        handle = self.handle
        self._u64, self._u32, self._bytes = handle.u64, handle.u32, handle.bytes
        self._mutex, self._log, self._holding = handle.mutex, handle.log, handle.holding
        self._append, self._pop = handle.log.append, handle.log.pop
        chunks = handle.log.core.chunks
        self._most: int = min(chunks.count << chunks.bits, _SMALL)  # items, at a byte each

    @property
    def closed(self) -> bool:
        """Whether this process has let go of it."""
        return self.handle.closed

    # --- the work ---------------------------------------------------------------------------------------------------

    add = hot.add
    pop = hot.pop

    def add_many(self, pairs: Iterable[tuple[Data, Data] | Item]) -> list[AddResult]:
        """Append items; see `Adder.many`."""
        return self._adder.many(pairs)

    def add_record(self, record: bytes) -> AddResult:
        """`add` of an item as its record, with the time that is in it."""
        return self._adder.record(record)

    def add_from(self, source: str | bytes, entries: Iterable[tuple[tuple[int, int], Data, Data]]) -> list[AddResult]:
        """Append what comes from a stream elsewhere; see `Adder.from_stream`."""
        return self._adder.from_stream(source, entries)

    def position(self, source: str | bytes) -> tuple[int, int] | None:
        """How far a stream was added by `add_from`; None if nothing of it was."""
        return self._adder.position(source)

    def add_record_if(self, record: bytes, accept: Callable[[], bool], *, wakes: bool = True) -> AddResult:
        """`add_record`, unless `accept` is false; see `Adder.record_if`."""
        return self._adder.record_if(record, accept, wakes=wakes)

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

        self.handle.work(count)

    def pop_if(self, accept: Callable[[bytes], bool]) -> bytes | None:
        """`pop`, if `accept` wants the oldest item, which stays otherwise. It is called under the lock: be short."""
        return self._taker.take_if(accept)

    def pop_wait(self, timeout: float | None) -> bytes | None:
        """`pop` that sleeps until there is an item, at most `timeout` seconds (None: for ever)."""
        seconds = times.seconds(timeout)
        record = self.pop()
        if record is not None or seconds <= 0:
            return record
        return self._taker.wait(self._taker.take, seconds)

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
        """Take the oldest items, `count` at most; wait for the first one as `fetch` does."""
        max_age = self.max_age
        return [item_of(record, max_age) for record in self._taker.many(count, timeout)]

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

    reserve_some = hot.reserve_some
    settle = hot.settle

    def go_on_waiting(self, seconds: float, key: int | None, woken: bool) -> bytes | None:
        """Go on with a wait of the native kernel, which could not take the lock; see `Taker.wait`."""
        return self._taker.wait(self._taker.take, seconds, key, woken=woken)

    def wait_no_more(self, key: int, woken: bool) -> None:
        """End a wait of the native kernel, which could not take the lock."""
        self._taker.wait_no_more(key, woken=woken)

    def give_back_forgotten(self) -> None:
        """Give back what this process has reserved, and no object has: a handler raised when it was handed over."""
        while self.handle.work(self.handle.give_back_forgotten):
            pass

    def has_workers(self) -> bool:
        """Return True if a process lives that reserved items here, or tried to. Without the lock; one system call."""
        return self.handle.holding.has_workers()

    async def asettle(self, tokens: Sequence[Delivery], how: Settlement) -> int:
        """`settle`, while the event loop goes on."""
        from kemi.queue.lock.unlocked import unlocked  # the server never needs asyncio

        await unlocked(self.handle)
        return self.settle(tokens, how)

    # --- for asyncio (see `client.aio`) -------------------------------------------------------------------------------

    def wait_ready(self, seconds: float) -> bool:
        """Sleep until there is something to take, which stays. True: it is for the caller to take, or to `pass_on`."""
        return self._taker.wait_ready(seconds)

    def pass_on(self) -> None:
        """Wake somebody else for what is there."""
        self._taker.pass_on()

    def call_before_use(self, call: Callable[[], None] | None) -> None:
        """Let the next call that takes the lock call this first, in a process that was just forked. None: no more."""
        self._mutex.call_before_next(call)

    # --- looking ----------------------------------------------------------------------------------------------------

    def peek(self, count: int | None = 1, *, reserved: bool = False) -> list[Item]:
        """Return the oldest `count` items (None: all), which stay; none that is too old, or was given back for later.

        reserved: also these, and those that are reserved, where they would be if every process that holds one were
        killed now.
        """
        most = None if count is None else max(0, count)

        def look() -> list[Item]:
            if reserved:
                return self._items(islice(contents.undone(self._log), most))
            before, added_at = self.handle.holding.letters.oldest_allowed(), self._log.core.records.added_at
            there = (at for at in contents.waiting(self._log, now()) if not added_at(at) < before)
            return self._items(islice(there, most))

        return self.handle.work(look)

    def undone(self) -> list[Item]:
        """All items that would be there if every process that holds one were killed now, the oldest first."""
        return self.peek(None, reserved=True)

    def _items(self, places: Iterable[int]) -> list[Item]:
        max_age = self.max_age
        return [item_of(self._log.core.records.read(at), max_age) for at in places]

    def reason(self, outcome: AddResult) -> str:
        """Why this process's last add had that outcome: a sentence that says which limit was met."""
        if outcome is AddResult.NO_MEMORY and self.handle.memory.refused:
            return f"no memory: {self.handle.memory.refused}"
        if outcome is AddResult.FULL:
            return f"{outcome.reason} (maxbytes={self._u64[layout.W_BYTE_LIMIT]})"
        return outcome.reason

    def __len__(self) -> int:
        """Items that can be taken; neither reserved ones count, nor those that were given back for later.

        One that is older than maxage counts until it is dropped, by whoever would take it.
        """
        u64 = self._u64
        # First what left: see `Core.size`.
        removed = u64[W_POPPED] + u64[W_BURIED] if self._keyed else u64[W_POPPED]
        items: int = u64[W_ADDED] - removed
        if 0 <= items <= self._most and not u64[W_RETURNED]:
            return items
        items = self._log.core.size()
        return max(0, items - self.handle.holding.count_later()) if u64[W_RETURNED] else items

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
            return stats_of(self._u64, self.handle.held_bytes(), oldest, self.handle.holding.count_later())

        return self.handle.work(look)

    # --- from its beginning to its end (see `life`) -------------------------------------------------------------------

    create = staticmethod(_queue_of(life.create))
    attach = staticmethod(_queue_of(life.attach))
    of_segment = staticmethod(_queue_of(life.of_segment))
    adopt = life.adopt
    open = life.open_to_adds
    publish = life.publish
    append_record = life.append_record
    is_closed = life.is_closed
    is_moving = life.is_moving
    owner = life.owner
    set_limits = life.set_limits
    set_deliveries = life.set_deliveries
    set_max_age = life.set_max_age
    take_positions = life.take_positions
    moving = life.moving
    clear = life.clear
    remove = life.remove

    def set_siblings(self, find: Callable[[str], Queue | None]) -> None:
        """Find other queues of the instance so, where this process has them at hand."""
        self._others.sibling = find

    def close(self) -> None:
        """Let go of the queue in this process; a later call on it raises. The queue itself stays."""
        if not self.closed:
            self.handle.close(self, self._have_none)
            self._others.close()

    def _have_none(self, closed: Closed) -> None:
        choice.detach(self)
        self.__dict__.update(dict.fromkeys(_PARTS, closed))

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return f"<Queue {self.name!r} closed>"
        return f"<Queue {self.name!r} size={len(self)} addmode={self.addmode} pid={self.owner().pid}>"


if sys.version_info < (3, 10):
    hot.use_tokens(Queue)

_ADDS = (ADDED, KEPT, CLOSED, FULL, rest_after, BREAKS_OFF)
choice.take_over(Queue, Item, _ADDS, (Hold, ReservedItem, Delivery, DONE))


def check_threads() -> None:
    """From now on `add` and `pop` ask `onlymain`, too: there is another thread, or is about to be one."""
    if choice.check_threads():
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


def _attach_other(handle: Handle, full_name: str, name: str) -> Queue:
    return Queue.of_segment(full_name, handle.registry, handle.mutex.timeout, name)
