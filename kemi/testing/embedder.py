# SPDX-License-Identifier: GPL-2.0-or-later
"""The two modules of Kamailio that run scripts in Python: what each calls at the start, what a route is called with."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Protocol

from kemi.testing.fake import FakeKSR
from kemi.testing.loading import ScriptError
from kemi.testing.msg import Msg


class Embedder(Protocol):
    """What runs the script."""

    def start(self, script: ModuleType, rank: int) -> Any:
        """Start the script in one process; return what has the routes. Raises ScriptError."""
        ...

    def arguments(self, ksr: FakeKSR) -> tuple[Any, ...]:
        """What each route is given first."""
        ...


class AppPython3:
    """app_python3: routes are methods of the object that mod_init() returns, and get the message."""

    def start(self, script: ModuleType, rank: int) -> Any:
        """Call mod_init, and child_init of what it returns."""
        mod_init = getattr(script, "mod_init", None)
        if not callable(mod_init):
            raise ScriptError("the script has no function mod_init(); one for app_python3s has ksr_request_route()")
        handler = mod_init()
        if handler is None:
            raise ScriptError("mod_init() has returned None; it must return the object with the routes")
        child_init = getattr(handler, "child_init", None)
        if not callable(child_init):
            raise ScriptError(f"{type(handler).__name__} has no method child_init(self, rank)")
        status = child_init(rank)
        if not isinstance(status, int):
            raise ScriptError(f"child_init() must return an int, not {status!r}")
        if status < 0:
            raise ScriptError(f"child_init() has returned {status}")
        return handler

    def arguments(self, ksr: FakeKSR) -> tuple[Any, ...]:
        """The message."""
        return (Msg(ksr),)


class AppPython3s:
    """app_python3s of Kamailio 6: routes are functions of the script, and get no message.

    What kamailio.cfg names in `script_init` and `script_child_init` is called at the start: here the functions of these
    names, where the script has them.
    """

    def start(self, script: ModuleType, rank: int) -> Any:
        """Call script_init() and script_child_init(rank)."""
        for name, arguments in (("script_init", ()), ("script_child_init", (rank,))):
            function = getattr(script, name, None)
            if callable(function):
                function(*arguments)
        return script

    def arguments(self, ksr: FakeKSR) -> tuple[Any, ...]:  # noqa: ARG002 the other one needs it
        """Nothing."""
        return ()


def of_script(script: ModuleType, release: str) -> Embedder:
    """The one that a script is written for. Raises ScriptError when that Kamailio does not have it."""
    mod_init = getattr(script, "mod_init", None)
    own = getattr(mod_init, "__module__", None) == script.__name__
    if own or not callable(getattr(script, "ksr_request_route", None)):
        return AppPython3()
    if release == "5.6":
        raise ScriptError(
            "the script has a function ksr_request_route() and no mod_init(): it is one for app_python3s, which "
            "Kamailio 5.6 does not have; say kamailio='6.0'"
        )
    return AppPython3s()
