# SPDX-License-Identifier: GPL-2.0-or-later
"""One RPC command under way: its parameters, its answer, and whether the answer can get through.

What an RPC module does not say until it is too late is asked before: jsonrpcs takes every text and answers with
nothing when the whole did not fit, so that an item taken for this answer would be lost.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Sequence
from typing import Any, Union

from kemi.server import core
from kemi.server.private import Memory
from kemi.server.structs import DlInfo, Int, Pointer, Rpc, StrAt, Text, str_of
from kemi.server.values import Values

Value = Union[str, bytes, int]

# The most bytes of JSON that get through. A FIFO's writer waits, and a script that asks has no transport. What a TCP
# connection does not take at once must fit into Kamailio's own queue of 32 KiB, or the answer is thrown away; within a
# host the connection takes more.
_DATAGRAM_PROCESS = "JSONRPCS DATAGRAM"
_DATAGRAM_LIMIT = 65_000
_HTTP_LIMIT, _LOCAL_HTTP_LIMIT = 64_000, 1_200_000
_CTL_LIMIT = 64_000  # what a socket does not take at once, ctl leaves out; 8192 a struct, of which it says so itself
_UNKNOWN_LIMIT = 32_000  # another module than ctl and jsonrpcs

# What is around the texts: {"jsonrpc": "2.0", "result": ..., "id": ...}, and all of it laid out for people too.
_ENVELOPE, _STRUCT, _MEMBER = 500, 12, 16
_MEMBER_OF_UNKNOWN = 100

_SHORT_ESCAPE = re.compile(rb'["\\\b\f\n\r\t]')
_LONG_ESCAPE = re.compile(rb"[\x01-\x07\x0b\x0e-\x1f]")
_INT_MAX = (1 << 31) - 1


class Fault(Exception):
    """What the caller is told instead of an answer."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class RpcApi:
    """What is asked of the server around an RPC command."""

    def __init__(self, library: Any) -> None:
        self._address_of = core.function(library, "dladdr", Int, Pointer, ctypes.POINTER(DlInfo))
        self._process = core.function(library, "my_desc", Text)
        self._values = Values(library)
        self._memory = Memory(library)
        self._modules: dict[int, str] = {}

    def module_of(self, rpc: Rpc) -> str:
        """The name of the module that answers: ctl, jsonrpcs, ... Raises Unavailable when it is no rpc_t as known."""
        address = ctypes.cast(rpc.add, Pointer).value or 0
        if address not in self._modules:
            files = {self._file_of(getattr(rpc, name)) for name in ("fault", "send", "add", "scan", "struct_add")}
            if len(files) != 1 or not all(files):
                raise core.Unavailable(f"the functions of an rpc_t are found in {len(files)} places, not in one module")
            self._modules[address] = os.path.basename(files.pop()).partition(".")[0]
        return self._modules[address]

    def _file_of(self, function: Any) -> str:
        """The program or library in which a function lies; "" for none."""
        info = DlInfo()
        found = self._address_of(ctypes.cast(function, Pointer), ctypes.byref(info)) and info.file
        return os.fsdecode(found) if found else ""

    def refusal(self, module: str, context: int, size: int) -> str:
        """Why so many bytes would not get through as an answer; "" when they would."""
        limit, private = self._transport(module, context)
        if limit is not None and size > limit:
            return "Too large for this transport"
        if not self._memory.has_heap(size) or (private and not self._memory.has_private(size)):
            return "Too large for the memory of this process"
        return ""

    def _transport(self, module: str, context: int) -> tuple[int | None, bool]:
        """The most bytes that can be answered, None for any number; and whether they need private memory."""
        if module != "jsonrpcs":
            return (_CTL_LIMIT, False) if module == "ctl" else (_UNKNOWN_LIMIT, True)
        message = Pointer.from_address(context).value  # jsonrpc_ctx_t begins with it; there is one for HTTP only
        if message:
            return (_LOCAL_HTTP_LIMIT if self._is_local(message) else _HTTP_LIMIT), True
        process = (self._process() or b"").decode("utf-8", "replace")
        return (_DATAGRAM_LIMIT if process.startswith(_DATAGRAM_PROCESS) else None), False

    def _is_local(self, message: int) -> bool:
        """Did the request come from this host?"""
        source = self._values.text(message, "$si")
        return source in ("127.0.0.1", "::1") or source == self._values.text(message, "$Ri")


class Call:
    """A command, as the RPC module `module` brings it."""

    def __init__(self, api: RpcApi, rpc: int, context: int) -> None:
        self._api = api
        self._rpc = Rpc.from_address(rpc)
        self._context = context
        self._module = api.module_of(self._rpc)

    # --- parameters

    def text(self) -> str | None:
        """The next parameter; None when there is none, or it is no text."""
        text = StrAt()
        if self._rpc.scan(self._context, b"S", ctypes.byref(text)) < 1:
            return None
        return text.bytes().decode("utf-8", "surrogateescape")

    def number(self, default: int) -> int:
        """The next parameter, which may be missing. Raises Fault when it is no number."""
        number = ctypes.c_int(default)
        if self._rpc.scan(self._context, b"*d", ctypes.byref(number)) < 1 and self._has_more():
            raise Fault(400, "The count must be a number")
        return number.value

    def _has_more(self) -> bool:
        """Is there a parameter, though no whole number? ctl gives the same answer for none and for a wrong one."""
        text, real = StrAt(), ctypes.c_double()
        read = [(b"*S", text), (b"*f", real)]
        return any(self._rpc.scan(self._context, kind, ctypes.byref(place)) > 0 for kind, place in read)

    # --- answer

    def fault(self, code: int, text: str) -> None:
        """Answer with an error."""
        self._rpc.fault(self._context, code, b"%s", text.encode("utf-8", "backslashreplace"))

    def struct(self, **members: Value) -> None:
        """Answer with a struct. Raises Fault when it cannot get through."""
        self.structs([members])

    def structs(self, rows: Sequence[dict[str, Value]]) -> None:
        """Answer with a list of structs. Raises Fault when they cannot get through."""
        encoded = [{name: _bytes(value) for name, value in row.items()} for row in rows]
        self._check(encoded)
        for row in encoded:
            self._add(row)

    def _add(self, row: dict[str, bytes | int]) -> None:
        handle = ctypes.c_void_p()
        if self._rpc.add(self._context, b"{", ctypes.byref(handle)) < 0:
            raise Fault(500, "Server error")
        for name, value in row.items():
            if self._add_member(handle, name.encode(), value) < 0:
                size = "" if isinstance(value, int) else f" of {len(value)} bytes"
                raise Fault(500, f"Too large for this transport: {name}{size}")

    def _add_member(self, handle: ctypes.c_void_p, name: bytes, value: bytes | int) -> int:
        if isinstance(value, bytes):
            return int(self._rpc.struct_add(handle, b"S", name, ctypes.byref(str_of(value))))
        if value <= _INT_MAX:
            return int(self._rpc.struct_add(handle, b"d", name, ctypes.c_int(value)))
        return int(self._rpc.struct_add(handle, b"J", name, ctypes.c_ulonglong(value)))

    def _check(self, rows: list[dict[str, bytes | int]]) -> None:
        around = _MEMBER if self._module in ("ctl", "jsonrpcs") else _MEMBER_OF_UNKNOWN
        size = _ENVELOPE
        for row in rows:
            size += _STRUCT
            for name, value in row.items():
                if self._module != "ctl" and not _is_text(value):
                    raise Fault(500, f"No text, and cannot be given in JSON: {name}; use kamcmd")
                size += around + len(name) + _printed(value)
        refusal = self._api.refusal(self._module, self._context, size)
        if refusal:
            raise Fault(500, f"{refusal}: {size} bytes")


def _bytes(value: Value) -> bytes | int:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _is_text(value: bytes | int) -> bool:
    if isinstance(value, int):
        return True
    try:
        return "\0" not in value.decode()
    except UnicodeDecodeError:
        return False


def _printed(value: bytes | int) -> int:
    """Bytes of a value as jsonrpcs prints it."""
    if isinstance(value, int):
        return len(str(value))
    return len(value) + len(_SHORT_ESCAPE.findall(value)) + 5 * len(_LONG_ESCAPE.findall(value)) + 2
