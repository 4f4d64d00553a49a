# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the server that owns a segment lives, who it is, and what can be done about it.

A server lives while any of its processes does: they all have its life lock, which was inherited (see `presence`). So
while workers outlive a main process that was killed, nobody takes its queues over; whoever tries is told which
processes these are, as far as they can be seen. Every doubt counts as alive.
"""

from __future__ import annotations

import contextlib
import os
import time

from kemi.errors import SegmentError
from kemi.owner import Owner
from kemi.queue.shm import trust

ALIVE, DEAD, UNKNOWN = "alive", "dead", "unknown"

_MOST_TOLD = 8  # processes
_LOOK = 0.02  # seconds between two looks


def state_of(owner: Owner, life: int) -> str:
    """ALIVE, DEAD, or UNKNOWN: in another pid namespace, without a life lock that would tell.

    life: the number of its life lock, 0 for none.
    """
    if owner.shares_pids():
        return ALIVE if not owner.is_dead() or is_left_over(owner, life) else DEAD
    if not life:
        return UNKNOWN
    locked = _is_locked(life)
    return UNKNOWN if locked is None else ALIVE if locked else DEAD


def is_left_over(owner: Owner, life: int) -> bool:
    """Return True if the main process is gone, and not all of the others. A doubt counts as True."""
    return owner.is_dead() and bool(life) and _is_locked(life) is not False


def _is_locked(life: int) -> bool | None:
    from kemi.queue.shm import presence  # who looks at living servers of this namespace does without

    try:
        return presence.is_life_locked(life)
    except (OSError, ValueError, SegmentError):
        return None


def wait_until_ended(owner: Owner, life: int, seconds: float) -> None:
    """Give the processes of a server whose main process is gone the time to end that all of them need when killed."""
    deadline = time.monotonic() + seconds
    while is_left_over(owner, life) and time.monotonic() < deadline:
        time.sleep(_LOOK)


# --- in words ---------------------------------------------------------------------------------------------------------


def who(owner: Owner, life: int, user: int | None) -> str:
    """Name the server for an error, as far as it is known. user: whom the segment belongs to."""
    if is_left_over(owner, life):
        return f"processes of a server whose main process, pid {owner.pid}, is gone: {_processes(life, user)}"
    whose = "" if user is None else f", {trust.shown(user)}"
    if owner.shares_pids():
        return f"pid {owner.pid}{whose}"
    if not life or not _is_locked(life):
        return f"pid {owner.pid}{whose}, in another pid namespace, so that it cannot be seen whether it lives"
    return f"pid {owner.pid}{whose}, in another pid namespace, where it lives ({_processes(life, user)})"


def cure(owner: Owner, life: int, otherwise: str) -> str:
    """Return what to do. otherwise: where its main process lives."""
    if not is_left_over(owner, life):
        return otherwise
    return "end them (kill, and kill -9 what stays), then try again: nothing is lost, the next server takes over"


def _processes(life: int, user: int | None) -> str:
    """Return who has the life lock: pid 12, 13, 14 (kamailio, user 106 (kamailio))."""
    from kemi.queue.shm import presence

    pids = presence.holders({life})
    if not pids:
        whose = "" if user is None else f" of {trust.shown(user)}, or"
        return (
            f"none that can be seen from here;{whose} in another pid namespace; as root, fuser -v /dev/shm lists them"
        )
    alike: dict[str, list[str]] = {}
    for pid in pids[:_MOST_TOLD]:
        alike.setdefault(_about(pid), []).append(str(pid))
    told = "; ".join(f"pid {', '.join(some)}" + (f" ({about})" if about else "") for about, some in alike.items())
    return told + (f" and {len(pids) - _MOST_TOLD} more" if pids[_MOST_TOLD:] else "")


def _about(pid: int) -> str:
    """Return a process in words, as far as it can be looked at: kamailio, user 106 (kamailio)."""
    known: list[str] = []
    with contextlib.suppress(OSError, ValueError, LookupError), open(f"/proc/{pid}/status", errors="replace") as status:
        fields = dict(line.split(":", 1) for line in status)
        known += [fields["Name"].strip(), trust.shown(int(fields["Uid"].split()[0]))]
    with contextlib.suppress(OSError):
        if os.stat(f"/proc/{pid}/ns/pid").st_ino != os.stat("/proc/self/ns/pid").st_ino:
            known.append("in another pid namespace")
    return ", ".join(known)
