# SPDX-License-Identifier: GPL-2.0-or-later
"""An eventcount: processes wait on a queue, producers notify them. Any number of waiters, no lock of its own.

How both sides use it; what is marked (L) is called with the queue's lock held:

    waiter:    lock; look; nothing there: key = prepare_wait() (L); unlock
               woken = wait(key, seconds)
               lock; look again; no longer waiting: pass_on = cancel_wait(key, woken) (L); unlock
    producer:  lock; add; called = notify() (L); unlock; if called: wake(called)

The bytes: EVENT is the futex word, changed by each notification. WAITERS counts the waiters that prepared and were not
notified since; FLAGS has ADD_WAITING while it is not 0, so an add that nobody waits for reads one word, as it does
anyway, and makes no call. PRESENT counts those that began to wait and did not end it; WAITERS is never above it.

Why no wake-up is lost. WAITERS is never below the number of waiters that sleep or are about to; it may be above, which
costs a call that wakes nobody, and brings it down. When the last waiter ends its wait, it is 0. The order of events,
for a waiter W and a producer P:

    1. W prepares under the lock, in which it found nothing: the count has W, the key is EVENT.
    2. P adds under the lock: so after 1. It takes one from the count and changes EVENT.
    3. P wakes one sleeper.

  - W calls the kernel after 2: EVENT is not the key, the call returns at once, W looks and finds.
  - W calls the kernel before 2: it sleeps, and 3 wakes it, or another sleeper V. Then W is still counted, unless W was
    the one taken from the count in 2 - but what is taken is a number, not a name: before 2 the count had V as well.
  - V prepared between 2 and 3, with the new EVENT as its key, and 3 wakes it in W's place. V sees its own key, and
    would take itself from the count; then W would sleep uncounted. So a waiter that was woken never takes itself from
    the count, whatever EVENT is: its notification did.
  - A waiter that leaves without having been woken takes itself from the count while EVENT is its key: nobody was
    notified since it was counted. If EVENT is another, it may have been meant: it leaves the count as it is, and when
    there is something to take, and it did not take it, it notifies the next one.
  - A waiter that goes on waiting prepares again if it was woken or EVENT changed, for the same reason.
  - A waiter that is killed stays counted: one call in vain, and a place more for counts that are too high.
  - P is killed between 2 and 3: nobody is woken. So each wait ends after RECHECK at the latest, and who recovers after
    a kill or an exception notifies all, which begins a new count.
"""

from __future__ import annotations

from typing import Protocol, final

from kemi.queue.format.layout import ADD_WAITING, W_EVENT, W_FLAGS, W_PRESENT, W_WAITERS, Mapping

RECHECK = 1.0  # seconds that a wait takes at most
_EVENT = W_EVENT * 2  # as a 32-bit word, which is what a futex is
_EVENT_MASK = (1 << 32) - 1
_ALL = (1 << 31) - 1


class Futex(Protocol):
    """The kernel's part, on the word EVENT."""

    def wait(self, expected: int, seconds: float) -> bool:
        """Sleep while the word is `expected`. Return True if another process woke this one."""

    def wake(self, count: int) -> None:
        """Wake so many sleepers at most."""


@final
class EventCount:
    """The eventcount of one queue."""

    def __init__(self, mapping: Mapping, futex: Futex) -> None:
        _, self._u64, self._u32 = mapping
        self._futex = futex

    def prepare_wait(self, key: int | None = None, *, woken: bool = False) -> int:
        """Count this process as a waiter, and return what `wait` wants to know (locked).

        key, woken: of the wait that is to go on, where there was one. It is then counted already, unless it was
        notified.
        """
        u64 = self._u64
        event: int = self._u32[_EVENT]
        if woken or key != event:
            u64[W_FLAGS] = u64[W_FLAGS] | ADD_WAITING
            if key is None:
                u64[W_PRESENT] = u64[W_PRESENT] + 1
            u64[W_WAITERS] = min(u64[W_WAITERS] + 1, u64[W_PRESENT])
        return event

    def wait(self, key: int, seconds: float) -> bool:
        """Sleep until the next notification after `key`, for `seconds` and RECHECK at most.

        Returns True if this process was woken, False if the time is over, EVENT changed before, or a signal came.
        """
        return self._futex.wait(key, min(seconds, RECHECK))

    def cancel_wait(self, key: int, *, woken: bool) -> bool:
        """Wait no more (locked).

        Returns True if a notification may have been for this process: if it does not take what is there, it is to
        `notify` another one.
        """
        u64 = self._u64
        meant = woken or self._u32[_EVENT] != key
        waiters = u64[W_WAITERS] - (not meant)
        present = max(0, u64[W_PRESENT] - 1)
        u64[W_WAITERS] = left = min(max(0, waiters), present)
        u64[W_PRESENT] = present
        if not left:
            u64[W_FLAGS] = u64[W_FLAGS] & ~ADD_WAITING
        return bool(meant)

    def notify(self, count: int = 1) -> int:
        """Prepare to wake up to `count` waiters (locked). Returns how many: after the lock, call `wake` with it."""
        u64 = self._u64
        waiters: int = u64[W_WAITERS]
        called = min(count, waiters)
        if called > 0:
            self._u32[_EVENT] = self._u32[_EVENT] + 1 & _EVENT_MASK
            u64[W_WAITERS] = waiters - called
        if waiters <= called and u64[W_FLAGS] & ADD_WAITING:
            u64[W_FLAGS] = u64[W_FLAGS] & ~ADD_WAITING
        return called

    def wake(self, count: int) -> None:
        """Wake waiters, after `notify` and after the lock."""
        self._futex.wake(count)

    def notify_all(self) -> None:
        """Have every waiter look again (locked): after a recovery, and when the queue is closed."""
        self._u32[_EVENT] = self._u32[_EVENT] + 1 & _EVENT_MASK
        self._u64[W_WAITERS] = 0
        self._u64[W_FLAGS] = self._u64[W_FLAGS] & ~ADD_WAITING
        self._futex.wake(_ALL)
