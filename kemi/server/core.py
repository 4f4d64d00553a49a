"""Kamailio's core, through the C symbols that it exports for its modules.

Nothing here is needed for the queues. What depends on the layout of C structs asks `trusted` first, and takes
Unavailable for an answer: it switches off one feature, and its text says what was missing.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from typing import Any

# A symbol that Kamailio exports and that no other program is likely to have.
_MARK = "find_module_by_name"

# Versions whose structs are as described in this package: read in their sources, or run.
_OLDEST, _NEWEST = (5, 6), (6, 2)
_POINTER_BYTES = 8

_STOP_PATIENCE = 120  # seconds; more than a database is waited for

# app_python3's export struct by name: in 5.6, and in 6.x.
_EXPORTS = (b"exports", b"_app_python3_exports")
# Kamailio's sr_module: path, handle, exports (name first). Its last three functions, and where they are looked for.
_MODULE_POINTERS = 12
_EXPORT_POINTERS = 10
_FUNCTIONS = 3


def _library() -> Any:
    """The program around this interpreter, if it is Kamailio. PyDLL: its functions may call back."""
    library = ctypes.PyDLL(None)
    return library if hasattr(library, _MARK) else None


class Unavailable(Exception):
    """A part of the server that cannot be used; the text says what is missing."""


class Taken(Unavailable):
    """Names that the server has from another module; whatever else was registered with them works."""

    def __init__(self, names: list[str]) -> None:
        super().__init__("another module has " + ("this name" if len(names) == 1 else "these names"))
        self.names = names


def trusted() -> Any:
    """The server's symbols, when its structs are known. Raises Unavailable."""
    library = _library()
    if library is None:
        raise Unavailable("this is not Kamailio")
    if ctypes.sizeof(ctypes.c_void_p) != _POINTER_BYTES or sys.byteorder != "little":
        raise Unavailable("the server's C structs are known for 64-bit little-endian machines only")
    try:
        array = ctypes.c_char.in_dll(library, "ver_version")  # not a pointer
    except ValueError:
        raise Unavailable("the server does not export its version (ver_version)") from None
    text = ctypes.string_at(ctypes.addressof(array)).decode("ascii", "replace")
    version = re.match(r"(\d+)\.(\d+)", text)
    if not version or not _OLDEST <= (int(version[1]), int(version[2])) <= _NEWEST:
        known = " to ".join(".".join(map(str, bound)) for bound in (_OLDEST, _NEWEST))
        raise Unavailable(f"the C structs of Kamailio {text} are not known, only those of {known}")
    return library


def function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    """A function of the server. Raises Unavailable when it exports none of that name."""
    try:
        found = getattr(library, name)
    except AttributeError:
        raise Unavailable(f"the server does not export {name}") from None
    found.restype, found.argtypes = result, arguments
    return found


def inside_kamailio() -> bool:
    """Is this interpreter part of a Kamailio?"""
    return _library() is not None


def run_as() -> tuple[int, int]:
    """User and group that the server will change to after mod_init; -1 for no change."""
    library = _library()
    if library is None:
        return -1, -1
    ids = []
    for name in ("uid", "gid"):
        try:
            value = ctypes.c_int.in_dll(library, name).value
        except ValueError:
            value = 0
        # 0: none was asked for. It stays what it is then.
        ids.append(value if value > 0 else -1)
    return ids[0], ids[1]


def config_folder() -> str | None:
    """The folder of the kamailio.cfg in use; None where there is none."""
    library = _library()
    if library is None:
        return None
    try:
        path = ctypes.c_char_p.in_dll(library, "cfg_file").value
    except ValueError:
        return None
    return os.path.dirname(os.fsdecode(path)) if path else None


def ended_by_itself() -> bool:
    """At the server's end: was it not asked to end? A process of it died then, or its start failed."""
    library = _library()
    if library is None:
        return False
    try:
        number = ctypes.c_int.in_dll(library, "sig_flag").value
    except ValueError:
        return False
    return number not in (signal.SIGTERM, signal.SIGINT)


def working() -> None:
    """At the server's end: put off the alarm by which the main process aborts when it seems to hang."""
    if _library() is not None and signal.alarm(0):
        signal.alarm(_STOP_PATIENCE)


def destroy_pointer() -> Any:
    """Where the core keeps app_python3's function for its end: a pointer that may be replaced. Raises Unavailable.

    The same three functions stand in a row in the struct of the module itself and in what the core copied of it; only
    when they are found exactly once is the third one taken for what it seems to be.
    """
    module = function(trusted(), _MARK, ctypes.c_void_p, ctypes.c_char_p)(b"app_python3")
    if not module:
        raise Unavailable("the module app_python3 was not found")
    copied = (ctypes.c_void_p * _MODULE_POINTERS).from_address(module)
    symbol = ctypes.CDLL(None).dlsym
    symbol.restype = ctypes.c_void_p
    symbol.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    own = next((found for found in (symbol(copied[1], name) for name in _EXPORTS) if found), None)
    if own is None:
        raise Unavailable("the struct of exports of app_python3 was not found")
    exports = (ctypes.c_void_p * _EXPORT_POINTERS).from_address(own)
    functions = list(exports)[-_FUNCTIONS:]
    rows = [at for at in range(2, _MODULE_POINTERS - _FUNCTIONS + 1) if list(copied)[at : at + _FUNCTIONS] == functions]
    if len(rows) != 1 or not functions[0]:
        raise Unavailable(f"the functions of app_python3 were found {len(rows)} times, not once")
    size = ctypes.sizeof(ctypes.c_void_p)
    return ctypes.c_void_p.from_address(module + (rows[0] + _FUNCTIONS - 1) * size)
