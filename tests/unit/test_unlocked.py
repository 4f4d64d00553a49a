"""Waiting for a lock in asyncio, on a lock that is told what to say."""

from __future__ import annotations

import asyncio
import threading

import pytest

from kemi.errors import LockTimeout
from kemi.queue.lock.unlocked import unlocked


class Lock:
    """Is held for some looks, or until somebody has waited for it so many times."""

    def __init__(self, looks: int, waits: int = 0) -> None:
        self.looks = looks
        self.waits = waits
        self.error: Exception | None = None
        self.waiters: list[threading.Thread] = []

    def is_locked(self) -> bool:
        self.looks -= 1
        return self.looks >= 0 or self.waits > 0

    def wait_until_unlocked(self) -> None:
        self.waiters.append(threading.current_thread())
        self.waits -= 1
        if self.error:
            raise self.error


def wait_for(lock: Lock) -> int:
    """Wait for it; return how often another coroutine ran meanwhile."""
    ran = 0

    async def run() -> None:
        nonlocal ran
        while True:
            ran += 1
            await asyncio.sleep(0)

    async def both() -> None:
        other = asyncio.ensure_future(run())
        try:
            await unlocked(lock)
        finally:
            other.cancel()

    asyncio.run(both())
    return ran


@pytest.mark.parametrize("looks", [0, 1, 2, 3])
def test_for_a_lock_that_is_free_soon_others_run_and_no_thread_waits(looks: int) -> None:
    lock = Lock(looks)
    assert wait_for(lock) == looks
    assert lock.waiters == []


@pytest.mark.parametrize("waits", [1, 2])
def test_a_thread_waits_for_one_that_stays_held_again_if_it_must(waits: int) -> None:
    lock = Lock(0, waits)
    assert wait_for(lock) > 3
    assert len(lock.waiters) == waits
    assert threading.main_thread() not in lock.waiters


def test_a_lock_that_is_not_had_in_time_is_told() -> None:
    lock = Lock(0, 1)
    lock.error = LockTimeout("not had")
    with pytest.raises(LockTimeout, match="not had"):
        wait_for(lock)
