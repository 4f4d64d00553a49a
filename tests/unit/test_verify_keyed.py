"""`verify` of a keyed log: its tombstones, its index, and compaction under way."""

from __future__ import annotations

import pytest

from kemi.queue.format import layout
from kemi.queue.format.layout import C_FIRST, C_NEXT, TOMBSTONE
from kemi.queue.log import compaction
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.keyed_head import KEEP_NEWEST
from kemi.queue.verify.segment import verify
from tests.support.crash_points import CHUNK_BITS, Segment
from tests.support.logs import HASH, ROOM, record
from tests.unit.corruptions import findings, head_of, keyed, more, second_word, set_u32, set_u64


def bucket(segment: Segment) -> int:
    """Return the index of a bucket in use."""
    start = segment.u64[segment.place.directory_at >> 3] >> 2
    return next(place for place in range(start, start + 8) if segment.u32[place])


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


@pytest.mark.parametrize("what", KEYED)
def test_corruption_is_found(what: str) -> None:
    change, message = KEYED[what]
    segment = keyed()
    change(segment)
    found = findings(segment)
    assert any(message in each for each in found), found


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
