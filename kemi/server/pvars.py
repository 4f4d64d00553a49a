"""$mqk(queue), $mqv(queue), $mq_size(queue), registered with Kamailio's core as a C module registers its own.

The core parses a name once a process and keeps what `parse_name` stored in the variable: here a number, which stands
for one `_Variable`. Each read is then one call of `getf`. It goes the short way as long as everything is known: the
number, the item that was fetched last, the form of a value that was prepared for it, which is copied. What is not there
yet (KeyError) goes the long way, which looks after everything.

The bytes that it gives are used by the core after it has returned, so they are kept until the same variable gives
others.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any, Callable

from kemi.instance import queues
from kemi.queue.item import key_bytes_of, value_bytes_of
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
    StrAt,
    str_of,
)
from kemi.server.values import Forms, Source, Values, Views
from kemi.slots import fetched

_OK, _FAILED = 0, -1
_PROBE = "mqueue_kemi self test"
_PROBE_NUMBER = 4711
_MOST_NUMBERS = 1000  # that are kept ready for $mq_size

# What C holds pointers to. Never to be collected.
_kept: list[Any] = []

_Get = Callable[[int, int, int], int]  # message, pv_param_t, pv_value_t: their addresses
# What was given last: of which record (None for null), its form, and the text in it. A new one takes its place in one
# store, so there is never half of two.
_Given = tuple[object, bytes, bytes]


class _Variable:
    """A variable as it was parsed."""

    __slots__ = ("given", "kind", "name", "others", "queue", "source")

    def __init__(self, kind: str, name: str, queue: str | None, given: _Given) -> None:
        self.kind = kind  # mqk, mqv or mq_size
        self.name = name  # of the queue, or of the variable that holds its name, which begins with $
        self.queue = queue  # None when it is not known before it is read
        self.given = given
        self.source: Source | None = None  # of the queue's name
        self.others: dict[bytes, _Variable] = {}  # by the name that was there


_variables: dict[int, _Variable] = {}  # from 1: 0 is what a struct of zeros holds
_numbers: dict[tuple[str, str], int] = {}


class _Api:
    """The core's functions for pseudo-variables, and its memory."""

    def __init__(self, library: Any) -> None:
        self.register = core.function(library, "register_pvars_mod", Int, ctypes.c_char_p, ctypes.POINTER(PvExport))
        self.parse = core.function(library, "pv_parse_spec2", Pointer, Pointer, Pointer, Int)
        self.values = Values(library)
        self.forms = Forms(library, self.values)
        self.params = Views(Size, NAME_IN_PARAM)  # the numbers in them
        self.places = Views(ctypes.c_char * self.forms.size)
        self.nothing: _Given = (object(), self.forms.null, b"")  # of no record

    def source(self, name: str) -> Source:
        """Raises ValueError."""
        return Source(self.parse, self.values, name)

    def give(self, value: int, form: bytes) -> int:
        """Put a form into a pv_value_t."""
        if not value:
            return _FAILED
        self.places[value].raw = form
        return _OK


def register() -> None:
    """Register the variables, once in the life of the server. Raises Unavailable."""
    if _kept:
        return
    api = _Api(core.trusted())
    getters = {
        "mqk": _part_getter("mqk", key_bytes_of, api),
        "mqv": _part_getter("mqv", value_bytes_of, api),
        "mq_size": _size_getter(api),
    }
    entries = [_entry(kind, get, api) for kind, get in getters.items()]
    exports = (PvExport * (len(entries) + 1))(*entries)
    _kept.extend((api, exports, entries))
    api.register(b"mqueue_kemi", exports)
    others = [kind for kind in getters if not _comes_back(kind, api)]
    if any((kind, _PROBE) in _numbers for kind in others):  # our function has parsed it
        raise core.Unavailable("what is stored in a pv_spec_t, or given in a pv_value_t, does not come back")
    if others:
        raise core.Taken([f"${kind}" for kind in others])


def _entry(kind: str, get: _Get, api: _Api) -> PvExport:
    def parse(spec: int, name: Any) -> int:
        try:
            return _parse(kind, spec, name[0], api)
        except BaseException as error:  # noqa: BLE001 - nothing may be raised into C
            log.error(f"${kind}: {type(error).__name__}: {error}")
            return _FAILED

    return PvExport(name=str_of(kind.encode()), type=PVT_OTHER, getf=PvGet(get), parse_name=PvParseName(parse))


def _parse(kind: str, spec: int, name: StrAt, api: _Api) -> int:
    text = name.bytes().decode("utf-8", "surrogateescape")
    if not text:
        log.error(f"${kind}(): no queue is named; write ${kind}(name)")
        return _FAILED
    number = _numbers.get((kind, text))
    if number is None:
        number = len(_variables) + 1
        queue = None if text[0] == "$" or text == _PROBE else text
        _variables[number] = _Variable(kind, text, queue, _probe(kind, api) if text == _PROBE else api.nothing)
        _numbers[kind, text] = number
    Size.from_address(spec + NAME_IN_SPEC).value = number
    return _OK


def _meant(api: _Api, message: int, param: int) -> _Variable | None:
    """The variable of a queue that is to be read; None, with one line in the log, when there is no such queue."""
    # A number that is none of ours: `register` has told that then.
    variable = _variables.get(api.params[param].value) if param else None
    if variable is None or variable.name == _PROBE:
        return variable
    if variable.name[0] == "$":
        return _other(variable, api, message)
    if variable.queue in queues:
        return variable
    log.error(f"${variable.kind}({variable.name}): mqueue not found")
    return None


def _other(variable: _Variable, api: _Api, message: int) -> _Variable | None:
    """The variable of the queue whose name is in a variable now."""
    try:
        source = variable.source
        if source is None:
            source = variable.source = api.source(variable.name)
        name = source.read(message)
    except ValueError as error:
        log.error(f"${variable.kind}({variable.name}): {error}")
        return None
    other = variable.others.get(name)
    if other is None:
        queue = name.decode("utf-8", "surrogateescape")
        if queue not in queues:
            log.error(f"${variable.kind}({variable.name}) (queue {queue!r}): mqueue not found")
            return None
        other = variable.others[name] = _Variable(variable.kind, queue, queue, api.nothing)
    return other


def _failed(kind: str, error: BaseException, api: _Api, value: int) -> int:
    log.error(f"${kind}: {type(error).__name__}: {error}")
    return int(api.values.give_null(None, None, value))


# --- the functions that the core calls --------------------------------------------------------------------------------


def _part_getter(kind: str, part: Callable[[bytes], bytes], api: _Api) -> _Get:  # noqa: C901 - a call is a tenth
    """`getf` for a part of the item fetched last: bytes, or null."""
    variables, params, places = _variables, api.params.at, api.places.at
    record_of, of_text = fetched.get, api.forms.of_text

    def get(message: int, param: int, value: int) -> int:
        try:
            variable = variables[params[param].value]
            if variable.source is not None:
                variable = variable.others[variable.source.read(message)]
            record = record_of(variable.queue)  # type: ignore[arg-type]
            given = variable.given
            if given[0] is not record:
                text = part(record)  # type: ignore[arg-type]
                variable.given = given = (record, of_text(text), text)
            places[value].raw = given[1]
        except (KeyError, ValueError, TypeError):  # something is not there: a view, a name, an item
            return _go_long_way(kind, give, api, message, param, value)
        except BaseException as error:  # noqa: BLE001 - nothing may be raised into C
            return _failed(kind, error, api, value)
        return _OK

    def give(variable: _Variable, value: int) -> int:
        record = record_of(variable.queue)  # type: ignore[arg-type]
        if record is None:
            variable.given = (None, api.forms.null, b"")
        elif record is not variable.given[0]:
            text = part(record)
            variable.given = (record, of_text(text), text)
        return api.give(value, variable.given[1])

    return get


def _size_getter(api: _Api) -> _Get:
    """`getf` for the number of items."""
    variables, params, places = _variables, api.params.at, api.places.at
    forms: dict[int, bytes] = {}
    texts: list[bytes] = []  # in the forms

    def get(message: int, param: int, value: int) -> int:
        try:
            variable = variables[params[param].value]
            if variable.source is not None:
                variable = variable.others[variable.source.read(message)]
            places[value].raw = forms[len(queues[variable.queue])]  # type: ignore[index]
        except (KeyError, ValueError):  # something is not there: a view, a name, a form
            return _go_long_way("mq_size", give, api, message, param, value)
        except BaseException as error:  # noqa: BLE001 - nothing may be raised into C
            return _failed("mq_size", error, api, value)
        return _OK

    def give(variable: _Variable, value: int) -> int:
        size = len(queues[variable.queue])  # type: ignore[index]
        if size not in forms:
            if len(forms) >= _MOST_NUMBERS:
                return int(api.forms.give_number(None, None, value, size))
            form, text = api.forms.of_number(size)
            texts.append(text)
            forms[size] = form
        return api.give(value, forms[size])

    return get


def _go_long_way(
    kind: str, give: Callable[[_Variable, int], int], api: _Api, message: int, param: int, value: int
) -> int:
    try:
        variable = _meant(api, message, param)
        if variable is None:
            return api.give(value, api.forms.null)
        if variable.name == _PROBE:
            return api.give(value, variable.given[1])
        return give(variable, value)
    except BaseException as error:  # noqa: BLE001 - nothing may be raised into C
        return _failed(kind, error, api, value)


# --- the self test ----------------------------------------------------------------------------------------------------


def _probe(kind: str, api: _Api) -> _Given:
    if kind == "mq_size":
        return (None, *api.forms.of_number(_PROBE_NUMBER))
    text = f"{kind} {_PROBE}".encode()
    return None, api.forms.of_text(text), text


def _comes_back(kind: str, api: _Api) -> bool:
    """Read a variable through the core: does what `parse` stored reach `get`, and what that gives the core?

    Once the long way, once the short way.
    """
    expected = _probe(kind, api)[2].decode()
    with contextlib.suppress(ValueError):
        return all(api.values.text(None, f"${kind}({_PROBE})") == expected for _ in range(2))
    return False
