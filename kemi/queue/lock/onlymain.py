# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether other threads than the main one may use queues in this process.

Where the main thread holds the interpreter while it waits, as Kamailio's does, another thread gets on only now and
then. Python may switch threads in the middle of a call, and then the lock is held until that thread gets on again. So
such a process says `refuse`, and every call that would take the lock raises WrongThread in another thread.

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


def check() -> None:
    """Raise WrongThread if the calling thread may not use queues."""
    if _remedy is not None and threading.get_ident() != threading.main_thread().ident:
        raise WrongThread(f"called in thread {threading.current_thread().name!r}: {_remedy}")
