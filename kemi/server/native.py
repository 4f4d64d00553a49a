# SPDX-License-Identifier: GPL-2.0-or-later
"""The handler for a native kamailio.cfg, whose language gets no new functions: python_exec("mq_add", "myq").

Key and value cross in named variables: $vn(mqk_myq) and $vn(mqv_myq), the size in $vn(mq_size_myq). KSR gives and takes
text only; bytes that are none cross as hexadecimal digits, which Kamailio itself turns into bytes and back.
"""

from __future__ import annotations

from typing import Any, Protocol

from kemi.answers.asking import Request
from kemi.answers.results import Answer
from kemi.queue.format.item import Item
from kemi.server import log
from kemi.server.ksr import Functions
from kemi.server.left import clear
from kemi.slots import fetched

# A transformation of Kamailio has a buffer of 64 KiB for its result.
_LONGEST_HEX = 60_000
_SCRATCH = "mqueue_kemi_hex"


class Handler:
    """What app_python3 calls. Each method gets the SIP message first, and its result is python_exec's."""

    def __init__(self, functions: Functions, asking: Any) -> None:
        self._functions = functions
        self._asking: Asking = asking

    def child_init(self, _rank: int) -> int:
        """Nothing is to be done for a process: it inherits the queues."""
        return 0

    def mq_add(self, _message: object, queue: str) -> int:
        """Documentation 4.1, mq_add(queue, key, value), with $vn(mqk_QUEUE) and $vn(mqv_QUEUE). 1, or -1."""
        clear()
        try:
            key, value = _get(f"mqk_{queue}"), _get(f"mqv_{queue}")
        except ValueError as error:
            log.error(f"mq_add({queue!r}): {error}")
            return -1
        return int(self._functions.mq_add(queue, key, value))

    def mq_fetch(self, _message: object, queue: str) -> int:
        """Documentation 4.2, mq_fetch(queue): fills $vn(mqk_QUEUE) and $vn(mqv_QUEUE). 1, -2 nothing, -1 unknown."""
        clear()
        code = int(self._functions.mq_fetch(queue))
        record = fetched.get(queue)
        if record is None:
            _unset(queue)
        else:
            item = Item(record)
            _set(f"mqk_{queue}", item.key_bytes)
            _set(f"mqv_{queue}", item.value_bytes)
        return code

    def mq_pv_free(self, _message: object, queue: str) -> int:
        """Documentation 4.3, mq_pv_free(queue): the variables are null then. 1."""
        clear()
        code = int(self._functions.mq_pv_free(queue))
        _unset(queue)
        return code

    def mq_size(self, _message: object, queue: str) -> int:
        """Documentation 4.4, mq_size(queue): n, -1 empty, -2 unknown; $vn(mq_size_QUEUE) gets n, 0, or null."""
        clear()
        code = int(self._functions.mq_size(queue))
        if code < -1:
            _pv().unset(f"$vn(mq_size_{queue})")
        else:
            _pv().seti(f"$vn(mq_size_{queue})", max(code, 0))
        return code

    # --- asking -------------------------------------------------------------------------------------------------------

    def mq_ask(self, _message: object, how: str) -> int:
        """python_exec("mq_ask", "QUEUE;then=ROUTE;timeout=SECONDS"), key and value as for mq_add.

        1: asked, and route[ROUTE] runs once; below 0 as AskResult: reply now. `;wait_for_worker=1`: see `ask`.
        """
        clear()
        try:
            request = _request(how)
        except ValueError as error:
            log.error(f"mq_ask({how!r}): {error}")
            return -1
        return int(self._asking.ask(request))

    def mq_answer(self, _message: object) -> int:
        """Begin a route that mq_ask named: fills $vn(mqk_QUEUE), $vn(mqv_QUEUE) and, unless answered, $vn(mqr_QUEUE).

        1 answered; -1 failed, -2 timed out, and $vn(mqr_QUEUE) says why; -3 this is no such route.
        """
        clear()
        answer = self._asking.begin_route()
        if answer.queue:
            _set(f"mqk_{answer.queue}", answer.key.encode("utf-8", "surrogateescape"))
            _set(f"mqv_{answer.queue}", answer.value_bytes)
            _set(f"mqr_{answer.queue}", answer.reason.encode("utf-8", "surrogateescape"))
        return int(answer.status)

    def mq_answers(self, _message: object) -> int:
        """For an rtimer: let transactions go on whose answers come, or whose time is over."""
        clear()
        return int(self._asking.serve())


class Asking(Protocol):
    """What is asked of `kemi.asking`."""

    def ask(self, request: Request) -> int:
        """Ask; never raises."""

    def begin_route(self) -> Answer:
        """What the route that runs now runs for."""

    def serve(self) -> int:
        """Be an answers process for a while."""


_HOW = {"then", "timeout", "wait_for_worker"}


def _request(how: str) -> Request:
    """Read what mq_ask was given. Raises ValueError."""
    queue, *parts = (part.strip() for part in how.split(";") if part.strip())
    given: dict[str, str] = {}
    for part in parts:
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in _HOW or name in given:
            raise ValueError(f"{part!r}: write QUEUE;then=ROUTE;timeout=SECONDS, and perhaps wait_for_worker=1")
        given[name] = value
    try:
        timeout = float(given.get("timeout", ""))
    except ValueError:
        raise ValueError("timeout= must be a number of seconds, as in lookups;then=ANSWERED;timeout=2.0") from None
    wait = given.get("wait_for_worker", "0")
    if wait not in ("0", "1"):
        raise ValueError(f"wait_for_worker={wait}: write 0 or 1")
    return Request(queue, _get(f"mqk_{queue}"), _get(f"mqv_{queue}"), given.get("then", ""), timeout, wait == "1")


def _pv() -> Any:
    import KSR

    return KSR.pv


def _get(name: str) -> str | bytes:
    """Read a variable. Raises ValueError when its bytes are no text, and too many for the other way."""
    try:
        text = str(_pv().gete(f"$vn({name})"))  # it may be a number
    except UnicodeDecodeError:
        digits = _pv().gete(f"$(vn({name}){{s.encode.hexa}})")
        if not digits:
            raise ValueError(f"$vn({name}) holds bytes that are no UTF-8, and more than {_LONGEST_HEX // 2}") from None
        return bytes.fromhex(digits)
    return text


def _set(name: str, data: bytes) -> None:
    """Fill a variable."""
    import KSR

    try:
        text = data.decode()
        if "\0" not in text:
            KSR.pv.sets(f"$vn({name})", text)
            return
    except UnicodeDecodeError:
        pass
    if 2 * len(data) > _LONGEST_HEX:
        log.error(
            f"$vn({name}): {len(data)} bytes that are no text are too many for a variable: it gets \\x.. for them"
        )
        KSR.pv.sets(f"$vn({name})", data.decode("utf-8", "backslashreplace").replace("\0", "\\x00"))
        return
    KSR.pv.sets(f"$vn({_SCRATCH})", data.hex())
    KSR.pvx.evalx(f"$vn({name})", f"$(vn({_SCRATCH}){{s.decode.hexa}})")


def _unset(queue: str) -> None:
    variables = _pv()
    variables.unset(f"$vn(mqk_{queue})")
    variables.unset(f"$vn(mqv_{queue})")
