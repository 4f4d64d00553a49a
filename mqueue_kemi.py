# SPDX-License-Identifier: GPL-2.0-or-later
"""Kamailio's mqueue for Python routing scripts: queues of key/value items in shared memory.

Names and integer codes only; the work is done in `kemi`. A routing script imports this module and ends with

    def mod_init():
        return mqueue_kemi.mod_init(Script())

or app_python3 loads this module itself for a native kamailio.cfg (see `mod_init`). A process outside of Kamailio calls
`attach`. Chapter numbers in the docstrings are those of the mqueue module's documentation.
"""

from __future__ import annotations

import sys as _sys

import kemi as _kemi

if getattr(_kemi, "PART_OF", "") != "mqueue_kemi":
    # A routing script or a package of that name comes first; nothing below would work, or say why.
    _place = getattr(_kemi, "__file__", None) or " and ".join({*getattr(_kemi, "__path__", [])}) or "what is loaded"
    raise ImportError(
        f"mqueue_kemi cannot use its own package kemi: {_place} has the name kemi too, and Python finds that first. "
        'Rename it (if it is the routing script: the file, and modparam("app_python3", "load", ...) in kamailio.cfg), '
        "or take its folder off Python's path"
    )

if _sys.implementation.name != "cpython":
    raise ImportError(
        f"mqueue_kemi needs CPython: this is {_sys.implementation.name}, whose ctypes has no PyDLL, through which the "
        "queues' locks are taken. Run this program with python3; or let it start `python3 -m mqueue_kemi consume QUEUE "
        "--follow --json` and read its lines, and write lines to `python3 -m mqueue_kemi fill QUEUE`"
    )

if __name__ == "__main__":  # python3 -m mqueue_kemi, before all that only a server needs; app_python3 has another name
    from kemi.cli.main import start

    start()

import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from kemi import app
from kemi import asking as _asking
from kemi.answers.asking import Request as _Request
from kemi.answers.results import Answer, AnswerStatus, AskResult
from kemi.errors import (
    ClientClosed,
    ConfigError,
    Disconnected,
    EngineError,
    InstanceInUse,
    ItemError,
    LockTimeout,
    MqueueError,
    NoMemory,
    NotAllowed,
    OutcomeUnknown,
    QueueClosed,
    Reentered,
    SegmentError,
    SegmentMissing,
    Unavailable,
    UnknownQueue,
)
from kemi.instance import queues as _queues
from kemi.names import DEFAULT_INSTANCE as _DEFAULT_INSTANCE
from kemi.names import VERSION as _VERSION
from kemi.queue.client.api import QueueClient
from kemi.queue.client.api import QueueClient as Queue
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.delivery.reservation import AsyncReservation, Reservation
from kemi.queue.delivery.reserved import Batch, ReservedItem
from kemi.queue.format.item import Data, Item
from kemi.queue.format.item import key_of as _key_of
from kemi.queue.format.item import value_of as _value_of
from kemi.queue.format.outcome import AddResult, Refused, Stats
from kemi.queue.kernel import choice as _kernel
from kemi.queue.log.core import ADDED as _ADDED
from kemi.queue.sync.handlers import is_from_handler as _is_from_handler
from kemi.queue.sync.stop import Event, Stop
from kemi.queue.sync.undisturbed import undisturbed as _undisturbed
from kemi.server import left as _left
from kemi.server import log as _log
from kemi.server import refused as _refused
from kemi.server.ksr import Functions as _Functions
from kemi.server.left import clear as _clear
from kemi.slots import fetched as _fetched

if TYPE_CHECKING:  # what workers are made of is loaded when it is asked for, see `__getattr__`
    from kemi.worker.spec import Failure, Reject, Retry, Tally
    from kemi.worker.worker import Running, Worker, arun, run, worker

__version__ = _VERSION

__all__ = [
    "AddResult",
    "Answer",
    "AnswerStatus",
    "AskResult",
    "AsyncReservation",
    "AttachedQueue",
    "Batch",
    "ClientClosed",
    "ConfigError",
    "Data",
    "Disconnected",
    "EngineError",
    "Event",
    "Failure",
    "InstanceInUse",
    "Item",
    "ItemError",
    "LockTimeout",
    "MqueueError",
    "NoMemory",
    "NotAllowed",
    "OutcomeUnknown",
    "Queue",
    "QueueClient",
    "QueueClosed",
    "Reentered",
    "Refused",
    "Reject",
    "Reservation",
    "ReservedItem",
    "Retry",
    "Running",
    "SegmentError",
    "SegmentMissing",
    "Stats",
    "Stop",
    "Tally",
    "Unavailable",
    "UnknownQueue",
    "Worker",
    "aattach",
    "answer",
    "arun",
    "ask",
    "attach",
    "mod_init",
    "modparam",
    "mq_add",
    "mq_fetch",
    "mq_pv_free",
    "mq_size",
    "mqk_get",
    "mqk_gete",
    "mqk_getw",
    "mqv_get",
    "mqv_gete",
    "mqv_getw",
    "read_stats",
    "run",
    "worker",
]

_NULL = "<null>"  # what KEMI's getw functions give for null


# --- start ------------------------------------------------------------------------------------------------------------


def modparam(module: str, name: str, value: Any) -> int:
    """Set a parameter of the module (chapter 3), before `mod_init`. Returns 1.

    Raises ConfigError, which names the parameter and the text, so that Kamailio refuses to start.
    """
    app.modparam(module, name, value)
    return 1


def mod_init(handler: Any = None) -> Any:
    """Make the queues and return the handler for app_python3: what a script's own `mod_init` ends with.

    Without a handler it is the one for a native kamailio.cfg, and the queues are defined in mqueue_kemi.cfg beside
    kamailio.cfg or beside this module, or in the file that MQUEUE_KEMI_CFG names. Called again at a reload it keeps
    every item, and takes new limits and new queues. Raises ConfigError, InstanceInUse, SegmentError, NoMemory.
    """
    return app.mod_init(handler, os.path.dirname(os.path.abspath(__file__)), _FUNCTIONS)


# --- functions (chapter 4) --------------------------------------------------------------------------------------------


def mq_add(queue: str, key: str, value: str) -> int:
    """4.1: add an item. 1; -1, and the log says why not: of a refusal, once a minute with how many there were.

    When the queue's size is exceeded, the oldest item is removed.
    """
    try:
        outcome = _queues[queue].add(key, value)
    except Exception as error:
        try:
            outcome = _left.again(error, _queues[queue].add, key, value)
        except Exception as second:
            return _failed("mq_add", queue, second, -1)
    if outcome is not _ADDED and not outcome:
        _refused.tell(queue, outcome, _queues[queue].reason)
        return -1
    return 1


def mq_fetch(queue: str, timeout: float = 0.0) -> int:
    """4.2: take the oldest item, which `mqk_get` and `mqv_get` then give. 1; -2 there is none; -1 it failed.

    timeout: seconds to wait for an item; 0 never waits.
    """
    try:
        source = _queues[queue]
        record = _fetched[queue] = source.pop_wait(timeout) if timeout else source.pop()
    except Exception as error:
        try:
            record = _fetched[queue] = _left.again(error, _queues[queue].pop_wait, timeout or 0.0)
        except Exception as second:
            if isinstance(queue, str):
                _fetched.pop(queue, None)  # what was fetched before is gone, whatever came now
            return _failed("mq_fetch", queue, second, -1)
    return -2 if record is None else 1


def mq_pv_free(queue: str) -> int:
    """4.3: forget what was fetched from the queue in this process. 1."""
    try:
        _fetched.pop(queue, None)
    except Exception as error:
        try:
            _left.again(error, _fetched.pop, queue, None)
        except Exception as second:
            return _failed("mq_pv_free", queue, second, 1)
    return 1


def mq_size(queue: str) -> int:
    """4.4: how many items the queue has; -1 none; -2 there is no such queue."""
    try:
        return _queues[queue].__len__() or -1  # `len` would go through C, and cost a quarter more
    except Exception as error:
        try:
            return _left.again(error, len, _queues[queue]) or -1
        except Exception as second:
            return _failed("mq_size", queue, second, -2)


def _failed(function: str, queue: object, error: Exception, code: int) -> int:
    """Say in one line why a function returns `code`. What a signal handler of the script raised is the script's."""
    if _is_from_handler(error):
        raise error
    if isinstance(queue, str) and queue not in _queues:
        _log.error(f"{function}({queue!r}): mqueue not found; {app.why_missing(queue)}")
    elif not isinstance(queue, str):
        _log.error(f"{function}: the queue's name must be str, not {type(queue).__name__}")
    elif isinstance(error, (MqueueError, TypeError, ValueError)):
        _log.error(f"{function}({queue!r}): {error}")
    else:
        _log.error(f"{function}({queue!r}): {type(error).__name__}: {error}")
    return code


# --- variables (chapter 5) --------------------------------------------------------------------------------------------


def mqk_get(queue: str) -> str | None:
    """Key of the item fetched last from the queue in this process: $mqk(queue). None if there is none."""
    try:
        return _key_of(_fetched[queue])  # type: ignore[arg-type]
    except Exception as error:
        return _nothing(queue, None, error, _key_of)


def mqk_gete(queue: str) -> str:
    """As `mqk_get`, with "" for none."""
    try:
        return _key_of(_fetched[queue])  # type: ignore[arg-type]
    except Exception as error:
        return _nothing(queue, "", error, _key_of)


def mqk_getw(queue: str) -> str:
    """As `mqk_get`, with "<null>" for none."""
    try:
        return _key_of(_fetched[queue])  # type: ignore[arg-type]
    except Exception as error:
        return _nothing(queue, _NULL, error, _key_of)


def mqv_get(queue: str) -> str | None:
    """Value of the item fetched last from the queue in this process: $mqv(queue). None if there is none."""
    try:
        return _value_of(_fetched[queue])  # type: ignore[arg-type]
    except Exception as error:
        return _nothing(queue, None, error, _value_of)


def mqv_gete(queue: str) -> str:
    """As `mqv_get`, with "" for none."""
    try:
        return _value_of(_fetched[queue])  # type: ignore[arg-type]
    except Exception as error:
        return _nothing(queue, "", error, _value_of)


def mqv_getw(queue: str) -> str:
    """As `mqv_get`, with "<null>" for none."""
    try:
        return _value_of(_fetched[queue])  # type: ignore[arg-type]
    except Exception as error:
        return _nothing(queue, _NULL, error, _value_of)


_Null = TypeVar("_Null", None, str)


def _nothing(queue: object, null: _Null, error: Exception, part: Callable[[bytes], str]) -> _Null | str:
    """Nothing is fetched from the queue; one line in the log if there is no such queue."""
    record = _fetched.get(queue) if isinstance(queue, str) else None
    if record is not None:
        return _left.again(error, part, record)
    if not isinstance(queue, str) or queue not in _queues:
        _failed("mqk/mqv", queue, LookupError(), 0)
    return null


# --- asking a worker --------------------------------------------------------------------------------------------------


def ask(
    queue: str,
    key: str | bytes,
    value: str | bytes = "",
    *,
    then: str,
    timeout: float,
    wait_for_worker: bool = False,
) -> AskResult:
    """Ask a worker outside, and let the SIP worker go on with other calls meanwhile.

    The transaction, made if need be, is suspended. `then(self, msg)` of the script runs in the answers process when the
    answer, a failure or the timeout (seconds, more than 0) comes; `answer` tells which. It does not run after a CANCEL.
    Neither blocks: nor must `then`, which has the transaction's reply lock.

    What comes back is true when that is so; otherwise the script replies itself, now. A question that no living process
    works for fails at once; with wait_for_worker it waits. Raises nothing; the log says what was wrong.
    """
    _clear()
    try:
        return _asking.ask(_Request(queue, key, value, then, timeout, wait_for_worker))
    except Exception as error:
        _failed("ask", queue, error, -1)
        return AskResult.FAILED


def answer() -> Answer:
    """Return what a route that `ask` named runs for: an answer, a worker's failure, or that no answer came in time."""
    _clear()
    return _asking.answer()


_FUNCTIONS = _Functions(
    *_kernel.script_functions(
        (mq_add, mq_fetch, mq_pv_free, mq_size, mqk_get, mqk_gete, mqk_getw, mqv_get, mqv_gete, mqv_getw),
        _queues,
        _fetched,
    )
)
globals().update(_FUNCTIONS._asdict())  # those of the kernel, where there is one


# --- workers ----------------------------------------------------------------------------------------------------------

_OF_WORKERS = {
    **dict.fromkeys(("Failure", "Reject", "Retry", "Tally"), "kemi.worker.spec"),
    **dict.fromkeys(("Running", "Worker", "arun", "run", "worker"), "kemi.worker.worker"),
}


def __getattr__(name: str) -> Any:
    """Names of workers, which no routing script needs."""
    if name not in _OF_WORKERS:
        raise AttributeError(f"module 'mqueue_kemi' has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_OF_WORKERS[name]), name)
    return found


# --- outside of Kamailio ----------------------------------------------------------------------------------------------


def attach(
    queue: str,
    where: str = _DEFAULT_INSTANCE,
    *,
    wait: float | None = 0.0,
    owner: str | int | None = None,
    lock_timeout: float = 1.0,
    reattach: bool = True,
    instance: str | None = None,
) -> QueueClient:
    """Return a queue of a running Kamailio, for any process on its host that may read and write its segment.

    where: the server's instance; or the URL of an engine, redis://, rediss:// or unix://. instance: its old name.

    When the server is stopped and started again, waiting calls go on with its new queue; with reattach=False they raise
    QueueClosed. wait: seconds for the server and its queue to appear, None for ever. lock_timeout: finite seconds; of
    an engine, for one reply. What comes back may be pickled: the process that gets it attaches when it uses the queue
    first.

    owner: name or number of one more user whose queues are trusted, MQUEUE_KEMI_OWNER by default. Without it they are
    root's and this process's own; who is not root trusts the user "kamailio" too. The next server's queue must belong
    to the same user.

    Raises UnknownQueue when the instance has no such queue, NotAllowed when its user is not trusted or does not allow
    this process's, SegmentError when it cannot be used, Unavailable, ConfigError.
    """
    if instance is not None:
        warnings.warn("attach(..., instance=...) is attach(queue, where) now", DeprecationWarning, stacklevel=2)
        where = instance
    if _is_url(where):
        from kemi.relay.engine import attach as attach_there

        return attach_there(queue, where, wait=wait, lock_timeout=lock_timeout, reattach=reattach)
    return AttachedQueue(where, queue, lock_timeout, reattach=reattach, wait=wait, owner=owner)


async def aattach(
    queue: str,
    where: str = _DEFAULT_INSTANCE,
    *,
    wait: float | None = 0.0,
    owner: str | int | None = None,
    lock_timeout: float = 1.0,
    reattach: bool = True,
) -> QueueClient:
    """`attach` for asyncio: the event loop goes on while it waits for the server."""
    if _is_url(where):
        from kemi.relay.engine import aattach as attach_there

        return await attach_there(queue, where, wait=wait, lock_timeout=lock_timeout, reattach=reattach)

    from kemi.queue.client.aattach import attached

    return await attached(where, queue, lock_timeout, reattach=reattach, wait=wait, owner=owner)


def _is_url(where: object) -> bool:
    return isinstance(where, str) and "://" in where


def read_stats(where: str = _DEFAULT_INSTANCE) -> dict[str, Stats]:
    """Return the statistics of all queues of an instance, by name. Takes no lock, and needs no right but to read.

    Raises UnknownQueue when there is no such instance, NotAllowed, SegmentError.
    """
    from kemi import host

    return _undisturbed(lambda: host.read_stats(where))
