# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of the stub package, from the functions of KEMI."""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Iterable

from kemi.testing.api import Api, Function
from kemi.testing.stubgen import variables

_HEAD = '''"""KSR of Kamailio {version}: every function of KEMI that its modules have.

Written by python3 -m kemi.testing.stubgen; not to be edited. A note says which functions only one of them has. The
classes are only here: at run time KSR.sl and the others are modules made by the server. Arguments have no keywords
there. Functions without a result give None here; 5.6 gives 0. What a variable holds is known for many, $rs for one; $rs
and what every SIP message has are taken to be there. $var(x) and its like may hold a text or a number: int or str.
KSR.async cannot be written in Python; getattr(KSR, "async") is an object of the class _async.
"""

from typing import Any, Literal, overload
'''

_X = '''class _x:
    """KSR.x, of app_python3 itself. It has no exit and no drop: sys.exit() ends a route, KSR.set_drop() drops."""

    @staticmethod
    def modf(name: str, arg1: str = ..., arg2: str = ..., /) -> int:
        """Call a function of a module's kamailio.cfg interface. In 5.6 it crashes the server."""
'''

_TYPES = {"int": "int", "long": "int", "str": "str", "bool": "bool", "none": "None", "xval": "str | None"}
_WIDTH = 108  # of a line of names

_HOLDS: dict[str, tuple[str, ...]] = {
    "_Text": variables.TEXT,
    "_TextOrNull": variables.TEXT_OR_NULL,
    "_Number": variables.NUMBER,
    "_NumberOrNull": variables.NUMBER_OR_NULL,
}
# KSR.pv.* → what stands in null's place; "default" is the type of the second argument.
_READERS = {"pv.get": "None", "pv.gete": "str", "pv.getw": "str", "pv.getvs": "str", "pv.getvn": "int"}


def stub(api: Api) -> str:
    """The text of __init__.pyi."""
    parts = [_HEAD.format(version=api.version), _names()]
    releases = api.releases
    modules: dict[str, dict[str, list[Function]]] = {}
    for function in api.functions:
        modules.setdefault(function.module, {}).setdefault(function.name, []).append(function)
    parts += [_definition(forms, "", releases) for forms in modules.get("", {}).values()]
    classes = {name: _class(name, list(functions.values()), releases) for name, functions in modules.items() if name}
    classes["x"] = _X
    for name in sorted(classes):
        parts.append(classes[name])
        if not keyword.iskeyword(name):
            parts.append(f"{name}: _{name}\n")
    return "\n".join(parts)


def _names() -> str:
    """What overloads tell apart."""
    lines = []
    for alias, names in _HOLDS.items():
        quoted = ", ".join(f'"${name}"' for name in names)
        filled = textwrap.fill(quoted, _WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
        lines.append(f"{alias} = Literal[\n{filled},\n]\n")
    return "".join(lines)


def _class(name: str, functions: list[list[Function]], releases: tuple[str, ...]) -> str:
    sources = sorted({function.loaded_by or "the core" for forms in functions for function in forms})
    head = f'class _{name}:\n    """KSR.{name}, of {", ".join(sources)}.{_note_of_class(functions, releases)}"""\n'
    return "\n".join([head, *(_definition(forms, "    ", releases) for forms in functions)])


def _note_of_class(functions: list[list[Function]], releases: tuple[str, ...]) -> str:
    return _only(functions[0][0].releases, releases) if len({each[0].releases for each in functions}) == 1 else ""


def _only(has: tuple[str, ...], releases: tuple[str, ...]) -> str:
    """A sentence, with a space before it, when not every release has it."""
    return f" Only in {', '.join(has)}." if has != releases else ""


def _definition(forms: list[Function], indent: str, releases: tuple[str, ...]) -> str:
    """Every form of one function; of several, what only a release has is an overload."""
    function = forms[-1]
    if function.path in _READERS:
        lines = _reader(function)
    elif len(forms) == 1:
        lines = _plain(function, releases, static=bool(indent))
    else:
        lines = [line for each in forms for line in ("@overload", *_plain(each, releases, static=bool(indent)))]
    return "".join(f"{indent}{line}\n" for line in lines)


def _plain(function: Function, releases: tuple[str, ...], *, static: bool) -> list[str]:
    """One definition; arguments are by position only, as in the server."""
    arguments = ", ".join(f"{name}: {_TYPES.get(kind, 'Any')}" for name, kind in zip(function.names, function.types))
    name = function.name + "_" if keyword.iskeyword(function.name) else function.name
    line = f"def {name}({arguments + ', /' if arguments else ''}) -> {result(function)}:"
    lines = ["@staticmethod", line] if static else [line]
    dot = "" if function.doc.endswith("...") or not function.doc else "."
    text = (function.doc + dot + _only(function.releases, releases)).strip()
    lines[-1] += "" if text else " ..."
    return lines + ([f'    """{text}"""'] if text else [])


def _reader(function: Function) -> list[str]:
    """What reads a variable: what it gives depends on the name."""
    null = _READERS[function.path]
    default = {"pv.getvs": ", default: str", "pv.getvn": ", default: int"}.get(function.path, "")
    gives = {
        "_Text": ("str",),
        "_Number": ("int",),
        "_TextOrNull": ("str", null),
        "_NumberOrNull": ("int", null),
        "str": ("str", "Any", null),
    }
    return [
        line
        for names, kinds in gives.items()
        for line in (
            "@overload",
            "@staticmethod",
            f"def {function.name}(pvname: {names}{default}, /) -> {_union(kinds)}:",
            f'    """{function.doc}."""',
        )
    ]


def _union(kinds: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(kinds))


def result(function: Function) -> str:
    """What it gives: a text that may be null, unless it is one of those that put something in null's place."""
    never_null = function.returns == "xval" and function.name.endswith(
        ("gete", "getw", "gete_idx", "getw_idx", "getvs")
    )
    if function.path == "pv.getvn":
        return "str | int"
    if function.path == "pv.getl":
        return "int"
    return "str" if never_null else _TYPES.get(function.returns, "Any")
