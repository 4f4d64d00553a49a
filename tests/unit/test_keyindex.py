"""The key index: found, gone, grown and shrunk against a dict; links that lead nowhere."""

from __future__ import annotations

import contextlib
import random

import pytest

from kemi.errors import CorruptedError
from kemi.queue.format import keyhash, layout
from kemi.queue.format.keyhash import MAX_SECRET
from kemi.queue.format.layout import LINK_SHIFT, R_LINK
from kemi.queue.log.core import ADDED, KEPT
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.keyed_head import KEEP_OLDEST
from kemi.queue.verify.segment import verify
from tests.support.crash_points import Segment
from tests.support.logs import pair, record

HASH = keyhash.function_of(keyhash.FORM)


def one_bucket(secret: int, key: bytes) -> bytes:
    """Return the same hash for all keys."""
    del secret, key
    return bytes(8)


def new(hashed: keyhash.KeyHash = HASH, chunks: int = 80) -> tuple[Segment, KeyedLog]:
    segment = Segment(KEEP_OLDEST, chunks=chunks, buckets=32)
    log = KeyedLog(segment.watched(), segment, hashed)
    assert log.format()
    return segment, log


def test_it_grows_and_shrinks_with_the_items() -> None:
    segment, log = new()
    for number in range(1000):
        assert log.append(*record(b"%d" % number)) == ADDED
    assert segment.u64[layout.W_BUCKETS] >= 990
    for number in range(1000):
        assert log.append(*record(b"%d" % number)) == KEPT
    for number in range(1000):
        found = log.pop()
        assert found
        assert pair(found)[0] == b"%d" % number
    assert segment.u64[layout.W_BUCKETS] < 70
    assert verify(segment.plain, HASH) == []
    assert len(segment.there) < 10, "its chunks are given back"


def test_another_process_sees_that_buckets_came_and_went() -> None:
    """Also where a chunk of the directory went and another came, with as many buckets as before."""
    segment, log = new()
    other = KeyedLog(segment.watched(), segment, HASH)
    chance = random.Random(3)  # noqa: S311
    model: list[bytes] = []
    for _ in range(3000):
        process = chance.choice([log, other])
        if chance.random() < (0.8 if len(model) < 20 else 0.35 if len(model) > 90 else 0.5):
            key = b"%d" % chance.randrange(200)
            assert process.append(*record(key)) == (KEPT if key in model else ADDED)
            if key not in model:
                model.append(key)
        elif model:
            found = process.pop()
            assert found
            assert pair(found)[0] == model.pop(0)
    assert verify(segment.plain, HASH) == []


def test_keys_of_one_bucket_are_told_apart() -> None:
    """However many there are; the index does not split what cannot be divided."""
    segment, log = new(one_bucket)
    for number in range(60):
        assert log.append(*record(b"%d" % number)) == ADDED
        assert log.append(*record(b"%d" % (number // 2))) == KEPT
    assert [pair(log.pop() or b"")[0] for _ in range(60)] == [b"%d" % number for number in range(60)]
    assert verify(segment.plain, one_bucket) == []


def test_without_memory_for_more_buckets_chains_grow() -> None:
    segment, log = new(chunks=3)
    added = 0
    while log.append(*record(b"%d" % added)) == ADDED:
        added += 1
    assert added > 60
    for number in range(added):
        assert log.append(*record(b"%d" % number)) == KEPT
    assert verify(segment.plain, HASH) == []


@pytest.mark.parametrize("link", [1, 3, 512, 1 << 20, (1 << 32) - 1])
def test_a_link_that_leads_to_no_record_is_corruption(link: int) -> None:
    segment, log = new()
    log.append(*record(b"a"))
    place = log.index.place(b"a")
    segment.u32[place] = link
    with pytest.raises(CorruptedError):
        log.pop()
    assert verify(segment.plain, HASH)
    with contextlib.suppress(CorruptedError):  # nothing else, and nothing is touched that is not there
        log.append(*record(b"a"))


def test_the_first_chunk_that_is_not_there_is_corruption() -> None:
    """A link to just behind the last chunk."""
    segment, log = new()
    log.append(*record(b"a"))
    chunks = log.core.chunks
    segment.u32[log.index.place(b"a")] = (chunks.count << chunks.bits) >> LINK_SHIFT
    with pytest.raises(CorruptedError, match="no record"):
        log.append(*record(b"a"))


def test_a_chain_in_a_circle_is_corruption() -> None:
    segment, log = new(one_bucket)
    for number in range(30):
        log.append(*record(b"%d" % number))
    first = log.core.head()
    segment.u32[(first >> 2) + R_LINK] = segment.u32[log.index.place(b"0")]
    with pytest.raises(CorruptedError, match="in a circle"):
        log.append(*record(b"new"))


@pytest.mark.parametrize("buckets", [0, 31, 1 << 40])
def test_a_number_of_buckets_that_cannot_be_is_corruption(buckets: int) -> None:
    segment, log = new()
    segment.u64[layout.W_BUCKETS] = buckets
    segment.u64[layout.W_SHAPE] += 1
    with pytest.raises(CorruptedError, match=f"claims {buckets} buckets"):
        log.append(*record(b"a"))


def test_a_secret_that_the_hash_does_not_take_is_corruption() -> None:
    segment, _ = new()
    segment.u64[layout.W_SECRET] = MAX_SECRET + 1
    with pytest.raises(CorruptedError, match="the secret of the key index"):
        KeyedLog(segment.plain, segment, HASH)
