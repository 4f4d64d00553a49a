# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting in asyncio for a queue's lock: the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
from typing import Protocol

_YIELDS = 3  # times that other coroutines may run before a thread waits for the lock


class Lockable(Protocol):
    """What has the lock."""

    def is_locked(self) -> bool:
        """Return True if somebody holds the lock, or died with it."""

    def wait_until_unlocked(self) -> None:
        """Take the lock, and let go. Raises LockTimeout."""


async def unlocked(queue: Lockable) -> None:
    """Return when the queue's lock is free. Raises LockTimeout."""
    for _ in range(_YIELDS):
        if not queue.is_locked():
            return
        await asyncio.sleep(0)
    while queue.is_locked():
        await asyncio.get_running_loop().run_in_executor(None, queue.wait_until_unlocked)
