# SPDX-License-Identifier: GPL-2.0-or-later
r"""The manual page mqueue-kemi(1), from the parser and the table of exit codes.

In troff a line that begins with a dot or an apostrophe is a request, `\` begins an escape, and `-` is a hyphen that may
be broken or copied as another character: all of these are escaped in what comes from the help.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kemi.cli.usage import codes
from kemi.names import (
    DB_URL_VARIABLE,
    ENGINE_PASSWORD_VARIABLE,
    ENGINE_USER_VARIABLE,
    INSTANCE_VARIABLE,
    OWNER_VARIABLE,
    VERSION,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_ENVIRONMENT = {
    INSTANCE_VARIABLE: "The instance that is meant where --instance is not given.",
    OWNER_VARIABLE: "A user whose queues are trusted, where --owner is not given.",
    DB_URL_VARIABLE: "The database of save and load where --db-url is not given. No process list shows it.",
    f"{ENGINE_USER_VARIABLE}, {ENGINE_PASSWORD_VARIABLE}": "User and password of relay, where nothing else names them.",
    "MQUEUE_KEY, MQUEUE_QUEUE": "What consume --exec tells its command: the item's key, and the queue's name.",
}
_ONCE = ("help", "instance", "owner")  # with every command, and explained for all of them
_FILES = {
    "/dev/shm/mqk.INSTANCE": "The instance: its server, and how much memory its queues hold.",
    "/dev/shm/mqk.INSTANCE.QUEUE": "A queue. Whoever may write to it may take its items.",
    "/etc/mqueue-kemi/relay.d/NAME.toml": "What mqueue-relay@NAME.service relays: the options of relay, as TOML.",
}


def commands(whole: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands by their names."""
    (found,) = (action for action in whole._actions if action.dest == "command")  # noqa: SLF001
    return dict(found.choices or {})


def page(whole: argparse.ArgumentParser) -> str:
    """Return the page as troff with the man macros."""
    examples, _, form = without_codes(whole).partition("\n\n")
    parts = [
        f'.TH MQUEUE\\-KEMI 1 "" "mqueue_kemi {VERSION}" "User Commands"',
        ".SH NAME",
        r"mqueue\-kemi \- look at queues of Kamailio scripts, add and take items",
        ".SH SYNOPSIS",
        *_synopsis(whole, "mqueue-kemi"),
        ".SH DESCRIPTION",
        _text(whole.description or ""),
        ".PP",
        _text(form),
        ".SH OPTIONS",
        *_options(whole),
        ".SH COMMANDS",
    ]
    for name, one in commands(whole).items():
        parts += [f'.SS "{_text(name)}"', *_synopsis(one, name), ".PP", _text(one.description or "")]
        more = without_codes(one)
        if more:
            parts += [".PP", _text(more)]
        parts += _options(one)
    parts += [".SH EXIT STATUS", *_table({str(code): f"{text}." for code, text in codes.CODES.items()})]
    parts += [".SH ENVIRONMENT", *_table(_ENVIRONMENT), ".SH FILES", *_table(_FILES)]
    parts += [".SH EXAMPLES", ".nf", _text(examples.partition("\n")[2]), ".fi"]
    parts += [".SH SEE ALSO", ".BR kamailio (8),", ".BR kamcmd (8)"]
    return "\n".join(parts) + "\n"


def without_codes(one: argparse.ArgumentParser) -> str:
    """Return the text below the options, without the table of exit codes that ends it."""
    return (one.epilog or "").replace(codes.as_text(), "").strip()


def _synopsis(one: argparse.ArgumentParser, name: str) -> Iterator[str]:
    yield f".B {_text(name)}"
    actions = sorted(one._actions, key=lambda action: not action.option_strings)  # noqa: SLF001
    for action in actions:
        if action.dest == "help" or (action.dest in _ONCE and one.get_default("run")):
            continue
        words = _words(action)
        required = action.required if action.option_strings else action.nargs != "?"
        yield words if required else f"[{words}]"


def _words(action: argparse.Action) -> str:
    value = rf"\fI{_text(_value(action))}\fR" if _value(action) else ""
    if not action.option_strings:
        return value
    return rf"\fB{_text(action.option_strings[-1])}\fR{' ' if value else ''}{value}"


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    return str(action.metavar or action.dest.upper())


def _options(one: argparse.ArgumentParser) -> Iterator[str]:
    for action in one._actions:  # noqa: SLF001
        if action.dest == "command" or not action.help or (action.dest in _ONCE and one.get_default("run")):
            continue
        names = ", ".join(rf"\fB{_text(name)}\fR" for name in action.option_strings)
        value = rf"\fI{_text(_value(action))}\fR" if _value(action) else ""
        yield f".TP\n{names}{' ' if names and value else ''}{value}\n{_text(_sentence(action.help))}"


def _sentence(text: str) -> str:
    text = text.replace("%%", "%")
    return f"{text[0].upper()}{text[1:]}."


def _table(rows: dict[str, str]) -> Iterator[str]:
    for name, text in rows.items():
        yield rf".TP{chr(10)}\fB{_text(name)}\fR{chr(10)}{_text(text)}"


def _text(text: str) -> str:
    """Return plain text as troff shows it unchanged."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"(?m)^([.'])", r"\\&\1", escaped)
