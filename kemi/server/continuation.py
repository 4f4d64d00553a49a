# SPDX-License-Identifier: GPL-2.0-or-later
"""Letting a transaction go on in a route of a native kamailio.cfg: KEMI's t_continue runs routes of scripts only.

tm exports its own function, and the core its table of routes. Unavailable says what of it is missing.
"""

from __future__ import annotations

import ctypes
from typing import Any

from kemi.server import core, embedder
from kemi.server.structs import Int, Pointer, Text

_UInt = ctypes.c_uint
# The route may call Python again, so the GIL stays with this thread.
_Continue = ctypes.PYFUNCTYPE(Int, _UInt, _UInt, Pointer)


class NativeRoutes:
    """The routes of kamailio.cfg. Raises Unavailable."""

    def __init__(self) -> None:
        library = core.trusted()
        self._lookup = core.function(library, "route_lookup", Int, Pointer, Text)
        try:
            self._table: Any = Pointer.in_dll(library, "main_rt")
        except ValueError:
            raise core.Unavailable("the server does not export main_rt") from None
        self._go_on: Any = None

    def find(self, name: str) -> int | None:
        """The actions of a route; None if there is none of that name, or it does nothing."""
        number = self._lookup(ctypes.addressof(self._table), name.encode("utf-8", "surrogateescape"))
        if number < 0:
            return None
        actions: int | None = Pointer.from_address(self._table.value + number * ctypes.sizeof(Pointer)).value
        return actions

    def go_on(self, index: int, label: int, then: str) -> int:
        """As KEMI's t_continue: 1, or below 0. Raises Unavailable."""
        if self._go_on is None:
            handle = embedder.handle_of(b"tm")
            address = None if handle is None else embedder.symbol_of(handle, b"t_continue")
            if address is None:
                raise core.Unavailable("the module tm does not export t_continue")
            self._go_on = _Continue(address)
        actions = self.find(then)
        if actions is None:
            return -1
        code: int = self._go_on(index & 0xFFFFFFFF, label & 0xFFFFFFFF, actions)
        return code if code < 0 else 1
