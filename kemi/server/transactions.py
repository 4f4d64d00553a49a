# SPDX-License-Identifier: GPL-2.0-or-later
"""Implements `answers.tm`: suspend a transaction, and let it go on, by KEMI's functions of tm and tmx.

t_suspend gives 1 for a transaction that the caller has cancelled, too, and t_continue gives 1 without running the route
after a CANCEL: so neither is taken for what it seems. What tm numbers without a sign crosses KEMI as a C int.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kemi.answers.tm import Identity, Suspended, Unaskable

_SIGN = 1 << 31
# Of the transaction, between suspending and going on: where it was suspended. Suspended twice it could go on once, and
# tm never frees what is told to go on and is not suspended any more. In a failure route tm has ended the first one.
_WAITS = "$avp(mqueue_kemi_waits)"
_REQUEST, _FAILURE = 1, 2
_MADE_UP = "sip:you@kamailio.org"  # the URI of the request with which Kamailio runs routes that have none

_Continue = Callable[[int, int, str], int]


class Transactions:
    """What `ask` and the answers process want of the server around them."""

    def __init__(self, has_route: Callable[[str], bool], go_on: _Continue) -> None:
        """go_on: `kemi_continue`, or what does the same for routes of kamailio.cfg."""
        self._has_route = has_route
        self._go_on = go_on

    def has_route(self, name: str) -> bool:
        """Return False if there is certainly no route of that name."""
        return self._has_route(name)

    def identify(self) -> Identity | None:
        """The transaction of the message, made if need be; None for a retransmission. Raises Unaskable."""
        ksr = _ksr()
        missing = [f"{name}.so" for name in ("tm", "tmx") if not hasattr(ksr, name)]
        if missing:
            raise Unaskable(f"it needs the modules tm and tmx: write loadmodule {' and '.join(missing)}")
        if ksr.is_ACK() or ksr.is_CANCEL():
            raise Unaskable("an ACK or a CANCEL has no transaction to suspend; ask while the INVITE is routed")
        if ksr.tmx.t_is_reply_route() > 0 or ksr.tmx.t_is_branch_route() > 0:
            raise Unaskable("a reply or a branch cannot be suspended here; ask in a request route or a failure route")
        if ksr.pv.get("$T(id_index)") is None:
            if not _make(ksr):
                return None
        elif (ksr.pv.get(_WAITS) or 0) >= _where(ksr):
            raise Unaskable(
                "the transaction waits for an answer already; return, and ask again in the route of that one"
            )
        return Identity(_unsigned(ksr.pv.get("$T(id_index)")), _unsigned(ksr.pv.get("$T(id_label)")))

    def is_cancelled(self) -> bool:
        """Return True if the caller gave up."""
        return bool(_ksr().tm.t_is_canceled() > 0)

    def suspend(self, milliseconds: int) -> Suspended:
        """Suspend it; tm ends it after so long. The time for a callee to answer (fr_inv_timer) stays as it is."""
        ksr = _ksr()
        ksr.tm.t_set_fr(0, milliseconds)
        ksr.pv.seti(_WAITS, _where(ksr))
        code = ksr.tmx.t_suspend()
        if self.is_cancelled():
            return Suspended.CANCELLED
        if code < 0:
            self.restore()
            return Suspended.NO
        return Suspended.YES

    def restore(self) -> None:
        """In the route that goes on: what is sent from here on has tm's own times again (fr_timer, fr_inv_timer)."""
        ksr = _ksr()
        ksr.pv.unset(_WAITS)
        ksr.tm.t_reset_fr()

    def go_on(self, transaction: Identity, then: str) -> int:
        """Let a suspended transaction go on in a route. Below 0: it is gone, or not suspended."""
        return self._go_on(_signed(transaction.hash_index), _signed(transaction.label), then)


def _where(ksr: Any) -> int:
    return _FAILURE if ksr.tmx.t_is_failure_route() > 0 else _REQUEST


def _make(ksr: Any) -> bool:
    """Make the transaction of the message. False for a retransmission. Raises Unaskable."""
    if ksr.pv.get("$ou") == _MADE_UP and ksr.pv.get("$rm") == "OPTIONS":
        raise Unaskable(
            "there is no request here: Kamailio made one up, for a timer, an event or the start of a process, and its "
            "transaction would never end; ask while a request is routed, or queue with mq_add"
        )
    made = ksr.tm.t_newtran()
    if made < 0:
        raise Unaskable("tm made no transaction for this message; its own line in the log says why")
    return bool(made)


def kemi_continue(index: int, label: int, then: str) -> int:
    """Let a transaction go on in a route of the script."""
    return int(_ksr().tmx.t_continue(index, label, then))


def _ksr() -> Any:
    import KSR

    return KSR


def _unsigned(number: Any) -> int:
    return int(number) & 0xFFFFFFFF


def _signed(number: int) -> int:
    return number - 2 * _SIGN if number >= _SIGN else number
