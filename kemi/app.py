"""Puts it together: collects parameters, starts once, starts again at a reload, stops.

The state is here, in a module that Kamailio does not execute again at a reload (it does so with the script only).
"""

from __future__ import annotations

import os
from typing import Any

from kemi import definitions, lifecycle
from kemi.errors import ConfigError
from kemi.instance import Instance
from kemi.server import core, log, native, standin
from kemi.server.ksr import Functions
from kemi.spec import Settings, Value

_collected = Settings()
_running: Instance | None = None


def modparam(module: str, name: str, value: Value) -> None:
    """One parameter, for the next `mod_init`. Raises ConfigError."""
    global _collected
    try:
        _collected.set(module, name, value)
    except ConfigError:
        _collected = Settings()  # a script that is mended and loaded again begins anew
        raise


def mod_init(handler: Any, module_folder: str, functions: Functions) -> Any:
    """Start, or take new parameters when started already. Returns the handler for app_python3."""
    global _collected, _running
    settings, _collected = _collected, Settings()
    if handler is None:
        definitions.read(_definitions_file(module_folder), settings)
        handler = native.Handler(functions)
    if _running is None:
        _running = lifecycle.start(settings, _surroundings())
        standin.take_place(functions, _stop, settings.core, _running.meet_new)
    else:
        lifecycle.reload(_running, settings, _surroundings())
    return handler


def _surroundings() -> lifecycle.Surroundings:
    return lifecycle.Surroundings(log.notice, log.error, core.working, *core.run_as())


def _definitions_file(module_folder: str) -> str:
    named = os.environ.get("MQUEUE_KEMI_CFG")
    if named:
        return named
    places = [folder for folder in (core.config_folder(), module_folder) if folder]
    for folder in places:
        path = os.path.join(folder, "mqueue_kemi.cfg")
        if os.path.exists(path):
            return path
    raise ConfigError(
        f"no queues are defined: there is no mqueue_kemi.cfg in {' or '.join(places)}; "
        "MQUEUE_KEMI_CFG may name a file of modparam lines"
    )


def _stop() -> None:
    """End what this process started; in a process forked from that one, nothing."""
    global _running
    instance, _running = _running, None
    if instance is not None and instance.is_owner():
        lifecycle.stop(instance, core.ended_by_itself(), _surroundings())


def stop_now() -> None:
    """For a process that is no Kamailio, and for tests: what the server does when it ends."""
    _stop()
