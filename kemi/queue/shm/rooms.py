# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory the machine and this process's control groups have left, as /proc and the cgroup files say it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

PROC = "/proc"
UNLIMITED = 1 << 62  # version 1 of control groups has a number near 2^63 for no limit


class Room(NamedTuple):
    """What a limit leaves."""

    limit: int  # bytes
    left: int  # bytes
    what: str  # a name for people, with what to change


class _Version(NamedTuple):
    """The names of one version of control groups."""

    limits: tuple[str, ...]
    usage: str
    cache: tuple[str, str]  # in memory.stat: pages of files, which the kernel drops first


_V1 = _Version(("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_active_file", "total_inactive_file"))
_V2 = _Version(("memory.max", "memory.high"), "memory.current", ("active_file", "inactive_file"))


def all_rooms() -> Iterator[Room]:
    """Each limit that there is for this process's memory."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        memory = _fields(f"{PROC}/meminfo")
        left = memory["MemAvailable:"] + memory["SwapFree:"]
        yield Room(memory["MemTotal:"] << 10, left << 10, "the machine's memory is used up")
    for folder, version in _groups():
        with contextlib.suppress(OSError, ValueError, KeyError):
            yield from _group(folder, version)


def _group(folder: str, version: _Version) -> Iterator[Room]:
    """Give the limit of one control group, if it has one."""
    paths = [path for name in version.limits if os.path.exists(path := f"{folder}/{name}")]
    limit, path = min(((number(path), path) for path in paths), default=(UNLIMITED, ""))
    if limit >= UNLIMITED:
        return
    left = limit - number(f"{folder}/{version.usage}")
    if left < limit // 2:  # near the limit, it counts what the kernel would drop first
        fields = _fields(f"{folder}/memory.stat")
        left += sum(fields[name] for name in version.cache)
    yield Room(limit, left, f"the control group's limit is reached ({path})")


def number(path: str) -> int:
    """Return the number in a file of one line. Raises OSError, ValueError."""
    with open(path, encoding="ascii") as file:
        text = file.read().strip()
    return UNLIMITED if text == "max" else int(text)


def _fields(path: str) -> dict[str, int]:
    """Lines of a name and a number."""
    with open(path, encoding="ascii") as file:
        lines = [line.split() for line in file]
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}


# --- which control groups ---------------------------------------------------------------------------------------------

_found: dict[str, list[tuple[str, _Version]]] = {}  # by the text of /proc/self/cgroup, for the last one


def _groups() -> list[tuple[str, _Version]]:
    """Folder and version of each memory control group that this process is in, from its own upwards."""
    try:
        with open(f"{PROC}/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
        if text not in _found:
            _found.clear()
            _found[text] = list(_folders(text))
        return _found[text]
    except (OSError, ValueError):
        return []


def _folders(text: str) -> Iterator[tuple[str, _Version]]:
    paths = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            paths[_V2] = path
        elif "memory" in controllers.split(","):
            paths[_V1] = path
    with open(f"{PROC}/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounts = [line.split() for line in file]
    for mount in mounts:
        version = _version_of(mount[mount.index("-") + 1], mount[-1])
        if version in paths:
            yield from ((folder, version) for folder in _upwards(mount[4], mount[3], paths.pop(version)))


def _version_of(kind: str, options: str) -> _Version | None:
    """Of what is mounted, if it is a tree of control groups for memory."""
    if kind == "cgroup2":
        return _V2
    return _V1 if kind == "cgroup" and "memory" in options.split(",") else None


def _upwards(place: str, root: str, path: str) -> Iterator[str]:
    """Give the folders of a group and of those that it is in. A mount may show a part of the tree only."""
    if root != "/" and (path + "/").startswith(root + "/"):
        path = path[len(root) :]
    parts = [part for part in path.split("/") if part]
    if ".." in parts:  # seen from another namespace: only the mount's own root is sure
        parts = []
    for count in range(len(parts), -1, -1):
        folder = "/".join([place, *parts[:count]])
        if os.path.isdir(folder):
            yield folder
