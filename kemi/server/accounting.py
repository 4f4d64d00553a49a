# SPDX-License-Identifier: GPL-2.0-or-later
"""Kamailio's acc_json beside us: does it want to write to queues, and does it reach them?

Where it does not, it drops records without a word, or ends the server: after a bind_mq that failed it still calls the
function that it has not got for cdr_output_mqueue. So each such case is told at the start.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection

from kemi.server import bind, core, log
from kemi.server.embedder import Embedder, handle_of, is_loaded, symbol_of
from kemi.server.structs import MqApi

_MODULE = b"acc_json"
_RECORDS, _CALLS = "acc_output_mqueue", "cdr_output_mqueue"
_ENGINE, _REGISTERED = b"_acc_json_engine", b"json"  # how the engine's name begins once acc_json is initialised
_API = b"mq_api"
_LOST, _END = "ITS RECORDS WILL BE LOST", "WILL END THE SERVER at the first record of a call"


def warn() -> None:
    """Where the core must not be touched: say what becomes of accounting that is to go to queues."""
    if is_loaded(_MODULE):
        log.error(
            f"acc_json does not reach the queues of this module: if its {_RECORDS} is set, {_LOST}; "
            f"if its {_CALLS} is set, it {_END}. It can use the C module mqueue"
        )


def connect(add: bind.Add, meet_new: Callable[[], None], defined: Collection[str]) -> None:
    """Let acc_json add to the queues that its parameters name, and tell what is in the way. Raises Unavailable.

    add, meet_new: as of `bind.offer`. defined: the names of the queues.
    """
    handle = handle_of(_MODULE)
    if handle is None:
        return
    wanted = {name: queue for name in (_RECORDS, _CALLS) if (queue := _text(handle, name)) is not None}
    if _is_initialised(handle):
        _connect_late(handle, add, meet_new)
    elif wanted:
        _connect(wanted, add, meet_new)
    for name, queue in wanted.items():
        if queue not in defined:
            log.error(f"acc_json: {name}={queue}: there is no such queue, and {_LOST}; define it in the script")


def _connect(wanted: dict[str, str], add: bind.Add, meet_new: Callable[[], None]) -> None:
    try:
        bind.offer(add, meet_new)
    except core.Taken:
        raise
    except core.Unavailable as missing:
        told = " and ".join(f"{name}={queue}" for name, queue in wanted.items())
        what = _END if _CALLS in wanted else f"has no queue to write to, and {_LOST}"
        log.error(f"acc_json ({told}) {what}: {missing}; it can use the C module mqueue")


def _connect_late(handle: int, add: bind.Add, meet_new: Callable[[], None]) -> None:
    """acc_json was initialised before the script ran, when there was nobody to give it a function to add with."""
    api = symbol_of(handle, _API)
    if api is None:
        raise core.Unavailable("acc_json does not export mq_api")
    if MqApi.from_address(api).add:
        return  # by another module's bind_mq
    # Without bind_mq it has switched off the one output, and kept the other with a null pointer.
    bind.give(api, add, meet_new)
    module = Embedder().name
    log.error(
        f"acc_json comes before {module} in kamailio.cfg: if its {_RECORDS} is set, {_LOST}; "
        f'write loadmodule "{module}.so" before loadmodule "acc_json.so"'
    )


def _text(handle: int, parameter: str) -> str | None:
    """The value of a parameter; None when it is not set."""
    place = symbol_of(handle, f"{parameter}_str".encode())
    if place is None:
        raise core.Unavailable(f"acc_json does not export {parameter}_str")
    value = ctypes.c_char_p.from_address(place).value
    return None if value is None else value.decode("utf-8", "surrogateescape")


def _is_initialised(handle: int) -> bool:
    place = symbol_of(handle, _ENGINE)
    if place is None:
        raise core.Unavailable("acc_json does not export its engine")
    return ctypes.string_at(place, len(_REGISTERED)) == _REGISTERED
