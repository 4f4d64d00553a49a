"""The C library's mutex, and what is known of its bytes."""

from __future__ import annotations

import ctypes
import errno
from _thread import get_native_id

import pytest

from kemi.queue.format import layout
from kemi.queue.lock import pthread

ROOM = layout.MUTEX_STRIDE


class Bytes:
    """A mutex on memory of its own."""

    def __init__(self) -> None:
        self.memory = ctypes.create_string_buffer(b"\xee" * ROOM, ROOM)
        self.ref = ctypes.byref(self.memory)
        pthread._make(self.ref)

    def number(self, at: int) -> int:
        return int.from_bytes(self.memory.raw[at : at + 4], "little" if ctypes.c_uint16(1).value else "big")


@pytest.fixture
def mutex() -> Bytes:
    """Return a fresh one."""
    return Bytes()


def test_a_mutex_that_was_made_is_known_as_one(mutex: Bytes) -> None:
    assert pthread.is_one(mutex.memory.raw)


def test_it_is_known_while_it_is_held_and_afterwards(mutex: Bytes) -> None:
    """Its state does not count."""
    assert pthread.trylock(mutex.ref) == 0
    assert pthread.is_one(mutex.memory.raw)
    pthread.unlock(mutex.ref)
    assert pthread.is_one(mutex.memory.raw)


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\x7f", b"\x01"])
def test_other_bytes_are_not_taken_for_a_mutex(filler: bytes) -> None:
    """All zeros are a mutex for glibc, but neither a robust nor a shared one."""
    assert not pthread.is_one(filler * ROOM)


def test_a_mutex_of_another_kind_is_not_taken_for_one(mutex: Bytes) -> None:
    """The C library aborts the process for some kinds that do not exist."""
    data = bytearray(mutex.memory.raw)
    for at in range(pthread._KIND.start, pthread._KIND.stop):
        for bit in range(8):
            data[at] ^= 1 << bit
            assert not pthread.is_one(bytes(data)), (at, bit)
            data[at] ^= 1 << bit
    assert pthread.is_one(bytes(data))


def test_the_holder_is_told_by_its_thread(mutex: Bytes) -> None:
    """Whoever tries a second time is told so, not kept waiting."""
    assert mutex.number(pthread.HOLDER_AT) == 0
    assert pthread.trylock(mutex.ref) == 0
    assert mutex.number(pthread.HOLDER_AT) & pthread.HOLDER_MASK == get_native_id()
    assert pthread.trylock(mutex.ref) in (errno.EDEADLK, errno.EBUSY)
    pthread.unlock(mutex.ref)
    assert mutex.number(pthread.HOLDER_AT) == 0


def test_what_is_no_mutex_is_refused_and_stays_as_it_is() -> None:
    for _ in range(3):
        assert pthread.trylock(pthread.NOWHERE) == errno.EINVAL
        pthread.unlock(pthread.NOWHERE)
        pthread.free_nothing(None)
    assert pthread.NOWHERE._obj.raw == b"\xff" * ROOM  # type: ignore[attr-defined]


def test_free_unlocks_whatever_its_argument_is(mutex: Bytes) -> None:
    free = pthread.free(mutex.ref)
    for argument in (None, 5, "text", object()):
        assert pthread.trylock(mutex.ref) == 0
        free(argument)
        assert mutex.number(pthread.HOLDER_AT) == 0
