"""Real processes on the logs of format 5, killed at random in real shared memory: books that balance, a sound segment.

The lock is one of the file system's, which says nothing of a holder that died. So what was broken off is known by
PENDING alone, as it must be.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from kemi.queue.format import geometry, keyhash, layout
from kemi.queue.format.layout import FETCH_FLAGS, PENDING, RECORD, RECORD_HEAD, W_FLAGS, Mapping
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.keyed_head import KEEP_NEWEST, KEEP_OLDEST
from kemi.queue.log.plain import PlainLog
from kemi.queue.store.inflight import Holder
from kemi.queue.verify.segment import verify
from tests.conftest import HANG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HASH = keyhash.function_of(keyhash.FORM)
PRODUCERS, CONSUMERS = 2, 2
BOOKS = 128  # words behind the segment, where each process says what it did
PUNCH_HOLE = 3  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_libc = ctypes.CDLL(None, use_errno=True)


class Shared:
    """A queue of format 5 in a file of /dev/shm without a name."""

    def __init__(self, addmode: int) -> None:
        place = geometry.geometry(8 << 20, keyed=addmode != 0, capacity=64)
        path = f"/dev/shm/mqk-kills-{os.getpid()}"
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        self.size = place.map_size + BOOKS * 8
        os.ftruncate(self.fd, self.size)
        os.posix_fallocate(self.fd, 0, place.fixed_bytes())
        self.memory = mmap.mmap(self.fd, self.size)
        view = memoryview(self.memory)
        self.mapping = Mapping(self.memory, view.cast("Q"), view.cast("I"))
        self.books = self.mapping.u64[place.map_size >> 3 :]
        geometry.write(self.mapping.u64, place)
        self.addmode = addmode
        self.mapping.u64[layout.W_ADDMODE] = addmode
        if addmode:
            self.mapping.u64[layout.W_BUCKETS_PER_CHUNK] = 1 << 16
            self.mapping.u64[layout.W_SECRET] = 4711
        assert self.open().format()

    def open(self) -> Any:
        return KeyedLog(self.mapping, self, HASH) if self.addmode else PlainLog(self.mapping, self)

    def reserve(self, offset: int, length: int) -> bool:
        os.posix_fallocate(self.fd, offset, length)
        return True

    def has(self, offset: int, length: int) -> bool:
        return offset + length <= os.fstat(self.fd).st_size

    def release(self, offset: int, length: int) -> None:
        code = _libc.fallocate(self.fd, PUNCH_HOLE, ctypes.c_long(offset), ctypes.c_long(length))
        assert code == 0

    def locked(self) -> Locked:
        return Locked(self.fd)


class Locked:
    """The lock, through an opening of this process's own."""

    def __init__(self, fd: int) -> None:
        self._fd = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)


def holder_of(pid: int) -> Holder:
    """Return as what a process of this test holds items."""
    return Holder(pid, pid, 0, 0)


def recover(log: Any) -> None:
    if log.core.mapping.u64[W_FLAGS] & PENDING:
        log.recover()


def produce(shared: Shared, number: int) -> None:
    """Add items that are numbered on, a long one now and then; note each before and after."""
    log, lock = shared.open(), shared.locked()
    begun, done = 2 * number, 2 * number + 1
    while True:
        serial = shared.books[begun]  # each number once, whatever became of the one before
        value = b"x" * (300_000 if serial % 97 == 96 else serial % 400)
        key = b"%d-%d" % (number, serial)
        step = RECORD_HEAD + len(key) + len(value) + 7 & -8
        record = RECORD.pack(step, len(key), len(value), 0, 0.0) + key + value
        with lock:
            recover(log)
            if log.core.size() > 300:
                continue
            shared.books[begun] = serial + 1
            assert (log.append_with if log.core.mapping.u64[W_FLAGS] else log.append)(record, step) == 1
            shared.books[done] += 1


def consume(shared: Shared, number: int) -> None:
    """Take items in both ways; note how many."""
    log, lock = shared.open(), shared.locked()
    me = holder_of(os.getpid())
    taken, acked = 16 + 2 * number, 17 + 2 * number
    chance = random.Random()  # noqa: S311
    while True:
        with lock:
            recover(log)
            u64 = log.core.mapping.u64
            if chance.random() < 0.5:
                found = log.pop() if u64[W_FLAGS] < FETCH_FLAGS else log.fetch(time.monotonic_ns())
                shared.books[taken] += found is not None
                continue
            reserved = log.reserve(me, time.monotonic_ns())
        if reserved:
            with lock:
                recover(log)
                if chance.random() < 0.7:
                    assert log.ack(reserved[0])
                    shared.books[acked] += 1
                else:
                    log.nack(reserved[0], time.monotonic_ns() + 100_000)


def start(work: Callable[[Shared, int], None], shared: Shared, number: int) -> int:
    pid = os.fork()
    if not pid:
        try:
            work(shared, number)
        finally:
            os._exit(1)
    return pid


def items(log: Any) -> Iterator[tuple[int, int]]:
    """Give producer and number of all that is not done."""
    read = log.core.records.read
    for at in [entry.at for entry in log.core.in_flight.entries()] + list(log.scan()):
        record = read(at)
        producer, serial = record[RECORD_HEAD : RECORD_HEAD + RECORD.unpack_from(record)[1]].split(b"-")
        yield int(producer), int(serial)


def noted(shared: Shared) -> tuple[int, int]:
    """How many items were added, and how many are gone, as those noted who did it."""
    return sum(shared.books[1:8:2]), sum(shared.books[16:20])


@pytest.mark.parametrize("addmode", [0, KEEP_OLDEST, KEEP_NEWEST])
@pytest.mark.parametrize("kills", [25, pytest.param(1000, marks=pytest.mark.stress)])
def test_whoever_is_killed_the_books_balance(addmode: int, kills: int) -> None:
    shared = Shared(addmode)
    chance = random.Random(kills)  # noqa: S311
    kinds = [(produce, number) for number in range(PRODUCERS)] + [(consume, number) for number in range(CONSUMERS)]
    processes = [start(work, shared, number) for work, number in kinds]
    log, lock = shared.open(), shared.locked()
    killed = 0
    until = time.monotonic() + HANG
    try:
        # On a slow machine it may take longer until there is something to look at.
        while killed < kills or (min(noted(shared)) <= 100 and time.monotonic() < until):
            killed += 1
            time.sleep(chance.random() * 0.02)  # it decides when somebody is struck, not what must come of it
            victim = chance.randrange(len(kinds))
            os.kill(processes[victim], signal.SIGKILL)
            status = os.waitpid(processes[victim], 0)[1]
            assert os.WTERMSIG(status) == signal.SIGKILL, "it ended by itself"
            with lock:
                recover(log)
                for entry in log.core.in_flight.held_by({holder_of(processes[victim])}):
                    log.nack((entry.number, entry.seq, entry.deliveries))
                assert verify(shared.mapping, HASH) == []
            processes[victim] = start(*kinds[victim][:1], shared, kinds[victim][1])
    finally:
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):  # where this test failed, one may have been waited for
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    recover(log)
    assert verify(shared.mapping, HASH) == []
    books = shared.books
    begun, (done, gone) = sum(books[0:8:2]), noted(shared)
    left = list(items(log))
    assert len(set(left)) == len(left), "an item is there twice"
    # Each process that was killed may have done one thing more than it noted, and begun one that it did not do.
    assert done - gone - killed - len(kinds) <= len(left) <= begun - gone
    assert done > 100
    assert gone > 100
    for producer in range(PRODUCERS):
        serials = [serial for number, serial in left if number == producer]
        assert all(serial < books[2 * producer] for serial in serials)
    in_log = left[log.core.mapping.u64[layout.W_IN_FLIGHT] :]
    for producer in range(PRODUCERS):
        serials = [serial for number, serial in in_log if number == producer]
        assert serials == sorted(serials), "the order changed"
