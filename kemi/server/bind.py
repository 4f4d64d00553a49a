# SPDX-License-Identifier: GPL-2.0-or-later
"""bind_mq: how Kamailio's acc_json reaches the queues.

A C module that adds to queues asks the core for a command `bind_mq`, of any module, when it is initialised, and is
given a function to add with. The C module mqueue has that command. Here it is put among the commands of the module
that embeds this interpreter, in a copy of the core's list that takes the list's place; the stop hook puts the old list
back. The core itself is asked at once whether it finds the command, and all others where they were.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from kemi.instance import queues
from kemi.server import core, log, stop
from kemi.server.embedder import Embedder
from kemi.server.left import clear
from kemi.server.structs import BindMq, Int, KsrCommand, MqAdd, MqApi, Pointer, StrAt

_NAME = b"bind_mq"
_PARAMETERS = 1
_OK, _FAILED = 0, -1

# What C holds pointers to. Never to be collected.
_kept: list[Any] = []
_undo: list[Callable[[], None]] = []

Add = Callable[[str, bytes, bytes], int]


def offer(add: Add, meet_new: Callable[[], None]) -> None:
    """Let C modules that ask the core for bind_mq add to the queues. Once in the life of the server.

    add: 1 for done. meet_new: makes the queues known that a reload in another process has defined. Raises Unavailable,
    and Taken when another module has the command.
    """
    if _undo:
        return
    if not stop.is_hooked():
        raise core.Unavailable("there is no hook at the server's stop, which must take bind_mq away again")
    find = core.function(core.trusted(), "find_export", Pointer, ctypes.c_char_p, Int, Int)
    if find(_NAME, _PARAMETERS, 0):
        raise core.Taken([_NAME.decode()])
    embedder = Embedder()
    pointer, present = embedder.commands()
    bind = BindMq(_binder(_function(add, meet_new)))
    ours = KsrCommand(_NAME, ctypes.cast(bind, Pointer).value, _PARAMETERS, module=embedder.address)
    # The old list stays as it is: what was parsed of kamailio.cfg points into it.
    commands = (KsrCommand * (len(present) + 2))(ours, *present)
    _kept.extend((bind, commands))
    before, pointer.value = pointer.value, ctypes.addressof(commands)
    _undo.append(lambda: setattr(pointer, "value", before))
    wrong = [command.name.decode("ascii", "replace") for command in commands[:-1] if not _is_found(command, find)]
    if wrong:
        withdraw()
        raise core.Unavailable(f"the core does not find {', '.join(wrong)} where they were put")


def give(api: int, add: Add, meet_new: Callable[[], None]) -> None:
    """Put the function to add with into an mq_api_t, as bind_mq does; arguments as of `offer`."""
    _binder(_function(add, meet_new))(api)


def _is_found(command: KsrCommand, find: Any) -> bool:
    return bool(find(command.name, command.param_no, 0) == command.function)


def withdraw() -> None:
    """Take it away again: at the server's end, or when it does not work. Who has the function keeps it."""
    while _undo:
        _undo.pop()()


def _function(add: Add, meet_new: Callable[[], None]) -> int:
    """The address of the function for C."""
    function = MqAdd(_adder(add, meet_new))
    _kept.append(function)
    return ctypes.cast(function, Pointer).value or 0


def _binder(function: int) -> Callable[[int | None], int]:
    def bind(api: int | None) -> int:
        if not api:
            return _FAILED
        MqApi.from_address(api).add = function
        return _OK

    return bind


def _adder(add: Add, meet_new: Callable[[], None]) -> Callable[[int | None, int | None, int | None], int]:
    def add_item(queue: int | None, key: int | None, value: int | None) -> int:
        clear()
        try:
            name = _bytes(queue).decode("utf-8", "surrogateescape")
            if name not in queues:
                meet_new()
            return _OK if add(name, _bytes(key), _bytes(value)) == 1 else _FAILED
        except BaseException as error:  # noqa: BLE001 - nothing may be raised into C
            log.error(f"{_NAME.decode()}: {type(error).__name__}: {error}")
            return _FAILED

    return add_item


def _bytes(text: int | None) -> bytes:
    return StrAt.from_address(text).bytes() if text else b""
