# SPDX-License-Identifier: GPL-2.0-or-later
"""The module that embeds this interpreter, app_python3 or app_python3s, as Kamailio's core knows it.

The core keeps a copy of what a module exports. Two of its words may be replaced: the function that is called at the
server's end, and the list of the module's commands. Each is used only where what lies there agrees with what the
module itself exports.
"""

from __future__ import annotations

import ctypes
from typing import Any

from kemi.server import core
from kemi.server.structs import Command, KsrCommand, Pointer

# Module, and how its own export struct may be called: in 5.6, and in 6.x.
_MODULES = (
    (b"app_python3", (b"exports", b"_app_python3_exports")),
    (b"app_python3s", (b"exports", b"_app_python3s_exports")),
)
NAMES = tuple(name for name, _ in _MODULES)
# sr_module: path, handle, and the copy of the exports, name first; its last three are functions.
_MODULE_POINTERS = 12
_EXPORT_POINTERS = 10
_FUNCTIONS = 3
_HANDLE, _NAME, _COMMANDS = 1, 2, 4  # words of sr_module
_OWN_COMMANDS = _COMMANDS - _NAME  # the same word of the module's exports
_WORD = ctypes.sizeof(Pointer)
_MOST_COMMANDS = 64


class Embedder:
    """The module that runs the script. Raises Unavailable when it is not found."""

    def __init__(self) -> None:
        library = core.trusted()
        loaded = [(name, symbols, address) for name, symbols in _MODULES if (address := find(library, name))]
        if not loaded:
            raise core.Unavailable("neither the module app_python3 nor app_python3s was found")
        name, symbols, self.address = loaded[0]
        self.name = name.decode()
        self._copied = (Pointer * _MODULE_POINTERS).from_address(self.address)
        own = next((found for found in map(self.symbol, symbols) if found), None)
        if own is None:
            raise core.Unavailable(f"the struct of exports of {self.name} was not found")
        self._own = (Pointer * _EXPORT_POINTERS).from_address(own)

    def symbol(self, name: bytes) -> int | None:
        """The address of a symbol of the module."""
        return symbol_of(self._copied[_HANDLE], name)

    def destroy_pointer(self) -> Any:
        """Where the core keeps the module's function for the server's end: a pointer that may be replaced.

        The same three functions stand in a row in the struct of the module itself and in what the core copied of it;
        only when they are found exactly once is the third one taken for what it seems to be. Raises Unavailable.
        """
        functions = list(self._own)[-_FUNCTIONS:]
        last = _MODULE_POINTERS - _FUNCTIONS
        rows = [at for at in range(2, last + 1) if list(self._copied)[at : at + _FUNCTIONS] == functions]
        if len(rows) != 1 or not functions[0]:
            raise core.Unavailable(f"the functions of {self.name} were found {len(rows)} times, not once")
        return self._word(rows[0] + _FUNCTIONS - 1)

    def commands(self) -> tuple[Any, list[KsrCommand]]:
        """Where the core keeps the list of the module's commands, a pointer that may be replaced; and the list.

        Each command is found both in the module's own list and in the core's, which adds a pointer back to the module.
        Raises Unavailable.
        """
        pointer, own = self._word(_COMMANDS), self._own[_OWN_COMMANDS]
        if not pointer.value or not own or self._copied[_NAME] != self._own[0]:
            raise core.Unavailable(f"the commands of {self.name} were not found")
        found = []
        for number in range(_MOST_COMMANDS):
            copy = KsrCommand.from_address(pointer.value + number * ctypes.sizeof(KsrCommand))
            command = Command.from_address(own + number * ctypes.sizeof(Command))
            if not copy.name and not command.name:
                break
            if copy.told() != command.told() or copy.module != self.address:
                raise core.Unavailable(f"command {number} of {self.name} is not what the module exports")
            found.append(copy)
        if not 0 < len(found) < _MOST_COMMANDS:
            raise core.Unavailable(f"{len(found)} commands of {self.name} were found")
        return pointer, found

    def _word(self, number: int) -> Any:
        return Pointer.from_address(self.address + number * _WORD)


def symbol_of(handle: int | None, name: bytes) -> int | None:
    """The address of a symbol of a loaded library; None when it has none of that name."""
    symbol = ctypes.CDLL(None).dlsym
    symbol.restype, symbol.argtypes = Pointer, [Pointer, ctypes.c_char_p]
    return symbol(handle, name)  # type: ignore[no-any-return]


def is_loaded(module: bytes) -> bool:
    """Is a module of that name loaded? This needs no struct, so that it can be asked of any version."""
    return bool(find(core.library(), module))


def handle_of(module: bytes) -> int | None:
    """The handle of a module of Kamailio for `symbol_of`; None when it is not loaded. Raises Unavailable."""
    address = find(core.trusted(), module)
    return Pointer.from_address(address + _HANDLE * _WORD).value if address else None


def find(library: Any, module: bytes) -> int | None:
    """The address of a module's sr_module; None when it is not loaded."""
    return core.function(library, core.MARK, Pointer, ctypes.c_char_p)(module)  # type: ignore[no-any-return]
