# SPDX-License-Identifier: GPL-2.0-or-later
"""The C library's robust mutex: what is called, and the few of its words that are looked at."""

from __future__ import annotations

import ctypes
import os
from functools import partial
from operator import itemgetter
from typing import Any, Callable

from kemi.queue.format import layout
from kemi.queue.format.abi import abi
from kemi.queue.shm.segment import Segment

_PROCESS_SHARED = 1
_ROBUST = 1
_ERRORCHECK = 2  # so that a second lock by its holder is an error, not a wait for itself

_fast = ctypes.PyDLL(None)
trylock: Callable[[Any], int] = _fast.pthread_mutex_trylock
unlock: Callable[[Any], None] = _fast.pthread_mutex_unlock
_fast.pthread_mutex_unlock.restype = None  # what it says is of no use, and costs a hundredth of an add
consistent = _fast.pthread_mutex_consistent


class _Packed:
    """The type of a reference in a tuple. ctypes takes it as it is, without a look at what it is."""

    from_param = staticmethod(itemgetter(0))


class _Ignored:
    """The type of an argument that means nothing."""

    from_param = staticmethod(bool)


_free = _fast["pthread_mutex_unlock"]
_free.restype = None
_free.argtypes = [_Packed, _Ignored]  # type: ignore[list-item]


def free(reference: Any) -> Callable[[Any], None]:
    """`unlock` as what a weak reference calls, with itself.

    It needs no memory, and no more of the stack than taking the lock did: nobody would hear that it failed.
    """
    return partial(_free, (reference,))


# What is no mutex of any kind: trylock and unlock give EINVAL and change nothing.
NOWHERE = ctypes.byref(ctypes.create_string_buffer(b"\xff" * layout.MUTEX_STRIDE, layout.MUTEX_STRIDE))
free_nothing = free(NOWHERE)
# The kernel's part of a robust mutex is a word with its holder's thread id; where it lies is up to the C library.
GLIBC = b"glibc" in abi()
HOLDER_AT = 0 if GLIBC else 4
# What kind of mutex it is, which never changes: after four numbers in glibc, first in others.
_KIND = slice(16, 20) if GLIBC else slice(0, 4)
# glibc has an owner besides: its thread id, or that the mutex is lost, or that it is lost unless made consistent.
OWNER_AT, LOST, DOUBTED = 8, 0x7FFFFFFE, 0x7FFFFFFF
HOLDER_MASK = 0x3FFFFFFF
OWNER_DIED = 0x40000000


def initialise(segment: Segment, number: int) -> None:
    """Make mutex `number` of a segment's header."""
    _make(reference(segment, number))


def _make(reference: Any) -> None:
    attributes = ctypes.create_string_buffer(64)
    _fast.pthread_mutexattr_init(attributes)
    _fast.pthread_mutexattr_setpshared(attributes, _PROCESS_SHARED)
    _fast.pthread_mutexattr_settype(attributes, _ERRORCHECK)
    code = _fast.pthread_mutexattr_setrobust(attributes, _ROBUST)
    code = code or _fast.pthread_mutex_init(reference, attributes)
    _fast.pthread_mutexattr_destroy(attributes)
    if code:
        raise OSError(code, f"no robust mutex on this system: {os.strerror(code)}")


def is_one(data: bytes) -> bool:
    """Return True for the bytes of a mutex that `initialise` made. The C library aborts the process for some others."""
    own = ctypes.create_string_buffer(layout.MUTEX_STRIDE)
    _make(ctypes.byref(own))
    return data[_KIND] == own.raw[_KIND]


def reference(segment: Segment, number: int) -> Any:
    """Return what ctypes passes fastest: a reference made once."""
    at = layout.MUTEX_AT + number * layout.MUTEX_STRIDE
    return ctypes.byref(segment.reference(at, layout.MUTEX_STRIDE))


def word(segment: Segment, number: int, at: int) -> Any:
    """Return a 32-bit number within mutex `number` of a segment: at HOLDER_AT, or OWNER_AT."""
    return ctypes.c_uint32.from_buffer(segment.bytes, layout.MUTEX_AT + number * layout.MUTEX_STRIDE + at)
