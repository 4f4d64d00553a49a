# SPDX-License-Identifier: GPL-2.0-or-later
"""The time namespace of this process: a container may have one, in which monotonic clocks are shifted.

Times that processes tell one another (when one started, when an item is due) are those of the host's first namespace.
"""

from __future__ import annotations

import os

_OFFSETS = "/proc/self/timens_offsets"
_NAMES = {"monotonic": ("monotonic", "1"), "boottime": ("boottime", "7")}  # as kernels write them
_shifts: dict[str, int] = {}


def shift(clock: str) -> int:
    """How many ns the clock "monotonic" or "boottime" of this process is ahead of the host's."""
    found = _shifts.get(clock)
    if found is None:
        found = _shifts[clock] = _read(clock)
    return found


def _read(clock: str) -> int:
    """0 where the system does not say so."""
    try:
        here, children = (os.readlink(f"/proc/self/ns/{name}") for name in ("time", "time_for_children"))
        if here != children:
            return 0  # the file would tell the shift of the children, which are not this process
        with open(_OFFSETS, encoding="ascii") as file:
            for line in file:
                name, seconds, ns = line.split()
                if name in _NAMES[clock]:
                    return int(seconds) * 1_000_000_000 + int(ns)
    except (OSError, ValueError):
        pass
    return 0


os.register_at_fork(after_in_child=_shifts.clear)  # a child may be in another namespace
