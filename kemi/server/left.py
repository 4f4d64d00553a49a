# SPDX-License-Identifier: GPL-2.0-or-later
"""An exception that Kamailio left behind: it came up in a call of ours, and is not ours.

Kamailio 5.6 looks a callback up in the script and, when the script has none of that name, goes on with Python's
AttributeError still set. (The same happens with a parameter that is not UTF-8.) It comes up in whatever Python runs
next in that process, at the first call of a C function that looks for one: at the latest where a queue's lock is
taken, so before anything was done with the queue.

So a call that failed like this is made again. When it works then, the exception was not ours: it is told once.

Where Python looks an attribute up in a class's bases, it drops what was left behind and says that the attribute is
not there. Then only this is known: there was one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TypeVar

from kemi.errors import MqueueError
from kemi.queue.sync.handlers import is_from_handler
from kemi.server import log

_Result = TypeVar("_Result")

# Any function will do: after it, ctypes looks for an exception.
_look: Callable[[], int] = ctypes.PyDLL(None).getpid

_OURS = ("kemi", "mqueue_kemi")  # the modules in which it may come up
_told: set[str] = set()
_MOST_TOLD = 100


def again(error: BaseException, call: Callable[..., _Result], *arguments: object) -> _Result:
    """Do once more what raised `error`, if that may have been left behind; otherwise raise it.

    arguments: of the call. A closure over them would make each call of the function that has them slower.
    """
    if not _may_be_left(error):
        raise error
    result = call(*arguments)
    _tell(error)
    return result


def clear() -> None:
    """Look for an exception that was left behind. For entries that are not hot: a look costs 0.2 µs.

    Call it by this name alone: in left.clear, the look-up of the attribute may drop the exception without a word.
    """
    try:
        _look()
    except Exception as error:  # noqa: BLE001 - whatever it is
        _tell(error)


def _tell(error: BaseException) -> None:
    """Put it into the log, once in this process."""
    cause = error.__cause__ if isinstance(error, SystemError) and error.__cause__ else error
    text = f"{type(cause).__name__}: {cause}"
    if _is_dropped(cause):
        if _told:
            return  # what was told says more
        text = "which one is not known"
    if text not in _told and len(_told) < _MOST_TOLD:
        _told.add(text)
        log.error(
            f"Kamailio left an exception behind, which came up here and is not of this module: {text}; is there a "
            "callback in kamailio.cfg that the script lacks? The work was done; this is told once in each process"
        )


def _is_dropped(error: BaseException) -> bool:
    """Does it say of an attribute that is there that it is not?"""
    if not isinstance(error, AttributeError):
        return False
    of, name = getattr(error, "obj", None), getattr(error, "name", None)  # since Python 3.10
    return of is not None and hasattr(type(of), str(name))


def _may_be_left(error: BaseException) -> bool:
    """Did it come up in our code, and is it nothing that our code says of its own?"""
    if not isinstance(error, Exception) or isinstance(error, (MqueueError, MemoryError, RecursionError)):
        return False
    if is_from_handler(error):
        return False
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals["__name__"].partition(".")[0] in _OURS
