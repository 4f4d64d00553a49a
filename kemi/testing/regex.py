# SPDX-License-Identifier: GPL-2.0-or-later
"""Regular expressions as Kamailio has them: POSIX extended, without case, matched by the C library as in the server."""

from __future__ import annotations

import ctypes
import functools
import re
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


class _Match(ctypes.Structure):
    """regmatch_t."""

    _fields_ = (("start", ctypes.c_int), ("end", ctypes.c_int))


def substitute(expression: str, text: str) -> str | None:
    r"""Return what /pattern/with/flags makes of a text; None for an expression that is none.

    The first place is replaced, with the flag g each one; i is without case. \\1 to \\9 are groups.
    """
    separator = expression[:1]
    parts = expression.split(separator) if separator else []
    if len(parts) != 4:  # noqa: PLR2004 nothing, pattern, replacement, flags
        return None
    _, pattern, replacement, flags = parts
    data, done, replaced = _bytes(text), b"", False
    while not replaced or "g" in flags:
        found = _groups(pattern, data, ignore_case="i" in flags, begun=bool(done))
        if found is None:
            return None
        if not found or found[0].end == found[0].start:
            break
        done += data[: found[0].start] + _filled(replacement, data, found)
        data, replaced = data[found[0].end :], True
    return (done + data).decode("utf-8", "surrogateescape")


_GROUPS, _NOT_BEGUN = 10, 1


def _groups(pattern: str, data: bytes, *, ignore_case: bool, begun: bool) -> list[_Match] | None:
    """Where a pattern and its groups are; [] where it is not, None when it cannot be compiled."""
    compiled = ctypes.create_string_buffer(_ENOUGH)
    if _library().regcomp(compiled, _bytes(pattern), _EXTENDED | (_ICASE if ignore_case else 0)):
        return None
    try:
        places = (_Match * _GROUPS)()
        missed = _library().regexec(compiled, data, _GROUPS, ctypes.byref(places), _NOT_BEGUN if begun else 0)
        return [] if missed else list(places)
    finally:
        _library().regfree(compiled)


def _filled(replacement: str, data: bytes, groups: list[_Match]) -> bytes:
    """The replacement with what the groups have found."""
    pieces = re.split(r"\\([0-9])", replacement)
    made = _bytes(pieces[0])
    for number, piece in zip(pieces[1::2], pieces[2::2]):
        group = groups[int(number)]
        made += (data[group.start : group.end] if group.start >= 0 else b"") + _bytes(piece)
    return made
