# SPDX-License-Identifier: GPL-2.0-or-later
"""Wait for a mutex that another process or thread holds, beside other threads of this process.

The wait is in slices of a millisecond, with the GIL held: a thread that lets go of the GIL, is granted the mutex and
then waits for the GIL would keep the mutex for as long as another thread computes. Between two slices it sleeps for a
moment with neither of them, so that other threads run (one of them may be the holder), and signal handlers too. It
asks for its turn before: a thread that calls all the time would hold the mutex after nearly every break.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from typing import Any, Callable

from kemi.queue.sync.futex import TimeSpec

_SLICE = 0.001  # seconds with the GIL held
_BREAK = 0.00005  # seconds without, at first
_LONGEST_BREAK = 0.001

_library = ctypes.PyDLL(None)
_trylock = _library.pthread_mutex_trylock
# An older C library, and musl, can wait only by the wall clock, which may be set back meanwhile: then a slice would be
# an hour. So they look again and again.
_clocklock = getattr(_library, "pthread_mutex_clocklock", None)
_tgkill = getattr(_library, "tgkill", None)  # as old as pthread_mutex_clocklock


def lock_until(reference: Any, holder: Callable[[], int], deadline: float, ask: Callable[[], None]) -> int:
    """Lock a mutex, or return ETIMEDOUT at `deadline` (by time.monotonic), or another error number.

    holder: returns the thread id of who holds it. ask: called before each break.
    """
    pause = _BREAK
    while True:
        if _clocklock is None or _is_of_this_process(holder()):  # which needs the GIL to get on
            code = int(_trylock(reference))
        else:
            end = min(deadline, time.monotonic() + _SLICE)
            moment = TimeSpec(int(end), int(end % 1 * 1e9))
            code = int(_clocklock(reference, time.CLOCK_MONOTONIC, ctypes.byref(moment)))
        if code not in (errno.ETIMEDOUT, errno.EBUSY):
            return code
        if time.monotonic() >= deadline:
            return errno.ETIMEDOUT
        ask()
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_BREAK)  # on a busy machine others need longer to wake up and take the GIL


def _is_of_this_process(thread: int) -> bool:
    return _tgkill is not None and _tgkill(os.getpid(), thread, 0) == 0
