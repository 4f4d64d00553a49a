"""Wait for a mutex that another process or thread holds, beside other threads of this process.

The wait is in slices of a millisecond, with the GIL held: a thread that lets go of the GIL, is granted the mutex and
then waits for the GIL would keep the mutex for as long as another thread computes. Between two slices it sleeps for a
moment with neither of them, so that other threads run (one of them may be the holder), and signal handlers too.
"""

from __future__ import annotations

import ctypes
import errno
import time
from typing import Any

_SLICE = 0.001  # seconds with the GIL held
_BREAK = 0.00005  # seconds without
_LONGEST_BREAK = 0.001  # where there are no slices

_library = ctypes.PyDLL(None)
_trylock = _library.pthread_mutex_trylock
# An older C library, and musl, can wait only by the wall clock, which may be set back meanwhile: then a slice would be
# an hour. So they look again and again.
_clocklock = getattr(_library, "pthread_mutex_clocklock", None)


class _TimeSpec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def lock_until(reference: Any, deadline: float) -> int:
    """Lock a mutex, or return ETIMEDOUT at `deadline` (by time.monotonic), or another error number."""
    pause = _BREAK
    while True:
        if _clocklock is None:
            code = int(_trylock(reference))
            pause = min(2 * pause, _LONGEST_BREAK)
        else:
            end = min(deadline, time.monotonic() + _SLICE)
            moment = _TimeSpec(int(end), int(end % 1 * 1e9))
            code = int(_clocklock(reference, time.CLOCK_MONOTONIC, ctypes.byref(moment)))
        if code not in (errno.ETIMEDOUT, errno.EBUSY):
            return code
        if time.monotonic() >= deadline:
            return errno.ETIMEDOUT
        time.sleep(pause)
