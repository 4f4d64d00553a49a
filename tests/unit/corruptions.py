"""Segments with something of everything in them, and how to corrupt them, for the tests of `verify`."""

from __future__ import annotations

from typing import Any

from kemi.queue.format import layout
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.keyed_head import KEEP_NEWEST
from kemi.queue.log.plain import PlainLog
from kemi.queue.verify.segment import verify
from tests.support.crash_points import CHUNK_BITS, Segment
from tests.support.logs import HASH, ME, ROOM, record

DATA = {0: 12288, KEEP_NEWEST: 20480}


def plain() -> Segment:
    """Return a log of three chunks, with two entries held, one returned, one free."""
    segment = Segment(0)
    log = PlainLog(segment.plain, segment)
    assert log.format()
    for key in (b"a", b"b", b"c", b"d", b"e"):
        log.append(*record(key))
    log.append(*record(b"long", 2 * ROOM))
    log.append(*record(b"last"))
    found = [log.reserve(ME, 0) for _ in range(4)]
    assert all(found)
    assert found[1]
    assert found[2]
    log.ack(found[1][0])
    log.nack(found[2][0])
    log.pop()
    return segment


def keyed() -> Segment:
    """Return a log with tombstones in three chunks, a held, and a returned record."""
    segment = Segment(KEEP_NEWEST, chunks=20)
    log = KeyedLog(segment.plain, segment, HASH)
    assert log.format()
    for number in range(20):
        log.append(*record(b"%d" % number, 400))
    for number in range(4, 20, 3):
        log.append(*record(b"%d" % number, 48))
    log.reserve(ME, 0)
    found = log.reserve(ME, 0)
    assert found
    log.nack(found[0])
    return segment


def head_of(segment: Segment) -> int:
    u64 = segment.u64
    return int(u64[layout.W_HEAD + (u64[layout.W_POPPED] & 1)])


def entry(segment: Segment, number: int, field: int) -> int:
    """Return the index of a u64 of an entry."""
    return (segment.place.entries_at >> 3) + number * layout.ENTRY_WORDS + field


def set_u64(index: Any, change: Any) -> Any:
    """Return what changes a word of a segment: index and change are numbers, or made of the segment and its value."""

    def do(segment: Segment) -> None:
        place = index(segment) if callable(index) else index
        value = change(segment.u64[place]) if callable(change) else change
        segment.u64[place] = value

    return do


def more(value: int) -> int:
    return value + 1


def set_u32(index: Any, value: int) -> Any:
    def do(segment: Segment) -> None:
        segment.u32[index(segment)] = value

    return do


def chunk_word(number: int, word: int) -> Any:
    return lambda segment: (segment.place.data + (number << CHUNK_BITS) >> 3) + word


def second_word(word: int) -> Any:
    """Return what finds a word of the second chunk of the log."""
    return lambda segment: (segment.u64[(head_of(segment) >> CHUNK_BITS << CHUNK_BITS - 3) + layout.C_NEXT] >> 3) + word


def set_state(number: int, state: int) -> Any:
    def do(segment: Segment) -> None:
        segment.memory[layout.CHUNK_MAP_AT + number] = state

    return do


def findings(segment: Segment) -> list[str]:
    """Verify, with a look at each access."""
    before = segment.save()
    found = verify(segment.watched(), HASH)
    assert segment.save() == before, "it wrote"
    return found
