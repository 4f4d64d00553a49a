"""A small /dev/shm of one's own: a mount namespace of the calling process, which ends with it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from kemi.queue.shm.naming import SHM_DIR

_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)
FILLER = Path(SHM_DIR, "filler")


class NoNamespaceError(Exception):
    """This process may not make a namespace."""


def _call(what: str, code: int) -> None:
    if code:
        error = os.strerror(ctypes.get_errno())
        msg = f"{what}: {error}; the tests of a full {SHM_DIR} need root (CAP_SYS_ADMIN), run them as root"
        raise NoNamespaceError(msg)


def enter(size: int) -> None:
    """Give this process, and those that it starts, a /dev/shm of so many bytes. There is no way back."""
    _call("unshare", _libc.unshare(_CLONE_NEWNS))
    # What is mounted here must not be seen outside. In a chroot "/" may be no mount of its own; then /dev/shm is one.
    outside = [_libc.mount(b"none", place, None, _MS_REC | _MS_PRIVATE, None) for place in (b"/", SHM_DIR.encode())]
    _call("mount", all(outside))
    _call("mount", _libc.mount(b"tmpfs", SHM_DIR.encode(), b"tmpfs", 0, f"size={size}".encode()))


def free() -> int:
    """Return the bytes that are free in /dev/shm."""
    system = os.statvfs(SHM_DIR)
    return system.f_bfree * system.f_bsize


def fill_up() -> None:
    """Let another file take all the room that is left."""
    with FILLER.open("ab") as file:
        if free():
            os.posix_fallocate(file.fileno(), file.tell(), free())


def make_room() -> None:
    """Take that file away."""
    FILLER.unlink()
