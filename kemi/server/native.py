"""The handler for a native kamailio.cfg, whose language gets no new functions: python_exec("mq_add", "myq").

Key and value cross in named variables: $vn(mqk_myq) and $vn(mqv_myq), the size in $vn(mq_size_myq).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from kemi.server import log


class Functions(NamedTuple):
    """The functions of `mqueue_kemi` that the handler calls."""

    add: Any
    fetch: Any
    free: Any
    size: Any
    key: Any
    value: Any


class _Variables(Protocol):
    """The part of KSR.pv that is used here."""

    def gete(self, name: str) -> str: ...
    def sets(self, name: str, value: str) -> int: ...
    def seti(self, name: str, value: int) -> int: ...
    def unset(self, name: str) -> int: ...


def _pv() -> _Variables:
    import KSR

    variables: _Variables = KSR.pv
    return variables


class Handler:
    """What app_python3 calls. Each method gets the SIP message first, and its result is python_exec's."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    def child_init(self, _rank: int) -> int:
        """Nothing is to be done for a process: it inherits the queues."""
        return 0

    def mq_add(self, _message: object, queue: str) -> int:
        """Documentation 4.1, mq_add(queue, key, value), with $vn(mqk_QUEUE) and $vn(mqv_QUEUE). 1, or -1."""
        variables = _pv()
        return int(self._functions.add(queue, variables.gete(f"$vn(mqk_{queue})"), variables.gete(f"$vn(mqv_{queue})")))

    def mq_fetch(self, _message: object, queue: str) -> int:
        """Documentation 4.2, mq_fetch(queue): fills $vn(mqk_QUEUE) and $vn(mqv_QUEUE). 1, -2 nothing, -1 unknown."""
        code = int(self._functions.fetch(queue))
        if code > 0:
            _set(f"$vn(mqk_{queue})", self._functions.key(queue))
            _set(f"$vn(mqv_{queue})", self._functions.value(queue))
        else:
            _unset(queue)
        return code

    def mq_pv_free(self, _message: object, queue: str) -> int:
        """Documentation 4.3, mq_pv_free(queue): the variables are null then. 1."""
        code = int(self._functions.free(queue))
        _unset(queue)
        return code

    def mq_size(self, _message: object, queue: str) -> int:
        """Documentation 4.4, mq_size(queue): n, -1 empty, -2 unknown; $vn(mq_size_QUEUE) gets n, 0, or null."""
        code = int(self._functions.size(queue))
        if code < -1:
            _pv().unset(f"$vn(mq_size_{queue})")
        else:
            _pv().seti(f"$vn(mq_size_{queue})", max(code, 0))
        return code


def _unset(queue: str) -> None:
    variables = _pv()
    variables.unset(f"$vn(mqk_{queue})")
    variables.unset(f"$vn(mqv_{queue})")


def _set(variable: str, text: str) -> None:
    """Fill a variable. A pseudo-variable cannot hold what is no UTF-8, or a NUL; only another process adds such."""
    clean = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    if clean != text:
        log.error(f"{variable} cannot hold {text[:60]!r}: the bytes that it cannot hold are written as \\x..")
    _pv().sets(variable, clean)
