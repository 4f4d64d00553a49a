# SPDX-License-Identifier: GPL-2.0-or-later
"""Which process owns a segment, and whether it is provably dead.

A pid alone proves nothing: it is used again, and it means another process in another pid namespace. So an owner is
the pid, the time when that process started, and the namespace in which both are true. Every doubt counts as alive: a
living server's queues taken away are worse than a start that is refused.
"""

from __future__ import annotations

import os

from kemi import timens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kemi.frozen import NamedTuple

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # ns


_NONE = -(1 << 62)


class Owner(NamedTuple):
    """A process on this host, beyond the reuse of its pid."""

    pid: int
    start: int  # clock ticks since boot, field 22 of /proc/PID/stat, as the host has it
    namespace: int  # inode of the pid namespace

    def shares_pids(self) -> bool:
        """Return True if pids (and the thread ids in a lock) mean the same there and here."""
        return self.namespace in (0, _namespace())

    def is_dead(self) -> bool:
        """Return True only if no process on this host can be this one."""
        if not self.namespace or not self.shares_pids():
            return False  # its pid says nothing here
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OverflowError:
            return False  # no pid at all: damaged, which proves nothing
        except OSError:
            pass  # there is one, of another user
        try:
            return abs(_start_time(self.pid) - self.start) > 1  # one, for what is rounded in a time namespace
        except OSError:
            return False  # /proc may be hidden, or all descriptors be in use: that proves nothing


def this_process() -> Owner:
    """Return the owner record of the calling process."""
    pid = os.getpid()
    try:
        start = _start_time(pid)
    except OSError:
        start = 0
    return Owner(pid, start, _namespace())


def _namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _start_time(pid: int) -> int:
    """Start time of a process in ticks; _NONE when only a zombie of it is left. Raises OSError."""
    with open(f"/proc/{pid}/stat", "rb") as stat:
        # The command's name stands in parentheses and may hold anything, also ")".
        fields = stat.read().rpartition(b")")[2].split()
    return _NONE if fields[0] in (b"Z", b"X") else int(fields[19]) - timens.shift("boottime") // _TICK
