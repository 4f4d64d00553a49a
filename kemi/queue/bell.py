"""Who sleeps on a queue, and how one of them is woken. The rules that keep a wake-up from being lost:

- A sleeper counts itself under the lock, in the same moment in which it finds the queue empty, and remembers SIGNAL.
  It then sleeps only while SIGNAL is what it remembers.
- An add that finds a sleeper counts one down and changes SIGNAL, under the lock; after the lock it wakes one. Whoever
  was counted is either asleep, and one is woken, or on the way there, and does not fall asleep.
- The count may be too high (a sleeper was killed, or two were awake for one signal): an add wakes in vain then, and
  the count is right again. It is never too low: only a sleeper that sees no signal since it counted itself may take
  that back. It ends at MOST, so that it cannot run away; of more sleepers than that, some may sleep until RECHECK.
- Who is killed between its add and its wake-up wakes nobody, so every sleep ends after RECHECK at the latest.
"""

from __future__ import annotations

from kemi.queue import futex
from kemi.queue.layout import W_HEAD, W_RETURNED, W_SIGNAL, W_TAIL, W_WATCH, WATCH_SLEEPER
from kemi.queue.segment import Segment

RECHECK = 1.0  # seconds
MOST = 64  # sleepers that are counted
_SIGNAL = W_SIGNAL * 2  # as a 32-bit word, which is what a futex is
_ALL = (1 << 31) - 1


class Bell:
    """The bell of one queue. What is marked "locked" is called with the queue's lock held."""

    def __init__(self, segment: Segment) -> None:
        self._words = segment.words
        self._halves = segment.halves
        self._word = segment.reference(W_SIGNAL * 8, 4)

    def signal(self) -> int:
        """What to remember before a sleep (locked)."""
        return int(self._halves[_SIGNAL])

    def count_in(self) -> None:
        """Count this process as a sleeper (locked)."""
        if self._words[W_WATCH] < MOST * WATCH_SLEEPER:
            self._words[W_WATCH] += WATCH_SLEEPER

    def call_one(self) -> bool:
        """If somebody sleeps, prepare to wake one (locked). True: call `wake_one` after the lock."""
        if self._words[W_WATCH] < WATCH_SLEEPER:
            return False
        self._words[W_WATCH] -= WATCH_SLEEPER
        self._change_signal()
        return True

    def call_all(self) -> None:
        """Wake everybody, to look again (locked)."""
        self._change_signal()
        futex.wake(self._word, _ALL)

    def wake_one(self) -> None:
        """Wake one sleeper, after `call_one` and after the lock."""
        futex.wake(self._word)

    def sleep(self, remembered: int, seconds: float) -> None:
        """Sleep until the next signal after `remembered`, at most for `seconds` and at most for RECHECK."""
        futex.wait(self._word, remembered, min(seconds, RECHECK))

    def count_out(self, remembered: int, took_item: bool) -> bool:
        """Sleep no more (locked). True: the signal was for this process, call `wake_one` for another after the lock."""
        if self._halves[_SIGNAL] == remembered:
            if self._words[W_WATCH] >= WATCH_SLEEPER:
                self._words[W_WATCH] -= WATCH_SLEEPER
            return False
        return not took_item and self.is_something_there() and self.call_one()

    def is_something_there(self) -> bool:
        """Is there an item to be taken (locked)?"""
        words = self._words
        return bool(words[W_HEAD] != words[W_TAIL] or words[W_RETURNED])

    def _change_signal(self) -> None:
        self._halves[_SIGNAL] = self._halves[_SIGNAL] + 1 & 0xFFFFFFFF
