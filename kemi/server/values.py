"""Kamailio's values of pseudo-variables: read those of any message, and have ours ready as the core wants them."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

from kemi.server import core
from kemi.server.structs import SPEC_BYTES, VALUE_BYTES, Int, Pointer, StrAt, str_of

_OK = 0
_NULL = 1  # PV_VAL_NULL
_GET = (Pointer, Pointer, Pointer)  # message, pv_param_t or pv_spec_t, pv_value_t

# `str` as numbers: where the bytes are, how many.
_str = struct.Struct("=Qi")
# From a bytes object to its bytes, which a NUL follows.
_INTO_BYTES = bytes.__basicsize__ - 1
_pack = _str.pack
_MOST_VIEWS = 64

_Giver = Callable[[Any], Any]  # a function of the core that fills the pv_value_t it is called with


class Views:
    """Memory of the core that comes again and again at the same addresses, so that looking there costs a lookup.

    Only the address is remembered. What is there is read or written anew each time, while C lends it.
    """

    def __init__(self, kind: Any, offset: int = 0) -> None:
        """offset: from the address that C gives to what is wanted."""
        self.at: dict[int, Any] = {}
        self._kind = kind
        self._offset = offset

    def __getitem__(self, address: int) -> Any:
        """What is there. A hot path looks into `at` itself first."""
        view = self.at.get(address)
        if view is None:
            if len(self.at) >= _MOST_VIEWS:
                self.at.clear()
            view = self.at[address] = self._kind.from_address(address + self._offset)
        return view


class Values:
    """The core's functions that evaluate a pseudo-variable. Raises Unavailable when one is missing."""

    def __init__(self, library: Any) -> None:
        self.give_null = core.function(library, "pv_get_null", Int, *_GET)
        self.evaluate = core.function(library, "pv_get_spec_value", Int, *_GET)
        self.no_message = core.function(library, "faked_msg_next", Pointer)
        self._find = core.function(library, "pv_cache_get", Pointer, Pointer)
        self._length = core.function(library, "pv_locate_name", Int, Pointer)
        self.flags_at = self._place_of_flags()

    def _place_of_flags(self) -> int:
        """Where pv_value_t has its flags: the one place where the core itself stores PV_VAL_NULL."""
        value = ctypes.create_string_buffer(VALUE_BYTES)
        self.give_null(None, None, value)
        # The str in front is the core's empty one: a pointer, and the length 0.
        places = [at for at in range(ctypes.sizeof(StrAt), VALUE_BYTES, 4) if value[at] != b"\0"]
        if len(places) != 1 or value[places[0]] != bytes([_NULL]):
            raise core.Unavailable("the flags of pv_value_t were not found")
        return places[0]

    def is_one(self, variable: str) -> bool:
        """Is the whole text a variable?"""
        data = variable.encode("utf-8", "surrogateescape")
        return bool(self._length(ctypes.byref(str_of(data))) == len(data))

    def text(self, message: int | None, variable: str) -> str:
        """The value of a variable, "" for null. Raises ValueError when it is none that can be read."""
        name = str_of(variable.encode("utf-8", "surrogateescape"))
        spec = self._find(ctypes.byref(name)) if self.is_one(variable) else None
        value = ctypes.create_string_buffer(VALUE_BYTES)
        if not spec or self.evaluate(message or self.no_message(), spec, value) != _OK:
            raise ValueError(f"{variable} is no variable that can be read")
        if value[self.flags_at][0] & _NULL:
            return ""
        return StrAt.from_buffer(value).bytes().decode("utf-8", "surrogateescape")


class Source:
    """One variable that is read again and again. `pv_cache_get` would look for it each time, and may forget it."""

    def __init__(self, parse: Any, values: Values, variable: str) -> None:
        """parse: the core's pv_parse_spec2. Raises ValueError when it is none that can be read."""
        self.variable = variable
        # The spec leads into the text.
        self._name = str_of(variable.encode("utf-8", "surrogateescape"))
        self._spec = ctypes.create_string_buffer(SPEC_BYTES)
        # A variable may be in the name of another one, and its buffer in use at the same time: so each has its own.
        self._value = ctypes.create_string_buffer(VALUE_BYTES)
        if not values.is_one(variable) or not parse(ctypes.byref(self._name), self._spec, False):
            raise ValueError(f"{variable} is no variable that can be read")
        self._evaluate, self._no_message = values.evaluate, values.no_message
        self._at = ctypes.addressof(self._spec), ctypes.addressof(self._value)
        # Address, length, flags.
        self._parts = struct.Struct(f"=Qi{values.flags_at - _str.size}xI").unpack_from
        self._texts: dict[tuple[int, int], Any] = {}

    def read(self, message: int) -> bytes:
        """Its value, b"" for null. Raises ValueError when it cannot be had."""
        if self._evaluate(message or self._no_message(), *self._at):
            raise ValueError(f"{self.variable} is no variable that can be read")
        at, length, flags = self._parts(self._value)
        if flags & _NULL or length <= 0 or not at:
            return b""
        text = self._texts.get((at, length))
        if text is None:
            if len(self._texts) >= _MOST_VIEWS:
                self._texts.clear()
            text = self._texts[at, length] = (ctypes.c_char * length).from_address(at)
        return text.raw  # type: ignore[no-any-return]


class Forms:
    """pv_value_t as the core's own functions fill it, ready to be copied: a call of the core costs more than all else.

    What they write is found out with a buffer of ours. Raises Unavailable when that is not as expected.
    """

    def __init__(self, library: Any, values: Values) -> None:
        give_text = core.function(library, "pv_get_strval", Int, *_GET, Pointer)
        self.give_number = core.function(library, "pv_get_sintval", Int, *_GET, ctypes.c_long)
        some = b"some text"
        name = str_of(some)
        givers: list[_Giver] = [
            lambda value: values.give_null(None, None, value),
            lambda value: give_text(None, None, value, ctypes.byref(name)),
            lambda value: self.give_number(None, None, value, -1),
        ]
        self.size = max(map(_written, givers))  # bytes
        if not _str.size < self.size <= VALUE_BYTES - 8:
            raise core.Unavailable("the size of pv_value_t was not found")
        self.null = self._form(givers[0])
        text = self._form(givers[1])
        self._tail = text[_str.size :]
        if self.of_text(some) != text:
            raise core.Unavailable("the text in a pv_value_t was not found")

    def _form(self, give: _Giver) -> bytes:
        value = ctypes.create_string_buffer(VALUE_BYTES)
        give(value)
        return value.raw[: self.size]

    def of_text(self, text: bytes) -> bytes:
        """A value with this text, which the caller keeps as long as the value may be in use."""
        return _pack(id(text) + _INTO_BYTES, len(text)) + self._tail

    def of_number(self, number: int) -> tuple[bytes, bytes]:
        """A value with this number, and its text, to be kept."""
        form = self._form(lambda value: self.give_number(None, None, value, number))
        text = ctypes.string_at(*_str.unpack_from(form))  # the core will use that place for other numbers
        return _pack(id(text) + _INTO_BYTES, len(text)) + form[_str.size :], text


def _written(give: _Giver) -> int:
    """Up to where a function of the core writes into a pv_value_t."""
    buffers = [ctypes.create_string_buffer(filling * VALUE_BYTES, VALUE_BYTES) for filling in (b"\0", b"\xff")]
    for buffer in buffers:
        give(buffer)
    same = [at for at in range(VALUE_BYTES) if buffers[0][at] == buffers[1][at]]
    return max(same, default=-1) + 1
