"""Reading records in a chain of chunks: over the ends of chunks, and never where nothing can be."""

from __future__ import annotations

import pytest

from kemi.errors import CorruptedError
from kemi.queue.format.layout import (
    C_NEXT,
    CHUNK_HEAD,
    ENVELOPE_BYTES,
    QUESTION,
    R_KEY,
    R_VALUE,
    RECORD,
    RECORD_HEAD,
    TOMBSTONE,
)
from kemi.queue.store.chunks import Chunks
from kemi.queue.store.journal import Plan
from kemi.queue.store.records import Records, Span
from tests.support.crash_points import Segment
from tests.support.logs import ROOM, record


class Chain:
    """Four chunks of a segment, each followed by the next one; `put` writes from an offset on, as a log does."""

    def __init__(self) -> None:
        self.segment = Segment(chunks=6)
        chunks = Chunks(self.segment.plain, self.segment)
        self.chunks = chunks.alloc_many(4)
        chunks.settle(committed=True)
        for chunk, following in zip(self.chunks, self.chunks[1:]):
            self.segment.u64[(chunk >> 3) + C_NEXT] = following
        self.records = Records(self.segment.plain, chunks)
        self.count = chunks.count

    def put(self, at: int, data: bytes) -> None:
        place = self.chunks.index(at & ~((1 << 12) - 1))
        while data:
            left = self.chunks[place] + CHUNK_HEAD + ROOM - at
            self.segment.memory[at : at + len(data[:left])] = data[:left]
            data = data[left:]
            place += 1
            at = self.chunks[place] + CHUNK_HEAD if data else 0

    def first(self, back: int = ROOM) -> int:
        """Return an offset so many bytes before the end of the first chunk."""
        return self.chunks[0] + CHUNK_HEAD + ROOM - back


@pytest.fixture
def chain() -> Chain:
    return Chain()


PLACES = pytest.mark.parametrize(
    ("back", "size"),
    [(ROOM, 40), (40, 40), (32, 40), (24, 2048), (640, 640 + ROOM), (640, 648 + ROOM), (640, 3 * ROOM)],
)


@PLACES
def test_a_record_is_read_whole_wherever_chunks_end(chain: Chain, back: int, size: int) -> None:
    data, _ = record(b"key", size, added=12.5)
    at = chain.first(back)
    chain.put(at, data)
    assert chain.records.read(at) == data
    assert chain.records.step_at(at) == size
    assert chain.records.key_at(at) == b"key"
    assert chain.records.added_at(at) == 12.5


@pytest.mark.parametrize("length", [8, 9, 16, 23, 24])
@pytest.mark.parametrize("back", [RECORD_HEAD, RECORD_HEAD + 8, RECORD_HEAD + 16, RECORD_HEAD + 24, ROOM])
def test_a_key_is_read_over_the_end_of_a_chunk(chain: Chain, back: int, length: int) -> None:
    """To its last byte, which may be the first one behind the end."""
    key = bytes(range(length))
    data = RECORD.pack(RECORD_HEAD + 32, length, 32 - length, 0, 0.0) + key + b"v" * (32 - length)
    chain.put(chain.first(back), data)
    assert chain.records.key_at(chain.first(back)) == key


def test_the_span_of_a_record_says_which_chunks_it_begins_in_fills_and_ends_in(chain: Chain) -> None:
    one, two, three, four = chain.chunks
    span = chain.records.span
    assert span(chain.first(), 40) == Span(one, [], 0, chain.first() + 40)
    assert span(chain.first(40), 40) == Span(one, [], 0, two if two == one + 4096 else one + 4096)
    assert span(chain.first(40), 48) == Span(one, [], two, two + CHUNK_HEAD + 8)
    assert span(chain.first(40), 40 + ROOM) == Span(one, [], two, two + CHUNK_HEAD + ROOM)
    assert span(chain.first(40), 48 + 2 * ROOM) == Span(one, [two, three], four, four + CHUNK_HEAD + 8)


def test_a_span_ends_in_one_chunk_or_in_two() -> None:
    assert Span(64, [], 0, 128).ends() == (64,)
    assert Span(64, [128], 256, 300).ends() == (64, 256)


def test_the_record_behind_one_begins_in_the_next_chunk_where_that_one_ends_its_own(chain: Chain) -> None:
    one, two, three, _ = chain.chunks
    after, span = chain.records.after, chain.records.span
    assert after(span(chain.first(), 40)) == chain.first() + 40
    assert after(span(chain.first(40), 40)) == two + CHUNK_HEAD
    assert after(span(chain.first(40), 40 + ROOM)) == three + CHUNK_HEAD
    assert after(span(chain.first(40), 48)) == two + CHUNK_HEAD + 8
    assert after(Span(one, [], 0, one + 4096)) == two + CHUNK_HEAD


def test_with_a_plan_the_way_is_the_one_that_will_be(chain: Chain) -> None:
    one, two, _, four = chain.chunks
    plan = Plan(chain.segment.plain)
    plan[(one >> 3) + C_NEXT] = four
    assert chain.records.next_chunk(one, plan) == four
    assert chain.records.next_chunk(one) == two
    assert chain.records.next_chunk(two, plan) == chain.chunks[2]
    span = chain.records.span(chain.first(40), 48, plan)
    assert span == Span(one, [], four, four + CHUNK_HEAD + 8)
    assert chain.records.after(chain.records.span(chain.first(40), 40), plan) == four + CHUNK_HEAD


# --- what is no record ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 8, 1 << 50, 4], ids=["header", "prefix", "far away", "odd"])
def test_a_place_outside_of_the_chunks_in_use_has_no_record(chain: Chain, at: int) -> None:
    for read in (chain.records.step_at, chain.records.added_at, chain.records.key_at, chain.records.read):
        with pytest.raises(CorruptedError, match="a record's offset is"):
            read(at)


@pytest.mark.parametrize("back", [8, 16])
def test_a_record_does_not_begin_where_its_head_has_no_room(chain: Chain, back: int) -> None:
    chain.segment.u32[chain.first(back) >> 2] = 24
    with pytest.raises(CorruptedError, match=f"the record at {chain.first(back)} has only {back} bytes"):
        chain.records.step_at(chain.first(back))


@pytest.mark.parametrize("word", [0, R_KEY, R_VALUE])
def test_a_record_whose_lengths_do_not_agree_is_none(chain: Chain, word: int) -> None:
    at = chain.first()
    chain.put(at, record(b"key", 48)[0])
    chain.segment.u32[(at >> 2) + word] += 8
    with pytest.raises(CorruptedError, match=rf"the record at {at} of \d+ bytes claims a key of \d+ and a value of"):
        chain.records.step_at(at)


def test_the_envelope_of_a_question_is_not_in_the_length_of_its_value(chain: Chain) -> None:
    at = chain.first()
    size = RECORD_HEAD + 8 + 16 + ENVELOPE_BYTES
    chain.put(at, RECORD.pack(size, 8, 16 | QUESTION, 0, 0.0) + bytes(size - RECORD_HEAD))
    assert chain.records.step_at(at) == size
    chain.segment.u32[(at >> 2) + R_VALUE] = 16
    with pytest.raises(CorruptedError):
        chain.records.step_at(at)


@pytest.mark.parametrize("length", [0, 4, 12, 48])
def test_a_tombstone_has_some_bytes_of_its_chunk(chain: Chain, length: int) -> None:
    """The smallest is of 8, and the largest reaches to the chunk's end."""
    at = chain.first(40)
    for right in (8, 40):
        chain.segment.u32[at >> 2] = TOMBSTONE | right
        assert chain.records.step_at(at) == TOMBSTONE | right
    chain.segment.u32[at >> 2] = TOMBSTONE | length
    with pytest.raises(CorruptedError, match=f"the tombstone at {at} has {length} bytes"):
        chain.records.step_at(at)


def test_a_chain_that_ends_is_corruption(chain: Chain) -> None:
    chain.segment.u64[(chain.chunks[1] >> 3) + C_NEXT] = 0
    for read in (chain.records.span, chain.records.read_bytes):
        with pytest.raises(CorruptedError, match=f"the chunk behind {chain.chunks[1]} is 0"):
            read(chain.first(40), 48 + ROOM)


def test_a_chain_in_a_circle_is_corruption(chain: Chain) -> None:
    """It is followed for as many turns as there are chunks, and as long as a record may be."""
    chain.segment.u64[(chain.chunks[1] >> 3) + C_NEXT] = chain.chunks[0]
    with pytest.raises(CorruptedError, match=f"the chunks behind {chain.chunks[0]} go in a circle"):
        chain.records.span(chain.first(40), 1 << 29)
    at, longest = chain.first(), chain.count * ROOM
    assert len(chain.records.read_bytes(at, longest)) == longest
    with pytest.raises(CorruptedError, match="is longer than all chunks"):
        chain.records.read_bytes(at, longest + 8)
