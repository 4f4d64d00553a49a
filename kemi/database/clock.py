# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a database may be waited for: one deadline for all that a start or a stop does with it.

It holds on this side of the connection, whatever the database does or does not do:

- each wait for an answer ends after ANSWER seconds, and no later than the deadline (`wait`);
- between two statements the deadline is looked at (`check`);
- a transaction of another process is waited for LOCK seconds at most, less where other tables want their turn too.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

CONNECT = 10.0  # seconds until a host that does not answer is given up
LOCK = 10.0  # seconds that another process's transaction is waited for
ANSWER = 30.0  # seconds for one answer; no statement is for more than some thousand rows


class Clock:
    """Counts one deadline down."""

    def __init__(self, seconds: float = math.inf) -> None:
        """seconds: until the deadline, from now on."""
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._until = math.inf
        self.others = 0  # tables that want their turn after the present one

    def restart(self) -> None:
        """Count from the beginning again."""
        self._end = time.monotonic() + self._seconds

    def left(self) -> float:
        """Seconds until the deadline, 0 when it is over."""
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raise TimeoutError when the deadline is over."""
        if not self.left():
            raise TimeoutError(f"not done within db_timeout, {self._seconds:g} s")

    def wait(self) -> float:
        """How long one answer may be waited for from now on, seconds. Raises TimeoutError when that is over."""
        self.check()
        now = time.monotonic()
        if now >= self._until:
            raise TimeoutError("it does not answer: timed out")
        return min(ANSWER, self._end - now, self._until - now)

    def late(self) -> TimeoutError:
        """What to raise when an answer did not come within `wait`."""
        if not self.left():
            return TimeoutError(f"not done within db_timeout, {self._seconds:g} s")
        return TimeoutError("it does not answer: timed out")

    def explained(self, error: BaseException) -> BaseException:
        """What to tell of an error: the deadline, where a driver calls its end a connection that is lost."""
        return self.late() if not self.left() and _is_timeout(error) else error

    def lock_wait(self) -> float:
        """How long another process's transaction is waited for, seconds."""
        return max(0.1, min(LOCK, self.left() / (self.others + 1)))

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """All waits inside end together after so many seconds."""
        self._until = time.monotonic() + seconds
        try:
            yield
        finally:
            self._until = math.inf


def _is_timeout(error: BaseException | None) -> bool:
    """Did the error come from a socket's time-out? Before Python 3.10 it has a class of its own."""
    while error is not None:
        if isinstance(error, (TimeoutError, socket.timeout)):
            return True
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__
    return False
