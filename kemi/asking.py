# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts `kemi.answers` into the server around it: made once at the start, found by every process forked from there.

The state is here, as in `kemi.app`, in a module that Kamailio does not execute again at a reload.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from kemi.answers.asking import Request
from kemi.answers.process import Log
from kemi.answers.results import NOTHING, Answer, AskResult
from kemi.answers.service import SERVE, Service
from kemi.errors import MqueueError
from kemi.instance import Instance, queues
from kemi.server import core, log, native, timers
from kemi.server.continuation import NativeRoutes
from kemi.server.transactions import Transactions, kemi_continue
from kemi.spec import Settings

NATIVE_ROUTE = "MQ_ANSWERS"
_PUBLIC = "mqueue_kemi"  # where scripts have `ask` from
_LOAD = 'loadmodule "rtimer.so"'
_TIMER = 'modparam("rtimer", "timer", "name=answers;interval=1000u;mode=1;")'
_EXEC = 'modparam("rtimer", "exec", "timer=answers;route={}")'


class _State:
    service: Service | None = None
    routes: NativeRoutes | None = None


_state = _State()


def start(instance: Instance, settings: Settings, why_no_queue: Callable[[str], str], *, alone: bool) -> None:
    """Be ready to ask, in this process and those forked from it. alone: see `Service`."""
    _state.service = Service(
        instance,
        queues,
        settings.max_asked,
        Transactions(_has_route, _go_on),
        Log(log.error, log.warning),
        why_no_queue=why_no_queue,
        why_no_answers=_why_no_answers,
        alone=alone,
    )


def attach(handler: Any) -> Any:
    """Let a script's handler have what rtimer and tm call. Returns it."""
    if _state.service is None:
        return handler
    is_first = _state.service.handler is None
    try:
        _state.service.attach_to(handler, in_named_route=isinstance(handler, native.Handler))
    except AttributeError as error:
        if _asks(handler):
            log.error(f"ask() is not available: {type(handler).__name__} takes no attribute {SERVE}: {error}")
        return handler
    if is_first and core.inside_kamailio():
        _check(handler)
    return handler


def end() -> Service | None:
    """Ask no more. Returns what `bring_back` takes."""
    present, _state.service = _state.service, None
    return present


def bring_back(service: Service | None) -> None:
    """Undo `end`."""
    _state.service = service


def service() -> Service | None:
    """Return what this process asks and answers; None before mod_init."""
    return _state.service


# --- what a script calls ----------------------------------------------------------------------------------------------


def ask(request: Request) -> AskResult:
    """Ask; never raises."""
    if _state.service is None:
        log.error(f"ask({request.queue!r}): mod_init of mqueue_kemi was not called, or the server ends")
        return AskResult.FAILED
    return _state.service.ask(request)


def answer() -> Answer:
    """Return what the route that runs now runs for."""
    return NOTHING if _state.service is None else _state.service.answer()


def serve() -> int:
    """Be an answers process for a while."""
    return -1 if _state.service is None else _state.service.serve()


def begin_route() -> Answer:
    """`answer`, at the beginning of a native route."""
    return NOTHING if _state.service is None else _state.service.begin_route()


# --- the server around ------------------------------------------------------------------------------------------------


def _is_native() -> bool:
    return _state.service is not None and isinstance(_state.service.handler, native.Handler)


def _native_routes() -> NativeRoutes:
    if _state.routes is None:
        _state.routes = NativeRoutes()
    return _state.routes


def _has_route(name: str) -> bool:
    if not _is_native():
        return _state.service is not None and callable(getattr(_state.service.handler, name, None))
    try:
        return _native_routes().find(name) is not None
    except core.Unavailable as missing:
        log.error(f"ask: {missing}; without it no transaction goes on in a native kamailio.cfg")
        return False


def _go_on(index: int, label: int, then: str) -> int:
    if _is_native():
        return _native_routes().go_on(index, label, then)
    return kemi_continue(index, label, then)


def _route() -> str:
    return NATIVE_ROUTE if _is_native() else SERVE


def _lines(present: int = 0) -> str:
    lines = [_LOAD, _TIMER, _EXEC.format(_route())][present:]
    extra = f', and route[{NATIVE_ROUTE}] {{ python_exec("mq_answers"); }}' if _is_native() else ""
    return f"{len(lines)} line{'s are' if len(lines) > 1 else ' is'} missing in kamailio.cfg: {' '.join(lines)}{extra}"


def _why_no_answers() -> str:
    found = timers.find((SERVE, NATIVE_ROUTE))
    if found is not None and found.processes:
        return "the answers process has not begun yet: the server is just starting"
    return f"there is no answers process: {_lines(1 if found is not None and found.loaded else 0)}"


def _check(handler: Any) -> None:
    """At the start, find out whether there are answers processes, and whether the script needs them."""
    found = timers.find((SERVE, NATIVE_ROUTE))
    if found is None or _state.service is None:
        return
    for name in found.shared:
        log.error(
            f"rtimer {name!r} has mode=0: an answers process that sleeps there stops all of Kamailio's timers; write "
            f"{_TIMER}"
        )
    for name in found.slow:
        log.warning(f"rtimer {name!r} pauses for more than 0.1 s between two turns, in which answers wait: {_TIMER}")
    if found.processes:
        try:
            _state.service.prepare(found.processes)
        except (MqueueError, OSError) as error:
            log.error(f"ask() is not available: {error}")
    elif _asks(handler):
        log.warning(f"the script calls ask(), and there is no answers process: {_lines(1 if found.loaded else 0)}")


def _asks(handler: Any) -> bool:
    """Return True if a method of the script seems to call `ask`.

    Of a native kamailio.cfg that is not known here: there is `mq_ask` in every one, and its first call says what is
    missing.
    """
    if isinstance(handler, native.Handler):
        return False
    functions = list(vars(type(handler)).values())
    # Not its `__dict__`: that would give it one, in which Python looks for methods in another way, and finds none as
    # long as an exception is set that Kamailio left behind.
    for part in gc.get_referents(handler):
        functions += part.values() if isinstance(part, dict) else [part]
    return any(_calls_ask(function) for function in functions if isinstance(function, FunctionType))


def _calls_ask(function: FunctionType) -> bool:
    """Return True if it names ours, by the module or imported from it, and not another one's."""
    names, here = function.__code__.co_names, function.__globals__
    if "ask" not in names:
        return False
    direct = here.get("ask")
    return (
        _PUBLIC in names
        or (isinstance(direct, FunctionType) and direct.__module__ == _PUBLIC)
        or any(isinstance(here.get(name), ModuleType) and here[name].__name__ == _PUBLIC for name in names)
    )
