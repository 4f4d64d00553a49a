"""Named shared memory that grows: create, attach, reserve, release, unlink.

The only module that knows how a segment lives in the system, and the only home of two work-arounds:

- The resource tracker must never start: it would be a child of Kamailio's main process, which then hangs at its stop.
- A segment grows, and nothing of it may ever be mapped anew or moved while a process holds the lock that lies in it
  (the kernel walks to that lock when the process is killed). So every process maps a window as large as the segment
  may ever get, once. Address space costs nothing; memory is reserved with posix_fallocate before it is touched,
  because a page that the file system cannot give is SIGBUS, not an error.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import resource
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from kemi.errors import ConfigError, NoMemory, NotAllowed, SegmentError, SegmentMissing

SHM_DIR = "/dev/shm"  # noqa: S108 - that is where Linux keeps shared memory
PREFIX = "mqk."
_NAME_MAX = 255
_TRIES = 10  # to open a segment
_MAP_FIXED = 0x10
_MAP_NORESERVE: int = getattr(mmap, "MAP_NORESERVE", 0)
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]


def segment_name(instance: str, queue: str | None = None) -> str:
    """Name in /dev/shm of a queue, or of the instance itself; percent-encoded, so that no name leaves the folder."""
    parts = [instance] if queue is None else [instance, queue]
    encoded = [_encode(part) for part in parts]
    name = PREFIX + ".".join(encoded)
    if len(name) > _NAME_MAX:
        raise ConfigError(
            f"name {parts[-1]!r} is too long: its file in {SHM_DIR} would have {len(name)} characters, "
            f"at most {_NAME_MAX} are possible; take a shorter name"
        )
    return name


def sibling_name(name: str, queue: str) -> str:
    """Name in /dev/shm of another queue of the same instance."""
    return f"{name.rpartition('.')[0]}.{_encode(queue)}"


def queue_name(name: str) -> str:
    """The queue whose segment has this name in /dev/shm."""
    return unquote(name.rpartition(".")[2], errors="surrogatepass")


def _encode(part: str) -> str:
    # Dots divide the parts of a name, and a tilde marks a segment that is being made.
    return quote(part, safe="", errors="surrogatepass").replace(".", "%2E").replace("~", "%7E")


def draft_name(name: str) -> str:
    """The name of a segment that is being made, for one process at a time."""
    return f"{name[: _NAME_MAX - 50].rstrip('%')}~{os.getpid()}"


def path_of(name: str) -> str:
    """The file that holds a segment."""
    return os.path.join(SHM_DIR, name)


def not_allowed(path: str) -> NotAllowed:
    """The error of a file that this user may not open."""
    try:
        status = os.stat(path)
        whose = f"it is of user {status.st_uid}, group {status.st_gid}, mode {status.st_mode & 0o777:04o}"
    except OSError as error:
        whose = str(error.strerror)
    return NotAllowed(
        f"{path}: not allowed for user {os.geteuid()}, {whose}; go on as its user or as root, "
        'or let its server allow a group with modparam("mqueue", "mode"/"group", ...)'
    )


def _track_others_only() -> None:
    """Keep SharedMemory from telling the resource tracker about our segments; all others still go there.

    For good, not around a call: other threads make segments of their own meanwhile, and a fork would inherit a lock.
    """
    register = resource_tracker.register

    def register_others(tracked: Any, rtype: str) -> None:
        if not str(tracked).startswith("/" + PREFIX):
            register(tracked, rtype)

    resource_tracker.register = register_others  # type: ignore[assignment]


_track_others_only()


def _descriptor(shared: SharedMemory) -> int:
    # SharedMemory keeps its file open, and has no public name for it.
    fd: int = shared._fd  # type: ignore[attr-defined]  # noqa: SLF001
    return fd


_HIGH = 1000  # descriptors of segments begin here, or at half of what the process may have


def _out_of_the_way(fd: int) -> int:
    """The same file under a high number, which alone is kept: parts of Kamailio (ctl) work with low ones only."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = _HIGH if limit == resource.RLIM_INFINITY else min(_HIGH, limit // 2)
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    except OSError:  # all of these are in use
        return os.dup(fd)


def _give(fd: int, access: Access, name: str) -> None:
    try:
        os.fchown(fd, access.uid, access.gid)
    except PermissionError:
        raise ConfigError(
            f"{path_of(name)}: user {os.geteuid()} may not give it to user {access.uid}, group {access.gid} "
            "(-1: its own); start as root, or choose a group of this user"
        ) from None
    os.fchmod(fd, access.mode)


def _reserve(fd: int, offset: int, length: int, name: str) -> None:
    try:
        os.posix_fallocate(fd, offset, length)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EFBIG):
            raise NoMemory(f"{path_of(name)}: no memory left for {length} bytes: {SHM_DIR} is full") from None
        raise


class _Shared(SharedMemory):
    """SharedMemory that never takes a name away: the original does so when it cannot map what it has opened."""

    def unlink(self) -> None:
        """Leave that to `Segment.unlink`."""


def _open(name: str) -> SharedMemory:
    for attempt in range(1, _TRIES + 1):
        try:
            return _Shared(name)
        except FileNotFoundError:
            raise SegmentMissing(f"there is no {path_of(name)}") from None
        except PermissionError:
            raise not_allowed(path_of(name)) from None
        except (ValueError, OSError) as error:
            # It asks for the file's length and maps so much; in between a queue in use may shrink.
            if attempt == _TRIES:
                raise SegmentError(f"{path_of(name)}: cannot be opened as shared memory: {error}") from None
    raise AssertionError("unreachable")


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

    def __init__(self, shared: SharedMemory, window: int) -> None:
        self.fd = -1
        self.name = shared.name.lstrip("/")
        self.window = window
        self.bytes = _map_window(_descriptor(shared), window, self.name)
        self.fd = _out_of_the_way(_descriptor(shared))
        shared.close()  # with a mapping of its own, and a descriptor for that
        view = memoryview(self.bytes)
        self.words = view.cast("Q")
        self.halves = view.cast("I")

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
        draft = draft_name(name)
        try:
            shared = _Shared(draft, create=True, size=reserve)
        except FileExistsError:
            # Ours by its pid, and this process makes one at a time: left by an earlier process of this pid.
            os.unlink(path_of(draft))
            shared = _Shared(draft, create=True, size=reserve)
        try:
            _reserve(_descriptor(shared), 0, reserve, name)
            segment = cls(shared, window)
            fill(segment)
            _give(segment.fd, access, name)
            os.link(path_of(draft), path_of(name))
            segment.name = name
        finally:
            os.unlink(path_of(draft))
        return segment

    @classmethod
    def attach(cls, name: str, window_of: Callable[[int, str], int]) -> Segment:
        """Map a segment that exists.

        `window_of(descriptor, name)` says how much to map, or raises SegmentError; it reads the file, because what is
        not there must not be touched.
        """
        shared = _open(name)
        return cls(shared, window_of(_descriptor(shared), name))

    def size(self) -> int:
        """Length of the file, bytes."""
        return os.fstat(self.fd).st_size

    def reserve(self, offset: int, length: int) -> None:
        """Make memory at offset usable. Raises NoMemory, and then nothing has changed."""
        _reserve(self.fd, offset, length, self.name)

    def release(self, offset: int, length: int) -> None:
        """Give memory back to the system. It reads as zeros when it is reserved again."""
        self.bytes.madvise(mmap.MADV_REMOVE, offset, length)

    def truncate(self, length: int) -> None:
        """Make the file shorter; nothing behind `length` may be in use."""
        os.ftruncate(self.fd, length)

    def reference(self, offset: int, length: int) -> Any:
        """A C object on these bytes, for a call that wants their address. The mapping lives as long as it does."""
        return (ctypes.c_char * length).from_buffer(self.bytes, offset)

    def user(self) -> int:
        """The user that the file belongs to."""
        return os.fstat(self.fd).st_uid

    def is_current(self) -> bool:
        """Does the name still lead to this segment? No after an unlink, or when it was made anew."""
        try:
            there, ours = os.stat(path_of(self.name)), os.fstat(self.fd)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def rename(self, name: str) -> None:
        """Take another name, in place of the segment that has it."""
        os.rename(path_of(self.name), path_of(name))
        self.name = name

    def unlink(self) -> None:
        """Take the name away. The memory goes when the last process that has it mapped is gone."""
        if self.is_current():
            os.unlink(path_of(self.name))

    def close(self) -> None:
        """Let go of the file.

        The mapping goes with the last object that refers to it: a thread that waits for the lock in it must not find
        it gone.
        """
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Segment {self.name} window={self.window}>"


def _map_window(fd: int, window: int, name: str) -> Any:
    """Map `window` bytes of the file, also those it does not have yet.

    Python's mmap refuses to map past the end of a file, and slices of it are the fastest way to shared bytes. So: a
    private mapping that Python owns, and the file mapped over it in the same place.
    """
    try:
        window_map = mmap.mmap(-1, window, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
    except (OSError, ValueError, OverflowError) as error:
        raise NoMemory(
            f"{name}: no address space for {window} bytes ({error}); "
            'lower modparam("mqueue", "max_memory", ...) or raise the limit of address space (ulimit -v)'
        ) from None
    address = ctypes.addressof(ctypes.c_char.from_buffer(window_map))
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    if _libc.mmap(address, window, protection, mmap.MAP_SHARED | _MAP_FIXED, fd, 0) == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path_of(name))
    return window_map
