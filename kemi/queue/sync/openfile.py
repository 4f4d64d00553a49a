# SPDX-License-Identifier: GPL-2.0-or-later
"""A descriptor that always has an owner, wherever a signal handler raises: an object whose death closes it, in C.

- `os.open` gives a number, and a handler may run before anything has it. So the number is put into a list of the
  object's by the same call of C that opens the file.
- Python drops what a handler raises in a `__del__`: a time limit would pass unnoticed. So there is none. A weak
  reference closes the file, by functions that are all of C: no handler runs in them.
- A library may have closed all descriptors, and the number be another file's. So it is closed only while it is this
  file, once that is known: its offset, which nobody uses, is set to a number of its own. (A look by `os.fstat` lets
  handlers run: it multiplies large numbers.)
"""

from __future__ import annotations

import itertools
import os
import select
import sys
import weakref
from collections.abc import Iterator
from functools import partial

from kemi.queue.sync.handlers import is_from_handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Identity = tuple[int, int]
_lseek, _close = os.lseek, os.close  # those of C, also while a debugger or a test has put others in their place

_HERE = os.SEEK_CUR
_HIGH = 1000  # some parts of a server work with low numbers only

_keys = itertools.count()
# Here, because the garbage collector calls no weak reference that is garbage itself; and for some time longer than it
# is needed: Python calls a weak reference without holding on to it.
_guards: dict[int, Any] = {}
_over: list[int] = []  # keys of those that are not needed any more


def identity(status: os.stat_result) -> Identity:
    """Return what no two files have at the same time."""
    return status.st_dev, status.st_ino


def _poll() -> select.poll:
    """Return what polls in C. gevent's Python code in its place lets others run, and fails at Python's end."""
    patched = sys.modules.get("gevent.monkey")
    poll: select.poll = (select.poll if patched is None else patched.get_original("select", "poll"))()
    return poll


class OpenFile:
    """A descriptor, from the moment in which it is there."""

    __slots__ = ("__weakref__", "_closing", "_key", "_mark", "_numbers")

    def __init__(self) -> None:
        while _over:
            _guards.pop(_over.pop(), None)
        self._numbers: list[int] = []
        self._mark = -1
        self._key = next(_keys)
        self._close_by(map(_close, self._numbers))

    def _close_by(self, closing: Iterator[None]) -> None:
        # It closes when it is asked for its next element, for the first time only, and gives none.
        whole: Iterator[None] = filter(None, itertools.chain(closing, map(_over.append, (self._key,))))
        guard = weakref.ref(self, partial(next, whole))
        _guards[self._key] = guard
        self._closing = whole

    @classmethod
    def open(cls, path: str, flags: int, mode: int = 0o600) -> OpenFile:
        """Open a file. Raises OSError."""
        return cls._made(map(os.open, (path,), (flags,), (mode,)))

    @classmethod
    def _made(cls, numbers: Iterator[int]) -> OpenFile:
        file = cls()
        file._numbers.extend(numbers)  # one call of C: there is no descriptor that is not in the list
        return file

    def out_of_the_way(self) -> OpenFile:
        """Return the same file under a high number, which alone is kept; this one where all of these are in use."""
        import fcntl
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        least = _HIGH if limit == resource.RLIM_INFINITY else min(_HIGH, limit // 2)
        try:
            high = self._made(map(fcntl.fcntl, (self.number,), (fcntl.F_DUPFD_CLOEXEC,), (least,)))
        except OSError:
            return self
        self.close()
        return high

    @property
    def number(self) -> int:
        """The descriptor's number."""
        return self._numbers[0]

    def keep(self) -> Identity:
        """Return what file this is, a regular one. From here on the number is closed only while it is that file's."""
        number = self.number
        mark = int.from_bytes(os.urandom(5), "little") | 1  # an offset that every file system allows
        own = identity(os.fstat(number))
        os.lseek(number, mark, os.SEEK_SET)
        poller = _poll()  # says, without an exception, whether the number is anybody's
        poller.register(number, select.POLLIN)
        there = itertools.compress((number,), map([(number, select.POLLIN)].__eq__, map(poller.poll, (0,))))
        same = map(mark.__eq__, map(_lseek, there, (0,), (os.SEEK_CUR,)))
        self._close_by(map(_close, itertools.compress((number,), same)))
        self._mark = mark
        return own

    def is_still(self) -> bool:
        """Return True if the number is still that of the file which was kept."""
        try:
            return _lseek(self._numbers[0], 0, _HERE) == self._mark
        except OSError as error:
            if is_from_handler(error):
                raise
            return False

    def close(self) -> None:
        """Close it, if nobody else has. Any number of times."""
        next(self._closing, None)
