# SPDX-License-Identifier: GPL-2.0-or-later
"""A piece of work with the lock held, after which the lock is free, wherever a signal handler raises.

Such an exception may come between any two instructions, also at the first one of an `__exit__`: a `with` block can end
with its lock held. `hold` has a token, whose death unlocks in C, where no handler runs. The token lies in a list, which
is emptied, and in no variable of any function: a frame that lives on keeps its variables, and frames live on in
tracebacks, also in one of a callback of the garbage collector or a `__del__` that ran in the middle of it all, and
wherever a debugger keeps them. The lock is free

- when the work has ended, or `hold` has handed on an exception;
- with Python 3.9, whose `finally` can be skipped, at the latest when the exception is dropped that came just then.

Work that changes something says how to put it right (`after`). Until that is done the mutex is in doubt: should another
exception come first, then who takes it next repairs, as after a kill.
"""

from __future__ import annotations

import weakref
from errno import ENOTRECOVERABLE
from typing import Any, Callable, TypeVar

from kemi.queue.lock import onlymain
from kemi.queue.lock.mutex import DOUBTED, Mutex, sections, trylock

_Result = TypeVar("_Result")


class Token:
    """Unlocks when it dies what its `guard` is for; if that is not held by this thread, nothing happens.

    guard: a weak reference to it, with what unlocks, all of it in C.

    It is used as in `hold`: it lies in a list, and no function gets it, not even an `__init__` of its own.
    """

    __slots__ = ("__weakref__", "guard")
    guard: Any


def hold(
    mutex: Mutex, work: Callable[[], _Result], after: Callable[[Mutex, BaseException], None] | None = None
) -> _Result:
    """Return what `work` returns that is called with the lock held. Raises LockTimeout, Reentered, WrongThread.

    after: called with the lock held, and with what `work` raised.
    """
    onlymain.check()
    mutex.refuse_twice()
    tokens = [Token()]
    tokens[0].guard = weakref.ref(tokens[0], mutex.free)
    inside = False
    try:
        if code := trylock(mutex.ref):
            if code == ENOTRECOVERABLE:
                tokens[0].guard = None  # no call, so nothing comes before this: a lost mutex must not be unlocked
            mutex.take_slowly(code)
            tokens[0].guard = weakref.ref(tokens[0], mutex.free)  # another mutex may be in use now
        mutex.stuck_at = None
        mutex.held_by[0] = tokens[0].guard
        inside = True
        return work()
    except BaseException as error:
        if inside and after is not None:
            mutex.doubt.value = DOUBTED  # no call, so nothing comes before this
            try:
                after(mutex, error)
            except BaseException:
                if mutex.doubt.value == DOUBTED:  # another signal has come
                    after(mutex, error)
                raise
        elif not inside:
            tokens[0].guard = weakref.ref(tokens[0], mutex.free_after())
        raise
    finally:
        del tokens[0]


sections.add(hold.__code__)
