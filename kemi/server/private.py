# SPDX-License-Identifier: GPL-2.0-or-later
"""Would there be memory for an answer? Asked for as the server will, and given back.

An RPC module builds its answer with malloc; what goes through TCP is copied into Kamailio's own private memory (its
option -M), which is a few MiB large.
"""

from __future__ import annotations

import re
from typing import Any

from kemi.server import core
from kemi.server.structs import PkgApi, Pointer, Size

_PRINTED = 8  # an answer in the heap: its parts, each printed, and those put together
_SENT = 3  # the body, the reply, and room to live
_HEADERS = 4096
_WHERE = (b"mqueue_kemi", b"has_private", 0, b"mqueue_kemi")  # C keeps the pointers


class Memory:
    """The memory of this process. Raises Unavailable when the server's is not known."""

    def __init__(self, library: Any) -> None:
        self._malloc = core.function(library, "malloc", Pointer, Size)
        self._free = core.function(library, "free", None, Pointer)
        try:
            self._private = PkgApi.in_dll(library, "_pkg_root")
        except ValueError:
            raise core.Unavailable("the server does not export _pkg_root") from None
        if not re.fullmatch(rb"[a-z]+_malloc", self._private.name or b""):
            raise core.Unavailable("the server's private memory is not known")

    def has_heap(self, size: int) -> bool:
        """Is there room to print that many bytes?"""
        block = self._malloc(size * _PRINTED)
        self._free(block)
        return bool(block)

    def has_private(self, size: int) -> bool:
        """Is there room to send that many bytes?"""
        private = self._private
        blocks: list[int] = []
        while len(blocks) < _SENT:
            block = private.malloc(private.block, size + _HEADERS, *_WHERE)
            if not block:
                break
            blocks.append(block)
        for block in blocks:
            private.free(private.block, block, *_WHERE)
        return len(blocks) == _SENT
