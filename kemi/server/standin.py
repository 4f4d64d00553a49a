# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes a script and an operator not miss the C module: variables, RPC commands, KSR.mqueue, acc_json, the stop.

Each is offered on its own. What the server at hand does not allow is told in one line, and all else works.
"""

from __future__ import annotations

from collections.abc import Callable

from kemi.server import accounting, asked, bind, core, ksr, log, pvars, rpc, stop
from kemi.spec import CORE_FORCED, CORE_OFF, Settings

_STOP = "a hook at the server's stop"
_ASKED = "a note of who asks the server to end"
_VARIABLES = "$mqk, $mqv and $mq_size"
_COMMANDS = "the RPC commands mqueue.*"
_BIND = "bind_mq for acc_json"

# What is to be done instead.
_INSTEAD = {
    _STOP: "shared memory stays then, and the next start takes it over",
    _ASKED: "when all processes get the signal at once, items may stay as after a crash",
    _VARIABLES: "use mqk_gete, mqv_gete and mq_size",
    _COMMANDS: "use python3 -m mqueue_kemi",
    _BIND: "acc_json can use the C module mqueue and its queues",
}


def take_place(
    functions: ksr.Functions, at_stop: Callable[[], None], settings: Settings, meet_new: Callable[[], None]
) -> None:
    """Offer all that is possible, as far as `settings` allow. For the main process, once.

    meet_new: makes the queues known that a reload in another process has defined.
    """
    if not core.inside_kamailio():
        return
    beside = not ksr.put_in_place(functions)
    if settings.core == CORE_OFF or not _is_trusted(forced=settings.core == CORE_FORCED):
        if not beside:
            accounting.warn()
    else:
        _offer(_STOP, lambda: stop.at_destroy(lambda: _end(at_stop)))
        _offer(_ASKED, asked.note_from_now_on)
        if not beside:
            _offer(_VARIABLES, pvars.register)
            _offer(_COMMANDS, lambda: rpc.register(meet_new, settings))
            _offer(_BIND, lambda: accounting.connect(functions.mq_add, meet_new, settings.queues))
    if beside:
        log.notice(
            f"the C module mqueue is loaded: {_VARIABLES}, {_COMMANDS} and KSR.mqueue are those of its queues; "
            "those of this module are reached through mqueue_kemi"
        )


def _is_trusted(*, forced: bool) -> bool:
    """May the core be used at all? One line when not."""
    try:
        core.trusted()
    except core.UnknownVersion as unknown:
        if not forced:
            log.notice(
                f'{_all()} not available: {unknown}; modparam("mqueue", "core", "force") tries them all the same, '
                "each with its own checks: see docs/reference/versions.md"
            )
            return False
        core.force()
        log.notice(f'{unknown}; they are tried, as modparam("mqueue", "core", "force") says')
    except core.Unavailable as missing:
        log.notice(f"{_all()} not available: {missing}; the queues work without")
        return False
    return True


def _all() -> str:
    return f"{_VARIABLES}, {_COMMANDS} and {_STOP}"


def _end(at_stop: Callable[[], None]) -> None:
    bind.withdraw()
    at_stop()


def _offer(what: str, register: Callable[[], None]) -> None:
    try:
        register()
    except core.Taken as taken:
        log.notice(f"{', '.join(taken.names)} not available: {taken}; {_INSTEAD[what]}")
    except core.Unavailable as missing:
        log.notice(f"{what} not available: {missing}; {_INSTEAD[what]}")
    except Exception as error:  # noqa: BLE001 - the server starts without it
        log.error(f"{what} not available: {type(error).__name__}: {error}; {_INSTEAD[what]}")
