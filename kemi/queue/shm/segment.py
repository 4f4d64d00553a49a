# SPDX-License-Identifier: GPL-2.0-or-later
"""Named shared memory that grows: create, attach, reserve, release, unlink.

The only module that knows how a segment lives in the system. Nothing of a segment may ever be mapped anew or moved
while a process holds the lock that lies in it (the kernel walks to that lock when the process is killed). So every
process maps a window as large as the segment may ever get, once. Address space costs nothing; memory is reserved with
posix_fallocate before it is touched, because a page that the file system cannot give is SIGBUS, not an error.
(`multiprocessing`'s SharedMemory would start a resource tracker, a child of Kamailio's main process, which then hangs
at its stop.)

Whose files may be mapped is `trust`'s to say; what a descriptor is worth, `descriptor`'s.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from kemi.errors import ConfigError, MqueueError, NoMemory, SegmentError, SegmentMissing
from kemi.queue.shm import limits, mapping, trust
from kemi.queue.shm.descriptor import Descriptor
from kemi.queue.shm.naming import SHM_DIR, draft_name, path_of
from kemi.queue.shm.trust import Users
from kemi.queue.sync.handlers import is_from_handler, suppress
from kemi.queue.sync.openfile import OpenFile

_LONGEST = 1 << 47  # bytes that a process can map
_PUNCH_HOLE = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE, FALLOC_FL_KEEP_SIZE
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE: Linux 5.14

# PyDLL: what is done under a queue's lock must not let go of the GIL.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def _give(fd: int, access: Access, name: str) -> None:
    # In a folder that gives its own group to what is made in it (setgid), that group would get what `mode` says.
    group = os.getegid() if access.gid < 0 and os.fstat(fd).st_uid == os.geteuid() else access.gid
    try:
        os.fchown(fd, access.uid, group)
        os.fchmod(fd, access.mode)
    except OSError as error:
        why = "" if isinstance(error, PermissionError) else f" ({error.strerror})"
        raise ConfigError(
            f"{path_of(name)}: user {os.geteuid()} may not give it to user {access.uid}, group {access.gid} "
            f"(-1: its own){why}; start as root, or choose a group of this user"
        ) from None


def _reserve(fd: int, offset: int, length: int, name: str) -> None:
    path = path_of(name)
    if why := limits.why_not(offset + length, length):
        raise NoMemory(f"{path}: no memory left for {length} bytes: {why}")
    try:
        os.posix_fallocate(fd, offset, length)
    except OSError as error:
        if is_from_handler(error):
            raise
        if why := limits.why_refused(SHM_DIR, length, error):
            raise NoMemory(f"{path}: no memory left for {length} bytes: {why}") from None
        raise trust.refusal(path, error) from None


def _make(name: str) -> tuple[str, OpenFile]:
    """Return a new file to make a segment in, and its name, which no other process has."""
    while True:
        draft = draft_name(name)
        try:
            return draft, OpenFile.open(path_of(draft), trust.CREATE)
        except FileExistsError:
            continue
        except FileNotFoundError:
            raise SegmentError(f"there is no {SHM_DIR}; mount a tmpfs there") from None
        except OSError as error:
            raise trust.refusal(path_of(draft), error) from None


class Access(NamedTuple):
    """Who may use a segment. -1 for the user or group of this process."""

    mode: int = 0o600
    uid: int = -1
    gid: int = -1


PRIVATE = Access()


class Segment:
    """One segment, mapped for as long as this object lives.

    `bytes`, `words` and `halves` are the same memory as bytes, as 64-bit and as 32-bit numbers. Only what was reserved
    may be touched.
    """

    def __init__(self, name: str, file: OpenFile, window: int) -> None:
        """file: is this object's from here on, and closed when it cannot be made."""
        self._descriptor = Descriptor(file)
        self.name = name
        self.window = window
        self.bytes = mapping.of_file(self.fd, window, path_of(name))
        view = memoryview(self.bytes)
        self.words = view.cast("Q")
        self.halves = view.cast("I")

    @property
    def fd(self) -> int:
        """Its descriptor. Raises SegmentError when something else closed it, and the name is gone or another's."""
        return self._descriptor.number(path_of(self.name))

    @classmethod
    def create(
        cls,
        name: str,
        reserve: int,
        window: int,
        fill: Callable[[Segment], None],
        access: Access = PRIVATE,
    ) -> Segment:
        """Make a segment that appears under its name whole, or not at all.

        `fill` writes the first `reserve` bytes; only then does the name exist. Raises FileExistsError when it exists
        already, NoMemory when there is no room.
        """
        draft, file = _make(name)
        try:
            segment = cls(draft, file, window)
            _reserve(segment.fd, 0, reserve, name)
            fill(segment)
            _give(segment.fd, access, name)
            _link(path_of(draft), path_of(name))
            segment.name = name
        finally:
            with contextlib.suppress(OSError):  # what is left of it is taken away by the next start
                os.unlink(path_of(draft))
        return segment

    @classmethod
    def attach(
        cls,
        name: str,
        window_of: Callable[[int, str], int],
        users: Users | None = None,
        advice: str = trust.CLIENT_ADVICE,
    ) -> Segment:
        """Map a segment that exists and belongs to one of these users (None: root's and this process's).

        `window_of(descriptor, name)` says how much to map, or raises SegmentError; it reads the file, because what is
        not there must not be touched. Raises SegmentMissing, NotAllowed, SegmentError, NoMemory.

        advice: what to do when it belongs to another user.
        """
        file = trust.open_trusted(path_of(name), trust.users() if users is None else users, advice)
        try:
            _check_length(os.fstat(file.number).st_size, name)
            window = window_of(file.number, name)
        except OSError as error:
            file.close()
            raise error if isinstance(error, MqueueError) else trust.refusal(path_of(name), error) from None
        except BaseException:
            file.close()
            raise
        return cls(name, file, window)

    def size(self) -> int:
        """Length of the file, bytes."""
        return os.fstat(self.fd).st_size

    def allow(self, length: int) -> int:
        """Its descriptor, if limits that the system does not tell of allow `length` bytes more. Raises NoMemory."""
        if why := limits.why_not(self.size() + length, length):
            raise NoMemory(f"{path_of(self.name)}: no memory left for {length} bytes: {why}")
        return self.fd

    def reserve(self, offset: int, length: int) -> None:
        """Make memory at offset usable. Raises NoMemory, and then nothing has changed."""
        _reserve(self.fd, offset, length, self.name)
        with suppress(OSError, ValueError):  # as it may be: it saves a fault at each page's first byte
            self.bytes.madvise(_POPULATE_WRITE, offset, length)

    def release(self, offset: int, length: int) -> None:
        """Give memory back to the system, where it takes it; nothing may rely on that, nor on what is read there then.

        A hole in the file can be made with locked pages (mlockall), too, where MADV_REMOVE fails; and some sandboxes
        have the one, the other, or neither.
        """
        with contextlib.suppress(SegmentError):
            if not _libc.fallocate(self.fd, _PUNCH_HOLE, offset, length):
                return
        with suppress(OSError, ValueError):
            self.bytes.madvise(mmap.MADV_REMOVE, offset, length)

    def reference(self, offset: int, length: int) -> Any:
        """Return a C object on these bytes, for a call that wants their address. It keeps the mapping."""
        return (ctypes.c_char * length).from_buffer(self.bytes, offset)

    def paths(self) -> list[str]:
        """Ways to open the file once more, also when its name was taken away."""
        ways = [path_of(self.name)]
        with contextlib.suppress(SegmentError):
            ways.append(f"/proc/self/fd/{self.fd}")
        return ways

    def identity(self) -> tuple[int, int]:
        """Device and inode of the file."""
        return self._descriptor.identity()

    def user(self) -> int:
        """Return the user that the file belongs to."""
        return os.fstat(self.fd).st_uid

    def give(self, access: Access) -> None:
        """Let it belong to another user and group. Raises ConfigError where this user may not do that."""
        _give(self.fd, access, self.name)

    def is_current(self) -> bool:
        """Return True if the name still leads to this segment; False after an unlink, or when it was made anew."""
        try:
            there = os.lstat(path_of(self.name))
        except OSError as error:
            if is_from_handler(error):
                raise
            if isinstance(error, FileNotFoundError):
                return False
            raise trust.refusal(path_of(self.name), error) from None
        return self._descriptor.is_file(there)

    def rename(self, name: str) -> None:
        """Take another name, in place of the segment that has it. Raises SegmentError, NotAllowed."""
        try:
            os.rename(path_of(self.name), path_of(name))
        except OSError as error:
            raise _not_renamed(path_of(self.name), path_of(name), error) from None
        self.name = name

    def take_free(self, name: str) -> None:
        """Take another name. Raises FileExistsError when a segment has it, SegmentError, NotAllowed."""
        try:
            os.link(path_of(self.name), path_of(name))
        except FileExistsError:
            raise
        except OSError as error:
            raise _not_renamed(path_of(self.name), path_of(name), error) from None
        old, self.name = self.name, name
        with contextlib.suppress(OSError):
            os.unlink(path_of(old))

    def unlink(self) -> None:
        """Take the name away. The memory goes when the last process that has it mapped is gone. Raises NotAllowed."""
        if self.is_current():
            try:
                os.unlink(path_of(self.name))
            except FileNotFoundError:
                pass  # another process was faster
            except OSError as error:
                raise trust.refusal(path_of(self.name), error) from None

    def close(self) -> None:
        """Let go of the file.

        The mapping goes with the last object that refers to it: a thread that waits for the lock in it must not find
        it gone.
        """
        self._descriptor.close()

    def __repr__(self) -> str:
        return f"<Segment {self.name} window={self.window}>"


def _check_length(length: int, name: str) -> None:
    if not 0 < length < _LONGEST:
        raise SegmentError(f"{path_of(name)} has {length} bytes, which no shared memory of this kind has")


def _link(draft: str, path: str) -> None:
    """Give a draft its name. Raises FileExistsError when that is taken."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except FileNotFoundError:
        raise SegmentError(f"{draft}: something took it away while it was made; start again") from None
    except OSError as error:
        raise trust.refusal(path, error) from None


def _not_renamed(path: str, target: str, error: OSError) -> MqueueError:
    if error.errno == errno.ENOENT:
        return SegmentMissing(f"there is no {path}")
    return trust.refusal(target, error)
