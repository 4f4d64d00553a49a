"""The clock of due times: one that only goes forward, and says the same in every process of the host.

A container may have a time namespace, in which the monotonic clock is shifted. The shift is known, so due times are
told by the clock of the host's first namespace. While the machine sleeps this clock stands still.
"""

from __future__ import annotations

import os
from time import monotonic_ns

_OFFSETS = "/proc/self/timens_offsets"
_shift: int | None = None  # ns that the clock of this process is ahead; None: not asked yet


def now() -> int:
    """Monotonic ns of the host."""
    return monotonic_ns() - (_ask() if _shift is None else _shift)


def _ask() -> int:
    global _shift  # noqa: PLW0603 - a process stays in its time namespace
    _shift = _read()
    return _shift


def _read() -> int:
    """How far this process's clock is ahead of the host's; 0 where the system does not say so."""
    try:
        here, children = (os.readlink(f"/proc/self/ns/{name}") for name in ("time", "time_for_children"))
        if here != children:
            return 0  # the file would tell the shift of the children, which are not this process
        with open(_OFFSETS, encoding="ascii") as file:
            for line in file:
                clock, seconds, ns = line.split()
                if clock in ("monotonic", "1"):
                    return int(seconds) * 1_000_000_000 + int(ns)
    except (OSError, ValueError):
        pass
    return 0


def _forget() -> None:
    global _shift  # noqa: PLW0603 - a child may be in another namespace
    _shift = None


os.register_at_fork(after_in_child=_forget)
