# SPDX-License-Identifier: GPL-2.0-or-later
"""A routing script, read as text and never run: its queues, what it does with them, and the methods that it has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from kemi.check.literals import Literals, Unknown
from kemi.check.problems import Place, Problems
from kemi.errors import ConfigError
from kemi.readfile import read_file
from kemi.spec import QueueSpec, Settings

_MODULE = "mqueue_kemi"
# How many arguments each function takes, and what the first one is.
_FUNCTIONS = {
    "mq_add": (3, 3),
    "mq_fetch": (1, 2),
    **dict.fromkeys(("mq_pv_free", "mq_size"), (1, 1)),
    **{f"mq{part}_{get}": (1, 1) for part in "kv" for get in ("get", "gete", "getw")},
}
_KEYWORDS = {"mq_fetch": {"queue", "timeout"}, "mq_add": {"queue", "key", "value"}}
_LONGEST_ASK = 3600  # seconds
_VARIABLE = re.compile(r"\$\(?mq(?:[kv]|_size)\(([^$(){}]+)\)")
_SENDS = re.compile(r"relay|forward|uac|t_load_contacts")
_NAMES_A_ROUTE = re.compile(r"KSR\.\w+\.t_on_\w+")


class Use(NamedTuple):
    """A queue or a method that the script names."""

    name: str
    place: Place
    by: str


class Methods(NamedTuple):
    """The handler's class: its methods, each with the numbers of arguments that it takes beside self."""

    found: dict[str, tuple[int, float]]
    is_whole: bool  # else there may be more, that only a run would show


class Script:
    """One script. What is wrong in itself is noted in `problems`."""

    def __init__(self, path: str, problems: Problems) -> None:
        self.path = path
        self.settings = Settings()
        self.knows_all_queues = True
        self.uses: list[Use] = []
        self.routes: list[Use] = []
        self._problems = problems
        self._aliases = {_MODULE: {_MODULE}, "KSR": {"KSR"}}
        self._direct: dict[str, str] = {}
        self._conditional: set[int] = set()
        self._loops: dict[int, ast.For] = {}  # by what stands in them
        self.asks: Place | None = None  # where it calls `ask`
        self._ignored: set[int] = set()  # calls whose result nobody looks at
        self.sends = False  # does it send requests on, so that there are replies?
        self._calls_mod_init = False
        self.tree = self._parsed()
        if self.tree is not None:
            self._literals = Literals(self.tree)
            self._read(self.tree)

    def _parsed(self) -> ast.Module | None:
        try:
            return ast.parse(read_file(self.path), self.path)
        except OSError as error:
            self._problems.error(Place(self.path, 1), f"cannot be read: {error.strerror}")
        except SyntaxError as error:
            self._problems.error(Place(self.path, error.lineno or 1), f"no Python: {error.msg}")
        except (ValueError, RecursionError, MemoryError) as error:
            self._problems.error(Place(self.path, 1), f"no Python: {error}")
        return None

    def _read(self, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            self._note(node)
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
            self._call(call)
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                self.uses += [Use(name, self._at(node), found) for found, name in _variables(node.value)]
        try:
            if self.knows_all_queues:
                self.settings.check()
        except ConfigError as error:
            self._problems.error(Place(self.path, 1), str(error))

    def _note(self, node: ast.AST) -> None:
        """Names that are imported; what is run under a condition, or again and again."""
        self._import(node)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self._ignored.add(id(node.value))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self._ignored.update(_forgotten(node))
        self.sends |= isinstance(node, ast.Attribute) and bool(_SENDS.search(node.attr))
        if isinstance(node, (ast.If, ast.Try, ast.FunctionDef, ast.AsyncFunctionDef, ast.For, ast.While)):
            self._conditional.update(id(inner) for inner in ast.walk(node))
        if isinstance(node, ast.For):
            self._loops.update({id(inner): node for inner in ast.walk(node)})

    def _at(self, node: ast.expr | ast.stmt) -> Place:
        return Place(self.path, node.lineno)

    def _import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in self._aliases and alias.asname:
                    self._aliases[alias.name].add(alias.asname)
        elif isinstance(node, ast.ImportFrom) and node.module == _MODULE:
            names = [alias for alias in node.names if alias.name != "*"]
            self._direct.update({alias.asname or alias.name: alias.name for alias in names})
            if len(names) < len(node.names):
                self._direct.update({name: name for name in ("modparam", "mod_init", "ask", *_FUNCTIONS)})

    # --- calls

    def _called(self, node: ast.expr) -> str:
        """The function of ours that is called; "" for any other."""
        if isinstance(node, ast.Name):
            return self._direct.get(node.id, "")
        if not isinstance(node, ast.Attribute):
            return ""
        whole = ast.unparse(node.value)
        package = whole.removesuffix(".mqueue")
        ours = whole in self._aliases[_MODULE] or (package != whole and package in self._aliases["KSR"])
        return node.attr if ours else ""

    def _call(self, call: ast.Call) -> None:
        name = self._called(call.func)
        if name == "modparam":
            self._modparam(call)
        elif name == "mod_init":
            self._calls_mod_init = True
        elif name in _FUNCTIONS:
            self._function(call, name)
        elif name == "ask":
            self._ask(call)
        elif _NAMES_A_ROUTE.fullmatch(ast.unparse(call.func)) and call.args:
            route = self._text(call.args[0])
            if route:
                self.routes.append(Use(route, self._at(call), ast.unparse(call.func)))

    def _modparam(self, call: ast.Call) -> None:
        if len(call.args) != 3 or call.keywords:  # noqa: PLR2004 - module, name, value
            self.knows_all_queues = False
            self._problems.error(self._at(call), "modparam takes three arguments: module, name and value")
            return
        loop = self._loops.get(id(call))
        try:
            if loop is None:
                self._set(call)
            else:
                for _ in self._literals.turns(loop):
                    self._set(call)
        except Unknown:
            self.knows_all_queues = False
            self._problems.warning(self._at(call), f"only a run would show what this sets: {_short(call)}")

    def _set(self, call: ast.Call) -> None:
        """Set a parameter. Raises Unknown."""
        module, name, value = (self._literals.value(argument) for argument in call.args)
        before = dict(self.settings.queues)
        try:
            self.settings.set(module, name, value)  # type: ignore[arg-type]
        except ConfigError as error:
            again = "mqueue redefined" in str(error) and id(call) in self._conditional
            if "on this host" in str(error):
                self._problems.warning(self._at(call), str(error))
            elif not again:
                self._problems.error(self._at(call), str(error))
        self._know(before, value)

    def _know(self, before: dict[str, QueueSpec], value: object) -> None:
        """A queue whose definition is wrong is defined all the same: one problem is enough."""
        if self.settings.queues == before and isinstance(value, str):
            for name in re.findall(r"(?i)(?:^|;)\s*name\s*=\s*([^;]+)", value):
                self.settings.queues.setdefault(name.strip().strip("\"'"), QueueSpec(name.strip()))

    def _function(self, call: ast.Call, name: str) -> None:
        if any(isinstance(argument, ast.Starred) for argument in call.args) or any(
            k.arg is None for k in call.keywords
        ):
            return
        least, most = _FUNCTIONS[name]
        count = len(call.args) + len(call.keywords)
        known = _KEYWORDS.get(name, {"queue"})
        if not least <= count <= most or any(keyword.arg not in known for keyword in call.keywords):
            takes = str(least) if least == most else f"{least} or {most}"
            self._problems.error(self._at(call), f"{_short(call)}: {name} takes {takes} arguments")
        if call.args and (queue := self._text(call.args[0])) is not None:
            self.uses.append(Use(queue, self._at(call), name))

    def _ask(self, call: ast.Call) -> None:
        """A question: its queue, its route, and whether the script looks at what came of it."""
        self.asks = self.asks or self._at(call)
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if id(call) in self._ignored:
            self._problems.warning(
                self._at(call), f"{_short(call)}: what ask() returns is not looked at; when it is false, nobody replies"
            )
        if None in given or any(isinstance(argument, ast.Starred) for argument in call.args):
            return
        if missing := [name for name in ("then", "timeout") if name not in given]:
            self._problems.error(self._at(call), f"{_short(call)}: ask needs {' and '.join(missing)}=")
        if call.args and (queue := self._text(call.args[0])) is not None:
            self.uses.append(Use(queue, self._at(call), "ask"))
        if "then" in given and (route := self._text(given["then"])):
            self.routes.append(Use(route, self._at(call), "ask(then=...)"))
        if "timeout" in given:
            self._timeout(given["timeout"])

    def _timeout(self, node: ast.expr) -> None:
        try:
            value = self._literals.value(node)
        except Unknown:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _LONGEST_ASK:
            self._problems.error(
                self._at(node), f"timeout={ast.unparse(node)}: write seconds, more than 0 and at most {_LONGEST_ASK}"
            )

    def _text(self, node: ast.expr) -> str | None:
        try:
            value = self._literals.value(node)
        except Unknown:
            return None
        if not isinstance(value, str):
            self._problems.error(self._at(node), f"{ast.unparse(node)} should be a text")
            return None
        return value

    # --- the handler

    def is_of_functions(self) -> bool:
        """Is it a script for app_python3s, whose functions are called, and not methods of an object?"""
        return self._calls_mod_init and self.tree is not None and not _is_bound(self.tree, "mod_init")

    def functions(self) -> Methods:
        """The functions of the script, each with the numbers of arguments that it takes."""
        nodes = self.tree.body if self.tree else []
        found = {node.name: _takes(node, 0) for node in nodes if isinstance(node, ast.FunctionDef)}
        others = [alias for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
        found.update({alias.asname or alias.name: (0, float("inf")) for alias in others if alias.name not in found})
        return Methods(found, is_whole=not any(alias.name == "*" for alias in others))

    def methods(self, mod_init: str) -> Methods | None:
        """The methods of what `mod_init` returns; None, and a problem, when there is no such function."""
        if self.tree is None:
            return None
        functions = {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)}
        if mod_init not in functions:
            if not _is_bound(self.tree, mod_init):
                self._problems.error(
                    Place(self.path, 1), f"there is no function {mod_init}, which Kamailio calls first"
                )
                return None
            return Methods({}, is_whole=False)
        if not self._calls_mod_init and (self.settings.queues or self.uses):
            self._problems.error(
                self._at(functions[mod_init]),
                f"{mod_init} never calls mqueue_kemi.mod_init: end it with `return mqueue_kemi.mod_init(Script())`",
            )
        return self._methods_of(self._handler_class(functions[mod_init]), set())

    def _handler_class(self, function: ast.FunctionDef) -> str:
        """The name of the class of which mod_init makes an object; "" if it cannot be seen."""
        classes = {node.name for node in ast.walk(self.tree or function) if isinstance(node, ast.ClassDef)}
        found = {
            node.func.id
            for node in ast.walk(function)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes
        }
        return found.pop() if len(found) == 1 else ""

    def _methods_of(self, name: str, seen: set[str]) -> Methods:
        classes = {n.name: n for n in ast.walk(self.tree) if isinstance(n, ast.ClassDef)} if self.tree else {}
        if name not in classes or name in seen:
            return Methods({}, is_whole=False)
        seen.add(name)
        node = classes[name]
        is_whole = not node.decorator_list and not node.keywords
        found: dict[str, tuple[int, float]] = {}
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id == "object":
                continue
            inherited = self._methods_of(base.id if isinstance(base, ast.Name) else "", seen)
            found.update(inherited.found)
            is_whole &= inherited.is_whole
        for inner in node.body:
            if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found[inner.name] = _takes(inner)
            else:
                found.update({target.id: (0, float("inf")) for target in _assigned(inner)})
        found.update(
            {
                inner.attr: (0, float("inf"))
                for inner in ast.walk(node)
                if isinstance(inner, ast.Attribute) and _is_own(inner)
            }
        )
        is_whole &= "__getattr__" not in found and "__getattribute__" not in found
        is_whole &= not any(map(_sets_attributes, ast.walk(node)))
        return Methods(found, is_whole)


def _forgotten(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[int]:
    """Calls whose result gets a name that the function never reads."""
    nodes = list(ast.walk(function))
    read = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store)}
    read.update(name for node in nodes if isinstance(node, (ast.Global, ast.Nonlocal)) for name in node.names)
    for node in nodes:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Call):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if all(isinstance(target, ast.Name) and target.id not in read for target in targets):
                yield id(node.value)


def _takes(function: ast.FunctionDef | ast.AsyncFunctionDef, bound: int = 1) -> tuple[int, float]:
    """The least and the most arguments. bound: of which so many are given already."""
    arguments = function.args
    count = len(arguments.posonlyargs) + len(arguments.args)
    if function.decorator_list:
        return 0, float("inf")
    return max(0, count - len(arguments.defaults) - bound), float("inf") if arguments.vararg else count - bound


def _assigned(node: ast.stmt) -> list[ast.Name]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target for target in targets if isinstance(target, ast.Name)]


def _is_own(node: ast.Attribute) -> bool:
    """Is this the place where self.NAME gets a value?"""
    return isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _sets_attributes(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "vars")


def _is_bound(tree: ast.Module, name: str) -> bool:
    """Is the name given to something else than a function: by an assignment, an import, within an if?"""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
            return True
        if isinstance(node, ast.alias) and name in (node.asname, node.name, "*"):
            return True
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return True
    return any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree))


def _variables(text: str) -> Iterator[tuple[str, str]]:
    for match in _VARIABLE.finditer(text):
        yield match[0], match[1]


def _short(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) < 100 else f"{text[:97]}..."  # noqa: PLR2004 - about a line
