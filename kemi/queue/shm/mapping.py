# SPDX-License-Identifier: GPL-2.0-or-later
"""A window into a file: mapped once, as large as the file may ever get, also past its present end.

Python's mmap refuses to map past the end of a file, and slices of it are the fastest way to shared bytes. So the system
is asked for the mapping, and a mmap object of one page is then told that this is its memory. Where such an object does
not look as expected, the window is a private mapping that Python owns, and the file mapped over it in the same place.

The window costs address space and nothing else:

- The private mapping counts as memory in use where the system gives no more than it has (vm.overcommit_memory=2), and,
  without MAP_NORESERVE, where it is larger than all memory. One of a file does not.
- Where all that is mapped is locked into RAM (mlockall with MCL_FUTURE), a mapping is filled with pages at once. So it
  is made without access, unlocked, and opened then.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from typing import Any

from kemi.errors import NoMemory
from kemi.queue.shm import trust

_MAP_FIXED = 0x10
# Below Python 3.13 mmap does not have it. Most machines have the value of x86 and ARM.
_NORESERVE = {"ppc64": 0x40, "ppc64le": 0x40, "sparc64": 0x40, "mips64": 0x400, "xtensa": 0x400, "alpha": 0x10000}
MAP_NORESERVE: int = getattr(mmap, "MAP_NORESERVE", 0) or _NORESERVE.get(os.uname().machine, 0x4000)
_FAILED = ctypes.c_void_p(-1).value
_WORD = ctypes.sizeof(ctypes.c_size_t)
_FIELDS = mmap.mmap.__basicsize__ // _WORD  # words of a mmap object, among which its address and length are

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
for _name, _more in (("munmap", []), ("munlock", []), ("mprotect", [ctypes.c_int])):
    getattr(_libc, _name).argtypes = [ctypes.c_void_p, ctypes.c_size_t, *_more]


def of_file(fd: int, length: int, path: str) -> Any:
    """Map a file, to be read and written, as an object like mmap. Raises NoMemory, SegmentError."""
    try:
        shell = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        place = _fields_of(shell)
        if place is None:
            return _over_a_private_one(fd, length)
        address = _map(None, length, mmap.MAP_SHARED | MAP_NORESERVE, fd)
    except (OSError, ValueError, OverflowError) as error:
        raise _refusal(path, length, error) from None
    # No call that could raise: from here on the mapping is the object's, which unmaps it.
    old, place[0] = place[0], address
    place[1] = length
    _libc.munmap(old, mmap.PAGESIZE)
    return shell


def _fields_of(shell: mmap.mmap) -> Any:
    """Address and length in a mmap object, to be changed; None where they were not found once."""
    fields = (ctypes.c_size_t * _FIELDS).from_address(id(shell))
    byte = ctypes.c_char.from_buffer(shell)
    wanted = (ctypes.addressof(byte), mmap.PAGESIZE)
    del byte
    found = [number for number in range(_FIELDS - 1) if (fields[number], fields[number + 1]) == wanted]
    if len(found) != 1:
        return None
    return (ctypes.c_size_t * 2).from_address(id(shell) + found[0] * _WORD)


def _over_a_private_one(fd: int, length: int) -> Any:
    window = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    _map(ctypes.addressof(ctypes.c_char.from_buffer(window)), length, mmap.MAP_SHARED | _MAP_FIXED, fd)
    return window


def _map(at: int | None, length: int, flags: int, fd: int) -> int:
    """Map a file without filling the mapping with pages. Raises OSError."""
    address = _libc.mmap(at, length, 0, flags, fd, 0)
    if address == _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _libc.munlock(address, length)
    if _libc.mprotect(address, length, mmap.PROT_READ | mmap.PROT_WRITE):
        number = ctypes.get_errno()
        _libc.munmap(address, length)
        raise OSError(number, os.strerror(number))
    return int(address)


def _refusal(path: str, length: int, error: Exception) -> Exception:
    number = getattr(error, "errno", errno.ENOMEM)
    if number in (errno.ENOMEM, errno.EAGAIN):
        return NoMemory(
            f"{path}: {length} bytes cannot be mapped ({os.strerror(number)}); raise the limits of address space "
            '(ulimit -v) and of locked memory (ulimit -l), or lower modparam("mqueue", "max_memory", ...)'
        )
    return trust.refusal(path, error) if isinstance(error, OSError) else NoMemory(f"{path}: {length} bytes: {error}")
