"""One RPC command under way: its parameters, its answer, and whether the answer can get through.

What an RPC module does not say until it is too late is asked before: jsonrpcs takes every text and answers with
nothing when the whole did not fit, so that an item taken for this answer would be lost.
"""

from __future__ import annotations

import ctypes
import os
import re
from typing import Any, Union

from kemi.server import core
from kemi.server.structs import (
    DlInfo,
    Int,
    Pointer,
    Rpc,
    StrAt,
    Text,
    str_of,
)

Value = Union[str, bytes, int]

# The most bytes of JSON that get through, by what Kamailio calls the process that answers. A FIFO's writer waits, and a
# script that asks has no transport. What a TCP connection does not take at once must fit into Kamailio's own queue of
# 32 KiB, or the answer is thrown away; within a host the connection takes more.
_DATAGRAM, _HTTP = "JSONRPCS DATAGRAM", "tcp receiver"
_DATAGRAM_LIMIT = 65_000
_HTTP_LIMIT, _LOCAL_HTTP_LIMIT = 64_000, 1_200_000
_UNKNOWN_LIMIT = 32_000  # another module than ctl and jsonrpcs
_ENVELOPE = 500  # {"jsonrpc": "2.0", "result": ..., "id": ...}, laid out for people too
_COPIES = 8  # jsonrpcs and xhttp hold an answer several times over while they print it

_ESCAPED = re.compile(rb'["\\\b\f\n\r\t]')
_CONTROL = re.compile(rb"[\x01-\x1f]")


class Fault(Exception):
    """What the caller is told instead of an answer."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class RpcApi:
    """What is asked of the server around an RPC command."""

    def __init__(self, library: Any) -> None:
        self._address_of = core.function(library, "dladdr", Int, Pointer, ctypes.POINTER(DlInfo))
        self._new = core.function(library, "srjson_NewDoc", Pointer, Pointer)
        self._copy = core.function(library, "srjson_CreateStr", Pointer, Pointer, Text, Int)
        self._delete = core.function(library, "srjson_Delete", None, Pointer, Pointer)
        self._end = core.function(library, "srjson_DeleteDoc", None, Pointer)
        self._process = core.function(library, "my_desc", Text)
        self._modules: dict[int, str] = {}

    def module_of(self, rpc: Rpc) -> str:
        """The name of the module that answers: ctl, jsonrpcs, ..."""
        address = ctypes.cast(rpc.add, Pointer).value or 0
        if address not in self._modules:
            info = DlInfo()
            found = self._address_of(address, ctypes.byref(info)) and info.file
            self._modules[address] = os.path.basename(os.fsdecode(found)).partition(".")[0] if found else ""
        return self._modules[address]

    def limit(self, module: str) -> int | None:
        """The most bytes that this process can answer through that module; None for as many as there are."""
        if module != "jsonrpcs":
            return _UNKNOWN_LIMIT
        process = (self._process() or b"").decode("utf-8", "replace")
        if process.startswith(_DATAGRAM):
            return _DATAGRAM_LIMIT
        if process.startswith(_HTTP):
            return _LOCAL_HTTP_LIMIT if _asked_from_this_host() else _HTTP_LIMIT
        return None

    def has_memory(self, size: int) -> bool:
        """Whether this process can hold that many bytes several times: allocated as jsonrpcs does, and given back."""
        document = self._new(None)
        if not document:
            return False
        filler = bytes(size)
        nodes = [self._copy(document, filler, size) for _ in range(_COPIES)]
        for node in nodes:
            if node:
                self._delete(document, node)
        self._end(document)
        return all(nodes)


class Call:
    """A command, as the RPC module `module` brings it."""

    def __init__(self, api: RpcApi, rpc: int, context: int) -> None:
        self._api = api
        self._rpc = Rpc.from_address(rpc)
        self._context = context
        self._used = 0
        self._module = api.module_of(self._rpc)

    # --- parameters

    def text(self) -> str | None:
        """The next parameter; None when there is none, or it is no text."""
        text = StrAt()
        if self._rpc.scan(self._context, b"S", ctypes.byref(text)) < 1:
            return None
        return text.bytes().decode("utf-8", "surrogateescape")

    def number(self, default: int) -> int:
        """The next parameter, which may be missing."""
        number = ctypes.c_int(default)
        if self._rpc.scan(self._context, b"*d", ctypes.byref(number)) < 0:
            raise Fault(400, "The count must be a number")
        return number.value

    # --- answer

    def fault(self, code: int, text: str) -> None:
        """Answer with an error."""
        self._rpc.fault(self._context, code, b"%s", text.encode("utf-8", "backslashreplace"))

    def struct(self, **members: Value) -> None:
        """Answer with a struct; several make a list. Raises Fault when it cannot get through."""
        data = {name: _bytes(value) for name, value in members.items() if not isinstance(value, int)}
        if self._module != "ctl":  # ctl itself says what is too large for it, and takes all bytes
            self._check(data)
        handle = ctypes.c_void_p()
        if self._rpc.add(self._context, b"{", ctypes.byref(handle)) < 0:
            raise Fault(500, "Server error")
        for name, value in members.items():
            kind, argument = (b"J", ctypes.c_ulonglong(value)) if isinstance(value, int) else (b"S", str_of(data[name]))
            given = argument if isinstance(value, int) else ctypes.byref(argument)
            if self._rpc.struct_add(handle, kind, name.encode(), given) < 0:
                raise Fault(500, f"Too large for this transport: {name} of {len(data.get(name, b''))} bytes")

    def _check(self, data: dict[str, bytes]) -> None:
        for name, value in data.items():
            if b"\0" in value or not _is_utf8(value):
                raise Fault(500, f"No text, and cannot be given in JSON: {name}; use kamcmd")
        size = sum(_json_size(value) for value in data.values())
        self._used += size + _ENVELOPE
        limit = self._api.limit(self._module)
        if limit is not None and self._used > limit:
            raise Fault(500, f"Too large for this transport: {size} bytes")
        if not self._api.has_memory(self._used):
            raise Fault(500, f"Too large for the private memory of this process: {size} bytes")


def _asked_from_this_host() -> bool:
    """Of the request under way, as far as a KEMI script handles it."""
    import KSR

    return str(KSR.pv.gete("$si")) in ("127.0.0.1", "::1", str(KSR.pv.gete("$Ri")))


def _bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _json_size(value: bytes) -> int:
    """Bytes of a text as jsonrpcs prints it."""
    escaped = len(_ESCAPED.findall(value))
    return len(value) + escaped + 5 * (len(_CONTROL.findall(value)) - len(re.findall(rb"[\b\f\n\r\t]", value))) + 3
