# SPDX-License-Identifier: GPL-2.0-or-later
"""The stub of mqueue_kemi, from the module itself.

mqueue_kemi is one file, which cannot say that it has types (PEP 561 knows packages only): a checker that finds it
installed takes everything in it for Any. So the wheel brings mqueue_kemi-stubs, which has the public names, the
signatures and the docstrings of the module; the classes come from `kemi`, which says py.typed.
"""

from __future__ import annotations

import ast

_HEADER = "# Made from mqueue_kemi.py by docs/share/make.py (python3 -m docs.share.make).\n"
_ALWAYS = {"annotations"}


def of(source: str) -> str:
    """Return the stub of a module's source."""
    tree = ast.parse(source)
    public = _public(tree)
    parts = [_docstring(tree, ""), "from __future__ import annotations\n"]
    imports: list[str] = []
    body: list[str] = []
    used = _annotation_names(tree, public)
    overloaded: set[str] = set()  # the function itself, after its overloads, says nothing more
    for node in _statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            imports += _imported(node, public, used)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name in public:
            is_overload = any("overload" in ast.unparse(one) for one in node.decorator_list)
            if is_overload or node.name not in overloaded:
                body.append(_definition(node))
            if is_overload:
                overloaded.add(node.name)
    names = ",\n".join(f'    "{name}"' for name in public)
    return "\n".join(
        [_HEADER.rstrip(), *parts, *imports, "", "__version__: str", "", f"__all__ = [\n{names},\n]", "", *body]
    )


def _statements(tree: ast.Module) -> list[ast.stmt]:
    """Return those of the module, with what it imports for type checkers only."""
    found: list[ast.stmt] = []
    for node in tree.body:
        only_checked = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        found += node.body if isinstance(node, ast.If) and only_checked else [node]
    return found


def _public(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            found: list[str] = ast.literal_eval(node.value)
            return found
    raise ValueError("the module has no __all__")


def _annotation_names(tree: ast.Module, public: list[str]) -> set[str]:
    """Return the names that stand in the signatures of public functions."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name in public:
            for part in [node.args, *([node.returns] if node.returns else []), *node.decorator_list]:
                found.update(name.id for name in ast.walk(part) if isinstance(name, ast.Name))
    return found


def _imported(node: ast.ImportFrom, public: list[str], used: set[str]) -> list[str]:
    lines = []
    for alias in node.names:
        name = alias.asname or alias.name
        if name in public:
            lines.append(f"from {node.module} import {alias.name} as {name}")
        elif name in used:
            lines.append(f"from {node.module} import {alias.name}" + (f" as {alias.asname}" if alias.asname else ""))
    return lines


def _definition(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.ClassDef):
        raise TypeError(f"class {node.name}: mqueue_kemi has names and functions only; classes stand in kemi")
    decorators = "".join(f"@{ast.unparse(one)}\n" for one in node.decorator_list)
    start = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    head = f"{decorators}{start} {node.name}({ast.unparse(node.args)}){returns}:"
    text = _docstring(node, "    ")
    return f"{head}\n{text}\n" if text else f"{head} ...\n"


def _docstring(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef, indent: str) -> str:
    text = ast.get_docstring(node)
    if text is None:
        return ""
    lines = "\n".join(f"{indent}{line}" if line else "" for line in text.splitlines())
    end = f"\n{indent}" if "\n" in text else ""
    quotes = '"""'
    return f"{'r' if chr(92) in text else ''}".join([indent, f"{quotes}{lines.lstrip()}{end}{quotes}"])
