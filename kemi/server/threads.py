# SPDX-License-Identifier: GPL-2.0-or-later
"""Python threads in a process of Kamailio.

With `threads_mode` 0, which is all that 5.6 has, the process keeps the interpreter while it waits for messages. A
thread that a script or a library of its started gets on only while the main thread sleeps in Python, does input or
output there, or runs long enough. Such a thread must not use queues (see `queue.lock.onlymain`), but for what the
native kernel does alone. With `threads_mode` 1 (6.x) threads run freely, and may.
"""

from __future__ import annotations

import _thread
import ctypes
import threading
from functools import wraps
from typing import Any

from kemi.queue.kernel import choice
from kemi.queue.lock import onlymain
from kemi.queue.queue import check_threads
from kemi.server import core, embedder

_INTEGER = 2  # PARAM_INT
_DO = (
    'with Kamailio 6 set modparam("app_python3", "threads_mode", 1), or let a process of its own do it '
    "(mqueue_kemi.attach), or hand the work to the routing script"
)
REMEDY = (
    "in this server only the main thread of a process may use queues, because Kamailio keeps the interpreter while it "
    f"waits, and the lock would be held meanwhile; {_DO}"
)
NATIVE_REMEDY = (
    "that is for the main thread of a process of this server alone, because Kamailio keeps the interpreter while it "
    f"waits, and the lock would be held meanwhile; {_DO}"
)


def keep_to_main_thread() -> None:
    """Once, in the main process: refuse other threads where they could stop everybody."""
    if not core.inside_kamailio() or runs_threads():
        return
    onlymain.refuse(NATIVE_REMEDY if choice.lib is not None else REMEDY)
    if threading.active_count() > 1:
        check_threads()
    else:
        _watch_starts()


def runs_threads() -> bool:
    """Was `threads_mode` set? False also where this cannot be found out."""
    library = core.library()
    if library is None:
        return False
    try:
        types = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p)
        parameter = core.function(library, "find_param_export", ctypes.c_void_p, *types)
        modules = [embedder.find(library, name) for name in embedder.NAMES]
    except core.Unavailable:
        return False
    for address in modules:
        place = address and parameter(address, b"threads_mode", _INTEGER, ctypes.byref(ctypes.c_int()))
        if place:
            return ctypes.c_int.from_address(place).value != 0
    return False


def _watch_starts() -> None:
    """Let the first thread that is started switch the checks on: they cost each call a little."""
    for module, name in (
        (_thread, "start_new_thread"),
        (threading, "_start_new_thread"),
        (threading, "_start_joinable_thread"),  # 3.13
    ):
        start = getattr(module, name, None)
        if start is not None:
            setattr(module, name, _checking(start))


def _checking(start: Any) -> Any:
    @wraps(start)
    def start_and_check(*arguments: Any, **named: Any) -> Any:
        check_threads()
        return start(*arguments, **named)

    return start_and_check
