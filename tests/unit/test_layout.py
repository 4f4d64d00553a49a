"""The bytes of format 5, spelled out: whoever changes them must raise VERSION and write the new bytes here."""

from __future__ import annotations

import struct
import sys
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from kemi.owner import Owner
from kemi.queue.catalog.registry import Registry
from kemi.queue.format import keyhash, layout
from kemi.queue.format.abi import abi
from kemi.queue.format.outcome import AddResult
from kemi.queue.log.core import ADDED, Position
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.plain import PlainLog
from kemi.queue.store.inflight import Holder
from tests.conftest import SHM
from tests.support.crash_points import Segment

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the bytes below are little-endian")

# VERSION, REVISION → the digest of the bytes of both logs. A digest is never changed: other bytes are a new version; a
# new revision while the version was not released.
GOLDEN = {
    (5, 0): "67d1607680ef91b6fa26cc724c15806d751f2bb1e3b2b7976a9183eb8f7ff8be",
    (5, 1): "3783723ec22ba0c4301bec78610f341043a4cd814b6ee3839e3eda97eb7e2935",
    (5, 2): "0a8509381c76b522be3e5aa5949d1437d26b57d5dc129ea04eb4b95f741624bd",
}
LIST = slice(layout.JOURNAL_AT, layout.JOURNAL_AT + 16 * layout.MAX_PAIRS)  # what does not count any more
HASH = keyhash.siphash(13)
ME = Holder(77, 4711, 123456, 99)
PASS = 1 << 31


def words(*numbers: int) -> bytes:
    """Return 64-bit numbers as they lie in memory."""
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def halves(*numbers: int) -> bytes:
    """Return 32-bit numbers as they lie in memory."""
    return struct.pack(f"<{len(numbers)}I", *numbers)


def item(added: float, key: bytes, value: bytes, *, step: int = 32, link: int = 0, flags: int = 0) -> bytes:
    """Return a record as it lies in memory."""
    return halves(step, len(key), len(value) | flags, link) + struct.pack("<d", added) + key + value


def append(log: PlainLog | KeyedLog, added: float, key: bytes, value: bytes, flags: int = 0) -> None:
    step = 24 + len(key) + len(value) + 7 & -8
    record = layout.RECORD.pack(step, len(key), len(value) | flags, 0, added) + key + value
    assert log.append(record, step) == ADDED


def entry(at: int, seq: int, due: int, position: int) -> bytes:
    """Return an in-flight entry that was delivered once."""
    return words(at, seq, due, 77, 123456) + halves(4711, 99, 1, position, 0, 0)


def placed(length: int, parts: dict[int, bytes]) -> bytes:
    """Return zeros with some parts at their offsets."""
    data = bytearray(length)
    for at, part in parts.items():
        data[at : at + len(part)] = part
    return bytes(data)


# Chunks of 4 KiB. ("a", "1"), fetched; ("key", b"\xff\0"), held; ("k", "2"), returned, due at 1000 ns; ("", "\ud800"),
# appended with the position 6-7 of the stream 5.
PLAIN = placed(
    12288 + 2 * 4096,
    {
        56: words(20480, 12288, 12, 0, 0, 0, 2, 8192, 8320, 0, 0, 0, 2),  # map size ... quota entry, free chunks
        384: words(8),  # flags: in flight
        448: words(4, 12480, 12448),  # added, tail
        512: words(3, 12416, 12448, 4),  # popped, head, high water
        640: words(1, 0),  # chunks, free chunks
        768: words(2, 1, 0, 2, 64),  # in flight, returned, free entry, fresh entry, held bytes
        2368 + 64: words(3, 0, 0, 0, 0, 0, 22500000, 3),  # time in the queue: up to 10 s, and so on; sum, measured
        2560 + 32: words(5, 6, 7),
        4096: b"\x02",
        8192: entry(12384, 2, 0, 0) + entry(12416, 3, 1000, 1),
        8320: halves(1),  # the heap
        12288 + 32: words(2),  # held
        12352: item(1.5, b"a", b"1"),
        12384: item(2.5, b"key", b"\xff\0"),
        12416: item(3.5, b"k", b"2"),
        12448: item(4.5, b"", b"\xed\xa0\x80", flags=PASS),
    },
)

# Eight buckets in a chunk. ("key", b"\xff\0"), held; ("a", "1"), replaced by ("a", "\ud800"); ("b", "").
KEYED = placed(
    20480 + 3 * 4096,
    {
        56: words(32768, 20480, 12, 2, 0x01234567, 0, 2, 8192, 8320, 8384, 8, 0, 2),
        384: words(8),
        448: words(4, 20672, 20640),
        512: words(1, 20544, 20576, 3),
        640: words(1, 0, 1, 32, 8, 1, 0, 0, 0, 0),  # chunks, free, buried, dead, buckets, shape, compaction
        2368 + 64: words(1, 0, 0, 0, 0, 0, 8500000, 1),
        768: words(1, 0, 0, 1, 32),
        4096: b"\x02\x02",
        8192: entry(20544, 1, 0, 0),
        8384: words(24576),  # the directory
        20480: words(0, 0, 32, 20544, 1, 0),  # next, previous, dead, first, held, detached
        20544: item(1.5, b"key", b"\xff\0"),
        20576: item(2.5, b"a", b"1", step=1 << 31 | 32),
        20608: item(3.5, b"a", b"\xed\xa0\x80", flags=PASS),
        20640: item(4.5, b"b", b""),
        24576: halves(0, 16, 0, 0, 20, 0, 0, 0),  # the buckets
    },
)


def differences(segment: Segment, expected: bytes) -> dict[int, tuple[str, str]]:
    """Return what differs, in units of 8 bytes; the journal's list does not count."""
    data = bytearray(segment.memory[:])
    assert len(data) == len(expected)
    data[LIST] = bytes(LIST.stop - LIST.start)
    parts = {at: (bytes(data[at : at + 8]), expected[at : at + 8]) for at in range(0, len(data), 8)}
    return {at: (one.hex(" "), other.hex(" ")) for at, (one, other) in parts.items() if one != other}


@pytest.fixture(autouse=True)
def ten_seconds_after_the_epoch(mocker: MockerFixture) -> None:
    """Let it be so for what measures the time in the queue."""
    mocker.patch("kemi.queue.log.core._now", return_value=10.0)


def test_a_plain_log() -> None:
    """Header, chunk map, entries, heap, position, chunk and records of addmode 0."""
    segment = Segment(0, chunks=2, capacity=2)
    log = PlainLog(segment.plain, segment)
    assert log.format()
    append(log, 1.5, b"a", b"1")
    append(log, 2.5, b"key", b"\xff\0")
    append(log, 3.5, b"k", b"2")
    record = layout.RECORD.pack(32, 0, 3 | PASS, 0, 4.5) + b"\xed\xa0\x80"
    assert log.append_with(record, 32, Position(1, 5, 6, 7)) == ADDED
    assert log.pop()
    assert log.reserve(ME, 0)
    found = log.reserve(ME, 0)
    assert found
    assert log.nack(found[0], 1000)
    assert differences(segment, PLAIN) == {}


def test_a_keyed_log() -> None:
    """The same with directory, buckets, links and a tombstone, of addmode 2."""
    segment = Segment(2, chunks=3, capacity=2, buckets=8)
    log = KeyedLog(segment.plain, segment, HASH)
    assert log.format()
    append(log, 1.5, b"key", b"\xff\0")
    append(log, 2.5, b"a", b"1")
    append(log, 3.5, b"a", b"\xed\xa0\x80", PASS)
    append(log, 4.5, b"b", b"")
    assert log.reserve(ME, 0)
    assert differences(segment, KEYED) == {}


def test_the_version_belongs_to_the_bytes() -> None:
    """Bytes that change without a new version, or a new version without new bytes here, fail."""
    assert sha256(PLAIN + KEYED).hexdigest() == GOLDEN[layout.VERSION, layout.REVISION]


def test_the_list_of_the_journal_follows_the_commit_word() -> None:
    """The commit word has a line of its own, and nothing overlaps."""
    assert layout.JOURNAL_AT + 16 * layout.MAX_PAIRS <= layout.DEAD_LETTER_AT
    assert layout.POSITIONS_AT + 8 * layout.POSITIONS * layout.POSITION_WORDS <= layout.MUTEX_AT
    assert layout.MUTEX_AT + layout.MUTEX_COUNT * layout.MUTEX_STRIDE <= layout.PAGE
    assert layout.JOURNAL_AT == layout.W_COMMIT * 8 + layout.LINE
    assert LIST.stop <= layout.DEAD_LETTER_AT
    assert layout.DEAD_LETTER_AT + 8 + layout.DEAD_LETTER_MAX < layout.POSITIONS_AT
    assert layout.POSITIONS_AT + layout.POSITIONS * layout.POSITION_WORDS * 8 <= layout.PAGE
    assert layout.DEAD_LETTER_AT + 8 + layout.DEAD_LETTER_MAX <= layout.W_WAITED * 8
    assert layout.W_WAITED + len(layout.WAITED_BOUNDS) + 1 == layout.W_WAITED_SUM
    assert (layout.W_MEASURED + 1) * 8 <= layout.POSITIONS_AT
    assert [int(AddResult(layout.FIRST_REFUSAL + number)) for number in range(layout.REFUSALS)] == [3, 4, 5, 6]


def test_writers_have_lines_of_their_own() -> None:
    """What adds, fetches and waiters write is never on one line."""
    lines = [{layout.W_FLAGS}, {layout.W_ADDED, layout.W_TAIL, layout.W_TAIL_ODD}]
    lines += [{layout.W_POPPED, layout.W_HEAD, layout.W_HEAD_ODD, layout.W_HIGH_WATER}]
    lines += [{layout.W_EVENT, layout.W_WAITERS, layout.W_PRESENT}, {layout.W_CHUNKS, layout.W_SHAPE}]
    numbers = [{word * 8 // layout.LINE for word in line} for line in lines]
    assert all(len(each) == 1 for each in numbers)
    assert len(set.union(*numbers)) == len(lines)


def test_no_word_has_two_names() -> None:
    """Each word means one thing."""
    words_by_name = {name: value for name, value in vars(layout).items() if name.startswith("W_")}
    assert len(set(words_by_name.values())) == len(words_by_name)


@pytest.mark.parametrize("payload", range(9))
def test_an_item_costs_little(payload: int) -> None:
    """A record has 24 bytes beside its payload, and padding to 8."""
    for segment in (Segment(0), Segment(1)):
        keyed = segment.u64[layout.W_ADDMODE]
        log = KeyedLog(segment.plain, segment, HASH) if keyed else PlainLog(segment.plain, segment)
        assert log.format()
        append(log, 0.0, b"", bytes(payload))
        assert log.core.used_bytes() == payload + 24 + -payload % 8


# An instance's own segment: 4096 bytes of the first queue given back, 81920 of the second one.
INSTANCE = placed(
    4096 + 2 * 4096 * 8,
    {
        0: b"mqkemi-i" + struct.pack("<II", 5, 2) + abi().ljust(32, b"\0") + words(1700000000000000000),
        56: words(4096 + 2 * 4096 * 8),
        192: words(4711, 123456, 4026531836),  # the owner
        160: words(1 << 30),  # max_memory
        4096: words(0, 81920),
        4096 + 4096 * 8: words(5, 6),  # when the queues were made
    },
)


def test_an_instances_own_segment(instance: str, mocker: MockerFixture) -> None:
    mocker.patch("time.time_ns", return_value=1700000000000000000)
    registry = Registry.create(instance, Owner(4711, 123456, 4026531836), 1 << 30)
    registry.open_line(4096, 5)
    registry.open_line(81920, 6)
    registry.set_line(0, 0)
    data = bytearray((SHM / f"mqk.{instance}").read_bytes())
    data[layout.MUTEX_AT : layout.PAGE] = bytes(layout.PAGE - layout.MUTEX_AT)
    assert bytes(data) == INSTANCE
