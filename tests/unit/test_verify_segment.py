"""`verify`: a sound segment has no findings, each kind of corruption has one, and nothing is written."""

from __future__ import annotations

from typing import Any

import pytest

from kemi.queue.format import layout
from kemi.queue.format.layout import PENDING, TOMBSTONE, Mapping
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.keyed_head import KEEP_NEWEST
from kemi.queue.log.plain import PlainLog
from kemi.queue.verify.segment import verify
from tests.support.crash_points import Segment
from tests.support.logs import HASH, ME, record
from tests.unit.corruptions import (
    DATA,
    chunk_word,
    entry,
    findings,
    head_of,
    keyed,
    more,
    plain,
    set_state,
    set_u32,
    set_u64,
)

BOTH: dict[str, tuple[Any, str]] = {
    "an operation that was broken off": (set_u64(layout.W_FLAGS, lambda flags: flags | PENDING), "broken off"),
    "a commit word": (set_u64(layout.W_COMMIT, 3), "broken off"),
    "chunk bits": (set_u64(layout.W_CHUNK_BITS, 40), "its chunks have"),
    "capacity": (set_u64(layout.W_CAPACITY, 0), "0 in-flight entries"),
    "map size": (set_u64(layout.W_MAP_SIZE, 1 << 60), "its chunks begin at"),
    "entries elsewhere": (set_u64(layout.W_ENTRIES_AT, 64), "its parts lie at"),
    "a chunk that is taken for ever": (set_state(7, layout.TAKEN), "states that no operation left"),
    "a chunk that nothing leads to": (set_state(7, layout.USED), "that nothing leads to"),
    "a chunk in use that is free": (set_state(0, layout.FREE), "where no"),
    "free chunks": (set_u64(layout.W_FREE_CHUNKS, more), "the number of free chunks"),
    "chunks of the log": (set_u64(layout.W_CHUNKS, more), "the number of chunks in the log"),
    "records of the log": (set_u64(layout.W_ADDED, lambda added: added + 2), "the number of records in the log"),
    "many records of the log": (set_u64(layout.W_ADDED, 1 << 50), "records are said to be in the log"),
    "entries in use": (set_u64(layout.W_IN_FLIGHT, more), "the number of entries in use"),
    "the mark of entries in use": (set_u64(layout.W_FLAGS, 0), "the mark of entries in use"),
    "length of the heap": (set_u64(layout.W_RETURNED, more), "the length of the redelivery heap"),
    "bytes in flight": (set_u64(layout.W_HELD_BYTES, more), "the bytes in flight"),
    "the free list leads out": (set_u64(layout.W_FREE_ENTRY, 99), "free list"),
    "fresh entries": (set_u64(layout.W_FRESH_ENTRY, 99), "in-flight entries were used"),
    "an entry that leads nowhere": (set_u64(lambda s: entry(s, 0, layout.E_AT), 8), "where no record"),
    "two entries of one seq": (
        lambda s: set_u64(entry(s, 0, layout.E_SEQ), _returned_seq(s))(s),
        "of one seq",
    ),
    "records held in a chunk": (set_u64(chunk_word(0, layout.C_HELD), more), "the records held in the chunk"),
    "a head in the middle of a record": (
        lambda s: set_u64(layout.W_HEAD + (s.u64[layout.W_POPPED] & 1), lambda head: head + 8)(s),
        "record",
    ),
    "a tail that is no multiple of 8": (
        lambda s: set_u64(layout.W_TAIL + (s.u64[layout.W_ADDED] & 1), lambda tail: tail + 4)(s),
        "TAIL is",
    ),
    "a record without length": (set_u32(lambda s: head_of(s) >> 2, 0), "claims a key"),
    "a key that is too long": (set_u32(lambda s: (head_of(s) >> 2) + layout.R_KEY, 1 << 20), "claims a key"),
}
PLAIN = {
    "a chain that ends": (set_u64(chunk_word(0, layout.C_NEXT), 0), "where no chunk in use begins"),
    "a chain in a circle": (set_u64(chunk_word(0, layout.C_NEXT), DATA[0]), "circle"),
    "a free list in a circle": (
        set_u32(lambda s: entry(s, 1, 0) * 2 + layout.E_NEXT_FREE, 2),
        "in a circle",
    ),
    "a free entry that is lost": (set_u64(layout.W_FREE_ENTRY, 0), "in-flight entries are in use"),
    "a heap with another entry": (set_u32(lambda s: s.place.heap_at >> 2, 0), "the redelivery heap has"),
    "a tombstone": (set_u32(lambda s: head_of(s) >> 2, TOMBSTONE | 8), "record"),
}


def _returned_seq(segment: Segment) -> int:
    """Return the seq of the entry at the top of the heap."""
    return int(segment.u64[entry(segment, segment.u32[segment.place.heap_at >> 2], layout.E_SEQ)])


@pytest.mark.parametrize("make", [plain, keyed])
def test_a_sound_segment_has_no_findings(make: Any) -> None:
    assert findings(make()) == []


CORRUPTIONS = {
    f"{make.__name__}: {what}": (make, *found)
    for kinds, makes in ((BOTH, (plain, keyed)), (PLAIN, (plain,)))
    for what, found in kinds.items()
    for make in makes
}


@pytest.mark.parametrize("which", CORRUPTIONS)
def test_corruption_is_found(which: str) -> None:
    make, change, message = CORRUPTIONS[which]
    segment = make()
    change(segment)
    found = findings(segment)
    assert any(message in each for each in found), found


COUNTERS = [
    *(layout.W_PRESENT, layout.W_EXPIRED, layout.W_REFUSED + 2, layout.W_ASK_LATE),
    *(layout.W_SHAPE, layout.W_MEASURED),
]


@pytest.mark.parametrize("word", COUNTERS)
def test_a_counter_at_its_end_is_found(word: int) -> None:
    """Counting it up raises an exception, of which it is to be told where it came from."""
    segment = plain()
    segment.u64[word] = (1 << 64) - 1
    assert verify(segment.plain) == [f"the counter in word {word} is {(1 << 64) - 1}"]


KEYED_ONLY = [
    *(layout.W_BURIED, layout.W_DEAD, layout.W_BUCKETS),
    *(layout.W_TARGET, layout.W_TARGET_AT, layout.W_SOURCE_AT, layout.W_SWEEP),
]


@pytest.mark.parametrize("word", KEYED_ONLY)
def test_what_only_keyed_queues_have_is_zero_in_a_plain_one(word: int) -> None:
    """`clear` makes POPPED fit to BURIED, but a plain add or fetch does not look there."""
    segment = Segment(0)
    assert PlainLog(segment.plain, segment).format()
    segment.u64[word] = segment.u64[layout.W_ADDED] = 2
    segment.u64[layout.W_POPPED] = 2 - segment.u64[layout.W_BURIED]
    assert f"word {word} of a plain queue is 2, not 0" in verify(segment.plain)


@pytest.mark.parametrize("addmode", [0, KEEP_NEWEST])
def test_an_empty_log_whose_counters_are_at_their_end_is_found(addmode: int) -> None:
    """As after a wild store into the one, and a fetch of all: no record is said to be there, and no add can count."""
    segment = Segment(addmode)
    log = KeyedLog(segment.plain, segment, HASH) if addmode else PlainLog(segment.plain, segment)
    assert log.format()
    for word in (layout.W_ADDED, layout.W_POPPED):
        segment.u64[word] = (1 << 64) - 2  # an even number: the same words of HEAD and TAIL count
    key = HASH if addmode else None
    told = [f"the counter in word {word} is {(1 << 64) - 2}" for word in (layout.W_ADDED, layout.W_POPPED)]
    assert verify(segment.plain, key) == told
    for word in (layout.W_ADDED, layout.W_POPPED):
        segment.u64[word] = 1 << 62
    assert verify(segment.plain, key) == []


def test_nobody_is_flooded() -> None:
    segment = Segment(0, capacity=100)
    log = PlainLog(segment.plain, segment)
    assert log.format()
    for number in range(100):
        log.append(*record(b"%d" % number))
        log.reserve(ME, 0)
    for number in range(100):
        segment.u64[entry(segment, number, layout.E_SEQ)] = 0
        segment.u32[entry(segment, number, 0) * 2 + layout.E_POSITION] = 1
    assert 0 < len(findings(segment)) <= 20


def test_it_asks_for_nothing_but_the_mapping() -> None:
    """Also of memory that nobody formatted, or that is too short."""
    for size in (4096, 8192, 65536):
        memory = memoryview(bytearray(size))
        assert verify(Mapping(memory, memory.cast("Q"), memory.cast("I")), HASH)
