# SPDX-License-Identifier: 0BSD
"""The worker: wakes a phone by a push, and answers when it has registered.

    PUSH_URL=http://push.example/ mqueue-kemi work conf/push/wake.py:wake

One process knows all phones that are waited for, so `processes` stays 1; 500 at a time are some kilobytes. A push
service that is away is tried again, while somebody still waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import urllib.request
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from mqueue_kemi import Reject, ReservedItem, aattach, worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mqueue_kemi import QueueClient

INSTANCE = os.environ.get("MQUEUE_KEMI_INSTANCE", "kamailio")
PUSH_URL = os.environ.get("PUSH_URL", "http://127.0.0.1:8081/")
REMEMBERED = 10_000  # phones


class Phones:
    """Who registered when, and who waits for it."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, float] = OrderedDict()
        self._changed = asyncio.Condition()

    async def listen(self, queue: QueueClient) -> None:
        """Heed registrations, for ever."""
        async for item in queue.aconsume():
            self._last[item.key] = item.added
            self._last.move_to_end(item.key)
            if len(self._last) > REMEMBERED:
                self._last.popitem(last=False)
            async with self._changed:
                self._changed.notify_all()

    async def registered(self, user: str, since: float) -> None:
        """Return when a phone has registered since a moment."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._last.get(user, 0.0) >= since)


@asynccontextmanager
async def phones() -> AsyncIterator[Phones]:
    found = Phones()
    with await aattach("registered", INSTANCE, wait=None) as queue:
        listening = asyncio.ensure_future(found.listen(queue))
        try:
            yield found
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening


def push(user: str) -> None:
    """Ask the push service to wake a phone. Put your own service's call here."""
    request = urllib.request.Request(PUSH_URL + quote(user), data=b"", method="POST")  # noqa: S310 - the operator's own
    with urllib.request.urlopen(request, timeout=5):  # noqa: S310
        pass


@worker("push", resource=phones, concurrency=500, timeout=60)
async def wake(question: ReservedItem, found: Phones) -> str:
    """Return when the phone is there. The caller's call goes on then."""
    await asyncio.get_running_loop().run_in_executor(None, push, question.key)
    try:
        await asyncio.wait_for(found.registered(question.key, question.added), question.left)
    except asyncio.TimeoutError:
        raise Reject("the phone does not wake up") from None
    return f"registered at {time.time():.0f}"
