# SPDX-License-Identifier: GPL-2.0-or-later
"""What the native kernel leaves to Python in a thread that must not run Python code with a queue's lock held.

In such a thread (see `lock.onlymain`) the kernel does what it can do alone, and waits for a lock that is not free. What
comes here it has not done, and has changed nothing. So it is refused, with a text that says what it was: a lock that
was not had in time is a LockTimeout, as always, the rest is a WrongThread.

An add for which there is no free chunk is tried again with one more: what the system and the quota allow is looked up
without the lock, the memory is reserved and counted by the kernel, with it.

The end of a reservation that cannot be told the queue is kept in mind, as where the lock is not had in time: the next
item that the main thread takes or reserves tells it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from kemi.errors import LockTimeout, WrongThread
from kemi.queue.format.item import encode
from kemi.queue.format.layout import (
    ADD_LIMITED,
    FETCH_AGING,
    FETCH_MOVED,
    RECORD_HEAD,
    W_CHUNK_BITS,
    W_FLAGS,
    W_RETURNED,
)
from kemi.queue.format.outcome import AddResult
from kemi.queue.lock import onlymain
from kemi.queue.lock.mutex import not_had

_ADDS = ("add", "add_many")


def refused(name: str, method: Callable[..., Any], lib: Any) -> Callable[..., Any]:
    """In place of a queue's method in Python: refuse threads that must not run it. lib: the kernel."""

    @wraps(method)
    def call(queue: Any, *arguments: Any, **named: Any) -> Any:
        # A queue that is closed in this process has no lock to take.
        if not onlymain.is_refused() or queue.closed:
            return method(queue, *arguments, **named)
        if name == "add":
            encode(*arguments, **named)  # raises what is wrong with them
            if not named and lib.wants_memory() and not lib.lock_was():
                grown = queue.handle.memory.grow_by(queue.kernel_grow, 1 << queue.handle.u64[W_CHUNK_BITS])
                if grown is not None:
                    return lib.Queue.add(queue, *arguments) if grown else AddResult.NO_MEMORY
        if name == "settle" and _kept_in_mind(queue, *arguments):
            return len(arguments[0])
        raise _refusal(queue, lib.lock_was(), name, arguments)

    return call


def _kept_in_mind(queue: Any, tokens: Any, how: Any) -> bool:
    if how.kind not in ("done", "give back"):
        return False
    due = how.due()
    for held in tokens:
        queue.handle.holding.later(held, due, done=how.kind == "done", counted=how.counted)
    return True


def _refusal(queue: Any, lock: str, name: str, arguments: Any) -> LockTimeout | WrongThread:
    """Return what to raise. lock: what the one was that the kernel did not get: "busy", "broken"; "" if it did."""
    segment, timeout = queue.segment.name, queue.handle.mutex.timeout
    if lock == "busy":
        return not_had(segment, timeout)
    if lock == "broken":
        return LockTimeout(
            f"{segment}: its last user was killed in a call, and nobody mended that within {timeout:g} s; "
            "the main thread of any process of this server does so with its next call, or a process outside: try again"
        )
    return onlymain.refusal(f"{_rare(queue, name, arguments)}, which the native kernel leaves to Python; ")


def _rare(queue: Any, name: str, arguments: Any) -> str:
    """Return what a call met that is not for the kernel. Without the lock: it may have changed since."""
    u64 = queue.handle.u64
    flags = u64[W_FLAGS]
    size = sum(map(len, arguments)) if all(isinstance(part, (str, bytes)) for part in arguments) else 0
    adds = name in _ADDS
    found = {
        "the queue's items are on their way to another place": flags & FETCH_MOVED,
        f"an item of {size} characters": adds and size + RECORD_HEAD >= 1 << u64[W_CHUNK_BITS],
        "a limit of the queue is met": adds and flags & ADD_LIMITED,
        "an item that is longer than a chunk, or no UTF-8, or the like": adds,
        "a reserved item is answered or rejected": name == "settle",
        "the queue has a maxage": flags & FETCH_AGING,
        "items were given back": u64[W_RETURNED],
    }
    return next((what for what, is_so in found.items() if is_so), "an item that lies over the end of a chunk")
