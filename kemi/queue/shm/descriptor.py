# SPDX-License-Identifier: GPL-2.0-or-later
"""The descriptor of a segment: out of the way of the server's own, and never taken for somebody else's.

- It gets a high number: parts of Kamailio (ctl) work with low ones only.
- Libraries exist that close every descriptor of the process (to become a daemon, before a fork of their own). The
  number may then be another file's. So each use first checks that it still leads to the file
  that was opened: a number that is not ours any more is neither used nor closed, and the file is opened anew by its
  name.
"""

from __future__ import annotations

import os
import resource

from kemi.errors import ConfigError, SegmentError
from kemi.queue.shm import trust
from kemi.queue.sync.openfile import OpenFile, identity

_FEW = 8  # descriptors without which nothing works
_SPARE = 64  # descriptors that are left to the server, beside those in use and those of the queues, if possible


class Descriptor:
    """An open file, as long as this object lives and is not closed."""

    def __init__(self, file: OpenFile) -> None:
        """file: is this object's from here on."""
        self._closed = False
        self._file = file.out_of_the_way()
        self._identity = self._file.keep()

    def number(self, path: str) -> int:
        """Its number. Raises SegmentError when others closed it, and `path` does not lead to the file any more."""
        if self._closed:
            raise SegmentError(f"{path} is closed in this process")
        if not self._file.is_still():
            self._open_again(path)
        return self._file.number

    def is_file(self, status: os.stat_result) -> bool:
        """Return True for the status of the file that was opened."""
        return identity(status) == self._identity

    def identity(self) -> tuple[int, int]:
        """Device and inode of the file that was opened."""
        return self._identity

    def close(self) -> None:
        """Close it, if it is still this file's."""
        self._closed = True
        self._file.close()

    def _open_again(self, path: str) -> None:
        try:
            file = trust.open_file(path, trust.WRITE)
        except SegmentError as error:
            raise SegmentError(f"{_closed_by_others(path)} ({error})") from None
        if identity(os.fstat(file.number)) != self._identity:
            raise SegmentError(f"{_closed_by_others(path)} (that name is another file's now)")
        file = file.out_of_the_way()
        file.keep()
        self._file = file


def _closed_by_others(path: str) -> str:
    return (
        f"{path}: something in this process closed its descriptor (a library that closes all of them?), and it cannot "
        "be opened again; attach anew, or keep that library from it"
    )


def _in_use(limit: int) -> int:
    """How many descriptors this process has."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:  # none is left to look with
        return limit


def make_room(queues: int) -> None:
    """Let this process, and those forked from it, have enough descriptors for so many queues.

    What the server had for itself stays its own, if the limits allow. Raises ConfigError, which says what to raise.
    """
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _in_use(limit) + queues + _FEW
    if limit == resource.RLIM_INFINITY or (needed + _SPARE <= limit and queues <= limit // 4):
        return
    wanted = max(needed + _SPARE, limit + queues)
    if most == resource.RLIM_INFINITY:
        tries = [(wanted, most)]
    else:
        tries = [(wanted, max(most, wanted)), (min(wanted, most), most)]
    for soft, hard in tries:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            break
        except (ValueError, OSError):  # only root may have more than the hard limit, and only with CAP_SYS_RESOURCE
            continue
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < needed:
        raise ConfigError(
            f"{queues} queues need {needed} descriptors in all, this process may have {most}: raise LimitNOFILE= in "
            "the server's systemd unit, ulimit -Hn in its shell, or open_files_limit in kamailio.cfg"
        )
