"""Taking what is there, or sleeping until something is.

Whatever takes items and is not the hot `pop` goes through `_take_or_count_in`: it looks after what is reserved, and is
counted as a sleeper in the same moment in which it finds nothing. The hot `pop` comes here, too, when items may be in
two places (W_MOVING), and is refused.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import Callable, TypeVar

from kemi.errors import MqueueError, QueueClosed
from kemi.queue.aside import Holder
from kemi.queue.holding import DeadLetter
from kemi.queue.layout import W_ASIDE, W_HEAD, W_MOVING, W_TAIL, W_WATCH, WATCH_CLOSED
from kemi.queue.opened import Opened
from kemi.queue.section import hold

# Looks before a sleep, some 0.1 µs each: as many as an item costs that comes to a sleeper.
LEAST_LOOKS, MOST_LOOKS = 8, 400

_Found = TypeVar("_Found")


class Waiting(Opened):
    """A queue that can be waited for."""

    _looks = MOST_LOOKS

    def _take(self) -> bytes | None:
        """The oldest item (locked)."""
        return self._pop() or (self._holding.take() if self._words[W_ASIDE] else None)

    def _wait(self, take: Callable[[], _Found | None], timeout: float | None) -> _Found | None:
        """Call `take` with the lock held until it finds something, asleep while there is nothing."""
        if timeout is not None and math.isnan(timeout):
            raise ValueError("timeout must be a number of seconds, or None")
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        remembered: int | None = None  # while this process is counted as a sleeper
        try:
            while True:
                left = deadline - time.monotonic()
                if left > 0:
                    self._look_a_moment()
                found, remembered = self._take_or_count_in(take, remembered, goes_to_sleep=left > 0)
                if remembered is None:
                    return found
                self._bell.sleep(remembered, left)
        finally:
            if remembered is not None:  # an exception ends the sleep, and counts more than any of ours
                with contextlib.suppress(MqueueError):
                    self._count_out(remembered)

    def _look_a_moment(self) -> None:
        """Look for an item without the lock: while items come fast, a sleep would cost more than it saves.

        Twice as long after it was worth it, half as long after it was not.
        """
        words = self._words
        for _ in range(self._looks):
            if words[W_HEAD] != words[W_TAIL] or words[W_ASIDE]:
                self._looks = min(self._looks * 2, MOST_LOOKS)
                return
        self._looks = max(self._looks // 2, LEAST_LOOKS)

    def _take_or_count_in(
        self, take: Callable[[], _Found | None], remembered: int | None, *, goes_to_sleep: bool
    ) -> tuple[_Found | None, int | None]:
        """Take what `take` finds, or in the same moment be counted as a sleeper.

        Returns what it found, and the signal to sleep on; None for the signal when this process is counted no more.
        """
        words = self._words
        dead = self._holding.dead() if words[W_ASIDE] else set()
        due: list[DeadLetter] = []

        def work() -> tuple[_Found | None, int | None, bool]:
            if words[W_ASIDE]:
                due.extend(self._tend(dead))
            found = take()
            if found is None and goes_to_sleep:
                if words[W_WATCH] & WATCH_CLOSED:
                    raise QueueClosed(f"queue {self.name!r} was closed by its server")
                signal = self._bell.signal()
                if signal != remembered:
                    self._bell.count_in()
                return None, signal, False
            took_item = found is not None
            return found, None, remembered is not None and self._bell.count_out(remembered, took_item=took_item)

        found, signal, call = self._work(work)
        if call:
            self._bell.wake_one()
        for letter in due:
            self._move_dead_letter(letter)
        return found, signal

    def _tend(self, dead: set[Holder]) -> list[DeadLetter]:
        """Look after what is set aside (locked). Returns what is to go to the queue for dead letters."""
        if self._words[W_MOVING]:
            raise QueueClosed(f"queue {self.name!r}: the next server finds out where its items are")
        if self._holding.tend(dead) > 1:
            self._bell.call_all()  # more than this process can take
        return self._holding.due()

    def _count_out(self, remembered: int) -> None:
        if hold(self._mutex, lambda: self._bell.count_out(remembered, took_item=False)):
            self._bell.wake_one()

    def _move_dead_letter(self, letter: DeadLetter) -> None:
        raise NotImplementedError
