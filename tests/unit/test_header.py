"""What is no whole segment of this version is refused, with its name and what is wrong, and left as it is."""

from __future__ import annotations

import os
import re
import struct
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import SegmentError
from kemi.owner import this_process
from kemi.queue.catalog import header
from kemi.queue.catalog.registry import Registry
from kemi.queue.format import layout
from kemi.queue.format.abi import abi
from kemi.queue.format.keyhash import MAX_SECRET
from kemi.queue.format.layout import CHUNK
from kemi.queue.queue import Queue
from tests.conftest import SHM

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_mock import MockerFixture


def refused(path: Path, instance: str, queue: str | None) -> str:
    """Return why a segment is refused; its bytes stay."""
    before, status = path.read_bytes(), path.stat()
    with pytest.raises(SegmentError) as caught:
        Queue.attach(instance, queue) if queue else Registry.attach(instance)
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    message = str(caught.value)
    assert message.startswith(f"{path} is no {'queue' if queue else 'instance'} of this version: ")
    assert message.endswith("; it is left as it is")
    return message


def number(value: int) -> bytes:
    """Return a 64-bit number as it lies in a header."""
    return struct.pack("=Q", value)


COMMON = [
    (0, b"\x7fELF\0\0\0\0", "it begins with b'\\x7fELF"),
    (0, bytes(8), "made by another program?"),
    (8, struct.pack("=I", 4), "it has format 4, this is format 5: an older mqueue_kemi than this one"),
    (8, struct.pack("=I", 4), "start it once more with that one, and save the items with its `mqueue-kemi drain`"),
    (8, struct.pack("=I", 6), "it has format 6, this is format 5: a newer mqueue_kemi than this one"),
    (8, struct.pack("=I", 0), "it has format 0"),
    (8, struct.pack("=I", (1 << 32) - 1), "it has format 4294967295, this is format 5"),
    (16, b"sparc-32b-glibc".ljust(32, b"\0"), "it was made on sparc-32b-glibc, this is"),
    (16, b"\xff" * 32, "it was made on"),
    (layout.W_MUTEX * 8, number(16), "it uses lock 16 of 16"),
    (layout.W_MUTEX * 8, number(1 << 63), "it uses lock"),
]
QUEUE = [
    (layout.W_MAP_SIZE * 8, number(0), "it has 0 bytes, and its chunks begin at 262144"),
    (layout.W_MAP_SIZE * 8, number(CHUNK + 1), "its parts lie at"),
    (layout.W_MAP_SIZE * 8, number(1 << 47), "it has 140737488355328 bytes"),
    (layout.W_MAP_SIZE * 8, number(1 << 63), "bytes, and its chunks begin at"),
    (layout.W_DATA * 8, number(0), "its parts lie at"),
    (layout.W_CHUNK_BITS * 8, number(19), "its chunks have 1 << 19 bytes"),
    (layout.W_CHUNK_BITS * 8, number(1 << 40), "its chunks have 1 <<"),
    (layout.W_CAPACITY * 8, number(0), "it has 0 in-flight entries"),
    (layout.W_CAPACITY * 8, number(5000), "it has 5000 in-flight entries"),
    (layout.W_ENTRIES_AT * 8, number(0), "its parts lie at"),
    (layout.W_HEAP_AT * 8, number(8192), "its parts lie at"),
    (layout.W_DIRECTORY_AT * 8, number(8192), "its parts lie at"),
    (layout.W_ADDMODE * 8, number(3), "and addmode 3"),
    (layout.W_ADDMODE * 8, number(1), "its parts lie at"),
    (layout.W_HEAD * 8, number(0), "its head is at 0"),
    (layout.W_HEAD * 8, number(1 << 40), "its head is at"),
    (layout.W_POPPED * 8, number(1), "its head is at 0"),
    (layout.W_TAIL * 8, number(4096), "its tail is at 4096"),
    (layout.W_TAIL * 8, number((1 << 64) - 8), "its tail is at"),
    (layout.W_ADDED * 8, number(1), "its tail is at 0"),
    (layout.W_QUOTA_ENTRY * 8, number(4096), "it has entry 4096 of 4096"),
]


@pytest.mark.parametrize(("at", "data", "why"), COMMON + QUEUE)
def test_a_damaged_queue(instance: str, at: int, data: bytes, why: str) -> None:
    """Each word of the header that leads somewhere is checked."""
    queue = Queue.create(instance, "q", window=1 << 20)
    queue.segment.bytes[at : at + len(data)] = data
    assert why in refused(SHM / f"mqk.{instance}.q", instance, "q")


@pytest.mark.parametrize(("at", "data", "why"), COMMON)
def test_a_damaged_instance(instance: str, at: int, data: bytes, why: str) -> None:
    """The same for the instance's own segment."""
    registry = Registry.create(instance, this_process(), 1 << 20)
    registry.segment.bytes[at : at + len(data)] = data
    assert why in refused(SHM / f"mqk.{instance}", instance, None)


@pytest.mark.parametrize("size", [1, 8, 511, 4095, 4096, 8191, 8192, CHUNK, CHUNK + 31])
def test_a_truncated_queue(instance: str, size: int) -> None:
    """A file that ends too early is refused, wherever it ends."""
    Queue.create(instance, "q", window=1 << 20)
    os.truncate(SHM / f"mqk.{instance}.q", size)
    assert re.search(rf"\b{size}\b.*truncated\?", refused(SHM / f"mqk.{instance}.q", instance, "q"))


@pytest.mark.parametrize("size", [CHUNK + 4096, 2 * CHUNK - 4096, 2 * CHUNK - 1, 3 * CHUNK - 4096])
def test_a_queue_without_the_end_of_its_last_chunk(instance: str, size: int) -> None:
    """A chunk in use that is not there as a whole is refused: its end would be SIGBUS."""
    queue = Queue.create(instance, "q", window=1 << 20)
    for key in "ab":
        queue.add(key, "x" * (CHUNK - 4096))
    os.truncate(SHM / f"mqk.{instance}.q", size)
    assert "truncated" in refused(SHM / f"mqk.{instance}.q", instance, "q")


def test_a_queue_without_a_chunk_in_the_middle_of_its_stream(instance: str) -> None:
    """Chunks do not lie in the order of the stream: those of head and tail may be there, and another one not."""
    queue = Queue.create(instance, "q", window=4 << 20)
    for key in "abc":
        queue.add(key, "x" * (CHUNK - 4096))
    queue.pop()
    queue.pop()
    queue.add("d", "x" * (CHUNK - 4096))
    size = queue.segment.size()
    assert max(queue._log.core.head(), queue._log.core.tail()) < size - CHUNK
    os.truncate(SHM / f"mqk.{instance}.q", size - CHUNK)
    assert "truncated" in refused(SHM / f"mqk.{instance}.q", instance, "q")


def test_a_queue_that_moves_on_while_it_is_looked_at(instance: str, mocker: MockerFixture) -> None:
    """Between two steps of the look, others take the items of a chunk and give it back: it is looked at again."""
    queue = Queue.create(instance, "q", window=4 << 20)
    large = "x" * (CHUNK - 4096)
    queue.add("k", large)
    read = os.pread
    left = 10

    def read_and_move(fd: int, length: int, at: int) -> bytes:
        nonlocal left
        data = read(fd, length, at)
        if not at and left:
            left -= 1
            chunk = queue._log.core.head() & -CHUNK
            while queue._log.core.chunks.is_used(chunk):
                assert queue.add("k", large) == 1
                assert queue.pop()
        return data

    mocker.patch("os.pread", read_and_move)
    assert header.checker(layout.MAGIC, "queue")(queue.segment.fd, "q") == 17 * CHUNK
    assert not left


def test_a_damaged_queue_in_use(instance: str, mocker: MockerFixture) -> None:
    """It changes at every look, and is refused all the same."""
    queue = Queue.create(instance, "q", window=1 << 20)
    queue.segment.words[layout.W_QUOTA_ENTRY] = layout.QUOTA_ENTRIES
    read = os.pread

    def read_and_add(fd: int, length: int, at: int) -> bytes:
        queue.add("k", "v")
        return read(fd, length, at)

    mocker.patch.object(header, "_PATIENCE", 0.05)
    mocker.patch("os.pread", read_and_add)
    with pytest.raises(SegmentError, match="it has entry 4096 of 4096"):
        Queue.attach(instance, "q")
    assert len(queue) > 0


def test_a_damaged_queue_that_stands_still(instance: str, mocker: MockerFixture) -> None:
    """It is looked at three times before it is refused, and no longer than that."""
    queue = Queue.create(instance, "q", window=1 << 20)
    queue.segment.words[layout.W_QUOTA_ENTRY] = layout.QUOTA_ENTRIES
    read = mocker.spy(os, "pread")
    with pytest.raises(SegmentError, match="it has entry 4096 of 4096"):
        Queue.attach(instance, "q")
    assert read.call_count == 3


@pytest.mark.parametrize(("more", "refused"), [(0, False), (1, True)])
def test_a_secret_of_the_key_index(instance: str, more: int, refused: bool) -> None:
    """The largest that the built-in hash takes is one; a larger one is none."""
    queue = Queue.create(instance, "q", window=1 << 20, addmode=1)
    queue.segment.words[layout.W_SECRET] = MAX_SECRET + more
    with pytest.raises(SegmentError, match="its keys are hashed in form") if refused else nullcontext():
        Queue.attach(instance, "q")


def test_what_was_committed_counts_as_stored(instance: str) -> None:
    """Of a queue that stopped between commit and the stores: the pairs of the list, and none behind them."""
    queue = Queue.create(instance, "q", window=1 << 20)
    words = queue.segment.words
    head = words[layout.W_HEAD]
    pairs = [(layout.W_HEAD, head), (layout.W_FLAGS, 0), (layout.W_HEAD, 0), (layout.W_TAIL, 0)]
    for number, pair in enumerate(pairs):
        at = (layout.JOURNAL_AT >> 3) + 2 * number
        words[at], words[at + 1] = pair
    words[layout.W_HEAD] = 0
    check = header.checker(layout.MAGIC, "queue")
    for count in (1, 2):
        words[layout.W_COMMIT] = count
        assert check(queue.segment.fd, "q") == words[layout.W_MAP_SIZE]
    for count in (0, 3, layout.MAX_PAIRS + 1):
        words[layout.W_COMMIT] = count
        with pytest.raises(SegmentError, match="its head is at 0"):
            check(queue.segment.fd, "q")


class Words:
    """A segment's words or bytes; before each store it is asked what the dead letter queue is called."""

    def __init__(self, memory: Any, look: Callable[[], object]) -> None:
        self.memory = memory
        self.look = look

    def __getitem__(self, where: Any) -> Any:
        return self.memory[where]

    def __setitem__(self, where: Any, value: Any) -> None:
        self.look()
        self.memory[where] = value


@pytest.mark.parametrize("new", ["", "x", "letters-2", "\u00e9\ud800"])
@pytest.mark.parametrize("old", ["", "letters"])
def test_the_dead_letter_queue_is_changed_as_a_whole(instance: str, old: str, new: str) -> None:
    """At each moment its name is the old one, the new one, or none; it is at most as long as there is room."""
    segment = Queue.create(instance, "q", window=1 << 20).segment
    header.set_dead_letter(segment, old)
    assert header.dead_letter_of(segment) == old
    seen: list[str] = []
    double: Any = SimpleNamespace()
    double.words = Words(segment.words, lambda: seen.append(header.dead_letter_of(segment)))
    double.bytes = Words(segment.bytes, lambda: seen.append(header.dead_letter_of(segment)))
    header.set_dead_letter(double, new)
    assert seen == [old, "", ""]
    assert header.dead_letter_of(segment) == new
    segment.words[layout.DEAD_LETTER_AT >> 3] = layout.DEAD_LETTER_MAX + 1
    assert len(header.dead_letter_of(segment).encode("utf-8", "surrogatepass")) == layout.DEAD_LETTER_MAX


@pytest.mark.parametrize("size", [1, 4095, 4096, layout.INSTANCE_BYTES - 1])
def test_a_truncated_instance(instance: str, size: int) -> None:
    """The same for the instance's own segment."""
    Registry.create(instance, this_process(), 1 << 20)
    os.truncate(SHM / f"mqk.{instance}", size)
    assert re.search(rf"{size}.*truncated\?", refused(SHM / f"mqk.{instance}", instance, None))


@pytest.mark.parametrize("data", [b"hello", b"\0" * 8192, b"\xff" * 8192, b"mqkemi-q", b"mqkemi-q" + bytes(8192)])
def test_a_foreign_file(instance: str, data: bytes) -> None:
    """Whatever another program put there is refused and stays."""
    for queue, path in (("q", SHM / f"mqk.{instance}.q"), (None, SHM / f"mqk.{instance}")):
        path.write_bytes(data)
        refused(path, instance, queue)


def test_a_queue_is_no_instance(instance: str) -> None:
    """Nor the other way round."""
    Registry.create(instance, this_process(), 1 << 20)
    Queue.create(instance, "q", window=1 << 20)
    one, other = SHM / f"mqk.{instance}", SHM / f"mqk.{instance}.q"
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)
    refused(one, instance, None)
    refused(other, instance, "q")


def test_the_abi_says_what_must_agree() -> None:
    """Architecture, word size, byte order and C library, in 32 bytes at most."""
    assert re.fullmatch(rb"[\w.]+-(32|64)[lb]-\w+", abi())
    assert len(abi()) <= 32


def test_an_unknown_c_library() -> None:
    """Where the C library does not say what it is, it is called libc."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "confstr", lambda _: None)
        assert abi().endswith(b"-libc")

        def unknown(_: str) -> str:
            raise ValueError

        patch.setattr(os, "confstr", unknown)
        assert abi().endswith(b"-libc")
