# SPDX-License-Identifier: GPL-2.0-or-later
"""Life locks: a process lives while the kernel keeps its lock on one byte of a file, whatever its pid or namespace.

A life lock is an open-file-description lock (F_OFD_SETLK) on the byte `number` of a file that only processes which may
write to the queue can open: a reader's shared lock would refuse the owner's. The kernel frees it when the last
descriptor of that opening is closed: at the holder's death, and at its exec. `number` is never used again (62 bits), so
a lock that is free stays free: dead is dead. The rules, each of which was seen to matter:

  - A lock on one's own opening is no obstacle, so a look through an inherited descriptor takes its owner, the parent,
    for dead. `Lives` looks through an opening of its own, and opens anew after a fork.
  - F_UNLCK in a child frees the parent's lock. So nothing here unlocks: it closes, which frees only the last one. (But
    for `free`: an owner that ends in order ends for its children, too.)
  - A child forked without Python's hooks (by C code) keeps its parent's lock alive. So a holder is dead if its lock is
    free, *or* its pid is provably dead in this pid namespace.
  - There are two kinds. The owner's lock of an instance is inherited on purpose: the server lives while any of its
    processes does (`inherit=True`). A process's own lock for what it holds is closed in each child that it forks.
  - Libraries close all descriptors, and their numbers come back as other files. So each use looks whether it is still
    what was opened, and a number that is somebody else's is never closed (see `openfile`).
  - A file can be removed under a living owner: then nobody finds its lock. So a server has a shared lock on the
    folder, too, at a place that follows from user and instance (`folder_number`).
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import stat
import struct
import threading
import weakref
from typing import final

from kemi.errors import SegmentError
from kemi.owner import Owner
from kemi.queue.sync.openfile import OpenFile, identity

MAX_NUMBER = (1 << 62) - 1
# struct flock as fcntl of a process with 64-bit offsets takes it: type, whence, start, length, pid.
_FLOCK = struct.Struct("@hhqqi0q")
_GETLK: int = getattr(fcntl, "F_OFD_GETLK", 36)
_SETLK: int = getattr(fcntl, "F_OFD_SETLK", 37)


def _request(kind: int, number: int) -> bytes:
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"number={number}: a life lock's number must be from 0 to {MAX_NUMBER}")
    return _FLOCK.pack(kind, os.SEEK_SET, number, 1, 0)


class _Opening:
    """One opening of a file by this process, which knows whether its descriptor is still that file.

    It is closed at its death at the latest, by code in which no signal handler runs: a life lock that Python code gave
    up could be used again where a handler raised in that code, and then say nothing.
    """

    def __init__(self, path: str, flags: int, expected: tuple[int, int] | None) -> None:
        """Open a file. expected: device and inode that it must be, if it must be one.

        A path in /proc leads to an open file, also to one that was removed.
        """
        follow = 0 if path.startswith("/proc/") and expected else os.O_NOFOLLOW
        low = OpenFile.open(path, flags | follow | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(low.number)
        self.file = identity(status)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise SegmentError(f"{path} is no file that a life lock can be on (mode {status.st_mode:o})")
        if expected not in (None, self.file):
            raise SegmentError(f"{path} is another file than the one in use: it was removed, and made anew")
        self._file = low.out_of_the_way()
        self._file.keep()
        self.pid = os.getpid()

    @property
    def fd(self) -> int:
        """The descriptor's number."""
        return self._file.number

    def is_open(self) -> bool:
        """Return True if the descriptor is still this file."""
        return self._file.is_still()

    def close(self) -> None:
        """Close the descriptor, unless it became somebody else's."""
        self._file.close()


_own: weakref.WeakSet[LifeLock] = weakref.WeakSet()
_own_guard = threading.Lock()


@final
class LifeLock:
    """A lock that says that this process lives; with inherit, that it or a process forked from it does."""

    def __init__(
        self,
        path: str,
        number: int,
        *,
        inherit: bool = False,
        shared: bool = False,
        file: tuple[int, int] | None = None,
    ) -> None:
        """Take the lock on byte `number` of a file.

        shared: for a lock that others may have, too. file: as for `Lives`. Raises SegmentError when another process
        has that number, OSError when the file cannot be opened, or its file system has no such locks.
        """
        request = _request(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, number)
        self.number = number
        self.path = path
        self._inherit = inherit
        self._opening = _Opening(path, os.O_RDONLY if shared else os.O_RDWR, file)
        try:
            fcntl.fcntl(self._opening.fd, _SETLK, request)
        except BlockingIOError:
            raise SegmentError(f"{path}: another process has the life lock {number}") from None
        if not inherit:
            with _own_guard:
                _own.add(self)

    @property
    def file(self) -> tuple[int, int]:
        """Device and inode of the file that the lock is on."""
        return self._opening.file

    def is_mine(self) -> bool:
        """Return True if it still says that this process lives.

        False after a fork, unless it is inherited, and after a library closed its descriptor.
        """
        return (self._inherit or self._opening.pid == os.getpid()) and self._opening.is_open()

    def take_also(self, number: int) -> None:
        """Have a shared lock on one more byte, as long as this one. Raises OSError."""
        fcntl.fcntl(self._opening.fd, _SETLK, _request(fcntl.F_RDLCK, number))

    def free(self) -> None:
        """Give it up for every process that has this opening: for an owner that ends in order, never a child."""
        with contextlib.suppress(OSError):
            if self._opening.is_open():
                fcntl.fcntl(self._opening.fd, _SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))

    def close(self) -> None:
        """Give the lock up: it is free when no process has this opening any more."""
        self._opening.close()


def _close_in_child() -> None:
    global _own_guard  # noqa: PLW0603 - another thread may have had it when this process was forked
    _own_guard = threading.Lock()
    for lock in list(_own):
        lock.close()  # no obstacle to others who look whether the parent lives
    _own.clear()


os.register_at_fork(after_in_child=_close_in_child)


@final
class Lives:
    """Tells whether the holders of life locks on one file live. Safe across fork: each process opens the file anew."""

    def __init__(self, path: str, file: tuple[int, int] | None = None) -> None:
        """file: device and inode, where the file must be a certain one. Raises as `LifeLock` does."""
        self._path = path
        self._opening = _Opening(path, os.O_RDWR, file)

    def _fd(self) -> int:
        """Return a descriptor that this process itself opened."""
        opening = self._opening
        if opening.pid != os.getpid() or not opening.is_open():
            self._opening = _Opening(self._path, os.O_RDWR, opening.file)
            opening.close()
        return self._opening.fd

    def is_locked(self, number: int) -> bool:
        """Return True if some other opening has the life lock `number`, also one of this process."""
        return self._finds(_request(fcntl.F_WRLCK, number))

    def is_any_locked(self) -> bool:
        """Return True if some other opening has any life lock on the file but number 0."""
        return self._finds(_FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 1, 0, 0))

    def _finds(self, request: bytes) -> bool:
        """Return True if another opening has a lock that is in the way of one."""
        return bool(_FLOCK.unpack(fcntl.fcntl(self._fd(), _GETLK, request))[0] != fcntl.F_UNLCK)

    def is_dead(self, number: int, owner: Owner | None = None) -> bool:
        """Return True only if the holder is certainly gone: its lock is free, or its pid is dead in this namespace.

        owner: pid, start and namespace as the holder told them. Every doubt counts as alive.
        """
        return not self.is_locked(number) or (owner is not None and owner.is_dead())

    def close(self) -> None:
        """Look no more."""
        self._opening.close()


def folder_number(user: int, instance: str) -> int:
    """Return the number of an instance's lock on the folder that its files are in."""
    from hashlib import sha256  # an OpenSSL, which takes long to load

    digest = sha256(f"{user}/{instance}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") & MAX_NUMBER


def is_number_locked(folder: str, number: int) -> bool:
    """Return True if some other opening has a shared lock with this number on a folder. Raises OSError.

    Anybody may lock a folder. Who locks more of it than one byte is no server: they would all seem to live.
    """
    opening = _Opening(folder, os.O_RDONLY, None)
    try:
        kind, _, start, length, _ = _FLOCK.unpack(fcntl.fcntl(opening.fd, _GETLK, _request(fcntl.F_WRLCK, number)))
    finally:
        opening.close()
    if kind == fcntl.F_UNLCK or (start, length) == (number, 1):
        return bool(kind != fcntl.F_UNLCK)
    spans = locked_spans(opening.file)  # behind the one that was found there may be others
    return not spans or (number, number) in spans


def locked_spans(file: tuple[int, int]) -> list[tuple[int, float]]:
    """First and last byte of each lock on a file, whoever has it, as far as the system tells."""
    device, inode = file
    where = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    with contextlib.suppress(OSError), open("/proc/locks", encoding="ascii") as lines:
        found = [words[-2:] for words in map(str.split, lines) if words[-3] == where]
        return [(int(first), math.inf if last == "EOF" else int(last)) for first, last in found]
    return []
