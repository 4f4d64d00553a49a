"""Mutants of the queue's own code: would a test notice if this line were another one?

A mutant is one change of one module: another comparison, operator or constant, a condition turned round, a store left
out, two stores in the other order. `chosen` takes some of them, by a fixed seed. As a program:

    python -m tests.stress.mutation MODULE COUNT [SEED]    run as many mutants of a module, and say which survive

As a plugin (`pytest -p tests.stress.mutation`, with MUTANT=MODULE:NUMBER) it puts a mutant in the module's place.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[2]
VARIABLE = "MUTANT"
TIMEOUT = 240  # seconds for the tests of one mutant; one that hangs is noticed, too
SEED = 20261129

_COMPARISONS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_UNIT = "tests/unit/"
# By room, the fast ones first: with the first test that fails the mutant is found.
TESTS = {
    "store": ["test_store_chunks", "test_inflight", "test_keyindex", "test_journal", "test_plain_log"],
    "log": ["test_plain_log", "test_log_model", "test_compaction", "test_verify"],
    "format": ["test_format5", "test_item", "test_outcome", "test_keyhash", "test_question", "test_verify"],
    "delivery": ["test_settling", "test_later", "test_batch"],
}
MORE = {
    "store": ["test_log_model", "test_verify", "test_keyed_log"],
    "log": ["test_keyed_log", "test_later", "test_reserve", "test_queue"],
    "format": ["test_queue", "test_asked", "test_plain_log"],
    "delivery": ["test_reserve", "test_holders", "test_forgotten", "test_queue", "test_worker", "test_asked"],
}


class Mutant(NamedTuple):
    """One change of a module: `key` says where and what, whatever is changed elsewhere."""

    module: str
    number: int
    key: str


Site = tuple[str, Callable[[], None]]


def _sites(tree: ast.Module) -> Iterator[Site]:
    """What can be changed in a module's functions, and how to do it."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                for body in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
                    if isinstance(body, list):
                        yield from _in_body(function.name, body)


def _in_body(where: str, body: list[Any]) -> Iterator[Site]:
    for place, statement in enumerate(body):
        if isinstance(statement, (ast.FunctionDef, ast.Raise, ast.ClassDef)) or _is_text(statement):
            continue
        if _is_store(statement):
            yield f"{where}: without {ast.unparse(statement)}", _set(body, place, ast.Pass())
            if place + 1 < len(body) and _is_store(body[place + 1]):
                swapped = f"{where}: {ast.unparse(body[place + 1])} before {ast.unparse(statement)}"
                yield swapped, _swap(body, place)
        for part in _own_parts(statement):
            yield from _in_expression(where, part)


def _own_parts(statement: ast.stmt) -> Iterator[ast.AST]:
    """The expressions of a statement, without those of the statements in it."""
    todo: list[ast.AST] = [part for part in ast.iter_child_nodes(statement) if isinstance(part, ast.expr)]
    while todo:
        part = todo.pop(0)
        if isinstance(part, (ast.JoinedStr, ast.Lambda)):
            continue
        yield part
        todo += ast.iter_child_nodes(part)


def _in_expression(where: str, node: ast.AST) -> Iterator[Site]:
    before = ast.unparse(node) if isinstance(node, ast.expr) else ""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
        other = _COMPARISONS[type(node.ops[0])]
        yield f"{where}: {before} with {other.__name__}", _set(node.ops, 0, other())
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _OPERATORS:
        other = _OPERATORS[type(node.op)]
        yield f"{where}: {before} with {other.__name__}", lambda: setattr(node, "op", other())
    elif isinstance(node, ast.BoolOp):
        turned = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield f"{where}: {before} with {type(turned).__name__}", lambda: setattr(node, "op", turned)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"{where}: {before} twice", lambda: setattr(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield f"{where}: {before} + 1 (column {node.col_offset})", _more(node, node.value)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_store(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript)


def _set(of: list[Any], place: int, value: object) -> Callable[[], None]:
    return lambda: of.__setitem__(place, value)


def _more(constant: ast.Constant, value: int) -> Callable[[], None]:
    return lambda: setattr(constant, "value", value + 1)


def _swap(body: list[Any], place: int) -> Callable[[], None]:
    def swap() -> None:
        body[place], body[place + 1] = body[place + 1], body[place]

    return swap


def path_of(module: str) -> Path:
    """Return where a module lies."""
    return CHECKOUT / (module.replace(".", "/") + ".py")


def mutants(module: str) -> list[Mutant]:
    """Return all mutants of a module."""
    tree = ast.parse(path_of(module).read_text("utf-8"))
    return [Mutant(module, number, key) for number, (key, _) in enumerate(_sites(tree))]


def chosen(module: str, count: int, seed: int = SEED) -> list[Mutant]:
    """Return some mutants of a module, always the same."""
    there = mutants(module)
    chance = random.Random(f"{seed} {module}")  # noqa: S311
    return sorted(chance.sample(there, min(count, len(there))), key=lambda mutant: mutant.number)


def mutated(module: str, number: int) -> ast.Module:
    """Return the tree of a mutant."""
    tree = ast.parse(path_of(module).read_text("utf-8"))
    for place, (_, change) in enumerate(_sites(tree)):
        if place == number:
            change()
            return ast.fix_missing_locations(tree)
    raise ValueError(f"{module} has no mutant {number}")


class _Loader(importlib.machinery.SourceFileLoader):
    number = 0

    def get_code(self, fullname: str) -> Any:
        return compile(mutated(fullname, self.number), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the module that has a mutant in its place."""

    def __init__(self, module: str, number: int) -> None:
        self._module = module
        self._number = number

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if name != self._module:
            return None
        loader = _Loader(name, str(path_of(name)))
        loader.number = self._number
        return importlib.machinery.ModuleSpec(name, loader, origin=str(path_of(name)))


if VARIABLE in os.environ:
    _module, _, _number = os.environ[VARIABLE].partition(":")
    sys.meta_path.insert(0, _Finder(_module, int(_number)))


def survives(mutant: Mutant) -> bool:
    """Run the tests of a mutant's room; return True if none of them fails."""
    room = mutant.module.split(".")[2]
    environment = {**os.environ, VARIABLE: f"{mutant.module}:{mutant.number}", "MQUEUE_KEMI_KERNEL": "pure"}
    for names in (TESTS[room], MORE[room]):
        files = [f"{_UNIT}{name}.py" for name in names]
        command = [sys.executable, "-m", "pytest", "-qx", "-p", "tests.stress.mutation", "-p", "no:cacheprovider"]
        try:
            done = subprocess.run(
                [*command, "--timeout=60", *files],
                cwd=CHECKOUT,
                env=environment,
                check=False,
                capture_output=True,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            return False
        if done.returncode:
            return False
    return True


def main(module: str, count: str, seed: str = str(SEED)) -> None:
    """Run some mutants."""
    left = 0
    for mutant in chosen(module, int(count), int(seed)):
        alive = survives(mutant)
        left += alive
        sys.stdout.write(f"{'survives' if alive else 'found   '} {mutant.number} {mutant.key}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{left} survive\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
