# SPDX-License-Identifier: GPL-2.0-or-later
"""The definitions file of a native kamailio.cfg: the documentation's own modparam lines, comments as there.

Kamailio's preprocessor does not see this file. A directive of it would be a comment here, and a queue in a branch that
was meant to be off would exist: so each is refused, but for the line that Kamailio's files begin with.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kemi import readfile
from kemi.errors import ConfigError
from kemi.spec import Settings, Value

FILE = "mqueue_kemi.cfg"
_STRING = r'"(?:[^"\\]|\\.)*"' + r"|'[^']*'"
_BLANK = re.compile(r"\s+|#[^\n]*|//[^\n]*|/\*.*?\*/", re.DOTALL)
_HEADER = re.compile(r"#!(?:KAMAILIO|OPENSER|SER|MAXCOMPAT|ALL)\s*", re.IGNORECASE)
_DIRECTIVE = ("#!", "!!")  # as Kamailio marks its own
_EXCERPT = 300  # characters of what is no modparam line, in an error
_BOM = "\ufeff"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_PASSWORD = re.compile(r"(?<=://).*@")  # of a db_url: an error is for the log
_LINE = re.compile(
    rf"modparam\s*\(\s*(?P<module>{_STRING})\s*,\s*(?P<name>{_STRING})\s*,\s*(?P<value>{_STRING}|[+-]?\w+)\s*\)\s*;?",
    re.DOTALL,
)


def find(folders: Iterable[str | None]) -> str:
    """Return the file that MQUEUE_KEMI_CFG names, else the first of its name in the folders. Raises ConfigError."""
    named = os.environ.get("MQUEUE_KEMI_CFG")
    if named:
        return named
    places = [folder for folder in folders if folder]
    for folder in places:
        path = os.path.normpath(os.path.join(folder, FILE))
        if os.path.exists(path):
            return path
    raise ConfigError(
        f"no queues are defined: there is no {FILE} in {' or '.join(places)}; "
        "MQUEUE_KEMI_CFG may name a file of modparam lines"
    )


def read(path: str, settings: Settings) -> None:
    """Take every definition of a file. Raises ConfigError, with the file and line of what is wrong."""
    for definition in parse(path, text_of(path)):
        definition.apply(settings)


class Definition(NamedTuple):
    """One modparam line, and where it stands."""

    where: str
    module: str
    name: str
    value: Value

    def apply(self, settings: Settings) -> None:
        """Set the parameter. Raises ConfigError, with the file and line."""
        try:
            settings.set(self.module, self.name, self.value)
        except ConfigError as error:
            raise ConfigError(f"{self.where}: {error}") from None


def text_of(path: str) -> str:
    """Return the text of a definitions file. Raises ConfigError."""
    try:
        data = readfile.read_file(path)
    except OSError as error:
        raise ConfigError(f"definitions file {path}: {error.strerror}; MQUEUE_KEMI_CFG names another one") from None
    if data.startswith(_UTF_16):
        raise ConfigError(f"{path}, line 1: the file is UTF-16; save it as UTF-8")
    text = readfile.text_of(data)
    return text[text.startswith(_BOM) :]


def parse(path: str, text: str) -> Iterator[Definition]:
    """Give the definitions in a text, in order. Raises ConfigError where something else stands."""
    at = 0
    while at < len(text):
        where = f"{path}, line {_line_at(text, at)}"
        if blank := _BLANK.match(text, at):
            _refuse_directive(where, blank[0])
            at = blank.end()
            continue
        line = _LINE.match(text, at)
        if not line:
            here = _PASSWORD.sub("***", text[at:].split("\n", 1)[0])
            _refuse_directive(where, here)
            raise ConfigError(f'{where}: expected modparam("mqueue", "...", ...), found: {here[:_EXCERPT]}')
        try:
            values = [_value(line[part]) for part in ("module", "name", "value")]
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        yield Definition(where, str(values[0]), str(values[1]), values[2])
        at = line.end()


def _line_at(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _refuse_directive(where: str, text: str) -> None:
    """Refuse a line for Kamailio's preprocessor, which does not come here."""
    if text.startswith(_DIRECTIVE) and not _HEADER.fullmatch(text):
        raise ConfigError(
            f"{where}: {text.strip()}: this file is not read by Kamailio, whose #! directives mean nothing here; write "
            "plain modparam lines, or let MQUEUE_KEMI_CFG name one file or another"
        )


def _value(text: str) -> Value:
    """Return a quoted text, or a number as kamailio.cfg has it (decimal, 0x..., 0...)."""
    if text[0] in "\"'":
        inner = text[1:-1]
        return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL) if text[0] == '"' else inner
    try:
        digits = text.lstrip("+-")
        octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
        return int(text, 8) if octal else int(text, 0)
    except ValueError:
        raise ConfigError(f"{text} is neither a number nor a text in quotes") from None
