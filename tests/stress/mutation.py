"""Mutants of the queue's own code: would a test notice if this line were another one?

A mutant is one change of one module: another comparison, operator or constant, a condition turned round, a store left
out, two stores in the other order. `chosen` takes some of them, by a fixed seed; a change of the code elsewhere in the
module takes no others. As a program:

    python -m tests.stress.mutation COUNT MODULE...    run as many mutants of each module, and say which survive
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.abc
import importlib.machinery
import multiprocessing
import os
import select
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import hypothesis.stateful
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[2]
_FORK = multiprocessing.get_context("fork")
_LOADED = hypothesis.stateful  # before the children begin
TIMEOUT = 1200  # seconds for the tests of one mutant; one that hangs is noticed, too
SEED = 20261129
_SOUND: set[str] = set()  # files of tests that pass without a mutant

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
_NO_SITES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Raise)  # what is in them is met elsewhere, or not
_UNIT = "tests/unit/"
ROOT = "queue"  # the room of the modules that lie in kemi/queue itself
# By room, the fast ones first: with the first test that fails the mutant is found. Before them all comes the file that
# has the module's name.
TESTS = {
    "store": ["test_chunks", "test_inflight", "test_keyindex", "test_journal", "test_plain"],
    "log": ["test_core", "test_log_model", "test_verify_segment", "test_compaction", "test_plain"],
    "verify": ["test_verify_segment", "test_verify_keyed", "test_log_model"],
    "format": [
        "test_layout",
        "test_geometry",
        "test_item",
        "test_outcome",
        "test_keyhash",
        "test_question",
        "test_verify_segment",
    ],
    "delivery": ["test_reserved", "test_hold", "test_later", "test_batch"],
    "sync": ["test_eventcount", "test_futex", "test_lifelock", "test_openfile", "test_holders"],
    "lock": ["test_mutex", "test_lost", "test_section", "test_interrupted"],
    "shm": ["test_segment", "test_mapping", "test_rooms", "test_limits", "test_registry", "test_owner", "test_bounds"],
    "catalog": ["test_header", "test_registry", "test_owner", "test_left"],
    "client": ["test_attached", "test_current", "test_address", "test_client", "test_engine_url"],
    ROOT: ["test_queue", "test_life", "test_reserved", "test_later", "test_batch", "test_reserve"],
}
MORE = {
    "store": ["test_log_model", "test_verify_segment", "test_verify_keyed", "test_keyed", "test_keyed_head"],
    "log": [
        "test_keyed",
        "test_keyed_head",
        "test_contents",
        "test_verify_keyed",
        "test_later",
        "test_reserve",
        "test_queue",
        "test_life",
    ],
    "verify": ["test_wild_stores", "test_compaction", "test_plain", "test_keyed"],
    "format": ["test_verify_segment", "test_queue", "test_life", "test_asked", "test_plain"],
    "delivery": [
        "test_reserve",
        "test_holders",
        "test_claims",
        "test_reservation",
        "test_queue",
        "test_endless",
        "test_worker",
        "test_asked",
    ],
    "sync": ["test_reserve", "test_owner", "test_other_namespace", "test_reservation", "test_queue"],
    "lock": ["test_queue", "test_life", "test_private", "test_plain"],
    "shm": [
        "test_attached",
        "test_current",
        "test_header",
        "test_private",
        "test_left",
        "test_memory_queue",
        "test_queue",
        "test_life",
    ],
    "catalog": [
        "test_attached",
        "test_current",
        "test_verify_segment",
        "test_refused",
        "test_queue",
        "test_life",
        "test_store",
        "test_transactions",
    ],
    "client": ["test_endless", "test_aattach", "test_memory_queue", "test_programs", "test_asked", "test_private"],
    ROOT: [
        "test_attached",
        "test_current",
        "test_reservation",
        "test_private",
        "test_queue_model",
        "test_reserve_model",
        "test_asked",
        "test_bounds",
    ],
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
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                for body in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
                    if isinstance(body, list):
                        yield from _in_body(function.name, body)


def _in_body(where: str, body: list[Any]) -> Iterator[Site]:
    for place, statement in enumerate(body):
        if isinstance(statement, _NO_SITES) or _is_text(statement):
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
    annotation = statement.annotation if isinstance(statement, ast.AnnAssign) else None  # never evaluated
    todo: list[ast.AST] = [
        part for part in ast.iter_child_nodes(statement) if isinstance(part, ast.expr) and part is not annotation
    ]
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
    """Return all mutants of a module, each with a key of its own."""
    tree = ast.parse(path_of(module).read_text("utf-8"))
    alike: Counter[str] = Counter()
    found = []
    for number, (key, _) in enumerate(_sites(tree)):
        alike[key] += 1
        found.append(Mutant(module, number, key if alike[key] == 1 else f"{key}, number {alike[key]}"))
    return found


def chosen(module: str, count: int, seed: int = SEED) -> list[Mutant]:
    """Return some mutants of a module, always the same; a larger count takes others besides."""

    def lot(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed} {module} {mutant.key}".encode()).digest()

    return sorted(sorted(mutants(module), key=lot)[:count], key=lambda mutant: mutant.number)


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


def room_of(module: str) -> str:
    """Return the room of a module."""
    return ".".join(module.split(".")[2:-1]) or ROOT


def files_for(module: str) -> list[list[str]]:
    """Return the files of tests for a module, in two rounds."""
    room = room_of(module).partition(".")[0]
    name = module.rpartition(".")[2]
    own = [each for each in (f"test_{room}_{name}", f"test_{name}") if (CHECKOUT / _UNIT / f"{each}.py").exists()]
    names = list(dict.fromkeys([*own[:1], *TESTS[room]]))
    return [[f"{_UNIT}{name}.py" for name in those] for those in (names, MORE[room])]


def _test(mutant: Mutant | None, rounds: list[list[str]]) -> None:
    """Run the tests of a mutant in this process, a child, and end it: 0 if none of them fails."""
    os.setsid()  # so that what a test starts can be ended with it
    os.chdir(CHECKOUT)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.environ["MQUEUE_KEMI_KERNEL"] = "pure"
    if mutant:
        sys.meta_path.insert(0, _Finder(mutant.module, mutant.number))
    code = 0
    for files in rounds:
        # What was loaded before cannot be rewritten: none of it is ours.
        code = code or pytest.main(
            [
                "-qx",
                "-W",
                "ignore::pytest.PytestAssertRewriteWarning",
                "-p",
                "no:cacheprovider",
                "--timeout=200",
                *files,
            ]
        )
    os._exit(int(code))


def _pass(mutant: Mutant | None, rounds: list[list[str]]) -> bool:
    """Return True if all tests pass.

    In a child of this process, which has loaded what takes long to load, and nothing of the queue.
    """
    assert "kemi.queue" not in sys.modules
    child = _FORK.Process(target=_test, args=[mutant, rounds])
    child.start()
    # Not by `join`, which also waits for whoever was forked from it and is left.
    select.select([ended := os.pidfd_open(child.ident or 0)], [], [], TIMEOUT)
    os.close(ended)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.ident or 0, signal.SIGKILL)
    child.join()
    return child.exitcode == 0


def survives(mutant: Mutant) -> bool:
    """Return True if no test notices a mutant. Raises AssertionError when the tests fail without it, too."""
    rounds = files_for(mutant.module)
    unknown = [file for files in rounds for file in files if file not in _SOUND]
    if unknown:
        assert _pass(None, [unknown]), f"these tests fail without a mutant: {unknown}"
        _SOUND.update(unknown)
    return _pass(mutant, rounds)


def main(count: str, *modules: str) -> None:
    """Run some mutants of each module."""
    left = 0
    for module in modules:
        for mutant in chosen(module, int(count)):
            alive = survives(mutant)
            left += alive
            sys.stdout.write(f"{'survives' if alive else 'found   '} {module} | {mutant.key}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{left} survive\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
