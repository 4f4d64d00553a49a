# SPDX-License-Identifier: GPL-2.0-or-later
"""A look at a segment through its file: no lock, no mapping, and no right but to read.

For those who watch a server, and must never stand in its way. What a process changes at the moment of the look may be
in one number and not yet in another; each number by itself was there.

The file may be anybody's, and say anything: what is read is bounded, no number in it is trusted, and a file that is
changed or cut off meanwhile is an error at most.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kemi.errors import MqueueError, SegmentError
from kemi.owner import Owner
from kemi.queue.catalog import header
from kemi.queue.format import layout
from kemi.queue.format.layout import CHUNK_HEAD, RECORD, STEP_MASK, TOMBSTONE
from kemi.queue.format.outcome import Stats
from kemi.queue.format.statistics import stats_of
from kemi.queue.shm import trust
from kemi.queue.shm.naming import answers_name, path_of, segment_name
from kemi.queue.sync.clock import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kemi.frozen import NamedTuple

_LOOKS = 3
_FARTHEST = 1 << 46  # offset that a segment can have
_TOMBSTONES = 1000  # that are passed on the way to the oldest item

_MOVES = (layout.W_POPPED, layout.W_IN_FLIGHT, layout.W_RETURNED)  # what changes when an item is taken

_check_queue = header.checker(layout.MAGIC, "queue")
_check_instance = header.checker(layout.INSTANCE_MAGIC, "instance")


class QueueView(NamedTuple):
    """What a queue's segment says of it."""

    owner: Owner
    created: int  # when it was made, ns since the epoch: tells one life of a name from the next
    stats: Stats
    user: int  # that the segment belongs to
    life: int = 0  # the number of the owner's life lock


class InstanceView(NamedTuple):
    """What an instance's own segment says of it."""

    owner: Owner
    max_memory: int  # bytes that its queues may hold together
    memory: int  # bytes that they hold
    user: int  # that the segment belongs to
    life: int = 0  # the number of the owner's life lock


def look_at_queue(instance: str, queue: str) -> QueueView:
    """Return what a queue holds and did. Raises SegmentMissing, NotAllowed, SegmentError."""
    name = segment_name(instance, queue)
    with _opened(name) as fd:
        _check_queue(fd, name)
        words = _words(fd)
        oldest = None
        for _ in range(_LOOKS):
            oldest = _oldest(fd, words)
            # As long as nobody took it, it was the oldest while it was read.
            later = _words(fd)
            undisturbed = [later[word] for word in _MOVES] == [words[word] for word in _MOVES]
            words = later
            if undisturbed:
                break
        status = os.fstat(fd)
        stats = stats_of(words, status.st_blocks * 512, oldest, _count_later(fd, words))
    life = words[layout.W_OWNER_LIFE]
    return QueueView(_owner(words), words[layout.W_CREATED], stats, status.st_uid, life)


def look_at_instance(instance: str) -> InstanceView:
    """Who serves an instance, and its memory. Raises SegmentMissing, NotAllowed, SegmentError."""
    name = segment_name(instance)
    with _opened(name) as fd:
        _check_instance(fd, name)
        words = _words(fd)
        table = _numbers(fd, layout.QUOTA_ENTRIES, layout.QUOTA_AT)
        user, life = os.fstat(fd).st_uid, words[layout.W_OWNER_LIFE]
        return InstanceView(_owner(words), words[layout.W_MAX_MEMORY], sum(table), user, life)


def look_at_answers(instance: str, number: int) -> memoryview:
    """Return the header's words of an answers queue. Raises as `look_at_queue`."""
    name = answers_name(segment_name(instance, "x"), number)
    with _opened(name) as fd:
        _check_queue(fd, name)
        return _words(fd)


def look_at_lock(instance: str, queue: str) -> int:
    """Return the id of the thread that holds a queue's lock, 0 for none. Raises as `look_at_queue`."""
    from kemi.queue.lock import pthread

    name = segment_name(instance, queue)
    with _opened(name) as fd:
        _check_queue(fd, name)
        at = layout.MUTEX_AT + _words(fd)[layout.W_MUTEX] * layout.MUTEX_STRIDE + pthread.HOLDER_AT
        return int.from_bytes(_read(fd, 4, at), sys.byteorder) & pthread.HOLDER_MASK


@contextmanager
def _opened(name: str) -> Iterator[int]:
    path = path_of(name)
    file = trust.open_file(path, trust.READ)
    try:
        trust.check_kind(os.fstat(file.number), path)
        yield file.number
    except MqueueError:
        raise
    except OSError as error:
        raise SegmentError(f"{path}: cannot be read as shared memory: {error.strerror}") from None
    finally:
        file.close()


def _words(fd: int) -> memoryview:
    return _numbers(fd, layout.PAGE // 8, 0)


def _numbers(fd: int, count: int, at: int) -> memoryview:
    """64-bit numbers of the file. Raises SegmentError where it has been made shorter since it was checked."""
    data = _read(fd, count * 8, at)
    if len(data) < count * 8:
        raise SegmentError(f"{os.readlink(f'/proc/self/fd/{fd}')} was truncated while it was read")
    return memoryview(data).cast("Q")


def _read(fd: int, count: int, at: int) -> bytes:
    """Bytes of the file; fewer, or none, where it does not have them. Any number may be asked for."""
    return os.pread(fd, count, at) if at < _FARTHEST else b""


def _owner(words: memoryview) -> Owner:
    return Owner(*words[layout.W_OWNER_PID : layout.W_OWNER_PID + 3])


def _oldest(fd: int, words: memoryview) -> float | None:
    """When the item was added that will be taken next; None if there is none, or it cannot be told."""
    at = _returned(fd, words)
    if at:
        head = _read(fd, RECORD.size, at)
        return _time(RECORD.unpack(head)[4]) if len(head) == RECORD.size else None
    at = words[layout.W_HEAD + (words[layout.W_POPPED] & 1)]
    tail = words[layout.W_TAIL + (words[layout.W_ADDED] & 1)]
    bits = words[layout.W_CHUNK_BITS]
    for _ in range(_TOMBSTONES):
        if at == tail or at >= _FARTHEST:
            return None
        head = _read(fd, RECORD.size, at)
        if len(head) < RECORD.size:
            head = head.ljust(RECORD.size, b"\0")  # a tombstone may be shorter
        step, _, _, _, added = RECORD.unpack(head)
        if not step & TOMBSTONE:
            return _time(added)
        length = step & STEP_MASK
        end = (at >> bits) + 1 << bits
        if not 0 < length <= end - at:
            return None
        at += length
        if at == end:
            at = int.from_bytes(_read(fd, 8, end - (1 << bits)), sys.byteorder) + CHUNK_HEAD
    return None


def _returned(fd: int, words: memoryview) -> int:
    """Offset of the record that was given back and comes first; 0 if there is none."""
    if not words[layout.W_RETURNED]:
        return 0
    number = int.from_bytes(_read(fd, 4, words[layout.W_HEAP_AT]), sys.byteorder)
    if number >= words[layout.W_CAPACITY]:
        return 0
    return int.from_bytes(_read(fd, 8, words[layout.W_ENTRIES_AT] + number * layout.ENTRY_BYTES), sys.byteorder)


def _count_later(fd: int, words: memoryview) -> int:
    """How many items were given back for later; from entries of which some may change meanwhile."""
    if not words[layout.W_RETURNED]:
        return 0
    count = min(words[layout.W_FRESH_ENTRY], words[layout.W_CAPACITY], layout.MAX_CAPACITY)
    data = _read(fd, count * layout.ENTRY_BYTES, words[layout.W_ENTRIES_AT])
    rows = layout.ENTRY.iter_unpack(data[: len(data) // layout.ENTRY_BYTES * layout.ENTRY_BYTES])
    present = now()
    return sum(1 for row in rows if row[0] and row[8] and row[2] > present)


def _time(added: float) -> float | None:
    return added if math.isfinite(added) else None
