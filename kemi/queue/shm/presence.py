# SPDX-License-Identifier: GPL-2.0-or-later
"""That a server of an instance lives, told where nobody can remove it: by a lock on the folder of shared memory.

Files of a living server vanish: logind's RemoveIPC, a cleaner of temporary files, `rm`. Its processes work on with what
they have mapped, but by names nobody finds it any more, and a second server would start beside it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from kemi.errors import SegmentError
from kemi.queue.shm import trust
from kemi.queue.shm.naming import SHM_DIR
from kemi.queue.sync.lifelock import (
    MAX_NUMBER,
    LifeLock,
    folder_number,
    is_number_locked,
    locked_spans,
)

WHAT_REMOVES = (
    f"something removed its files from {SHM_DIR} while it runs (RemoveIPC= in /etc/systemd/logind.conf, a cleaner of "
    "temporary files, rm)"
)
_CURE = "stop that server, which saves or keeps what it holds, and start it again"
_MOST_TOLD = 5  # pids
ENDED = 2  # in place of the life lock of a server that ended in order: nobody ever has it, all others are odd


class Presence:
    """A server's lock, which lasts as long as any of its processes, also one that was forked from it.

    This process gives it up when this object dies; the others keep theirs. A process that was forked by Python code is
    none of the server's until it uses a queue: see `leave` and `join`.

    Where the system has no such locks there is none, and all else works.
    """

    _lock: LifeLock | None = None
    number = 0  # of this server alone, never used again: by which those in other pid namespaces see it; 0 = none

    def __init__(self, user: int, instance: str) -> None:
        with contextlib.suppress(OSError, SegmentError):
            self._lock = LifeLock(SHM_DIR, folder_number(user, instance), inherit=True, shared=True)
            number = int.from_bytes(os.urandom(8), "big") & MAX_NUMBER | 1
            self._lock.take_also(number)
            self.number = number

    def leave(self) -> None:
        """In a child: this process says nothing any more of whether its server lives."""
        if self._lock is not None:
            self._lock.close()

    def join(self) -> None:
        """In a child that left: from here on the server lives as long as this process does."""
        with contextlib.suppress(OSError, SegmentError):
            self._lock = LifeLock(SHM_DIR, self.number, inherit=True, shared=True)

    def end(self) -> None:
        """Give it up for all processes of the server: it ends in order."""
        if self._lock is not None:
            self._lock.free()
            self._lock.close()


def is_present(users: Iterable[int], instance: str) -> bool:
    """Return True if a server of that instance lives, as one of these users, wherever its files are."""
    with contextlib.suppress(OSError, SegmentError):
        return any(is_number_locked(SHM_DIR, folder_number(user, instance)) for user in users)
    return False


def is_life_locked(number: int) -> bool:
    """Return True if any process of the server with this life lock lives. Raises OSError, ValueError, SegmentError."""
    return is_number_locked(SHM_DIR, number)


def vanished(users: Iterable[int], instance: str) -> str:
    """Return a sentence about the server that lives though its files are gone; nothing where there is none."""
    users = frozenset(users)
    if not is_present(users, instance):
        return ""
    numbers = {folder_number(user, instance) for user in users}
    pids = holders(numbers)
    if pids and _are_strangers(pids, users, numbers):
        return ""
    more = f" and {len(pids) - _MOST_TOLD} more" if pids[_MOST_TOLD:] else ""
    who = f"pid {', '.join(map(str, pids[:_MOST_TOLD]))}{more}" if pids else "in another pid namespace, or hidden"
    return f"its server lives ({who}), but {WHAT_REMOVES}; {_CURE}"


def _are_strangers(pids: list[int], users: frozenset[int], numbers: set[int]) -> bool:
    """Return True if the locks are those of other users' processes, and none of a server that cannot be seen here."""
    folder = os.stat(SHM_DIR)
    locks = sum(1 for first, last in locked_spans((folder.st_dev, folder.st_ino)) if first == last and first in numbers)
    return locks <= len(pids) and not {_user_of(pid) for pid in pids} & {*users, None}


def why_missing(users: Iterable[int], instance: str) -> str:
    """Return what an instance that has no files lacks, for those who attach. Asked often, so it names no pid."""
    if is_present(users, instance):
        return f"its server lives, but {WHAT_REMOVES}; {_CURE}"
    return "is its server running?"


def holders(numbers: set[int]) -> list[int]:
    """Return the processes that have one of these locks, as far as this one may look into them."""
    found = []
    folder = os.stat(SHM_DIR)
    for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc")))):
        with contextlib.suppress(OSError):  # it ended, or is another user's
            if any(_has(pid, fd, folder, numbers) for fd in os.listdir(f"/proc/{pid}/fd")):
                found.append(pid)
    return [pid for pid in found if pid != os.getpid()]


def _user_of(pid: int) -> int | None:
    """Return as whom a process runs; None when it is gone. To whom its folder in /proc belongs can be chosen."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/status", encoding="utf-8") as lines:
        return next((int(line.split()[2]) for line in lines if line.startswith("Uid:")), None)
    return None


def _has(pid: int, fd: str, folder: os.stat_result, numbers: set[int]) -> bool:
    """Return True if a descriptor has one of the locks. In fdinfo: lock: 1: OFDLCK ADVISORY READ -1 00:1a:1 5 5."""
    try:
        status = os.stat(f"/proc/{pid}/fd/{fd}")
        if (status.st_dev, status.st_ino) != (folder.st_dev, folder.st_ino):
            return False
        with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as info:
            words = [line.split() for line in info if line.startswith("lock:")]
    except OSError:
        return False  # it was closed meanwhile, as a working process does all the time; others may have the lock
    return any(line[-2:] == [str(number)] * 2 for line in words for number in numbers)


def trusted_servers(uid: int = -1) -> frozenset[int]:
    """As whom a server of this host may run that another one must not start beside."""
    return trust.users([uid, *(() if (user := trust.server_user()) is None else (user,))])
