# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts it together: collects parameters, starts once, starts again at a reload, stops.

The state is here, in a module that Kamailio does not execute again at a reload (it does so with the script only).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from kemi import asking, definitions, lifecycle
from kemi.errors import ConfigError, MqueueError
from kemi.instance import Instance, queues
from kemi.queue.kernel import choice as kernel
from kemi.server import asked, core, ksr, left, log, native, refused, standin, threads
from kemi.server.ksr import Functions
from kemi.slots import fetched
from kemi.spec import Settings, Value

_MOST_TOLD = 50  # queues

_collected = Settings()
_wrong: list[str] = []  # parameters of a reload
_running: Instance | None = None
_private: str | None = None  # the instance of a test, whatever the script says


def modparam(module: str, name: str, value: Value) -> None:
    """One parameter, for the next `mod_init`. Raises ConfigError."""
    global _collected
    try:
        _collected.set(module, name, value)
    except ConfigError as error:
        if _running is None:
            _collected = Settings()  # a script that is mended and loaded again begins anew
            raise
        # Raised here, it would end a process of Kamailio 5.6, and so the server.
        _wrong.append(str(error))


def mod_init(handler: Any, module_folder: str, functions: Functions) -> Any:
    """Start, or take new parameters when started already. Returns the handler for app_python3."""
    global _collected, _running
    left.clear()
    settings, _collected = _collected, Settings()
    if _running is not None:
        _reload(_running, settings, module_folder if handler is None else None)
        return asking.attach(native.Handler(functions, asking) if handler is None else handler)
    if handler is None:
        definitions.read(_definitions_file(module_folder), settings)
        handler = native.Handler(functions, asking)
    if _private is not None:
        _keep_to(_private, settings)
    _running = lifecycle.start(settings, _surroundings())
    refused.prepare(queues)
    threads.keep_to_main_thread()
    standin.take_place(functions, _stop, settings, _running.meet_new)
    told = _told_at_start() or "no queue: none is defined"
    log.started(f"instance {_running.name!r} is ready, with {told}; kernel: {kernel.description()}")
    if _private is not None:
        ksr.put_in_place(functions)
    asking.start(_running, settings, why_missing, alone=_private is not None)
    return asking.attach(handler)


def _reload(instance: Instance, settings: Settings, module_folder: str | None) -> None:
    """Take new parameters, or none of them: whatever is wrong, the queues stay as they are and the server goes on.

    module_folder: read a definitions file, as at the start.
    """
    wrong = _wrong[:]
    _wrong.clear()
    try:
        if module_folder is not None:
            definitions.read(_definitions_file(module_folder), settings)
        if not wrong:
            lifecycle.reload(instance, settings, _surroundings())
    except (MqueueError, OSError) as error:
        wrong.append(str(error))
    if wrong:
        log.error(f"reload: {'; '.join(wrong)}. Every queue stays as it is, until a reload in which nothing is wrong")


def why_missing(queue: str) -> str:
    """Return what to change when there is no such queue."""
    if _running is None:
        return "mod_init of mqueue_kemi was not called: end your own with `return mqueue_kemi.mod_init(Script())`"
    if queue in _collected.queues:
        return "its modparam came after mod_init of mqueue_kemi, which takes those before it"
    if not queues:
        return f'no queue is defined: write mqueue_kemi.modparam("mqueue", "mqueue", "name={queue}") before mod_init'
    return f"defined are: {', '.join(sorted(queues))}"


def _told_at_start() -> str:
    """Return the queues, and what they hold already."""
    held = {name: queue.held() for name, queue in queues.items()}
    counts = [name + (f" ({items} items)" if items else "") for name, items in held.items()]
    return ", ".join(counts[:_MOST_TOLD]) + (f" and {len(counts) - _MOST_TOLD} more" if counts[_MOST_TOLD:] else "")


def _surroundings() -> lifecycle.Surroundings:
    return lifecycle.Surroundings(log.notice, log.error, core.working, *core.run_as())


def _definitions_file(module_folder: str) -> str:
    return definitions.find([core.config_folder(), module_folder])


def _stop() -> None:
    """End what this process started; in a process forked from that one, nothing."""
    global _running
    instance, _running = _running, None
    asking.end()
    if instance is not None and instance.is_owner():
        lifecycle.stop(instance, asked.ended_by_itself, _surroundings())


def stop_now() -> None:
    """For a process that is no Kamailio, and for tests: what the server does when it ends."""
    _stop()


# --- tests ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def private(instance: str) -> Iterator[None]:
    """As if nothing was started yet in this process; what starts meanwhile has this instance and no database.

    It is ended afterwards, and all is as it was before.
    """
    global _private, _running, _collected
    before = (_private, _running, _collected, dict(queues), dict(fetched))
    service = asking.end()
    _private, _running, _collected = instance, None, Settings()
    queues.clear()
    fetched.clear()
    try:
        yield
    finally:
        try:
            _stop()
        finally:
            for table, content in ((queues, before[3]), (fetched, before[4])):
                table.clear()
                table.update(content)  # type: ignore[arg-type]
            _private, _running, _collected = before[:3]
            asking.bring_back(service)


def _keep_to(instance: str, settings: Settings) -> None:
    settings.instance = instance
    for name, spec in settings.queues.items():
        settings.queues[name] = spec._replace(dbmode=0)
