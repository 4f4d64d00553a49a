"""How a queue comes to be and how it ends: made, attached to, taken over, moved, removed; and its limits."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import TypeVar

from kemi.errors import CommitUnknown, InstanceInUse, NoMemory, SegmentError
from kemi.owner import Owner, this_process
from kemi.queue.catalog import header, keeping
from kemi.queue.catalog.registry import Registry
from kemi.queue.format import layout
from kemi.queue.format.layout import ADD_CLOSED, ADD_LIMITED, FETCH_AGING, FETCH_MOVED, PENDING, W_FLAGS
from kemi.queue.lock.mutex import sections
from kemi.queue.lock.section import Token
from kemi.queue.lock.undisturbed import undisturbed
from kemi.queue.log import contents
from kemi.queue.shm.segment import (
    PRIVATE,
    SHM_DIR,
    Access,
    Segment,
    draft_name,
    path_of,
    queue_name,
    segment_name,
)
from kemi.queue.shm.trust import INSTANCE_ADVICE, SERVER_ADVICE, Users, who
from kemi.queue.waiting import Waiting

_Life = TypeVar("_Life", bound="Life")
_check = header.checker(layout.MAGIC, "queue")


class Life(Waiting):
    """A queue that can be made and ended."""

    @classmethod
    def create(  # noqa: PLR0913, PYI019 - keywords, each of them a property of the queue
        cls: type[_Life],
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
    ) -> _Life:
        """Make a queue. Raises FileExistsError when its segment exists, NoMemory when there is no room.

        window: bytes that its chunks may take. size_limit, byte_limit: see `set_limits`. draft: to be filled before it
        gets its name with `publish`. closed: nothing may be added before `open`.
        """
        place = layout.geometry(window, keyed=addmode != 0)
        fixed = layout.fixed_bytes(place)
        full_name = segment_name(instance, name)
        if draft:
            full_name = draft_name(full_name) + "~new"

        def fill(segment: Segment) -> None:
            header.write_queue(segment, owner or this_process(), addmode, place)
            queue = cls(name, segment, registry, lock_timeout)
            queue._memory.open(fixed)
            undo.callback(queue._memory.account, 0)
            if not queue._log.format():
                raise NoMemory(
                    f"{path_of(full_name)}: no memory for the first {1 << place.chunk_bits} bytes of the queue: make "
                    f'room in {SHM_DIR}, or raise modparam("mqueue", "max_memory", ...)'
                )
            queue._store_limits(size_limit, byte_limit)
            if closed:
                segment.words[W_FLAGS] |= ADD_CLOSED

        with contextlib.ExitStack() as undo:
            segment = Segment.create(full_name, fixed, place.map_size, fill, access)
            undo.pop_all()
        return cls(name, segment, registry, lock_timeout)

    @classmethod
    def attach(  # noqa: PYI019
        cls: type[_Life], instance: str, name: str, registry: Registry | None = None, lock_timeout: float = 1.0
    ) -> _Life:
        """Use a queue that exists. Raises SegmentMissing, NotAllowed, SegmentError."""
        return cls.of_segment(segment_name(instance, name), registry, lock_timeout, name)

    @classmethod
    def of_segment(  # noqa: PYI019
        cls: type[_Life],
        full_name: str,
        registry: Registry | None = None,
        lock_timeout: float = 1.0,
        name: str = "",
        users: Users | None = None,
        advice: str = SERVER_ADVICE,
        *,
        takes_over: bool = False,
    ) -> _Life:
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
        return cls(name or queue_name(full_name), segment, registry, lock_timeout)

    def adopt(self, owner: Owner, keep_closed: bool = False, saved: bool = False) -> int:
        """Take over from an owner that is dead: repair, and become its owner. Returns the number of items.

        keep_closed: when it is closed, it is so until `open`. saved: its items are in its table, and go.
        Raises InstanceInUse when another process that lives was faster.
        """
        u64 = self._u64

        def adopt() -> None:
            self._refuse_living(owner)
            self._memory.open(self._held_bytes())
            self._recover()
            if findings := self._verify():
                raise self._corrupted("; ".join(findings[:3]))
            if saved:
                contents.clear(self._log)
            # In this order: whoever dies now leaves a queue that is not used, or one about which nothing is open.
            keeping.settle(u64)
            u64[W_FLAGS] &= ~FETCH_MOVED if keep_closed else ~(FETCH_MOVED | ADD_CLOSED)
            header.set_owner(self.segment, owner)

        self._settles = True
        try:
            self._work(adopt)
        finally:
            self._settles = False
        return self._log.core.size()

    def _refuse_living(self, heir: Owner) -> None:
        """Two may find the owner dead; only the first of them gets the queue."""
        present = self.owner()
        if present != heir and not header.is_owner_dead(self.segment):
            raise InstanceInUse(
                f"queue {self.name!r} in use by {who(present, self.segment.user())} ({path_of(self.segment.name)}): "
                'stop that server, or take another modparam("mqueue", "instance", "...")'
            )

    def open(self) -> None:
        """From here on items may be added."""

        def open_() -> None:
            self._u64[W_FLAGS] &= ~ADD_CLOSED

        self._work(open_)

    def publish(self, instance: str) -> None:
        """Give a draft its name, in place of the queue that has it."""
        self.segment.rename(segment_name(instance, self.name))

    def append_record(self, record: bytes) -> None:
        """Append a record as it came from `moving`, or from `record_of`. Raises NoMemory."""
        outcome = self._work(lambda: self._append(record, len(record) + 7 & -8))
        if not outcome:
            raise NoMemory(f"{path_of(self.segment.name)}: {outcome.reason}")

    def is_closed(self) -> bool:
        """Did its server end it, or die while the items were on their way to another place?"""
        return bool(self._u64[W_FLAGS] & (ADD_CLOSED | FETCH_MOVED))

    def is_moving(self) -> bool:
        """Are its items on their way to another place, or was it not found out yet whether they got there?"""
        return bool(self._u64[W_FLAGS] & FETCH_MOVED)

    def owner(self) -> Owner:
        """The process that made the queue, or took it over from a dead one."""
        return header.owner_of(self.segment)

    def set_limits(self, size_limit: int, byte_limit: int) -> None:
        """Change the limits; 0 is none. Nothing is thrown away before the next add.

        size_limit: items, the oldest goes when it is exceeded. byte_limit: bytes of records, an add beyond it is
        refused.
        """
        self._work(lambda: self._store_limits(size_limit, byte_limit))

    def _store_limits(self, size_limit: int, byte_limit: int) -> None:
        u64 = self._u64
        u64[layout.W_SIZE_LIMIT] = size_limit
        u64[layout.W_BYTE_LIMIT] = byte_limit
        u64[W_FLAGS] = u64[W_FLAGS] & ~ADD_LIMITED | (ADD_LIMITED if size_limit or byte_limit else 0)

    def set_deliveries(self, most: int, dead_letter: str = "") -> None:
        """Change how often a reserved item is delivered at most (0: any number), and to which queue it goes then.

        Without such a queue it is delivered again all the same, and counted.
        """
        if len(dead_letter.encode("utf-8", "surrogatepass")) > layout.DEAD_LETTER_MAX:
            raise ValueError(f"dead_letter: a name has {layout.DEAD_LETTER_MAX} bytes at most")

        def store() -> None:
            self._u64[layout.W_MAX_DELIVERIES] = most
            header.set_dead_letter(self.segment, dead_letter)

        self._work(store)

    def take_positions(self, old: Life) -> None:
        """For a draft: know how far streams were relayed to the queue whose place it takes."""
        first, end = layout.POSITIONS_AT >> 3, (layout.POSITIONS_AT >> 3) + layout.POSITIONS * layout.POSITION_WORDS
        self._u64[first:end] = old._u64[first:end]

    def set_max_age(self, seconds: float) -> None:
        """Change for how long an item is delivered, from its adding on; 0: for ever.

        What is older is dropped and counted, or goes to the queue for dead letters, when somebody would take it.
        """

        def store() -> None:
            u64 = self._u64
            u64[layout.W_MAX_AGE] = int(seconds * 1e9)
            u64[W_FLAGS] = u64[W_FLAGS] & ~FETCH_AGING | (FETCH_AGING if seconds else 0)

        self._work(store)

    def remove(self) -> None:
        """End the queue for all processes: refuse adds, wake who waits, take its name and its line away."""
        mutex = self._mutex
        # In a signal handler the lock may be that of the call which was interrupted.
        tokens = [Token()]
        if not mutex.is_mine():
            tokens[0].guard = weakref.ref(tokens[0], mutex.free)
        try:
            mutex.try_for_end()  # the name goes in any case, and nothing is repaired that ends
            self._u64[W_FLAGS] |= ADD_CLOSED
            self._events.notify_all()
        finally:
            del tokens[0]
            self.segment.unlink()
            self._memory.account(0)

    @contextlib.contextmanager
    def moving(self) -> Iterator[Iterator[bytes]]:
        """All records in order, for what takes this queue's place; nobody else adds or takes meanwhile.

        Also what is reserved: whoever holds it has it as delivered from a queue that is gone.

        Afterwards this queue is empty and closed; after an exception it is as before. When this process is killed, or
        CommitUnknown is raised, its items may be in both places, so nobody uses it before `adopt`: see `_repair` and
        `_take_or_prepare`.
        """
        u64, mutex = self._u64, self._mutex
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
                self._repair()
            was_open = not self.is_closed()
            u64[W_FLAGS] |= FETCH_MOVED | ADD_CLOSED
            try:
                yield map(self._log.core.records.read, contents.undone(self._log))
            except CommitUnknown:
                self._events.notify_all()
                raise
            except BaseException:
                u64[W_FLAGS] &= ~(FETCH_MOVED | ADD_CLOSED) if was_open else ~FETCH_MOVED
                raise
            contents.clear(self._log)
            u64[W_FLAGS] &= ~FETCH_MOVED
        except BaseException as error:
            if not self.closed and mutex.is_mine():
                self._after_move(error)
            raise
        finally:
            del tokens[0]

    def _after_move(self, error: BaseException) -> None:
        """Leave nothing half done (locked). Raises SegmentError if the segment is corrupted."""

        def put_right() -> None:
            if self._u64[W_FLAGS] & PENDING:
                self._recover()
            self._judge(error)

        undisturbed(put_right)

    def clear(self) -> None:
        """Take all items away, the reserved ones too; they do not count as fetched."""
        self._work(lambda: contents.clear(self._log))


sections.update((Life.remove.__code__, Life.moving.__wrapped__.__code__))  # type: ignore[attr-defined]
