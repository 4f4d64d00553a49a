"""The text of the stub package, from the functions of KEMI."""

from __future__ import annotations

import keyword

from kemi.testing.api import Api, Function

_HEAD = '''"""KSR of Kamailio {version}: every function of KEMI that its modules have.

Written by python3 -m kemi.testing.stubgen; not to be edited. The classes are only here: at run time KSR.sl and the
others are modules made by the server. Arguments have no keywords there. Functions without a result give None here;
5.6 gives 0. A variable that holds a number gives an int where str is written: KSR.pv.getvn and KSR.pv.geti say so.
KSR.async cannot be written in Python; getattr(KSR, "async") is an object of the class _async.
"""
'''

_X = '''class _x:
    """KSR.x, of app_python3 itself. It has no exit and no drop: sys.exit() ends a route, KSR.set_drop() drops."""

    @staticmethod
    def modf(name: str, arg1: str = ..., arg2: str = ..., /) -> int:
        """Call a function of a module's kamailio.cfg interface. In 5.6 it crashes the server."""
'''

_TYPES = {"int": "int", "str": "str", "bool": "bool", "none": "None", "xval": "str | None"}


def stub(api: Api) -> str:
    """The text of __init__.pyi."""
    modules = api.modules()
    parts = [_HEAD.format(version=api.version)]
    parts += [_function(function, "") for function in modules[""].values()]
    classes = {name: _class(name, list(functions.values())) for name, functions in modules.items() if name}
    classes["x"] = _X
    for name in sorted(classes):
        parts.append(classes[name])
        if not keyword.iskeyword(name):
            parts.append(f"{name}: _{name}\n")
    return "\n".join(parts)


def _class(name: str, functions: list[Function]) -> str:
    sources = sorted({function.loaded_by or "the core" for function in functions})
    head = f'class _{name}:\n    """KSR.{name}, of {", ".join(sources)}."""\n'
    return "\n".join([head, *(_function(function, "    ") for function in functions)])


def _function(function: Function, indent: str) -> str:
    """One definition; arguments are by position only, as in the server."""
    arguments = ", ".join(f"{name}: {_TYPES[kind]}" for name, kind in zip(function.names, function.types))
    name = function.name + "_" if keyword.iskeyword(function.name) else function.name
    line = f"def {name}({arguments + ', /' if arguments else ''}) -> {result(function)}:"
    lines = ["@staticmethod", line] if indent else [line]
    lines[-1] += "" if function.doc else " ..."
    dot = "" if function.doc.endswith("...") else "."
    lines += [f'    """{function.doc}{dot}"""'] if function.doc else []
    return "".join(f"{indent}{line}\n" for line in lines)


def result(function: Function) -> str:
    """What it gives: a text that may be null, unless it is one of those that put something in null's place."""
    never_null = function.returns == "xval" and function.name.endswith(
        ("gete", "getw", "gete_idx", "getw_idx", "getvs")
    )
    if function.path == "pv.getvn":
        return "str | int"
    return "str" if never_null else _TYPES[function.returns]
