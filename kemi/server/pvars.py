"""$mqk(queue), $mqv(queue), $mq_size(queue), registered with Kamailio's core as a C module registers its own.

The core parses a name once a process and keeps what `parse_name` stored in the variable: here a number, which stands
for one variable of `_variables`. Each read is then one call of `getf`. The bytes that it gives are used by the core
after it has returned, so they are kept until the same variable gives others.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any, Callable, NamedTuple

from kemi.instance import queues
from kemi.queue.item import Item
from kemi.server import core, log
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
    Str,
    StrAt,
    str_of,
)
from kemi.server.values import Values
from kemi.slots import fetched

_OK, _FAILED = 0, -1
_PROBE = "mqueue_kemi self test"

# What C holds pointers to. Never to be collected.
_kept: list[Any] = []


class _Variable(NamedTuple):
    """A variable as it was parsed."""

    kind: str  # mqk, mqv or mq_size
    name: str  # of the queue, or of the variable that holds its name, which begins with $


_variables: list[_Variable] = []
_numbers: dict[_Variable, int] = {}  # from 1: 0 is what a struct of zeros holds
_probed: list[_Variable] = []


class _Api:
    """The core's functions for pseudo-variables."""

    def __init__(self, library: Any) -> None:
        get = (Pointer, Pointer, Pointer)
        self.register = core.function(library, "register_pvars_mod", Int, ctypes.c_char_p, ctypes.POINTER(PvExport))
        self.give_text = core.function(library, "pv_get_strval", Int, *get, Pointer)
        self.give_number = core.function(library, "pv_get_sintval", Int, *get, ctypes.c_long)
        self.values = Values(library)
        self.give_null = self.values.give_null


def register() -> None:
    """Register the variables, once in the life of the server. Raises Unavailable."""
    if _kept:
        return
    api = _Api(core.trusted())
    entries = [_entry(kind, give, api) for kind, give in _GIVERS.items()]
    exports = (PvExport * (len(entries) + 1))(*entries)
    _kept.extend((api, exports, entries))
    api.register(b"mqueue_kemi", exports)
    others = [kind for kind in _GIVERS if not _comes_back(kind, api)]
    if any(_Variable(kind, _PROBE) in _numbers for kind in others):  # our function has parsed it
        raise core.Unavailable("what is stored in a pv_spec_t does not come back in its pv_param_t")
    if others:
        raise core.Taken([f"${kind}" for kind in others])


def _entry(kind: str, give: Callable[..., int], api: _Api) -> PvExport:
    def parse(spec: int, name: Any) -> int:
        try:
            return _parse(kind, spec, name[0])
        except BaseException as error:  # noqa: BLE001 - nothing may be raised into C
            log.error(f"${kind}: {type(error).__name__}: {error}")
            return _FAILED

    def get(message: int | None, param: int, value: int) -> int:
        try:
            variable = _variable(Size.from_address(param + NAME_IN_PARAM).value)
            if variable is None:
                pass
            elif variable.name == _PROBE:
                _probed.append(variable)
            elif (name := _queue_name(variable, api, message)) is not None:
                return give(api, (message, param, value), name)
        except BaseException as error:  # noqa: BLE001 - nothing may be raised into C
            log.error(f"${kind}: {type(error).__name__}: {error}")
        return int(api.give_null(message, param, value))

    return PvExport(name=str_of(kind.encode()), type=PVT_OTHER, getf=PvGet(get), parse_name=PvParseName(parse))


def _parse(kind: str, spec: int, name: StrAt) -> int:
    text = name.bytes().decode("utf-8", "surrogateescape")
    if not text:
        log.error(f"${kind}(): no queue is named; write ${kind}(name)")
        return _FAILED
    variable = _Variable(kind, text)
    if variable not in _numbers:
        _variables.append(variable)
        _numbers[variable] = len(_variables)
    Size.from_address(spec + NAME_IN_SPEC).value = _numbers[variable]
    return _OK


def _variable(number: int) -> _Variable | None:
    """What `parse` stored that number for; None if it is none of ours: `register` has told that then."""
    return _variables[number - 1] if 0 < number <= len(_variables) else None


def _queue_name(variable: _Variable, api: _Api, message: int | None) -> str | None:
    """The queue that is meant, if there is one of that name; None with one line in the log."""
    name = variable.name
    if name[0] == "$":
        try:
            name = api.values.text(message, name)
        except ValueError as error:
            log.error(f"${variable.kind}({variable.name}): {error}")
            return None
    if name not in queues:
        meant = "" if name == variable.name else f" (queue {name!r})"
        log.error(f"${variable.kind}({variable.name}){meant}: mqueue not found")
        return None
    return name


def _give_part(part: Callable[[Item], bytes]) -> Callable[..., int]:
    """A function that gives a part of the item fetched last: bytes, or null."""
    # Queue → what was given last: the record, the part as C has it, and where.
    given: dict[str, tuple[bytes, Str, int]] = {}

    def give(api: _Api, place: tuple[Any, Any, Any], name: str) -> int:
        record = fetched.get(name)
        if record is None:
            given.pop(name, None)
            return int(api.give_null(*place))
        last = given.get(name)
        if last is None or last[0] is not record:
            text = str_of(part(Item(record)))
            last = given[name] = (record, text, ctypes.addressof(text))
        return api.give_text(*place, last[2])  # type: ignore[no-any-return]

    return give


def _give_size(api: _Api, place: tuple[Any, Any, Any], name: str) -> int:
    return api.give_number(*place, len(queues[name]))  # type: ignore[no-any-return]


_GIVERS: dict[str, Callable[..., int]] = {
    "mqk": _give_part(lambda item: item.key_bytes),
    "mqv": _give_part(lambda item: item.value_bytes),
    "mq_size": _give_size,
}


def _comes_back(kind: str, api: _Api) -> bool:
    """Read a variable through the core, and see that what `parse` stored reached `get`."""
    del _probed[:]
    with contextlib.suppress(ValueError):
        api.values.text(None, f"${kind}({_PROBE})")
    return _probed == [_Variable(kind, _PROBE)]
