"""Which process owns a segment, and is that process provably dead?

A pid alone proves nothing: it is used again, and it means another process in another pid namespace. So an owner is
the pid, the time when that process started, and the namespace in which both are true. Every doubt counts as alive: a
living server's queues taken away are worse than a start that is refused.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class Owner(NamedTuple):
    """A process on this host, beyond the reuse of its pid."""

    pid: int
    start: int  # clock ticks since boot, field 22 of /proc/PID/stat
    namespace: int  # inode of the pid namespace

    def is_dead(self) -> bool:
        """True only if no process on this host can be this one."""
        if self.namespace != _namespace():
            return False  # its pid says nothing here
        start = _start_time(self.pid)
        return start is None or start != self.start


def this_process() -> Owner:
    """The owner record of the calling process."""
    pid = os.getpid()
    return Owner(pid, _start_time(pid) or 0, _namespace())


def _namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _start_time(pid: int) -> int | None:
    """Start time of a process in ticks; None if there is none, or only a zombie of it is left."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The command's name stands in parentheses and may hold anything, also ")".
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])
