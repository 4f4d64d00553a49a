# SPDX-License-Identifier: GPL-2.0-or-later
"""How a queue comes to be and how it ends: made, attached to, taken over, moved, removed; and its limits.

What makes a queue gives its `Handle`; the rest are methods of `Queue`.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any, Protocol

from kemi.errors import CommitUnknown, NoMemory, SegmentError
from kemi.owner import Owner, this_process
from kemi.queue.catalog import header, keeping
from kemi.queue.catalog.registry import Registry
from kemi.queue.format import layout
from kemi.queue.format.geometry import geometry
from kemi.queue.format.layout import ADD_CLOSED, ADD_LIMITED, FETCH_AGING, FETCH_MOVED, PENDING, W_FLAGS
from kemi.queue.handle import Handle
from kemi.queue.lock.mutex import sections
from kemi.queue.lock.section import Token
from kemi.queue.log import contents
from kemi.queue.shm.naming import draft_name, path_of, queue_name, segment_name
from kemi.queue.shm.segment import PRIVATE, Access, Segment
from kemi.queue.shm.trust import INSTANCE_ADVICE, SERVER_ADVICE, Users
from kemi.queue.sync.undisturbed import undisturbed

_check = header.checker(layout.MAGIC, "queue")


class Handled(Protocol):
    """A queue, as far as they know it."""

    handle: Handle


def create(  # noqa: PLR0913 - keywords, each of them a property of the queue
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
    keep: int | None = None,
) -> Handle:
    """Make a queue. Raises FileExistsError when its segment exists, NoMemory when there is no room.

    window: bytes that its chunks may take. size_limit, byte_limit: see `set_limits`. draft: to be filled before it
    gets its name with `publish`. closed: nothing may be added before `open_to_adds`. keep: see `geometry`.
    """
    place = geometry(window, keyed=addmode != 0, keep=keep)
    fixed = place.fixed_bytes()
    full_name = segment_name(instance, name)
    if draft:
        full_name = draft_name(full_name) + "~new"

    def fill(segment: Segment) -> None:
        header.write_queue(segment, owner or this_process(), addmode, place)
        handle = Handle(name, segment, registry, lock_timeout)
        handle.memory.open(fixed)
        undo.callback(handle.memory.account, 0)
        if not handle.log.format():
            raise NoMemory(
                f"{path_of(full_name)}: no memory for the first {1 << place.chunk_bits} bytes of the queue: "
                f"{handle.memory.refused}"
            )
        _store_limits(handle.u64, size_limit, byte_limit)
        if closed:
            segment.words[W_FLAGS] |= ADD_CLOSED

    with contextlib.ExitStack() as undo:
        segment = Segment.create(full_name, fixed, place.map_size, fill, access)
        undo.pop_all()
    return Handle(name, segment, registry, lock_timeout)


def attach(instance: str, name: str, registry: Registry | None = None, lock_timeout: float = 1.0) -> Handle:
    """Use a queue that exists. Raises SegmentMissing, NotAllowed, SegmentError."""
    return of_segment(segment_name(instance, name), registry, lock_timeout, name)


def of_segment(
    full_name: str,
    registry: Registry | None = None,
    lock_timeout: float = 1.0,
    name: str = "",
    users: Users | None = None,
    advice: str = SERVER_ADVICE,
    *,
    takes_over: bool = False,
) -> Handle:
    """`attach` by the segment's name in /dev/shm.

    users: whom it may belong to; None: only to the user of its instance. advice: see `Segment.attach`.
    takes_over: the owner may have lived in another pid namespace, if it is dead.
    """
    if users is not None:
        segment = Segment.attach(full_name, _check, users, advice)
    else:
        users = None if registry is None else frozenset({registry.segment.user()})
        segment = Segment.attach(full_name, _check, users, INSTANCE_ADVICE)
    if not header.owner_of(segment).shares_pids() and not (takes_over and header.is_owner_dead(segment)):
        raise SegmentError(
            f"{path_of(segment.name)} was made in another pid namespace, where the lock's thread ids mean other "
            "threads; run both in one (for containers: --pid)"
        )
    return Handle(name or queue_name(full_name), segment, registry, lock_timeout)


def adopt(self: Handled, owner: Owner, keep_closed: bool = False, saved: bool = False) -> int:
    """Take over from an owner that is dead: repair, and become its owner. Returns the number of items.

    keep_closed: when it is closed, it is so until `open_to_adds`. saved: its items are in its table, and go.
    Raises InstanceInUse when another process that lives was faster.
    """
    handle, u64 = self.handle, self.handle.u64

    def take_over() -> None:
        _refuse_living(handle, owner)
        handle.memory.open(handle.held_bytes())
        handle.recover()
        if findings := handle.verify():
            raise handle.corrupted("; ".join(findings[:3]))
        if saved:
            contents.clear(handle.log)
        # In this order: whoever dies now leaves a queue that is not used, or one about which nothing is open.
        keeping.settle(u64)
        u64[W_FLAGS] &= ~FETCH_MOVED if keep_closed else ~(FETCH_MOVED | ADD_CLOSED)
        header.set_owner(handle.segment, owner)

    handle.settles = True
    try:
        handle.work(take_over)
    finally:
        handle.settles = False
    return handle.log.core.size()


def _refuse_living(handle: Handle, heir: Owner) -> None:
    """Two may find the owner dead; only the first of them gets the queue."""
    if header.owner_of(handle.segment) != heir:
        header.refuse_living(
            handle.segment,
            f"queue {handle.name!r}",
            'stop that server, or take another modparam("mqueue", "instance", "...")',
        )


def open_to_adds(self: Handled) -> None:
    """From here on items may be added."""
    handle = self.handle

    def store() -> None:
        handle.u64[W_FLAGS] &= ~ADD_CLOSED

    handle.work(store)


def publish(self: Handled, name: str) -> None:
    """Give a draft its name in shared memory, in place of the queue that has it."""
    self.handle.segment.rename(name)


def append_record(self: Handled, record: bytes) -> None:
    """Append a record as it came from `moving`, or from `record_of`. Raises NoMemory."""
    handle = self.handle
    outcome = handle.work(lambda: handle.log.append(record, len(record) + 7 & -8))
    if not outcome:
        raise NoMemory(f"{path_of(handle.segment.name)}: {outcome.reason}")


def is_closed(self: Handled) -> bool:
    """Return True if its server ended it, or died while the items were on their way to another place."""
    return bool(self.handle.u64[W_FLAGS] & (ADD_CLOSED | FETCH_MOVED))


def is_moving(self: Handled) -> bool:
    """Return True while its items are on their way to another place, or it is not known whether they got there."""
    return bool(self.handle.u64[W_FLAGS] & FETCH_MOVED)


def owner(self: Handled) -> Owner:
    """Return the process that made the queue, or took it over from a dead one."""
    return header.owner_of(self.handle.segment)


def set_limits(self: Handled, size_limit: int, byte_limit: int) -> None:
    """Change the limits; 0 is none. Nothing is thrown away before the next add.

    size_limit: items, the oldest goes when it is exceeded. byte_limit: bytes of records, an add beyond it is
    refused.
    """
    handle = self.handle
    handle.work(lambda: _store_limits(handle.u64, size_limit, byte_limit))


def _store_limits(u64: Any, size_limit: int, byte_limit: int) -> None:
    u64[layout.W_SIZE_LIMIT] = size_limit
    u64[layout.W_BYTE_LIMIT] = byte_limit
    u64[W_FLAGS] = u64[W_FLAGS] & ~ADD_LIMITED | (ADD_LIMITED if size_limit or byte_limit else 0)


def set_deliveries(self: Handled, most: int, dead_letter: str = "") -> None:
    """Change how often a reserved item is delivered at most (0: any number), and to which queue it goes then.

    Without such a queue it is delivered again all the same, and counted.
    """
    if len(dead_letter.encode("utf-8", "surrogatepass")) > layout.DEAD_LETTER_MAX:
        raise ValueError(f"dead_letter: a name has {layout.DEAD_LETTER_MAX} bytes at most")
    handle = self.handle

    def store() -> None:
        handle.u64[layout.W_MAX_DELIVERIES] = most
        header.set_dead_letter(handle.segment, dead_letter)

    handle.work(store)


def take_positions(self: Handled, old: Handled) -> None:
    """For a draft: know how far streams were relayed to the queue whose place it takes."""
    first, end = layout.POSITIONS_AT >> 3, (layout.POSITIONS_AT >> 3) + layout.POSITIONS * layout.POSITION_WORDS
    self.handle.u64[first:end] = old.handle.u64[first:end]


def set_max_age(self: Handled, seconds: float) -> None:
    """Change for how long an item is delivered, from its adding on; 0: for ever.

    What is older is dropped and counted, or goes to the queue for dead letters, when somebody would take it.
    """
    handle = self.handle

    def store() -> None:
        u64 = handle.u64
        u64[layout.W_MAX_AGE] = int(seconds * 1e9)
        u64[W_FLAGS] = u64[W_FLAGS] & ~FETCH_AGING | (FETCH_AGING if seconds else 0)

    handle.work(store)


def remove(self: Handled) -> None:
    """End the queue for all processes: refuse adds, wake who waits, take its name and its line away."""
    handle, mutex = self.handle, self.handle.mutex
    # In a signal handler the lock may be that of the call which was interrupted.
    tokens = [Token()]
    if not mutex.is_mine():
        tokens[0].guard = weakref.ref(tokens[0], mutex.free)
    try:
        mutex.try_for_end()  # the name goes in any case, and nothing is repaired that ends
        handle.u64[W_FLAGS] |= ADD_CLOSED
        handle.events.notify_all()
    finally:
        del tokens[0]
        handle.segment.unlink()
        handle.memory.account(0)


@contextlib.contextmanager
def moving(self: Handled) -> Iterator[Iterator[bytes]]:
    """All records in order, for what takes this queue's place; nobody else adds or takes meanwhile.

    Also what is reserved: whoever holds it has it as delivered from a queue that is gone.

    Afterwards this queue is empty and closed; after an exception it is as before. When this process is killed, or
    CommitUnknown is raised, its items may be in both places, so nobody uses it before `adopt`: see `Handle.repair` and
    `Handle.refuse_moved`.
    """
    handle = self.handle
    u64, mutex = handle.u64, handle.mutex
    mutex.refuse_twice()
    tokens = [Token()]
    tokens[0].guard = weakref.ref(tokens[0], mutex.free)
    try:
        try:
            mutex.take()
        except BaseException:
            tokens[0].guard = weakref.ref(tokens[0], mutex.free_after())
            raise
        mutex.held_by[0] = tokens[0].guard = weakref.ref(tokens[0], mutex.free)
        if u64[W_FLAGS] & PENDING:
            handle.repair()
        was_open = not is_closed(self)
        u64[W_FLAGS] |= FETCH_MOVED | ADD_CLOSED
        try:
            yield map(handle.log.core.records.read, contents.undone(handle.log))
        except CommitUnknown:
            handle.events.notify_all()
            raise
        except BaseException:
            u64[W_FLAGS] &= ~(FETCH_MOVED | ADD_CLOSED) if was_open else ~FETCH_MOVED
            raise
        contents.clear(handle.log)
        u64[W_FLAGS] &= ~FETCH_MOVED
    except BaseException as error:
        if not handle.closed and mutex.is_mine():
            _after_move(handle, error)
        raise
    finally:
        del tokens[0]


def _after_move(handle: Handle, error: BaseException) -> None:
    """Leave nothing half done (locked). Raises SegmentError if the segment is corrupted."""

    def put_right() -> None:
        if handle.u64[W_FLAGS] & PENDING:
            handle.recover()
        handle.judge(error)

    undisturbed(put_right)


def clear(self: Handled) -> None:
    """Take all items away, the reserved ones too; they do not count as fetched."""
    handle = self.handle
    handle.work(lambda: contents.clear(handle.log))


sections.update((remove.__code__, moving.__wrapped__.__code__))  # type: ignore[attr-defined]
