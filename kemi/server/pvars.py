# SPDX-License-Identifier: GPL-2.0-or-later
"""$mqk(queue), $mqv(queue), $mq_size(queue), registered with Kamailio's core as a C module registers its own.

The core parses a name once a process and keeps what `parse_name` stored in the variable: here a number, which stands
for one variable of `_variables`. Each read is then one call of `getf`. The bytes that it gives are used by the core
after it has returned, so they are kept until the same variable gives others.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any, Callable

from kemi.instance import queues
from kemi.queue.format.item import key_bytes_of, value_bytes_of
from kemi.server import core, left, log
from kemi.server.left import clear
from kemi.server.structs import (
    NAME_IN_PARAM,
    NAME_IN_SPEC,
    PVT_OTHER,
    Int,
    Pointer,
    PvExport,
    PvGet,
    PvParseName,
    Size,
    StrAt,
    str_of,
)
from kemi.server.values import Values
from kemi.slots import fetched

_OK, _FAILED = 0, -1
_NUMBER_AT = NAME_IN_PARAM // ctypes.sizeof(Size)  # in a pv_param_t, in words
# What a self test reads through the core: variables of this queue, and what they must give.
_PROBE, _PROBE_TEXT, _PROBE_NUMBER = "mqueue_kemi self test", b"self\0test", 1234567
_NOTHING = (None, None)

# What C holds pointers to. Never to be collected.
_kept: list[Any] = []


class _Variable:
    """A variable as it was parsed."""

    __slots__ = ("given", "kind", "name", "queue")

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind  # mqk, mqv or mq_size
        self.name = name  # of the queue, or of the variable that holds its name, which begins with $
        self.queue = "" if name[0] == "$" else name
        # The record whose part was given last, and a pointer to the `str` of that part. Replaced as a whole.
        self.given: tuple[bytes | None, Any] = _NOTHING

    def __str__(self) -> str:
        return f"${self.kind}({self.name})"


# Gives the value of a variable for a queue to a pv_value_t at that address. False: there is none.
_Give = Callable[[_Variable, str, int], bool]

_variables: dict[int, _Variable] = {}  # by number, from 1: 0 is what a struct of zeros holds
_numbers: dict[tuple[str, str], int] = {}


class _Api:
    """The core's functions for pseudo-variables."""

    def __init__(self, library: Any) -> None:
        get = (Pointer, Pointer, Pointer)  # of which message and param are not looked at
        self.register = core.function(library, "register_pvars_mod", Int, ctypes.c_char_p, ctypes.POINTER(PvExport))
        # The `str` comes as what byref made: quicker without a type.
        self.give_text = core.function(library, "pv_get_strval", Int, *get)
        self.give_number = core.function(library, "pv_get_sintval", Int, *get, ctypes.c_long)
        self.values = Values(library)


def register() -> None:
    """Register the variables, once in the life of the server. Raises Unavailable."""
    if _kept:
        return
    api = _Api(core.trusted())
    givers = {
        "mqk": _part_giver(key_bytes_of, api),
        "mqv": _part_giver(value_bytes_of, api),
        "mq_size": _size_giver(api),
    }
    entries = [_entry(kind, give, api) for kind, give in givers.items()]
    exports = (PvExport * (len(entries) + 1))(*entries)
    _kept.extend((api, exports, entries))
    api.register(b"mqueue_kemi", exports)
    others = [kind for kind in givers if not _comes_back(kind, api.values)]
    if any((kind, _PROBE) in _numbers for kind in others):  # our function has parsed it
        raise core.Unavailable("what is stored in a pv_spec_t, or given to a pv_value_t, does not come back")
    if others:
        raise core.Taken([f"${kind}" for kind in others])


def _entry(kind: str, give: _Give, api: _Api) -> PvExport:
    return PvExport(
        name=str_of(kind.encode()),
        type=PVT_OTHER,
        getf=PvGet(_getter(kind, give, api)),
        parse_name=PvParseName(_parser(kind)),
    )


def _parser(kind: str) -> Callable[[int, Any], int]:
    def parse(spec: int, name: Any) -> int:
        clear()
        try:
            return _parse(kind, spec, name[0])
        except BaseException as error:  # noqa: BLE001 - nothing may be raised into C
            log.error(f"${kind}: {type(error).__name__}: {error}")
            return _FAILED

    return parse


def _parse(kind: str, spec: int, name: StrAt) -> int:
    text = name.bytes().decode("utf-8", "surrogateescape")
    if not text:
        log.error(f"${kind}(): no queue is named; write ${kind}(name)")
        return _FAILED
    number = _numbers.get((kind, text))
    if number is None:
        number = len(_variables) + 1
        _variables[number] = _Variable(kind, text)
        _numbers[kind, text] = number
    Size.from_address(spec + NAME_IN_SPEC).value = number
    return _OK


def _getter(kind: str, give: _Give, api: _Api) -> Callable[[int | None, Any, int], int]:
    read = _reader(give, api)
    variable_of = _variables.get

    def get(message: int | None, param: Any, value: int) -> int:
        try:
            variable = variable_of(param[_NUMBER_AT])
            # The usual case, without a function around it.
            if variable is not None and variable.queue and give(variable, variable.queue, value):
                return _OK
            return read(message, variable, value)
        except BaseException as error:  # noqa: BLE001 - nothing may be raised into C
            return read_again(error, message, param, value)

    def read_again(error: BaseException, message: int | None, param: Any, value: int) -> int:
        try:
            return left.again(error, read, message, variable_of(param[_NUMBER_AT]), value)
        except ValueError as second:
            log.error(f"${kind}: {second}")
        except BaseException as second:  # noqa: BLE001 - nothing may be raised into C
            log.error(f"${kind}: {type(second).__name__}: {second}")
        return int(api.values.give_null(None, None, value))

    return get


def _reader(give: _Give, api: _Api) -> Callable[[int | None, _Variable | None, int], int]:
    values = api.values

    def read(message: int | None, variable: _Variable | None, value: int) -> int:
        if variable is not None:  # else `register` has told that
            queue = variable.queue or values.text(message, variable.name)
            if give(variable, queue, value):
                return _OK
            if variable.name == _PROBE:
                return _give_probe(variable, value, api)
            if queue not in queues:
                _miss(variable, queue)
        return int(values.give_null(None, None, value))

    return read


def _miss(variable: _Variable, queue: str) -> None:
    """There is no such queue."""
    meant = "" if queue == variable.name else f" (queue {queue!r})"
    log.error(f"{variable}{meant}: mqueue not found")


def _part_giver(part: Callable[[bytes], bytes], api: _Api) -> _Give:
    """Gives a part of the item fetched last."""
    record_of, give_text = fetched.get, api.give_text

    def give(variable: _Variable, queue: str, value: int) -> bool:
        record = record_of(queue)
        if record is None:
            variable.given = _NOTHING
            return False
        given = variable.given
        if given[0] is not record:
            given = variable.given = (record, ctypes.byref(str_of(part(record))))
        return give_text(None, None, value, given[1]) == _OK  # type: ignore[no-any-return]

    return give


def _size_giver(api: _Api) -> _Give:
    """Gives the number of items."""

    def give(_variable: _Variable, queue: str, value: int) -> bool:
        found = queues.get(queue)
        return found is not None and api.give_number(None, None, value, len(found)) == _OK

    return give


def _give_probe(variable: _Variable, value: int, api: _Api) -> int:
    if variable.kind == "mq_size":
        return int(api.give_number(None, None, value, _PROBE_NUMBER))
    variable.given = (_PROBE_TEXT, ctypes.byref(str_of(_PROBE_TEXT)))
    return int(api.give_text(None, None, value, variable.given[1]))


def _comes_back(kind: str, values: Values) -> bool:
    """Read a variable through the core, and compare: `parse` and `get` were called, and what they gave arrived."""
    expected = str(_PROBE_NUMBER) if kind == "mq_size" else _PROBE_TEXT.decode()
    with contextlib.suppress(ValueError):
        return values.text(None, f"${kind}({_PROBE})") == expected
    return False
