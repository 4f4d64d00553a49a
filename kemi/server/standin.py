"""What makes a script and an operator not miss the C module: variables, RPC commands, KSR.mqueue, the stop.

Each is offered on its own. What the server at hand does not allow is told in one line, and all else works.
"""

from __future__ import annotations

from collections.abc import Callable

from kemi.server import core, ksr, log, pvars, rpc, stop

_STOP = "a hook at the server's stop"
_VARIABLES = "$mqk, $mqv and $mq_size"
_COMMANDS = "the RPC commands mqueue.*"

# What is to be done instead.
_INSTEAD = {
    _STOP: "shared memory stays then, and the next start takes it over",
    _VARIABLES: "use mqk_gete, mqv_gete and mq_size",
    _COMMANDS: "use python3 -m mqueue_kemi",
}


def take_place(
    functions: ksr.Functions, at_stop: Callable[[], None], with_core: bool, meet_new: Callable[[], None]
) -> None:
    """Offer all that is possible; with_core: also what needs the core's C symbols. For the main process, once.

    meet_new: makes the queues known that a reload in another process has defined.
    """
    if not core.inside_kamailio():
        return
    beside = not ksr.put_in_place(functions)
    if with_core:
        _offer(_STOP, lambda: stop.at_destroy(at_stop))
        if not beside:
            _offer(_VARIABLES, pvars.register)
            _offer(_COMMANDS, lambda: rpc.register(meet_new))
    if beside:
        log.notice(
            f"the C module mqueue is loaded: {_VARIABLES}, {_COMMANDS} and KSR.mqueue are those of its queues; "
            "those of this module are reached through mqueue_kemi"
        )


def _offer(what: str, register: Callable[[], None]) -> None:
    try:
        register()
    except core.Taken as taken:
        log.notice(f"{', '.join(taken.names)} not available: {taken}; {_INSTEAD[what]}")
    except core.Unavailable as missing:
        log.notice(f"{what} not available: {missing}; {_INSTEAD[what]}")
    except Exception as error:  # noqa: BLE001 - the server starts without it
        log.error(f"{what} not available: {type(error).__name__}: {error}; {_INSTEAD[what]}")
