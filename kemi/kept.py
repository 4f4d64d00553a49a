# SPDX-License-Identifier: GPL-2.0-or-later
"""Files in /dev/shm whose names others have now: what a stop does about them, and what the next start finds.

At a stop, a file of this user that has the name of a queue is moved out of its way. Whatever is somebody else's stays
where it is: the queue is kept under a name beside it then, from which the next start brings it back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from kemi.queue.format.keyhash import FORMS, siphash
from kemi.queue.shm.naming import KEPT, NAME_MAX, SHM_DIR, path_of, segment_name

KEPT_BESIDE = (
    "was kept at a stop, while another file had its queue's name; it is left as it is, and taken over by the next "
    "start that defines the queue and finds its name free"
)

_MOVED = "replaced."
_BYTES = 4
_MARK = 2 * _BYTES  # characters
_ROOM = NAME_MAX - len(KEPT) - _MARK  # characters of the queue's own name


def files(instance: str) -> list[str]:
    """Paths of what was kept of an instance's queues beside other files."""
    beginning = segment_name(instance) + "."
    return [path_of(file) for file in sorted(os.listdir(SHM_DIR)) if file.startswith(beginning) and KEPT in file]


def is_kept(path: str) -> bool:
    """Return True for the name of a queue that was kept beside another file."""
    return KEPT in path


def beside(name: str) -> str:
    """Return a name that a queue can be kept under while another file has its own."""
    return f"{_stem(name)}{KEPT}{os.urandom(_BYTES).hex()}"


def make_way(name: str, user: int) -> str:
    """Move what has this name and belongs to that user. Returns where it is now; nothing where the name is not free."""
    path = path_of(name)
    with contextlib.suppress(OSError):
        if os.lstat(path).st_uid == user:
            moved = _MOVED + name[: NAME_MAX - len(_MOVED) - _MARK - 1] + "." + os.urandom(_BYTES).hex()
            os.rename(path, path_of(moved))
            return path_of(moved)
    return ""


def bring_back(name: str, is_ours: Callable[[str], bool]) -> None:
    """Give a queue that was kept beside another file its name, where that is free.

    Only for the process that owns the instance, and so is alone.
    """
    stem = _stem(name) + KEPT
    paths = (path_of(file) for file in sorted(os.listdir(SHM_DIR)) if file.startswith(stem))
    ours = next(filter(is_ours, paths), None)
    if ours and not os.path.lexists(path_of(name)):
        os.rename(ours, path_of(name))


def _stem(name: str) -> str:
    """Return a name, or the beginning of one that is too long, with what no other long name has."""
    if len(name) <= _ROOM:
        return name
    return f"{name[: _ROOM - 2 * 8]}{siphash(max(FORMS))(0, name.encode()).hex()}"
