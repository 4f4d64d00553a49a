"""The definitions file of a native kamailio.cfg: the documentation's own modparam lines, comments as there."""

from __future__ import annotations

import re

from kemi.errors import ConfigError
from kemi.spec import Settings, Value

_STRING = r'"(?:[^"\\]|\\.)*"' + r"|'[^']*'"
_BLANK = re.compile(r"(?:\s+|#[^\n]*|//[^\n]*|/\*.*?\*/)+", re.DOTALL)
_PASSWORD = re.compile(r"(?<=://).*@")  # of a db_url: an error is for the log
_LINE = re.compile(
    rf"modparam\s*\(\s*(?P<module>{_STRING})\s*,\s*(?P<name>{_STRING})\s*,\s*(?P<value>{_STRING}|[+-]?\w+)\s*\)\s*;?",
    re.DOTALL,
)


def read(path: str, settings: Settings) -> None:
    """Take every definition of a file. Raises ConfigError, with the file and line of what is wrong."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"definitions file {path}: {error.strerror}; MQUEUE_KEMI_CFG names another one") from None
    at = 0
    while True:
        if blank := _BLANK.match(text, at):
            at = blank.end()
        if at == len(text):
            return
        number = text.count("\n", 0, at) + 1
        line = _LINE.match(text, at)
        if not line:
            here = _PASSWORD.sub("***", text[at:].split("\n", 1)[0])
            raise ConfigError(f'{path}, line {number}: expected modparam("mqueue", "...", ...), found: {here}')
        try:
            settings.set(str(_value(line["module"])), str(_value(line["name"])), _value(line["value"]))
        except ConfigError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
        at = line.end()


def _value(text: str) -> Value:
    """A quoted text, or a number as kamailio.cfg has it (decimal, 0x..., 0...)."""
    if text[0] in "\"'":
        inner = text[1:-1]
        return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL) if text[0] == '"' else inner
    try:
        digits = text.lstrip("+-")
        octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
        return int(text, 8) if octal else int(text, 0)
    except ValueError:
        raise ConfigError(f"{text} is neither a number nor a text in quotes") from None
