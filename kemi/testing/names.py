# SPDX-License-Identifier: GPL-2.0-or-later
"""Splits the names of pseudo-variables: $rU, $hdr(To), $(hdr(Via)[1]{s.len}), $xavp(a[0]=>b)."""

from __future__ import annotations

import re

from kemi.testing.state import Name

_NAME = re.compile(r"[A-Za-z0-9_.]+")


class InvalidName(Exception):
    """The server says that too, in its log, and takes the variable as null."""


def find(text: str, start: int = 0) -> tuple[Name, int]:
    """The variable that begins at `start`, and where it ends. Raises InvalidName, NotCovered."""
    if text[start : start + 1] != "$":
        raise InvalidName(text)
    if text[start : start + 2] == "$$":
        return Name("$$", "$"), start + 2
    if text[start : start + 2] == "$(":
        end = _closing(text, start + 1)
        return _bracketed(text[start:end], text[start + 2 : end - 1]), end
    found = _NAME.match(text, start + 1)
    if not found:
        raise InvalidName(text)
    end = found.end()
    inner = None
    if text[end : end + 1] == "(":
        end = _closing(text, end)
        inner = text[found.end() + 1 : end - 1]
    return Name(text[start:end], found.group(), inner), end


def _bracketed(whole: str, content: str) -> Name:
    found = _NAME.match(content)
    if not found:
        raise InvalidName(whole)
    rest, inner = content[found.end() :], None
    if rest.startswith("("):
        end = _closing(rest, 0)
        inner, rest = rest[1 : end - 1], rest[end:]
    index = re.match(r"\[(\*|-?\d+)\]", rest)
    if index:
        rest = rest[index.end() :]
    transformed = []
    while rest.startswith("{"):
        end = _closing(rest, 0, "{}")
        transformed.append(rest[1 : end - 1])
        rest = rest[end:]
    if rest:
        raise InvalidName(whole)
    return Name(whole, found.group(), inner, index.group(1) if index else None, tuple(transformed))


def _closing(text: str, start: int, pair: str = "()") -> int:
    """Behind what closes the parenthesis at `start`, or another pair of signs."""
    depth = 0
    for place in range(start, len(text)):
        depth += {pair[0]: 1, pair[1]: -1}.get(text[place], 0)
        if not depth:
            return place + 1
    raise InvalidName(text)
