# SPDX-License-Identifier: GPL-2.0-or-later
"""Sleep until another process changes a 32-bit word; wake who sleeps on one.

Python runs signal handlers in the main thread only, between two of its instructions. A signal that comes after the last
look and before the kernel has put the thread to sleep, or that the kernel gives to another thread, ends no sleep. So
the main thread sleeps in short slices, and the handler runs when one of them is over.

The futex is a shared one (not PRIVATE): the kernel finds sleepers by the page behind the address, so each process may
have the segment mapped elsewhere. glibc's condition variables would do the same, but a waiter that is killed breaks
them; here it is simply gone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

_SYSCALL_NUMBERS = {
    "x86_64": 202,
    "aarch64": 98,
    "riscv64": 98,
    "loongarch64": 98,
    "i686": 240,
    "i386": 240,
    "armv7l": 240,
    "armv6l": 240,
    "ppc64le": 221,
    "ppc64": 221,
    "s390x": 238,
}
_NUMBER = _SYSCALL_NUMBERS.get(os.uname().machine)
_WAIT, _WAKE = 0, 1
_POLL = 0.02  # seconds between looks on an architecture whose number is not known
SLICE = 0.04  # seconds that the main thread sleeps at most before it looks for signals again
FIRST_SLICES = (SLICE / 64, SLICE / 16, SLICE / 4)
_sliced = [True]
_sleeping = [False]  # the main thread


class TimeSpec(ctypes.Structure):
    """A struct timespec."""

    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


# CDLL, because it lets other threads run meanwhile.
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p]


def wait(word: Any, expected: int, timeout: float) -> bool:
    """Sleep while `word` (a C object) is `expected`, at most `timeout` seconds. Return True if another process woke it.

    Returns when woken, when the word was different already, at the timeout, at a signal, or for no reason. The caller
    looks again in any case.
    """
    before = _sleeping[0]  # a signal handler may come here in the middle of another sleep
    try:
        _sleeping[0] = before or _is_main_thread()
        return _wait(word, expected, timeout)
    finally:
        _sleeping[0] = before


def sleeps() -> bool:
    """Return True while the main thread sleeps in `wait`, with no item yet: for signal handlers, which run in it."""
    return _sleeping[0]


def _wait(word: Any, expected: int, timeout: float) -> bool:
    if _NUMBER is None:
        time.sleep(min(timeout, _POLL))
        return False
    deadline = time.monotonic() + timeout
    left, code = timeout, -1
    for slice_ in _slices(timeout) if _sliced[0] else repeat(timeout):
        span = min(left, slice_)
        seconds = int(span)
        moment = TimeSpec(seconds, int((span - seconds) * 1e9))
        code = _syscall(_NUMBER, ctypes.addressof(word), _WAIT, expected, ctypes.addressof(moment))
        left = deadline - time.monotonic()
        if left <= 0 or not code or ctypes.get_errno() != errno.ETIMEDOUT:
            break
    return not code


def _slices(seconds: float) -> Iterator[float]:
    """How long this thread may sleep the first time, the second time and so on, of a sleep of so many seconds."""
    return chain(FIRST_SLICES, repeat(SLICE)) if _is_main_thread() else repeat(seconds)


def expect_no_signals() -> None:
    """From here on this process's sleeps are whole: it is one whose signals no Python code handles."""
    _sliced[0] = False


def pause(seconds: float) -> None:
    """Sleep; a signal handler need not wait for the end of it."""
    deadline = time.monotonic() + seconds
    for slice_ in _slices(seconds):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(left, slice_))


def _is_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def wake(word: Any, count: int = 1) -> int:
    """Wake up to `count` sleepers; returns how many were woken."""
    if _NUMBER is None:
        return 0
    return int(_syscall(_NUMBER, ctypes.addressof(word), _WAKE, count, None))
