"""`verify`: a sound segment has no findings, each kind of corruption has one, and nothing is written."""

from __future__ import annotations

from typing import Any

import pytest

from kemi.queue.format import keyhash, layout
from kemi.queue.format.layout import C_FIRST, C_NEXT, PENDING, TOMBSTONE, Mapping
from kemi.queue.log import compaction
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.keyed_head import KEEP_NEWEST
from kemi.queue.log.plain import PlainLog
from kemi.queue.verify.segment import verify
from tests.support.crash_points import CHUNK_BITS, Segment
from tests.unit.test_plain_log import ME, ROOM, record

HASH = keyhash.function_of(keyhash.FORM)
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


def bucket(segment: Segment) -> int:
    """Return the index of a bucket in use."""
    start = segment.u64[segment.place.directory_at >> 3] >> 2
    return next(place for place in range(start, start + 8) if segment.u32[place])


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
KEYED = {
    "dead bytes": (set_u64(layout.W_DEAD, more), "the dead bytes"),
    "dead bytes of a chunk": (set_u64(second_word(layout.C_DEAD), more), "the dead bytes in the chunk"),
    "the way back": (set_u64(second_word(layout.C_PREVIOUS), 64), "the chunk before"),
    "the first record of a chunk": (set_u64(second_word(layout.C_FIRST), 64), "the first record in the chunk"),
    "a record out of the index": (set_u32(bucket, 0), "by its key"),
    "a link that leads out": (set_u32(bucket, (1 << 32) - 1), "leads to"),
    "buckets": (set_u64(layout.W_BUCKETS, 1 << 40), "claims"),
    "a chunk of the index": (set_u64(lambda s: s.place.directory_at >> 3, 4096), "a chunk of the key index"),
    "a secret": (set_u64(layout.W_SECRET, 1 << 63), "secret"),
    "a target of compaction": (set_u64(layout.W_TARGET, 4096), "the target of compaction"),
    "a chunk to look at": (set_u64(layout.W_SWEEP, 4096), "the chunk looked at next"),
    "a record that is marked as returned": (
        set_u32(lambda s: head_of(s) >> 2, 400 | layout.RETURNED),
        "which was not returned",
    ),
}


def _returned_seq(segment: Segment) -> int:
    """Return the seq of the entry at the top of the heap."""
    return int(segment.u64[entry(segment, segment.u32[segment.place.heap_at >> 2], layout.E_SEQ)])


def findings(segment: Segment) -> list[str]:
    """Verify, with a look at each access."""
    before = segment.save()
    found = verify(segment.watched(), HASH)
    assert segment.save() == before, "it wrote"
    return found


@pytest.mark.parametrize("make", [plain, keyed])
def test_a_sound_segment_has_no_findings(make: Any) -> None:
    assert findings(make()) == []


CORRUPTIONS = {
    f"{make.__name__}: {what}": (make, *found)
    for kinds, makes in ((BOTH, (plain, keyed)), (PLAIN, (plain,)), (KEYED, (keyed,)))
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
    layout.W_SHAPE,
]


@pytest.mark.parametrize("word", COUNTERS)
def test_a_counter_at_its_end_is_found(word: int) -> None:
    """Counting it up raises an exception, of which it is to be told where it came from."""
    segment = plain()
    segment.u64[word] = (1 << 64) - 1
    assert verify(segment.plain) == [f"the counter in word {word} is {(1 << 64) - 1}"]


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


def test_compaction_under_way_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FACTOR", 0)
    monkeypatch.setattr(compaction, "SLACK_CHUNKS", 0)
    segment = Segment(KEEP_NEWEST, chunks=30)
    log = KeyedLog(segment.plain, segment, HASH)
    assert log.format()
    seen = 0
    for number in range(300):
        log.append(*record(b"cold%d" % number if number % 5 == 0 else b"hot%d" % (number % 5), 200))
        assert findings(segment) == []
        if segment.u64[layout.W_TARGET]:
            seen += 1
            at = segment.u64[layout.W_TARGET_AT]
            before = segment.u32[at >> 2]
            segment.u32[at >> 2] = TOMBSTONE | 8
            assert findings(segment)
            segment.u32[at >> 2] = before
    assert seen > 5


def test_it_asks_for_nothing_but_the_mapping() -> None:
    """Also of memory that nobody formatted, or that is too short."""
    for size in (4096, 8192, 65536):
        memory = memoryview(bytearray(size))
        assert verify(Mapping(memory, memory.cast("Q"), memory.cast("I")), HASH)


def test_a_chunk_in_which_no_record_begins_is_sound_and_says_so() -> None:
    """In the middle of a record of several chunks; one that names a first record there is found."""
    segment = Segment(KEEP_NEWEST, chunks=20)
    log = KeyedLog(segment.plain, segment, HASH)
    assert log.format()
    log.append(*record(b"short"))
    log.append(*record(b"long", 3 * ROOM))
    log.append(*record(b"last"))
    assert verify(segment.plain, HASH) == []
    first = log.core.head() & ~log.core.chunks.mask
    begin = segment.u64[(first >> 3) + C_NEXT]
    middle = segment.u64[(begin >> 3) + C_NEXT]
    assert segment.u64[(middle >> 3) + C_FIRST] == 0
    segment.u64[(middle >> 3) + C_FIRST] = middle + layout.CHUNK_HEAD
    assert verify(segment.plain, HASH) == [
        f"the first record in the chunk at {middle} is {middle + layout.CHUNK_HEAD}, not 0"
    ]


def test_a_chunk_of_tombstones_that_did_not_leave_the_chain_is_found() -> None:
    """It leaves with the last of its records, but for the one that compaction fills."""
    segment = Segment(KEEP_NEWEST, chunks=20)
    log = KeyedLog(segment.plain, segment, HASH)
    assert log.format()
    for number in range(30):
        log.append(*record(b"%d" % number, 400))
    assert verify(segment.plain, HASH) == []
    chunk = int(segment.u64[second_word(0)(segment)]) and (second_word(0)(segment) << 3)
    at = chunk + layout.CHUNK_HEAD
    while at < chunk + (1 << CHUNK_BITS):
        segment.u32[at >> 2] |= TOMBSTONE
        at += segment.u32[at >> 2] & layout.STEP_MASK
    told = f"the live bytes in the chunk at {chunk}, which is in the chain,"
    assert any(told in each for each in verify(segment.plain, HASH))
    segment.u64[layout.W_TARGET] = chunk
    assert not any(told in each for each in verify(segment.plain, HASH))
