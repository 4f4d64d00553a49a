# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether other threads than the main one may use queues in this process.

Where the main thread holds the interpreter while it waits, as Kamailio's does, another thread gets on only now and
then. Python may switch threads in the middle of a call, and then the lock is held until that thread gets on again. So
such a process says `refuse`, and every call of the Python code that would take the lock raises WrongThread in another
thread. The native kernel never lets go of the interpreter while it has the lock: what it does alone, another thread may
have (see `kernel.beside`).

`add` and `pop` are checked by `queue.check_threads`, which costs nothing before there is another thread.
"""

from __future__ import annotations

import threading

from kemi.errors import WrongThread

_remedy: str | None = None


def refuse(remedy: str) -> None:
    """Let only the main thread use queues, in this process and those forked from it. remedy: ends the error's text."""
    global _remedy  # noqa: PLW0603 - it is the process that is like that
    _remedy = remedy


def allow() -> None:
    """Let all threads use queues."""
    global _remedy  # noqa: PLW0603
    _remedy = None


def is_refused() -> bool:
    """Return True if the calling thread may not use queues."""
    return _remedy is not None and threading.get_ident() != threading.main_thread().ident


def refusal(why: str = "") -> WrongThread:
    """Return what to raise in such a thread. why: what this call would have to do."""
    return WrongThread(f"called in thread {threading.current_thread().name!r}: {why}{_remedy}")


def check() -> None:
    """Raise WrongThread if the calling thread may not use queues."""
    if is_refused():
        raise refusal()
