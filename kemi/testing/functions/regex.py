"""Regular expressions as Kamailio has them: POSIX extended, without case, matched by the C library as in the server."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

_EXTENDED, _ICASE, _NEWLINE, _NOSUB = 1, 2, 4, 8
_ENOUGH = 256  # bytes; regex_t has 64


@functools.cache
def _library() -> Any:
    library = ctypes.CDLL(None)
    library.regcomp.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
    library.regexec.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int)
    library.regfree.argtypes = (ctypes.c_char_p,)
    return library


def search(pattern: str, text: str) -> bool | None:
    """Whether the pattern is found in the text; None for a pattern that cannot be compiled."""
    compiled = ctypes.create_string_buffer(_ENOUGH)
    if _library().regcomp(compiled, _bytes(pattern), _EXTENDED | _ICASE | _NEWLINE | _NOSUB):
        return None
    try:
        return not _library().regexec(compiled, _bytes(text), 0, None, 0)
    finally:
        _library().regfree(compiled)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
