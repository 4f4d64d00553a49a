# SPDX-License-Identifier: GPL-2.0-or-later
"""Read Kamailio's own pseudo-variables of any message, also where KSR stands for another one, or for none."""

from __future__ import annotations

import ctypes
from typing import Any

from kemi.server import core
from kemi.server.structs import SPEC_BYTES, VALUE_BYTES, Int, Pointer, StrAt, str_of

_OK = 0
_NULL = 1  # PV_VAL_NULL


class Values:
    """The core's functions that evaluate a pseudo-variable. Raises Unavailable when one is missing."""

    def __init__(self, library: Any) -> None:
        get = (Pointer, Pointer, Pointer)
        self.give_null = core.function(library, "pv_get_null", Int, *get)
        self.evaluate = core.function(library, "pv_get_spec_value", Int, *get)
        self.no_message = core.function(library, "faked_msg_next", Pointer)
        self.parse = core.function(library, "pv_parse_spec2", Pointer, Pointer, Pointer, Int)
        self.length = core.function(library, "pv_locate_name", Int, Pointer)
        self.flags_at = self._place_of_flags()
        self._sources: dict[str, Source] = {}

    def _place_of_flags(self) -> int:
        """Where pv_value_t has its flags: the one place where the core itself stores PV_VAL_NULL."""
        value = ctypes.create_string_buffer(VALUE_BYTES)
        self.give_null(None, None, value)
        # The str in front is the core's empty one: a pointer, and the length 0.
        places = [at for at in range(ctypes.sizeof(StrAt), VALUE_BYTES, 4) if value[at] != b"\0"]
        if len(places) != 1 or value[places[0]] != bytes([_NULL]):
            raise core.Unavailable("the flags of pv_value_t were not found")
        return places[0]

    def text(self, message: int | None, variable: str) -> str:
        """The value of a variable, "" for null. Raises ValueError when it is none that can be read."""
        source = self._sources.get(variable)
        if source is None:
            source = self._sources[variable] = Source(self, variable)
        return source.read(message)


class Source:
    """One variable, parsed once: `pv_cache_get` would look for it at each read, and may forget what it gave."""

    def __init__(self, values: Values, variable: str) -> None:
        """Raises ValueError when it is none."""
        self._values = values
        self._variable = variable
        data = variable.encode("utf-8", "surrogateescape")
        self._name = str_of(data)  # what is parsed points into it
        self._spec = ctypes.create_string_buffer(SPEC_BYTES)
        # Each has a place of its own: a variable may be read within the name of another one.
        self._value = ctypes.create_string_buffer(VALUE_BYTES)
        self._text = StrAt.from_buffer(self._value)
        self._flags = Int.from_buffer(self._value, values.flags_at)
        self._places = ctypes.addressof(self._spec), ctypes.addressof(self._value)
        name = ctypes.byref(self._name)
        if values.length(name) != len(data) or not values.parse(name, self._spec, False):
            raise self._no_variable()

    def read(self, message: int | None) -> str:
        """Its value, "" for null. Raises ValueError when it cannot be had."""
        values = self._values
        if values.evaluate(message or values.no_message(), *self._places) != _OK:
            raise self._no_variable()
        return "" if self._flags.value & _NULL else self._text.bytes().decode("utf-8", "surrogateescape")

    def _no_variable(self) -> ValueError:
        return ValueError(f"{self._variable} is no variable that can be read")
