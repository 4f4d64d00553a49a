"""The byte format, spelled out: whoever changes it must raise VERSION and write the new bytes here."""

from __future__ import annotations

import struct
import sys
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from kemi.owner import Owner
from kemi.queue import layout
from kemi.queue.aside import Holder
from kemi.queue.queue import Queue
from kemi.queue.registry import Registry
from tests.conftest import SHM
from tests.unit.plain import Plain, put

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the bytes below are little-endian")

OWNER = Owner(4711, 123456, 4026531836)
ABI = b"x86_64-64l-glibc"
LOCKS = slice(1024, 1024 + 16 * 64)  # what lies in a mutex is the C library's affair
KIB256 = 262144

# VERSION → the digest of both queues' bytes. A digest is never changed: a new format is a new version.
GOLDEN = {
    1: "d8f1542b75bbbaad9c198f8ed0bb1cc6cf0640caccc8bd1d85e6886dae3afa37",
    2: "b54b0ef4806b0523a92951bf4c9afc8e02cc3f4c75ca6256a3ce6b17db58318d",
    3: "c4c6fe7df050417bcdcc00e612531f58656b8842814f23ce1b7457436e7cd00d",
    4: "b9112df6ed836e5a4f614d379559c0f1738d62319c42957234f6e80b42c2c595",
}


def words(*numbers: int) -> bytes:
    """Return 64-bit numbers as they lie in memory."""
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def placed(length: int, parts: dict[int, bytes]) -> bytes:
    """Return zeros with some parts at their offsets."""
    data = bytearray(length)
    for at, part in parts.items():
        data[at : at + len(part)] = part
    return bytes(data)


PREFIX = b"mqkemi-q" + struct.pack("<II", 4, 0) + ABI.ljust(32, b"\0") + words(1700000000000000000)
SECRET = 0x01234567
CREATED_1_5 = b"\0\0\0\0\0\0\xf8\x3f"
CREATED_2_5 = b"\0\0\0\0\0\0\x04\x40"
CREATED_3_5 = b"\0\0\0\0\0\0\x0c\x40"

# addmode 0, no limits: ("a", "1"), fetched; ("key", b"\xff\0"); ("", "\ud800").
PLAIN = placed(
    KIB256 * 2,
    {
        0: PREFIX,
        56: words(5 * KIB256, KIB256, 0, 0, 0, 0, 0),  # window, data, directory, addmode, slot, secret, form
        112: words(4711, 123456, 4026531836, 0, 0, 0, 8192),  # owner, limits, what is set aside
        256: words(KIB256 + 64, KIB256 + 128, 3, 1, 0, 0, 1, 0, 0, 0),  # head ... buckets
        336: words(3, 0, 0, 0, 0),  # gate ... turn
        384: words(3, 0, 0, 0, 0),  # high, dropped, replaced, refused, recovered
        4096: b"\x02",
        KIB256: words(0, 0, KIB256 + 32, (~(KIB256 + 32 >> 3) & 0xFFFFFFFF) << 32),  # the mark: no item before
        KIB256 + 32: struct.pack("<IIII", 32, 1, 1, 0) + CREATED_1_5 + b"a1",
        KIB256 + 64: struct.pack("<IIII", 32, 3, 2, 0) + CREATED_2_5 + b"key\xff\0",
        KIB256 + 96: struct.pack("<IIII", 32, 0, 1 << 31 | 3, 0) + CREATED_3_5 + b"\xed\xa0\x80",
    },
)

# addmode 2, 7 items and 4096 bytes at most, 5 deliveries, then to "dead":
# ("key", b"\xff\0"), reserved; ("a", "1"), replaced; ("a", "\ud800").
KEYED = placed(
    KIB256 * 3,
    {
        0: PREFIX,
        56: words(5 * KIB256, KIB256, 8192, 2, 0, SECRET, 13),
        112: words(4711, 123456, 4026531836, 7, 4096, 5, 16384),
        256: words(KIB256 + 64, KIB256 + 128, 3, 2, 1, 0, 1, 0, 32, 1 << 32 | 65536),
        336: words(0, 1, 0, 1, 1),
        384: words(2, 0, 1, 0, 0),
        2048: words(4) + b"dead",
        4096: b"\x02\x02",
        8192: words(2 * KIB256),
        16384: words(1 << 48 | KIB256 + 32 | 1),  # one slot: delivery, record, reserved
        16384 + 8192: words(1),
        16384 + 2 * 8192: words(123456),
        16384 + 3 * 8192: struct.pack("<II", 4711, 4026531836),
        KIB256: words(0, 0, 32, KIB256 + 32),
        KIB256 + 32: struct.pack("<IIII", 32, 3, 2, 0) + CREATED_1_5 + b"key\xff\0",
        KIB256 + 64: struct.pack("<IIII", 1 << 31 | 32, 1, 1, 0) + CREATED_2_5 + b"a1",
        KIB256 + 96: struct.pack("<IIII", 32, 1, 1 << 31 | 3, 0) + CREATED_3_5 + b"a\xed\xa0\x80",
        2 * KIB256 + 4 * 27321: struct.pack("<I", 96 // 8),  # the bucket of "a"
    },
)

INSTANCE = placed(
    4096 + 2 * 4096 * 8,
    {
        0: b"mqkemi-i" + PREFIX[8:],
        56: words(4096 + 2 * 4096 * 8),
        112: words(4711, 123456, 4026531836, 1 << 30),  # owner, max_memory
        4096: words(0, 81920),  # bytes of each queue
        4096 + 4096 * 8: words(5, 6),  # when it was made
    },
)


@pytest.fixture(autouse=True)
def _same_every_time(mocker: MockerFixture) -> None:
    mocker.patch.object(layout, "abi", return_value=ABI)
    mocker.patch("time.time_ns", return_value=1700000000000000000)
    mocker.patch("kemi.queue.queue._now", side_effect=[1.5, 2.5, 3.5])
    mocker.patch("secrets.randbits", return_value=SECRET)
    mocker.patch("kemi.queue.keyhash.FORM", layout.SIPHASH_1_3)
    mocker.patch("kemi.queue.keyhash._FUNCTION", None)  # up to Python 3.10 it has the other form


def file_of(name: str) -> bytes:
    """Return the bytes of a segment, without its locks."""
    data = bytearray((SHM / name).read_bytes())
    data[LOCKS] = bytes(LOCKS.stop - LOCKS.start)
    return bytes(data)


def differences(found: bytes, expected: bytes) -> dict[int, tuple[str, str]]:
    """Return what differs, in units of 8 bytes."""
    assert len(found) == len(expected)
    parts = {at: (found[at : at + 8], expected[at : at + 8]) for at in range(0, len(found), 8)}
    return {at: (one.hex(" "), other.hex(" ")) for at, (one, other) in parts.items() if one != other}


def test_a_plain_queue(instance: str) -> None:
    """Header, chunk map, chunk and records of addmode 0."""
    queue = Queue.create(instance, "q", window=4 * KIB256, owner=OWNER)
    for key, value in (("a", "1"), (b"key", b"\xff\0"), ("", "\ud800")):
        queue.add(key, value)
    queue.pop()
    assert differences(file_of(f"mqk.{instance}.q"), PLAIN) == {}


def test_a_keyed_queue(instance: str, mocker: MockerFixture) -> None:
    """The same with directory, buckets, links, a dead record, and a reserved one, of addmode 2."""
    queue = Queue.create(instance, "q", window=4 * KIB256, addmode=2, size_limit=7, byte_limit=4096, owner=OWNER)
    for key, value in ((b"key", b"\xff\0"), ("a", "1"), ("a", "\ud800")):
        queue.add(key, value)
    queue.set_deliveries(5, "dead")
    mocker.patch("kemi.queue.holding.this_holder", return_value=Holder(*OWNER))
    with queue.reserve():
        assert differences(file_of(f"mqk.{instance}.q"), KEYED) == {}


def test_an_instance(instance: str) -> None:
    """The instance's own segment, with the memory of one queue in line 1."""
    registry = Registry.create(instance, OWNER, 1 << 30)
    registry.open_line(4096, 5)
    registry.open_line(81920, 6)
    registry.set_line(0, 0)
    assert differences(file_of(f"mqk.{instance}"), INSTANCE) == {}


def test_the_version_belongs_to_the_bytes() -> None:
    """Bytes that change without a new version, or a new version without new bytes here, fail."""
    assert sha256(PLAIN + KEYED + INSTANCE).hexdigest() == GOLDEN[layout.VERSION]
    assert struct.unpack_from("<I", PLAIN, 8) == (layout.VERSION,)


@pytest.mark.parametrize("payload", range(9))
def test_an_item_costs_little(payload: int) -> None:
    """A record has 24 bytes beside its payload, and padding to 8."""
    plain = Plain()
    tail = plain.words[layout.W_TAIL]
    put(plain.ring(), b"", bytes(payload))
    assert plain.words[layout.W_TAIL] - tail == payload + 24 + -payload % 8
