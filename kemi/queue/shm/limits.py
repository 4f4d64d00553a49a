# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits of memory that are not the file system's: of the control group, of the machine, of a process's files.

The kernel does not refuse memory beyond the first two: it kills a process. So before memory is reserved it is compared
with what is left, and a full queue is a refusal. Page cache that the kernel would drop first does not count.

A look takes some 100 µs; what it finds is good for LOOK seconds, or for a small part of what is left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import time

from kemi.queue.shm import rooms

LOOK = 1.0  # seconds
_PART = 32  # of what is left may be taken before the next look
_MARGIN, _MOST_MARGIN = 16 << 20, 256 << 20  # bytes that are left to the server and others
_SMALL, _SMALL_MARGIN = 2 << 20, 4 << 20  # a file of so many bytes may take more, so that a server can start
_STRICT = 2  # vm.overcommit_memory

_budget: list[tuple[float, int]] = [(0.0, 0)]  # until when, how many bytes may be taken


def why_not(end: int, length: int) -> str:
    """Why a file must not grow to `end` by `length` bytes, which a process would be killed for; nothing if it may."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if most != resource.RLIM_INFINITY and end > most:  # asking the system would end this process by SIGXFSZ
        return _files_too_large(most)
    until, budget = _budget[0]
    if length > budget or time.monotonic() > until:
        left = rooms.UNLIMITED
        for room in rooms.all_rooms():
            spare = room.left - (_SMALL_MARGIN if end <= _SMALL else min(max(_MARGIN, room.limit // 16), _MOST_MARGIN))
            if spare < length:
                return f"{room.what}: {room.left >> 20} MB are left of {room.limit >> 20} MB"
            left = min(left, spare)
        until, budget = time.monotonic() + LOOK, max(length, left // _PART)
    _budget[0] = (until, budget - length)
    return ""


def why_refused(folder: str, length: int, error: OSError) -> str:
    """Which limit an error of the system means, and what to change; nothing for an error of another kind."""
    if error.errno == errno.EFBIG:
        return _files_too_large(resource.getrlimit(resource.RLIMIT_FSIZE)[0])
    if error.errno == errno.EDQUOT:
        return f"this user's quota in {folder} is used up"
    if error.errno not in (errno.ENOSPC, errno.ENOMEM):
        return ""
    with contextlib.suppress(OSError, ValueError):
        system = os.statvfs(folder)
        strict = rooms.number(f"{rooms.PROC}/sys/vm/overcommit_memory") == _STRICT
        if strict and system.f_bavail * system.f_frsize >= length:
            return "the system has promised all of its memory (vm.overcommit_memory=2; CommitLimit in /proc/meminfo)"
        size = system.f_blocks * system.f_frsize >> 20
        return f"{folder} is full ({size} MB; mount -o remount,size=... or docker run --shm-size=... make it larger)"
    return f"{folder} is full"


def _files_too_large(most: int) -> str:
    return f"files of this process may have {most} bytes at most; raise LimitFSIZE= in its systemd unit, or ulimit -f"


def default_max_memory(folder: str) -> int:
    """Bytes for all queues when nobody said how many: half of the file system, and of what else there is a part.

    A quarter of the memory of machine or control group at most, and half of what is left of it.
    """
    system = os.statvfs(folder)
    most = system.f_blocks * system.f_frsize // 2
    for room in rooms.all_rooms():
        most = min(most, room.limit // 4, max(room.left, 0) // 2)
    return most


def address_space() -> int:
    """Bytes that this process may still map, by half; more than any process can where that is not limited."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return rooms.UNLIMITED
    with contextlib.suppress(OSError, ValueError), open(f"{rooms.PROC}/self/statm", encoding="ascii") as file:
        limit -= int(file.read().split()[0]) * resource.getpagesize()
    return max(0, limit) // 2
