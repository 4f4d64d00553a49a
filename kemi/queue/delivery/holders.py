# SPDX-License-Identifier: GPL-2.0-or-later
"""Who holds items of a queue: the life lock of this process, and whether others still live.

A process has one life lock for each queue of which it takes items, on the queue's own file (see `sync.lifelock`): from
its first reservation on, until it ends, execs, or lets go of the queue. Where there can be none (an old kernel, a file
that was removed and no /proc), its number is 0, and what the system says of its pid has to do.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from functools import partial
from typing import Any, Callable, NamedTuple, Protocol, TypeVar, final

from kemi.errors import SegmentError
from kemi.owner import Owner, this_process
from kemi.queue.store.inflight import Holder
from kemi.queue.sync.handlers import is_from_handler
from kemi.queue.sync.lifelock import MAX_NUMBER, LifeLock, Lives
from kemi.queue.sync.undisturbed import undisturbed

_Opened = TypeVar("_Opened")
_NAMESPACE = (1 << 32) - 1  # as much of its number as an entry has


class File(Protocol):
    """The file that the locks are on."""

    def paths(self) -> list[str]:
        """Ways to open it."""

    def identity(self) -> tuple[int, int]:
        """Device and inode. Raises SegmentError, OSError."""


class _State(NamedTuple):
    """How others know a process, and the lock that tells them that it lives: always both of the same time."""

    lock: LifeLock | None
    holder: Holder


def _taken(number: int, path: str, file: tuple[int, int]) -> LifeLock:
    return LifeLock(path, number, file=file)


@final
class _Life:
    """This process, as a holder of items of one queue, whichever object it reserves with.

    It gives its lock up by its death, without Python code: what was given up by halves would be found here again, and
    items be reserved in the name of a process that is taken for dead.
    """

    def __init__(self, file: File | None) -> None:
        self._file = file
        self.pid = os.getpid()
        self._begin(())

    def _begin(self, numbers: tuple[int, ...]) -> None:
        owner = this_process()
        lock: LifeLock | None = None
        for number in (*numbers, int.from_bytes(os.urandom(8), "big") & MAX_NUMBER | 1):
            lock = lock or _first(self._file, partial(_taken, number))
        number = lock.number if lock else 0
        self.state = _State(lock, Holder(number, owner.pid, owner.start, owner.namespace & _NAMESPACE))

    def is_valid(self) -> bool:
        """Return True if the holder still means this process."""
        lock = self.state.lock
        return lock.is_mine() if lock is not None else self.pid == os.getpid()

    def renew(self) -> None:
        """Go on when a library closed the descriptor; if possible as the same holder, which still holds items."""
        lock = self.state.lock
        if lock is not None:
            lock.close()
            self._begin((lock.number,))


# By process and file: a forked process is another holder.
_lives: weakref.WeakValueDictionary[tuple[int, tuple[int, int]], _Life] = weakref.WeakValueDictionary()
# By process, for one thread at a time: of two lives that begin at once one would end at once, and the items that were
# reserved in its name be anybody's. A forked process does not wait for a thread that it does not have.
_beginnings: dict[int, Any] = {}


@final
class Holders:
    """The holders of one queue's items, as this process sees them."""

    def __init__(self, file: File | None) -> None:
        """file: None where there is no file, as in a test of a plain buffer."""
        self._file = file
        self._life: _Life | None = None
        self._lives: Lives | None = None

    def me(self) -> Holder:
        """Return this process."""
        life = self._life
        if life is None or not life.is_valid():
            life = undisturbed(self._begin)
        return life.state.holder

    def _begin(self) -> _Life:
        """Be a holder from now on, or again."""
        with _beginnings.setdefault(os.getpid(), threading.RLock()):
            life = self._life
            if life is None or life.pid != os.getpid():
                life = self._found_or_made()
            if not life.is_valid():
                life.renew()
            self._life = life
            return life

    def _found_or_made(self) -> _Life:
        key = (os.getpid(), (0, id(self)))
        if self._file is not None:
            with contextlib.suppress(OSError, SegmentError):
                key = (os.getpid(), self._file.identity())
        return _lives.get(key) or _lives.setdefault(key, _Life(self._file))

    def is_gone(self, holder: Holder, *, closely: bool) -> bool:
        """Return True if the process is certainly gone.

        closely: look also for zombies and pids that are used again, which costs more.
        """
        if holder.life and self._told(lambda lives: lives.is_locked(holder.life)) is False:
            return True
        # A child that C code forked may keep the lock. A pid means something in its own namespace only.
        if holder.namespace not in (0, self.me().namespace):
            return False
        try:
            os.kill(holder.pid, 0)
        except (OSError, OverflowError) as error:  # where it is no ProcessLookupError there is one, of another user
            if is_from_handler(error):
                raise
            if isinstance(error, ProcessLookupError):
                return True
        return bool(closely and holder.start and Owner(holder.pid, holder.start, holder.namespace).is_dead())

    def has_any(self) -> bool:
        """Return True if a process lives that reserved something at any time, this one included."""
        return bool(self._told(Lives.is_any_locked))

    def _told(self, ask: Callable[[Lives], bool]) -> bool | None:
        """Return what the locks on the file say; None where they cannot be asked."""
        lives = self._open_lives()
        try:
            return None if lives is None else ask(lives)
        except (OSError, SegmentError, ValueError) as error:
            if is_from_handler(error):
                raise
            return None

    def _open_lives(self) -> Lives | None:
        if self._lives is None:
            self._lives = undisturbed(partial(_first, self._file, Lives))
        return self._lives

    def close(self) -> None:
        """Look no more, and hold nothing more, unless another object of this process does."""
        self._life = None
        self._lives = None


def _first(file: File | None, opened: Callable[[str, tuple[int, int]], _Opened]) -> _Opened | None:
    """Return what comes of the first way to open the file that leads to it; None if there is none."""
    if file is not None:
        for path in file.paths():
            with contextlib.suppress(OSError, SegmentError):
                return opened(path, file.identity())
    return None
