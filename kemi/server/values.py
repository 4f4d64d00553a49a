"""Read Kamailio's own pseudo-variables of any message, also where KSR stands for another one, or for none."""

from __future__ import annotations

import ctypes
from typing import Any

from kemi.server import core
from kemi.server.structs import VALUE_BYTES, Int, Pointer, StrAt, str_of

_OK = 0
_NULL = 1  # PV_VAL_NULL


class Values:
    """The core's functions that evaluate a pseudo-variable. Raises Unavailable when one is missing."""

    def __init__(self, library: Any) -> None:
        get = (Pointer, Pointer, Pointer)
        self.give_null = core.function(library, "pv_get_null", Int, *get)
        self._find = core.function(library, "pv_cache_get", Pointer, Pointer)
        self._length = core.function(library, "pv_locate_name", Int, Pointer)
        self._evaluate = core.function(library, "pv_get_spec_value", Int, *get)
        self._no_message = core.function(library, "faked_msg_next", Pointer)
        self._flags_at = self._place_of_flags()

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
        data = variable.encode("utf-8", "surrogateescape")
        name = str_of(data)
        spec = self._find(ctypes.byref(name)) if self._length(ctypes.byref(name)) == len(data) else None
        value = ctypes.create_string_buffer(VALUE_BYTES)
        if not spec or self._evaluate(message or self._no_message(), spec, value) != _OK:
            raise ValueError(f"{variable} is no variable that can be read")
        if value[self._flags_at][0] & _NULL:
            return ""
        return StrAt.from_buffer(value).bytes().decode("utf-8", "surrogateescape")
