# SPDX-License-Identifier: GPL-2.0-or-later
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
MARK = "find_module_by_name"

# Versions whose structs are as described in this package: compiled and compared, see docs/reference/versions.md.
_OLDEST, _NEWEST = (5, 6), (6, 1)
_POINTER_BYTES = 8

_STOP_PATIENCE = 120  # seconds; more than a database is waited for

# Not empty when an operator has said that any version is to be tried.
_forced: list[bool] = []


def library() -> Any:
    """The program around this interpreter, if it is Kamailio. PyDLL: its functions may call back."""
    symbols = ctypes.PyDLL(None)
    return symbols if hasattr(symbols, MARK) else None


class Unavailable(Exception):
    """A part of the server that cannot be used; the text says what is missing."""


class UnknownVersion(Unavailable):
    """A Kamailio whose structs nobody has compared; an operator may say that they are trusted."""


class Taken(Unavailable):
    """Names that the server has from another module; whatever else was registered with them works."""

    def __init__(self, names: list[str]) -> None:
        super().__init__("another module has " + ("this name" if len(names) == 1 else "these names"))
        self.names = names


def force() -> None:
    """From here on trust any version of Kamailio; what each part checks before it is used must still hold."""
    _forced.append(True)


def trusted() -> Any:
    """The server's symbols, when its structs are known. Raises Unavailable."""
    symbols = library()
    if symbols is None:
        raise Unavailable("this is not Kamailio")
    if ctypes.sizeof(ctypes.c_void_p) != _POINTER_BYTES or sys.byteorder != "little":
        raise Unavailable("the server's C structs are known for 64-bit little-endian machines only")
    text = version_text()
    if _forced:
        return symbols
    version = re.match(r"(\d+)\.(\d+)", text)
    if not version or not _OLDEST <= (int(version[1]), int(version[2])) <= _NEWEST:
        raise UnknownVersion(f"the C structs of Kamailio {text} are not known, only those of {_known()}")
    return symbols


def version_text() -> str:
    """The server's version as it says it. Raises Unavailable."""
    try:
        array = ctypes.c_char.in_dll(library(), "ver_version")  # not a pointer
    except ValueError:
        raise Unavailable("the server does not export its version (ver_version)") from None
    return ctypes.string_at(ctypes.addressof(array)).decode("ascii", "replace")


def _known() -> str:
    return " to ".join(".".join(map(str, bound)) for bound in (_OLDEST, _NEWEST))


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
    return library() is not None


def run_as() -> tuple[int, int]:
    """User and group that the server will change to after mod_init; -1 for no change."""
    symbols = library()
    if symbols is None:
        return -1, -1
    ids = []
    for name in ("uid", "gid"):
        try:
            value = ctypes.c_int.in_dll(symbols, name).value
        except ValueError:
            value = 0
        # 0: none was asked for. It stays what it is then.
        ids.append(value if value > 0 else -1)
    return ids[0], ids[1]


def config_folder() -> str | None:
    """The folder of the kamailio.cfg in use; None where there is none."""
    symbols = library()
    if symbols is None:
        return None
    try:
        path = ctypes.c_char_p.in_dll(symbols, "cfg_file").value
    except ValueError:
        return None
    return os.path.dirname(os.fsdecode(path)) if path else None


def last_signal() -> int | None:
    """At the server's end: the signal that it acts on, as far as the core knows; 0 for none. None outside of it."""
    symbols = library()
    if symbols is None:
        return None
    try:
        return ctypes.c_int.in_dll(symbols, "sig_flag").value
    except ValueError:
        return None


def working() -> None:
    """At the server's end: put off the alarm by which the main process aborts when it seems to hang."""
    if library() is not None and signal.alarm(0):
        signal.alarm(_STOP_PATIENCE)
