# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for a queue in asyncio: coroutines wait on a future, and one thread sleeps for all of them.

- The thread takes no item. It sleeps in the queue's futex, and when there may be something it wakes one coroutine,
  which takes the item itself, in its event loop. So a coroutine that is cancelled has no item in its hands, ever.
- A coroutine that was woken and does not take passes the call on: to another one here, or to another process.
- Nothing waits for a lock in the event loop: while another process has it, a thread of the loop's executor waits (see
  `lock.unlocked`).
- The thread is there while somebody waits, and some seconds longer; once the queue is closed here, no longer. It is a
  daemon, asleep for _SLEEP at most.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from typing import Callable

from kemi.queue.queue import Queue

_IDLE = 5.0  # seconds that the thread waits for another waiter
_SLEEP = 1.0  # seconds of one sleep in a queue
_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Doorbell:
    """Tells coroutines that there may be something in a queue. Safe with several event loops, and across fork."""

    def __init__(self, queue: Callable[[], Queue]) -> None:
        """Queue: which one it is now."""
        self._queue = queue
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._waiters: deque[_Waiter] = deque()
        self._runs = False
        self._owed = False  # somebody was called, and did not take

    async def wait(self, seconds: float) -> None:
        """Return when there may be something, after `seconds` at the latest."""
        if self._pid != os.getpid():
            self._begin()
        loop = asyncio.get_running_loop()
        waiter = (loop, loop.create_future())
        self._enter(waiter)
        takes = False
        try:
            await asyncio.wait({waiter[1]}, timeout=seconds)
            takes = True
        finally:
            if not self._leave(waiter) and not takes:
                self._pass_on()

    def close(self) -> None:
        """Let the thread end. Whoever waits is called, and whoever comes hears from the queue that it is closed."""
        if self._pid == os.getpid():
            with self._changed:
                self._closed = True
                while self._call_one():
                    pass
                self._changed.notify()

    def _enter(self, waiter: _Waiter) -> None:
        with self._changed:
            self._waiters.append(waiter)
            self._wake_thread()

    def _leave(self, waiter: _Waiter) -> bool:
        """Wait no more. False if it was called."""
        with self._changed:
            try:
                self._waiters.remove(waiter)
            except ValueError:
                return False
            return True

    def _pass_on(self) -> None:
        with self._changed:
            if not self._call_one():
                self._owed = True
                self._wake_thread()

    def _call_one(self) -> bool:
        while self._waiters:
            loop, future = self._waiters.popleft()
            try:
                loop.call_soon_threadsafe(_set, future)
            except RuntimeError:
                continue  # that event loop is closed
            return True
        return False

    # --- the thread -------------------------------------------------------------------------------------------------

    def _wake_thread(self) -> None:
        if self._runs:
            self._changed.notify()
        else:
            self._runs = True
            threading.Thread(target=self._run, name="mqueue_kemi doorbell", daemon=True).start()

    def _run(self) -> None:
        changed = self._changed
        while True:
            with changed:
                owed, self._owed = self._owed, False
                if not owed and not self._waiters:
                    if self._closed or not (changed.wait(_IDLE) or self._owed or self._waiters):
                        self._runs = False
                        return
                    continue
            if owed:
                self._give_on()
            elif self._is_ready():
                with changed:
                    self._owed = not self._call_one()

    def _is_ready(self) -> bool:
        try:
            return self._queue().wait_ready(_SLEEP)
        except Exception:  # noqa: BLE001 - the coroutine meets it too, and says so to its caller
            threading.Event().wait(0.05)
            return True

    def _give_on(self) -> None:
        try:
            self._queue().pass_on()
        except Exception:  # noqa: BLE001 - other processes look by themselves
            return


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
