# SPDX-License-Identifier: GPL-2.0-or-later
"""Attaching in asyncio: the event loop goes on while the server is waited for."""

from __future__ import annotations

import asyncio
import time

from kemi import times
from kemi.errors import UnknownQueue
from kemi.queue.client.address import waited
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.client.current import RETRY


async def attached(
    instance: str,
    name: str,
    lock_timeout: float,
    *,
    reattach: bool,
    wait: float | None,
    owner: str | int | None,
) -> AttachedQueue:
    """Return an AttachedQueue, which is waited for as its own `wait` does, but in the event loop."""
    seconds = times.seconds(wait, "wait")
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        try:
            client = AttachedQueue(instance, name, lock_timeout, reattach=reattach, owner=owner)
        except UnknownQueue as error:
            if left <= 0:
                raise UnknownQueue(f"{error}{waited(seconds)}") from None
        else:
            if reattach or left <= 0 or not client.is_closed():
                return client
            client.close()
        await asyncio.sleep(max(0.0, min(left, RETRY)))
