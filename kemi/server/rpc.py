# SPDX-License-Identifier: GPL-2.0-or-later
"""The RPC commands mqueue.*, registered with Kamailio's core: documentation 6.1 to 6.3, and four more.

Nothing is lost by a command: an item is taken only when its answer is complete.
"""

from __future__ import annotations

import ctypes
import math
import time
from typing import Any, Callable, NamedTuple

from kemi.answers.view import totals
from kemi.errors import MqueueError
from kemi.instance import queues
from kemi.queue.format.item import Item
from kemi.queue.format.statistics import numbers_of, reason_of
from kemi.queue.queue import Queue
from kemi.server import core, log
from kemi.server.call import Call, Fault, RpcApi, Value
from kemi.server.left import clear
from kemi.server.structs import RET_ARRAY, Int, Pointer, RpcExport, RpcFunction, Text
from kemi.spec import Settings

_MOST_PEEKED = 100

# What C holds pointers to. Never to be collected.
_kept: list[Any] = []


# Called where a queue may have been defined by a reload since: who answers RPC runs no script, and is not told.
_meet_new: list[Callable[[], None]] = []
_settings: list[Settings] = []


class _Codes(NamedTuple):
    """What a command answers about the name of a queue."""

    missing: int
    unknown: int


_SIZE_CODES = _Codes(400, 404)
_FETCH_CODES = _Codes(500, 500)  # as the C module has them


def _look_again() -> None:
    for meet_new in _meet_new:
        meet_new()


def _find(name: str) -> Queue | None:
    if name not in queues:
        _look_again()
    return queues.get(name)


def _all_queues() -> list[Queue]:
    """The newest first, as the C module has them."""
    _look_again()
    return list(queues.values())[::-1]


def _queue(call: Call, codes: _Codes = _SIZE_CODES) -> Queue:
    name = call.text()
    if name is None:
        raise Fault(codes.missing, "No queue name")
    if not name:
        raise Fault(codes.missing, "Invalid queue name")
    queue = _find(name)
    if queue is None:
        raise Fault(codes.unknown, "No such queue")
    return queue


def _get_size(call: Call) -> None:
    queue = _queue(call)
    call.struct(name=queue.name, size=len(queue))


def _get_sizes(call: Call) -> None:
    call.structs([{"name": queue.name, "size": len(queue)} for queue in _all_queues()])


def _fetch(call: Call) -> None:
    queue = _queue(call, _FETCH_CODES)
    faults: list[Fault] = []

    def answer(record: bytes) -> bool:
        item = Item(record)
        try:
            call.struct(key=item.key_bytes, val=item.value_bytes)
        except Fault as fault:
            faults.append(fault)
        return not faults

    if queue.pop_if(answer) is None:
        raise faults[0] if faults else Fault(404, "Empty queue")


def _add(call: Call) -> None:
    queue = _queue(call)
    key, value = call.text(), call.text()
    if key is None or value is None:
        raise Fault(400, "No key or value, or it is no text (kamcmd: s:123)")
    outcome = queue.add(key, value)
    if not outcome:
        raise Fault(500, f"Not added: {queue.reason(outcome)}")
    call.struct(name=queue.name, size=len(queue))


def _peek(call: Call) -> None:
    queue = _queue(call)
    count = call.number(1)
    if not 1 <= count <= _MOST_PEEKED:
        raise Fault(400, f"The count must be 1 to {_MOST_PEEKED}")
    now = time.time()
    items = queue.peek(count)
    call.structs([{"key": i.key_bytes, "val": i.value_bytes, "age": _age(i.added, now)} for i in items])


def _stats(call: Call) -> None:
    name = call.text()
    chosen = _all_queues() if name is None else [_find(name)]
    now = time.time()
    if None in chosen:
        raise Fault(404, "No such queue")
    call.structs([_counters(queue, now, whole=name is not None) for queue in chosen if queue])


def _counters(queue: Queue, now: float, *, whole: bool) -> dict[str, Value]:
    """The numbers of a queue. whole: also what is 0 nearly always, for which an answer about many has no room."""
    stats = queue.stats()
    counts = {field: number for field, number in numbers_of(stats).items() if field != "oldest"}
    counts["maxage"] = math.ceil(counts["maxage"])  # numbers are whole there
    counts.update({f"refused_{reason_of(result)}": count for result, count in stats.refusals.items()})
    if not whole:
        counts = {field: number for field, number in counts.items() if number or not field.startswith(_SELDOM)}
    return {"name": queue.name, **counts, "oldest_age": 0 if stats.oldest is None else _age(stats.oldest, now)}


def _questions(call: Call) -> None:
    (settings,) = _settings
    call.struct(**totals(settings.instance)._asdict(), max_asked=settings.max_asked)


_SELDOM = ("due", "expired", "unmoved", "maxage", "refused_")


def _age(added: float, now: float) -> int:
    return max(0, int(now - added))


class _Command(NamedTuple):
    name: str
    answer: Callable[[Call], None]
    flags: int
    help: str


_COMMANDS = (
    _Command("mqueue.get_size", _get_size, 0, "Get size of mqueue."),
    _Command("mqueue.get_sizes", _get_sizes, RET_ARRAY, "Get sizes of all mqueues."),
    _Command("mqueue.fetch", _fetch, 0, "Fetch an element from the queue."),
    _Command("mqueue.add", _add, 0, "Add an item to a queue. Parameters: name, key, value."),
    _Command(
        "mqueue.peek",
        _peek,
        RET_ARRAY,
        f"Show the oldest items of a queue, which stay. Parameters: name, count (1 to {_MOST_PEEKED}, default 1).",
    ),
    _Command(
        "mqueue.stats",
        _stats,
        RET_ARRAY,
        "Counters, bytes and the age of the oldest item in seconds. Parameters: name (default: all queues).",
    ),
    _Command("mqueue.questions", _questions, 0, "How many questions were asked, wait, and ended, by their end."),
)


def register(meet_new: Callable[[], None], settings: Settings) -> None:
    """Register the commands, once in the life of the server. Raises Unavailable.

    meet_new: makes the queues known that a reload in another process has defined.
    """
    if _kept:
        return
    _meet_new.append(meet_new)
    _settings.append(settings)
    library = core.trusted()
    register_array = core.function(library, "rpc_register_array", Int, ctypes.POINTER(RpcExport))
    find = core.function(library, "rpc_lookup", Pointer, Text, Int)
    api = RpcApi(library)
    exports = (RpcExport * (len(_COMMANDS) + 1))(*(_export(command, api) for command in _COMMANDS))
    _kept.extend((api, exports))
    if register_array(exports):
        raise core.Taken([export.name.decode() for export in exports[:-1] if not _is_ours(export, find)])


def _is_ours(export: RpcExport, find: Any) -> bool:
    """Does the core call ours by that name? It keeps a copy."""
    found = find(export.name, len(export.name))
    return bool(found) and _address(RpcExport.from_address(found)) == _address(export)


def _address(export: RpcExport) -> int | None:
    return ctypes.cast(export.function, Pointer).value


def _export(command: _Command, api: RpcApi) -> RpcExport:
    def answer(rpc: int, context: int) -> None:
        clear()
        try:
            _answer(command, Call(api, rpc, context))
        except BaseException as error:  # noqa: BLE001 - nothing may be raised into C
            log.error(f"{command.name}: {type(error).__name__}: {error}")

    function, doc = RpcFunction(answer), (Text * 2)(command.help.encode(), None)
    _kept.extend((function, doc))
    return RpcExport(command.name.encode(), function, doc, command.flags)


def _answer(command: _Command, call: Call) -> None:
    try:
        command.answer(call)
    except Fault as fault:
        call.fault(fault.code, str(fault))
    except MqueueError as error:
        log.error(f"{command.name}: {error}")
        call.fault(500, str(error))
    except BaseException:
        call.fault(500, "Internal error; see the log")
        raise
