"""Files in /dev/shm whose names others have now: what a stop does about them, and what the next start finds.

At a stop, a file of this user that has the name of a queue is moved out of its way. Whatever is somebody else's stays
where it is: the queue is kept under a name beside it then, from which the next start brings it back.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable

from kemi.queue.shm.naming import NAME_MAX, SHM_DIR, path_of

_KEPT = "~kept."
_MOVED = "replaced."
_BYTES = 4
_MARK = 2 * _BYTES  # characters


def is_kept(path: str) -> bool:
    """Is this the name of a queue that was kept beside another file?"""
    return _KEPT in path


def beside(name: str) -> str:
    """A name that a queue can be kept under while another file has its own."""
    return f"{_stem(name)}{_KEPT}{secrets.token_hex(_BYTES)}"


def make_way(name: str, user: int) -> str:
    """Move what has this name and belongs to that user. Returns where it is now; nothing where the name is not free."""
    path = path_of(name)
    with contextlib.suppress(OSError):
        if os.lstat(path).st_uid == user:
            moved = _MOVED + name[: NAME_MAX - len(_MOVED) - _MARK - 1] + "." + secrets.token_hex(_BYTES)
            os.rename(path, path_of(moved))
            return path_of(moved)
    return ""


def bring_back(name: str, is_ours: Callable[[str], bool]) -> list[str]:
    """Give a queue that was kept beside another file its name, where that is free. Returns those that stay as they are.

    Only for the process that owns the instance, and so is alone.
    """
    stem = _stem(name) + _KEPT
    paths = [path_of(file) for file in sorted(os.listdir(SHM_DIR)) if file.startswith(stem)]
    paths = [path for path in paths if is_ours(path)]
    if paths and not os.path.lexists(path_of(name)):
        os.rename(paths.pop(0), path_of(name))
    return paths


def _stem(name: str) -> str:
    return name[: NAME_MAX - len(_KEPT) - _MARK]
