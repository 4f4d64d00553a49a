# SPDX-License-Identifier: GPL-2.0-or-later
"""The values of expressions in a script that can be known without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Union

Value = Union[str, bytes, int, float, None]


class Unknown(Exception):
    """Only a run of the script would tell."""


class Literals:
    """The constants of a module: names that are given a value once, where the module begins to run."""

    def __init__(self, tree: ast.Module) -> None:
        self._assigned: dict[str, list[ast.expr]] = {}
        for node in ast.walk(tree):
            for target in _targets(node):
                self._assigned.setdefault(target.id, []).append(getattr(node, "value", None) or target)
        self._now: dict[str, Value] = {}  # of a loop that is gone through
        self._at_top = {target.id for node in tree.body for target in _targets(node)}

    def value(self, node: ast.expr) -> Value:
        """The value. Raises Unknown."""
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes, int, float, type(None))):
            return node.value
        if isinstance(node, ast.JoinedStr):
            return "".join(str(self._part(part)) for part in node.values)
        if isinstance(node, ast.Name):
            return self._named(node.id)
        if isinstance(node, ast.Call):
            return self._default_of(node)
        return self._computed(node)

    def _computed(self, node: ast.expr) -> Value:
        """A sum of texts, a negative number."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = self.value(node.left), self.value(node.right)
            if isinstance(left, str) and isinstance(right, str):
                return left + right
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = self.value(node.operand)
            if isinstance(number, (int, float)):
                return -number
        raise Unknown

    def _part(self, node: ast.expr) -> Value:
        if isinstance(node, ast.FormattedValue):
            if node.format_spec is not None or node.conversion != -1:
                raise Unknown
            return self.value(node.value)
        return self.value(node)

    def turns(self, loop: ast.For) -> Iterator[None]:
        """Go through a loop over values that stand there; its name has each of them in turn. Raises Unknown."""
        if not isinstance(loop.target, ast.Name) or not isinstance(loop.iter, (ast.Tuple, ast.List, ast.Set)):
            raise Unknown
        for value in [self.value(element) for element in loop.iter.elts]:
            self._now[loop.target.id] = value
            try:
                yield
            finally:
                del self._now[loop.target.id]

    def _named(self, name: str) -> Value:
        if name in self._now:
            return self._now[name]
        assigned = self._assigned.get(name, [])
        if len(assigned) != 1 or name not in self._at_top or isinstance(assigned[0], ast.Name):
            raise Unknown
        return self.value(assigned[0])

    def _default_of(self, node: ast.Call) -> Value:
        """The default in os.environ.get(NAME, DEFAULT): what is there in a usual environment."""
        name = ast.unparse(node.func)
        if name in ("os.environ.get", "os.getenv", "environ.get", "getenv") and len(node.args) == 2:  # noqa: PLR2004
            return self.value(node.args[1])
        raise Unknown


def _targets(node: ast.AST) -> list[ast.Name]:
    """The plain names that a statement gives a value."""
    if isinstance(node, ast.Assign):
        targets: list[ast.expr] = node.targets
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.For, ast.NamedExpr)):
        targets = [node.target]
    elif isinstance(node, ast.arg):
        return [ast.Name(node.arg)]
    else:
        return []
    return [target for target in targets if isinstance(target, ast.Name)]
