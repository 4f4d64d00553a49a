# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls that wait, in threads for asyncio: who is cancelled has taken nothing, whatever its thread takes meanwhile."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_MOST = 32  # threads of one client


class Attempt:
    """One call in a thread, and whether anybody still waits for it. Its result is undone by the one who comes last."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._cancelled = False
        self._results: list[Any] = []

    def run(self, call: Callable[[Attempt], Any], undo: Callable[[Any], object]) -> Any:
        """In the thread."""
        if self.is_cancelled():
            return None
        result = call(self)
        with self._guard:
            self._results.append(result)
            late = self.is_cancelled()
        return undo(result) if late else result

    def is_cancelled(self) -> bool:
        """Does nobody wait any more?"""
        return self._cancelled

    def cancel(self, undo: Callable[[Any], object]) -> None:
        """In the event loop."""
        with self._guard:
            self._cancelled = True
            results = list(self._results)
        for result in results:
            threading.Thread(target=undo, args=(result,), name="mqueue_kemi undo", daemon=True).start()


class Threads:
    """The threads of one client, made anew after a fork."""

    def __init__(self) -> None:
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    async def run(self, call: Callable[[Attempt], Any], undo: Callable[[Any], object]) -> Any:
        """`call` in a thread. undo: gets what it returned when nobody waits for that any more."""
        pool = self._pool
        if pool is None or pool[0] != os.getpid():
            pool = self._pool = (os.getpid(), ThreadPoolExecutor(_MOST, "mqueue_kemi engine"))
        attempt = Attempt()
        future = pool[1].submit(attempt.run, call, undo)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            attempt.cancel(undo)
            raise

    def close(self) -> None:
        """Take no calls any more."""
        pool, self._pool = self._pool, None
        if pool is not None and pool[0] == os.getpid():
            pool[1].shutdown(wait=False)
