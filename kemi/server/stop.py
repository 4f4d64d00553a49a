# SPDX-License-Identifier: GPL-2.0-or-later
"""Run something when Kamailio ends: in its main process, after the workers are gone, where C modules do the same.

Python's atexit never runs in the server, and what libc runs at exit depends on its version and options. So the
function that the core calls for the end of app_python3 (or app_python3s) is wrapped.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from kemi.server import log
from kemi.server.embedder import Embedder
from kemi.server.left import clear

_Destroy = ctypes.CFUNCTYPE(None)

# What C holds pointers to. Never to be collected.
_kept: list[Any] = []


def is_hooked() -> bool:
    """Has `at_destroy` found its place?"""
    return bool(_kept)


def at_destroy(action: Callable[[], None]) -> None:
    """Have `action` called once at the end. Raises Unavailable where that is not possible."""
    if _kept:
        return
    pointer = Embedder().destroy_pointer()
    before = _Destroy(pointer.value) if pointer.value else None

    def destroy() -> None:
        clear()
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - nothing may be raised into C
            log.error(f"at the server's stop: {error}")
        if before is not None:
            before()

    callback = _Destroy(destroy)
    _kept.extend((callback, before))
    pointer.value = ctypes.cast(callback, ctypes.c_void_p).value
