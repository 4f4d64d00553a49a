# SPDX-License-Identifier: GPL-2.0-or-later
"""The fake KSR: what a script imports, and what a test asks and tells.

One source of truth for the signatures: kemi.testing.api. A function is covered (`functions`), or a test says what it
gives (`FakeKSR.stub`), or a call of it fails.
"""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

from kemi import app
from kemi.testing import api, assign, functions, pvars, release, results, router
from kemi.testing.calls import RefusedError, check
from kemi.testing.errors import NotCovered, SilentMistake
from kemi.testing.memory import Contact
from kemi.testing.message import Message
from kemi.testing.state import Line, Name, Relayed, Reply, State, Value
from kemi.testing.transaction import Transaction

__all__ = ["Call", "FakeKSR", "Line", "NotCovered", "Relayed", "Reply", "SilentMistake"]

CLIENT = ("127.0.0.1", 5062)
_numbers = itertools.count(1)

# Made by mqueue_kemi.mod_init, unless a test stubs one of its functions.
_LATER = frozenset({"mqueue"})


_installed: list[FakeKSR] = []


class Call(NamedTuple):
    """One call of a function of KSR."""

    path: str  # sl.send_reply
    arguments: tuple[Any, ...]
    result: Any


class FakeKSR:
    """A KSR without a server.

    modules: the modules that kamailio.cfg would load; without it, all of Kamailio's are there.
    kamailio: the release to be, 5.6 or 6.0; without it, pytest's option, the installed one, or the newest. Raises
    ValueError for one that is not known.
    """

    def __init__(self, modules: Iterable[str] | None = None, kamailio: str | None = None) -> None:
        self.release = release.choose(kamailio)
        self.api = api.of(self.release)
        self._functions = self.api.modules()
        self._loaded = None if modules is None else frozenset(modules)
        self._stubs: dict[str, Callable[..., Any]] = {}
        self.server_log: list[Line] = []  # what the server itself says of a call, not the script
        self._values: dict[str, Value] = {}  # of variables, as a test set them
        self.state = State()
        self.calls: list[Call] = []
        # None where kamailio.cfg has kemi.onsend_route_callback="none".
        self.onsend_route: str | None = "ksr_onsend_route"
        self.on_relay: Callable[[], None] = lambda: None  # what the runner does when a request goes on
        self.on_forward: Callable[[], None] = lambda: None  # the same without a transaction
        # What it does when a suspended transaction goes on in a route.
        self.on_continue: Callable[[Transaction, str], None] = lambda *_: None
        self.module = self._make()

    # --- what a test sees -------------------------------------------------------------------------------------------

    @property
    def log(self) -> list[Line]:
        """What was logged, oldest first."""
        return self.state.log

    @property
    def text(self) -> str:
        """The log as one text."""
        return "".join(line.text for line in self.state.log)

    @property
    def replies(self) -> list[Reply]:
        """Replies that were sent, oldest first."""
        return self.state.replies

    @property
    def relayed(self) -> list[Relayed]:
        """Requests that were sent on, oldest first."""
        return self.state.relayed

    def called(self, path: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of a function: ksr.called("sl.send_reply") == [(404, "Not Found")]."""
        self._named(path)
        return [call.arguments for call in self.calls if call.path == path]

    def get(self, name: str) -> Value:
        """The value of a variable: ksr.get("$var(a)")."""
        found, end = pvars.find(name)
        if end != len(name):
            raise ValueError(f"{name!r} is more than one variable")
        return self.value(found)

    # --- what a test says -------------------------------------------------------------------------------------------

    def receive(
        self, text: str, source: tuple[str, int] = CLIENT, received: tuple[str, int] | None = None, proto: str = "udp"
    ) -> None:
        """A message comes in: the whole of it or its first lines, what is missing is filled in. Raises ValueError."""
        self.state.receive(Message(text, source, received or self.state.listening, proto))

    def set(self, name: str, value: Value) -> None:
        """Set a variable. What a script cannot set keeps that value until the test ends: ksr.set("$si", "10.0.0.1")."""
        found, end = pvars.find(name) if "{" not in name else (Name(name, name), len(name))
        if end != len(name):
            raise ValueError(f"{name!r} is more than one variable")
        try:
            if assign.put(self.state, found, value):
                return
        except (NotCovered, SilentMistake):
            self._values[name] = value

    def register(self, user: str, contact: str, table: str = "location") -> None:
        """Let a user be registered there: ksr.register("bob", "sip:bob@10.0.0.9"), for registrar.lookup."""
        found = self.state.memory.contacts.setdefault(table, {}).setdefault(user.lower(), [])
        found.append(Contact(contact, -1.0, 3600, None, None, "", f"uloc-fake-{next(_numbers)}", ""))

    def stub(self, path: str, result: Any = None) -> None:
        """Say what a function gives: a value, or a callable that gets the arguments. Raises AttributeError, TypeError.

        ksr.stub("registrar.lookup", -1)
        ksr.stub("rtpengine.*")  # every function of the module says that it went well
        ksr.stub("htable.sht_*", None)
        """
        chosen = self._matching(path)
        if "*" in path and result is None:
            for function in chosen:
                self._put(function, results.success(function))
            return
        if not callable(result):
            fitting = [function for function in chosen if results.fits(function, result)]
            if not fitting:
                results.check(chosen[0], result)
            chosen = fitting
        for function in chosen:
            self._put(function, result)

    def _put(self, function: api.Function, result: Any) -> None:
        self._stubs[function.path] = result if callable(result) else lambda *_: result
        if function.module in _LATER and not hasattr(self.module, function.module):
            setattr(self.module, function.module, self._make_module(function.module))

    @contextlib.contextmanager
    def installed(self) -> Iterator[FakeKSR]:
        """As long as this lasts, `import KSR` gives the fake, and queues are private."""
        ours: dict[str, ModuleType] = {"KSR": self.module, **router.modules(self)}
        known = set(sys.modules)
        before = {name: sys.modules.pop(name, None) for name in ("KSR", *router.NAMES)}
        sys.modules.update(ours)
        _installed.append(self)
        try:
            with app.private(f"test-{os.getpid()}-ksr{next(_numbers)}"):
                yield self
        finally:
            _installed.remove(self)
            for name, module in before.items():
                sys.modules.pop(name, None)
                if module is not None:
                    sys.modules[name] = module
            _forget(set(sys.modules) - known)

    @staticmethod
    def current() -> FakeKSR | None:
        """The one that `import KSR` gives now."""
        return _installed[-1] if _installed else None

    # --- what functions use -----------------------------------------------------------------------------------------

    def value(self, name: Name) -> Value:
        """The value of a variable; what the test set comes first."""
        if name.text in self._values:
            return self._values[name.text]
        plain = f"${name.kind}" + (f"({name.inner})" if name.inner is not None else "")
        if name.transformations and plain in self._values:
            return pvars.transformed(self._values[plain], name, self.release)
        return pvars.get(self.state, name, self.release)

    def stubbed(self, path: str) -> bool:
        """Whether the test says what this function gives."""
        return path in self._stubs

    def known(self, name: str) -> bool:
        """Whether the test gave this variable a value of its own."""
        return name in self._values

    # --- the module -------------------------------------------------------------------------------------------------

    def _make(self) -> ModuleType:
        names = [name for name in self._functions if name and name not in _LATER]
        module = _Module("KSR", "")
        for name in names:
            part = self._make_module(name)
            if len(vars(part)) > len(vars(_Module("", ""))):
                setattr(module, name, part)
        vars(module).update(self._callables(""))
        module.x = _Module("KSR.x", "")  # type: ignore[attr-defined]
        module.x.modf = functions.modf
        return module

    def _make_module(self, name: str) -> ModuleType:
        module = _Module(f"KSR.{name}", "")
        vars(module).update(self._callables(name))
        return module

    def _callables(self, module: str) -> dict[str, Callable[..., Any]]:
        return {
            name: self._callable(function)
            for name, function in self._functions.get(module, {}).items()
            if self._loaded is None or not function.loaded_by or function.loaded_by in self._loaded
        }

    def _callable(self, function: api.Function) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if keywords:
                raise TypeError(f"{function.name}() takes no keyword arguments")
            try:
                given = check(function, arguments, self.release)
            except RefusedError as error:
                self.server_log.append(Line("err", f"{error}\n"))
                return False
            result = self._run(function, given)
            self.calls.append(Call(function.path, given, result))
            return result

        call.__name__ = call.__qualname__ = function.name
        call.__doc__ = function.doc
        return call

    def _run(self, function: api.Function, arguments: tuple[Any, ...]) -> Any:
        stub = self._stubs.get(function.path)
        if stub is not None:
            result = stub(*arguments)
            results.check(function, result)
            return result
        covered = functions.COVERED.get(function.path)
        if covered is None:
            raise NotCovered(
                f"KSR.{function.path} is not covered by the fake: "
                f'say what it gives with ksr.stub("{function.path}", {results.example(function)})'
            )
        return covered(self, *arguments)

    def _matching(self, path: str) -> list[api.Function]:
        """The functions of a name, or of a pattern like rtpengine.*; never none."""
        if "*" not in path:
            return [self._named(path)]
        module, _, pattern = path.rpartition(".")
        found = [each for name, each in self._functions.get(module, {}).items() if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            raise AttributeError(f"KEMI of Kamailio {self.api.version} has no function {path!r}{self._hint(path)}")
        return found

    def _named(self, path: str) -> api.Function:
        module, _, name = path.rpartition(".")
        found = self._functions.get(module, {}).get(name)
        if found is None:
            raise AttributeError(f"KEMI of Kamailio {self.api.version} has no function {path!r}{self._hint(path)}")
        return found

    def _hint(self, path: str) -> str:
        others = {each.path: each.releases for each in api.load().functions}
        if path in others:
            return f"; {' and '.join(others[path])} has it: FakeKSR(kamailio={others[path][-1]!r})"
        near = difflib.get_close_matches(path, [each.path for each in self.api.functions], 1)
        return f"; did you mean {near[0]}?" if near else ""


class _Module(ModuleType):
    """KSR and its parts: what is not there fails as in the server, with a hint."""

    def __getattr__(self, name: str) -> Any:
        known = [each for each in vars(self) if not each.startswith("__")]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        if name in _LATER:
            hint = f"; it comes with mqueue_kemi.mod_init(), or with ksr.stub('{name}. ...')"
        else:
            hint = _elsewhere(self.__name__, name) or hint
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'{hint}")


def _elsewhere(module: str, name: str) -> str:
    """Where a name is that is not here: in another release, or in a module that is not loaded."""
    inner = module.partition(".")[2]
    others = [
        each for each in api.load().functions if each.module == (inner or name) and name in (each.name, each.module)
    ]
    fake = FakeKSR.current()
    releases = {release for each in others for release in each.releases}
    if not others:
        return ""
    if fake is not None and fake.release not in releases:
        return f"; only Kamailio {' and '.join(sorted(releases, key=api.key_of))} has it"
    return "; the module is not among those that the test loads"


def _forget(names: set[str]) -> None:
    """Modules that hold a KSR which is gone: the next test imports them anew."""
    for name in names:
        if any(isinstance(value, _Module) for value in list(vars(sys.modules[name]).values())):
            del sys.modules[name]
