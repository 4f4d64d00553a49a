# SPDX-License-Identifier: GPL-2.0-or-later
"""What a service tells systemd (sd_notify), without its library: READY, WATCHDOG, STOPPING, STATUS.

Nothing happens where $NOTIFY_SOCKET is not set, as in a terminal, or where nobody listens there.
"""

from __future__ import annotations

import contextlib
import os
import socket


def tell(*lines: str) -> bool:
    """Send lines like READY=1. Return True if they were sent."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return False
    address = f"\0{path[1:]}" if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), address)
        return True
    return False


def watchdog_seconds() -> float | None:
    """How long systemd waits for a sign of life of this process, seconds; None if it does not."""
    try:
        seconds = int(os.environ.get("WATCHDOG_USEC", "")) / 1e6
        process = int(os.environ.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    return seconds if seconds > 0 and process == os.getpid() else None
