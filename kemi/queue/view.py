"""A look at a segment through its file: no lock, no mapping, and no right but to read.

For who watches a server and must never stand in its way. What a process changes in the moment of the look may be in
one number and not yet in another; each number by itself is one that was there.

The file may be anybody's, and say anything: what is read is bounded, no number in it is trusted, and a file that is
changed or cut off meanwhile is an error at most.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from kemi.errors import MqueueError, SegmentError
from kemi.owner import Owner
from kemi.queue import header, layout, trust
from kemi.queue.aside import Slot
from kemi.queue.layout import CHUNK_HEAD, CHUNK_MASK, CHUNK_ROOM, DEAD, RECORD, STEP_MASK
from kemi.queue.outcome import Stats
from kemi.queue.segment import path_of, segment_name

_LOOKS = 3
_FARTHEST = 1 << 46  # offset that a segment can have
_DEAD_RECORDS = 1000  # that are passed on the way to the oldest item that is alive

_MOVES = (layout.W_HEAD, layout.W_TURN, layout.W_ASIDE, layout.W_RETURNED)  # what changes when an item is taken

_check_queue = header.checker(layout.MAGIC, "queue")
_check_instance = header.checker(layout.INSTANCE_MAGIC, "instance")


class QueueView(NamedTuple):
    """What a queue's segment says of it."""

    owner: Owner
    created: int  # when it was made, ns since the epoch: tells one life of a name from the next
    stats: Stats
    user: int  # that the segment belongs to


class InstanceView(NamedTuple):
    """What an instance's own segment says of it."""

    owner: Owner
    max_memory: int  # bytes that its queues may hold together
    memory: int  # bytes that they hold
    user: int  # that the segment belongs to


def look_at_queue(instance: str, queue: str) -> QueueView:
    """What a queue holds and did. Raises SegmentMissing, NotAllowed, SegmentError."""
    name = segment_name(instance, queue)
    with _opened(name) as fd:
        _check_queue(fd, name)
        words = _words(fd)
        oldest = None
        aside: list[Slot] = []
        for _ in range(_LOOKS):
            aside = _aside(fd, words)
            oldest = _oldest(fd, words, aside)
            # As long as nobody took it, it was the oldest while it was read.
            now = _words(fd)
            undisturbed = [now[word] for word in _MOVES] == [words[word] for word in _MOVES]
            words = now
            if undisturbed:
                break
        status = os.fstat(fd)
        stats = _stats(words, status.st_blocks * 512, oldest, _aside_bytes(fd, aside))
    return QueueView(_owner(words), words[layout.W_CREATED], stats, status.st_uid)


def look_at_instance(instance: str) -> InstanceView:
    """Who serves an instance, and its memory. Raises SegmentMissing, NotAllowed, SegmentError."""
    name = segment_name(instance)
    with _opened(name) as fd:
        _check_instance(fd, name)
        words = _words(fd)
        table = _numbers(fd, layout.TABLE_ENTRIES, layout.TABLE_AT)
        return InstanceView(_owner(words), words[layout.W_MAX_MEMORY], sum(table), os.fstat(fd).st_uid)


def look_at_lock(instance: str, queue: str) -> int:
    """Return the id of the thread that holds a queue's lock, 0 for none. Raises as `look_at_queue`."""
    from kemi.queue import pthread

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
    return _numbers(fd, layout.HEADER_WORDS, 0)


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
    return Owner(*words[layout.W_OWNER : layout.W_OWNER + 3])


def _aside(fd: int, words: memoryview) -> list[Slot]:
    """What is reserved or was given back, in order."""
    if not words[layout.W_ASIDE]:
        return []
    columns = _numbers(fd, 2 * layout.SLOTS, words[layout.W_ASIDE_AT])
    pairs = zip(columns[: layout.SLOTS], columns[layout.SLOTS :])
    slots = [Slot(number, state, turn) for number, (state, turn) in enumerate(pairs) if state]
    # HEAD has not gone past it yet: it is still in the ring.
    return sorted((slot for slot in slots if slot.at != words[layout.W_HEAD]), key=lambda slot: slot.turn)


def _aside_bytes(fd: int, aside: list[Slot]) -> int:
    steps = (int.from_bytes(_read(fd, 4, slot.at), sys.byteorder) for slot in aside)
    return sum(step & STEP_MASK for step in steps)


def _oldest(fd: int, words: memoryview, aside: list[Slot]) -> float | None:
    """When the oldest item that can be taken was added; None if there is none, or it cannot be told."""
    for slot in aside:
        head = _read(fd, RECORD.size, slot.at)
        if slot.returned and len(head) == RECORD.size:
            return _time(RECORD.unpack(head)[4])
    at, tail = words[layout.W_HEAD], words[layout.W_TAIL]
    for _ in range(_DEAD_RECORDS):
        if at == tail or at >= _FARTHEST:
            return None
        head = _read(fd, RECORD.size, at)
        if len(head) < RECORD.size:
            return None
        step, _, _, _, added = RECORD.unpack(head)
        if not step & DEAD:
            return _time(added)
        at = _after(fd, at, step & STEP_MASK)
        if not at:
            return None
    return None


def _time(added: float) -> float | None:
    return added if math.isfinite(added) else None


def _after(fd: int, at: int, length: int) -> int:
    """Where `length` bytes of the stream after `at` end; 0 if that cannot be told."""
    if not 0 < length <= layout.MAX_STEP:
        return 0
    room = (at | CHUNK_MASK) + 1 - at
    while length >= room:
        at = int.from_bytes(_read(fd, 8, at & ~CHUNK_MASK), sys.byteorder) + CHUNK_HEAD
        if at & CHUNK_MASK != CHUNK_HEAD or at >= _FARTHEST:
            return 0
        length -= room
        room = CHUNK_ROOM
    return int(at + length)


def _stats(words: memoryview, memory: int, oldest: float | None, aside_bytes: int) -> Stats:
    added, removed = words[layout.W_ADDED], words[layout.W_REMOVED]
    dropped, replaced = words[layout.W_DROPPED], words[layout.W_REPLACED]
    reserved = max(0, words[layout.W_ASIDE] - words[layout.W_RETURNED])
    dead_lettered = words[layout.W_DEAD_LETTERS]
    size = min(max(0, added - removed), sys.maxsize)
    return Stats(
        size=size,
        bytes=_used_bytes(words) + aside_bytes,
        memory=memory,
        added=added,
        fetched=max(0, removed - dropped - replaced - reserved - dead_lettered),
        dropped=dropped,
        replaced=replaced,
        refused=words[layout.W_REFUSED],
        recovered=words[layout.W_RECOVERED],
        high_water=max(words[layout.W_HIGH], size),
        size_limit=words[layout.W_SIZE_LIMIT],
        byte_limit=words[layout.W_BYTE_LIMIT],
        addmode=words[layout.W_ADDMODE],
        reserved=reserved,
        dead_lettered=dead_lettered,
        exhausted=words[layout.W_EXHAUSTED],
        max_deliveries=words[layout.W_MAX_DELIVERIES],
        oldest=oldest if size else None,
    )


def _used_bytes(words: memoryview) -> int:
    head, tail = words[layout.W_HEAD] & CHUNK_MASK, words[layout.W_TAIL] & CHUNK_MASK
    return max(0, int((words[layout.W_CHUNKS] - 1) * CHUNK_ROOM + tail - head - words[layout.W_DEAD]))
