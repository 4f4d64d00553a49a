# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of arguments and a line of description, from the README file of a Kamailio module.

A README of Kamailio is plain text: a function has a heading `3.1.  sl_send_reply(code, reason)` at the line's beginning
and its text is indented. What does not fit the KEMI function (another number of arguments) is not used.
"""

from __future__ import annotations

import gzip
import keyword
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

FOLDER = "/usr/share/doc/kamailio/modules"
LONGEST = 110  # characters of a description

_HEADING = re.compile(r"^\d+(?:\.\d+)+\.\s+([A-Za-z_]\w*)\s*\(([^)]*)\)", re.MULTILINE)
_SECTION = re.compile(r"^\d+(?:\.\d+)*\.\s", re.MULTILINE)
_SENTENCE = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!etc)\.(?:\s|$)")


class Entry(NamedTuple):
    """A function as a README has it."""

    required: int  # how many arguments must be given
    names: tuple[str, ...]  # of all arguments; "" for one without a name
    text: str  # the first sentence, or ""


def read(module: str, folder: str = FOLDER) -> dict[str, list[Entry]]:
    """Function → its headings, of one module; nothing when there is no README."""
    path = os.path.join(folder, f"README.{module}")
    if os.path.exists(path + ".gz"):
        with gzip.open(path + ".gz", "rt", encoding="utf-8", errors="replace") as file:
            return parse(file.read())
    if os.path.exists(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            return parse(file.read())
    return {}


def parse(text: str) -> dict[str, list[Entry]]:
    """The functions of a README's text."""
    found: dict[str, list[Entry]] = {}
    for heading in _HEADING.finditer(text):
        after = text[heading.end() :]
        end = _SECTION.search(after)
        names, required = _arguments(heading.group(2))
        entry = Entry(required, names, _first_sentence(after[: end.start()] if end else after))
        found.setdefault(heading.group(1), []).append(entry)
    return found


def _arguments(text: str) -> tuple[tuple[str, ...], int]:
    """Names, and how many of them stand outside of brackets: "ip [, port]" → (ip, port), 1."""
    parts = [part for part in text.split(",") if re.search(r"\w", part)]
    required, depth = 0, 0
    for part in parts:
        before_name = re.split(r"\w", part, maxsplit=1)[0]
        required += depth + before_name.count("[") == 0
        depth += part.count("[") - part.count("]")
    return tuple(_name(part) for part in parts), required


def _name(text: str) -> str:
    """A Python name; "" when the README shows a value or a choice of them."""
    words = re.findall(r"\w+", text)
    if not words or "|" in text or not re.fullmatch(r"[A-Za-z_]\w*", words[-1]):
        return ""
    name: str = words[-1].lower().strip("_")
    return name + "_" if keyword.iskeyword(name) else name


def _first_sentence(text: str) -> str:
    paragraph = next((part for part in re.split(r"\n\s*\n", text) if re.search(r"[A-Za-z]", part)), "")
    line = re.sub(r"\s+", " ", paragraph.strip().lstrip("):;. "))
    line = _SENTENCE.split(line, maxsplit=1)[0].replace("\\", "/").replace('"', "'").strip(" :;,-")
    if len(line) > LONGEST:
        line = line[:LONGEST].rsplit(" ", 1)[0] + " ..."
    return line


def fitting(entries: Sequence[Entry], count: int) -> Entry | None:
    """The heading that such a number of arguments fits, cut to it."""
    for entry in entries:
        if entry.required <= count <= len(entry.names):
            return entry._replace(names=entry.names[:count])
    return None
