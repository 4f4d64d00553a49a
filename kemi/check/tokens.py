# SPDX-License-Identifier: GPL-2.0-or-later
"""kamailio.cfg as a row of tokens: comments gone, includes read, #!ifdef decided, #!define and #!substdef put in.

As Kamailio's own scanner does it, as far as it matters for what is looked for: a branch that is off is skipped line by
line, a define stands for a word outside of quotes, a substdef also within them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from kemi.check.problems import Place, Problems
from kemi.readfile import read_file, text_of

WORD, TEXT, SIGN = "word", "text", "sign"
_DEEPEST = 10  # files in files

_TOKEN = re.compile(
    r"""(?P<blank>\s+|/\*.*?\*/)
    |(?P<directive>(?:\#!|!!)[ \t]*(?P<name>[A-Za-z_]+)(?P<rest>(?:\\\r?\n|[^\n])*))
    |(?P<comment>(?:\#|//)[^\n]*)
    |"(?P<double>(?:[^"\\]|\\.)*)"
    |'(?P<single>[^']*)'
    |(?P<word>[A-Za-z_][\w-]*|[0-9][\w.]*)
    |(?P<sign>.)""",
    re.DOTALL | re.VERBOSE,
)
_CONDITION = re.compile(r"^[ \t]*(?:#!|!!)[ \t]*(ifdef|ifndef|ifexp|else|endif)\b", re.MULTILINE)
_CONDITIONS = ("ifdef", "ifndef", "ifexp", "else", "endif")
_INCLUDES = ("include_file", "import_file")
_NEXT_TEXT = re.compile(r"""\s*["']([^"'\n]*)["']""")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


class Token(NamedTuple):
    """A word, a text without its quotes, or a sign."""

    kind: str
    text: str
    place: Place


class Reader:
    """Reads one kamailio.cfg with what it includes."""

    def __init__(self, problems: Problems, defines: dict[str, str]) -> None:
        """defines: as option -A of Kamailio sets them."""
        self._problems = problems
        self.defines = dict(defines)
        self._substitutes: dict[str, str] = {}
        self.files: list[str] = []

    def read(self, path: str) -> list[Token]:
        """Return all tokens. What cannot be read is a problem."""
        return list(self._read(path, Place(path, 1), optional=False))

    def _read(self, path: str, where: Place, *, optional: bool) -> Iterator[Token]:
        if len(self.files) >= _DEEPEST and path in self.files:
            self._problems.error(where, f"{path} includes itself")
            return
        try:
            text = text_of(read_file(path)).removeprefix("\ufeff")
        except OSError as error:
            if not optional:
                self._problems.error(where, f"{path} cannot be read: {error.strerror}")
            return
        self.files.append(path)
        yield from self._scan(path, text)

    def _scan(self, path: str, text: str) -> Iterator[Token]:
        at, open_ifs = 0, 0
        while match := _TOKEN.match(text, at):
            at = match.end()
            place = Place(path, text.count("\n", 0, match.start()) + 1)
            if match["directive"] and match["name"] in _CONDITIONS:
                at, open_ifs = self._condition(match, text, open_ifs, place)
            elif match["directive"]:
                yield from self._directive(match["name"], match["rest"].replace("\\\n", " ").strip(), place)
            elif match["word"] in _INCLUDES and (found := _NEXT_TEXT.match(text, at)):
                at = found.end()
                yield from self._include(match["word"], found[1], place)
            else:
                yield from self._token(match, place)
        if open_ifs:
            self._problems.error(Place(path, text.count("\n") + 1), "#!ifdef without #!endif")

    def _condition(self, match: re.Match[str], text: str, open_ifs: int, place: Place) -> tuple[int, int]:
        """Return where to read on, and how many #!ifdef are open there."""
        name, at = match["name"], match.end()
        open_ifs += self._depth(name)
        if open_ifs < 0 or (name == "else" and not open_ifs):
            self._problems.error(place, f"#!{name} without #!ifdef")
            return at, 0
        if self._is_off(name, match["rest"], place):
            at, closed = _skip(text, at)
            open_ifs -= closed
        return at, open_ifs

    def _directive(self, name: str, rest: str, place: Place) -> Iterator[Token]:
        if name in _INCLUDES:
            yield from self._include(name, rest.strip("\"' "), place)
        else:
            self._define(name, rest)

    @staticmethod
    def _depth(name: str) -> int:
        return {"else": 0, "endif": -1}.get(name, 1)

    def _is_off(self, name: str, rest: str, place: Place) -> bool:
        """Does a branch begin here that is not read?"""
        identifier = rest.split(maxsplit=1)[0] if rest.strip() else ""
        if name == "ifexp":
            self._problems.warning(place, "#!ifexp is not computed: the branch is taken as if it were on")
            return False
        if name == "else":
            return True  # what was read until here was on
        return name != "endif" and (identifier in self.defines) == (name == "ifndef")

    def _include(self, name: str, file: str, place: Place) -> Iterator[Token]:
        path = file if os.path.isabs(file) else os.path.join(os.path.dirname(place.file), file)
        yield from self._read(path, place, optional=name == "import_file")

    def _define(self, name: str, rest: str) -> None:
        identifier, _, value = rest.partition(" ")
        if name in ("define", "def", "redefine", "redef"):
            self.defines[identifier] = value.strip()
        elif name in ("trydef", "trydefine"):
            self.defines.setdefault(identifier, value.strip())
        elif name in ("defenv", "defenvs", "trydefenv", "trydefenvs"):
            identifier, _, variable = rest.partition("=")
            set_to = os.environ.get(variable.strip() or identifier.strip())
            if set_to is not None:
                self.defines.setdefault(identifier.strip(), set_to)
        elif name in ("substdef", "substdefs"):
            parts = rest.strip("\"'")
            pieces = parts.split(parts[:1]) if parts else []
            if len(pieces) >= 3:  # noqa: PLR2004 - /name/value/flags
                self.defines[pieces[1]] = self._substitutes[pieces[1]] = pieces[2]

    def _token(self, match: re.Match[str], place: Place) -> Iterator[Token]:
        if match["double"] is not None:
            unescaped = re.sub(
                r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), match["double"], flags=re.DOTALL
            )
            yield Token(TEXT, self._substituted(unescaped), place)
        elif match["single"] is not None:
            yield Token(TEXT, self._substituted(match["single"]), place)
        elif match["sign"]:
            yield Token(SIGN, match["sign"], place)
        elif match["word"]:
            yield from self._word(match["word"], place)

    def _word(self, word: str, place: Place) -> Iterator[Token]:
        value = self.defines.get(word)
        if not value:
            yield Token(WORD, word, place)
            return
        for match in _TOKEN.finditer(value):  # once: a define does not stand for itself
            text = match["double"] if match["double"] is not None else match["single"]
            if text is not None:
                yield Token(TEXT, self._substituted(text), place)
            elif match["word"] or match["sign"]:
                yield Token(WORD if match["word"] else SIGN, match[0], place)

    def _substituted(self, text: str) -> str:
        for name, value in self._substitutes.items():
            text = text.replace(name, value)
        return text


def _skip(text: str, at: int) -> tuple[int, int]:
    """Return where the branch that is off ends, behind its #!else or #!endif; and 1 for the latter."""
    depth = 0
    while match := _CONDITION.search(text, at):
        at = match.end()
        line_end = text.find("\n", at)
        at = len(text) if line_end < 0 else line_end
        if match[1] == "endif":
            if not depth:
                return at, 1
            depth -= 1
        elif match[1] == "else":
            if not depth:
                return at, 0
        else:
            depth += 1
    return len(text), 0
