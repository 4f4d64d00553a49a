# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.tm and KSR.tmx: what a script asks of the transaction, and sending on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kemi.testing import regex
from kemi.testing.errors import NotCovered
from kemi.testing.functions.plain import one
from kemi.testing.functions.replies import t_reply
from kemi.testing.state import Relayed, Reply, Server
from kemi.testing.transaction import FAILED, FINAL, Branch, Transaction

_EXISTS_ALREADY = -10
_TRYING, _CANCELLED, _ERROR = 100, 487, 500
_SERVER_ERROR = "I'm terribly sorry, server error occurred (1/TM)"
_OF_TM = ("branch", "failure", "branch_failure", "onreply")  # routes that tm itself runs
_OF_REPLIES = ("core_onreply", "onreply")
_BAD_ROUTE = -1


def _theirs(fake: Server) -> Transaction | None:
    """The transaction that an ACK or a CANCEL belongs to."""
    return next((each for each in reversed(fake.state.transactions) if each.belongs(fake.state.message)), None)


def _t_newtran(fake: Server) -> int:
    if fake.state.message.method == "ACK":
        return 1 if _theirs(fake) else -1
    if fake.state.transaction.exists:
        return _EXISTS_ALREADY
    fake.state.transaction.exists = True
    return 1


def _t_check_trans(fake: Server) -> int:
    """1 in the routes of tm, for a CANCEL of a known INVITE and an ACK to its 2xx; 0 for what is absorbed."""
    state = fake.state
    if state.route_kind in _OF_TM:
        return 1
    if not state.message.is_request:
        return 1 if state.transaction.relayed else -1
    if state.message.method == "CANCEL":
        return 1 if _theirs(fake) else -1
    if state.message.method == "ACK":
        theirs = _theirs(fake)
        return -1 if theirs is None else 0 if theirs.status >= FAILED else 1
    return 0 if state.transaction.exists else -1


def _t_lookup_request(fake: Server) -> int:
    if fake.state.message.method == "ACK":
        return 1 if _theirs(fake) else -1
    return 1 if fake.state.transaction.exists else -1


def _t_lookup_cancel(fake: Server, _flags: int = 0) -> int:
    return 1 if fake.state.message.method == "CANCEL" and _theirs(fake) else -1


def _t_send_reply(fake: Server, code: int, reason: str) -> int:
    if not fake.state.transaction.exists:
        _t_newtran(fake)
    return t_reply(fake, code, reason)


# --- what has come back -----------------------------------------------------------------------------------------------


def _status(fake: Server) -> int:
    """What t_get_status_code and t_check_status look at; -1 where the server has none."""
    state = fake.state
    if state.route_kind in _OF_REPLIES:
        return state.message.status if state.transaction.relayed else -1
    if state.route_kind in ("branch", "onsend"):
        return -1
    return state.transaction.status or -1


def _t_check_status(fake: Server, pattern: str) -> int:
    """A regular expression, for the whole code or a part of it."""
    code = _status(fake)
    return 1 if code > 0 and regex.search(pattern, str(code)) else -1


def _t_any_replied(fake: Server) -> int:
    """A final reply counts already in ksr_reply_route, before tm has seen it."""
    state = fake.state
    coming = state.route_kind == "core_onreply" and state.transaction.relayed and state.message.status >= FINAL
    return 1 if coming or state.transaction.answered else -1


def _t_branch_replied(fake: Server) -> int:
    """Only a failure route knows which branch is meant."""
    worst = fake.state.transaction.worst() if fake.state.route_kind in ("failure", "branch_failure") else None
    return 1 if worst and not worst.timed_out else -1


def _t_any_timeout(fake: Server) -> int:
    return 1 if any(branch.timed_out for branch in fake.state.transaction.branches) else -1


def _t_branch_timeout(fake: Server) -> int:
    worst = fake.state.transaction.worst() if fake.state.route_kind in ("failure", "branch_failure") else None
    return 1 if worst and worst.timed_out else -1


def _t_grep_status(fake: Server, code: int) -> int:
    return 1 if any(branch.status == code for branch in fake.state.transaction.branches) else -1


def _t_is_canceled(fake: Server) -> int:
    return 1 if fake.state.transaction.canceled else -1


def _t_get_branch_index(fake: Server) -> int:
    return fake.state.branch


# --- sending on -------------------------------------------------------------------------------------------------------


def _t_on(kind: str) -> Callable[[Server, str], int]:
    def arm(fake: Server, route: str) -> int:
        fake.state.transaction.routes[kind] = fake.state.armed[kind] = route
        return 1

    return arm


def _t_is_set(fake: Server, kind: str) -> int:
    state = fake.state
    routes = state.armed if state.route_kind == "core_onreply" else state.transaction.routes
    return 1 if routes.get(kind) else -1


def _t_relay(fake: Server) -> int:
    """Sent on, as where the next hop is reached; the script's routes for that run as in the server."""
    state, transaction = fake.state, fake.state.transaction
    if not state.message.is_request:
        return _BAD_ROUTE
    if state.message.method in ("ACK", "CANCEL"):
        return _relay_within(fake)
    if transaction.status >= FINAL and state.route_kind != "failure":
        raise NotCovered(
            'KSR.tm.t_relay after a final reply is not covered: say what it gives with ksr.stub("tm.t_relay", 1)'
        )
    if transaction.relayed and state.route_kind != "failure":
        return -1
    transaction.exists = True
    if state.message.method == "INVITE" and transaction.status < _TRYING:
        transaction.status = _TRYING
    if transaction not in state.transactions:
        state.transactions.append(transaction)
    targets = [(state.request_uri, state.destination), *state.branches]
    for uri, destination in targets:
        transaction.branches.append(Branch(uri, destination, set(state.branch_flags)))
        state.relayed.append(Relayed(uri, destination, tuple(state.changes)))
        transaction.kept = state.keep()
        fake.on_relay()
    state.branches = []
    transaction.kept = state.keep()
    state.branch = 0
    return 1


def _relay_within(fake: Server) -> int:
    """An ACK goes on without a transaction; a CANCEL is answered and goes to every branch that is open."""
    state = fake.state
    state.relayed.append(Relayed(state.request_uri, state.destination, tuple(state.changes)))
    if state.message.method == "CANCEL":
        theirs = _theirs(fake)
        if theirs is not None:
            theirs.canceled = True
            state.replies.append(Reply(200, "canceling", (), "", "tm"))
            if theirs.suspended and not theirs.replied:
                theirs.status, theirs.replied = _CANCELLED, True
                state.replies.append(Reply(_CANCELLED, "Request canceled", (), "", "tm"))
    return 1


def _relay_to(fake: Server, *arguments: Any) -> int:
    if len(arguments) == 3 and arguments[1]:  # noqa: PLR2004 protocol, host, port
        fake.state.destination = f"sip:{arguments[1]}:{arguments[2]};transport={arguments[0].lower()}"
    return _t_relay(fake)


def _t_relay_to_proxy(fake: Server, proxy: str, _flags: int = 0) -> int:
    fake.state.destination = f"sip:{proxy}"
    return _t_relay(fake)


def _t_replicate(fake: Server, uri: str) -> int:
    if not fake.state.transaction.exists:
        _t_newtran(fake)
    fake.state.relayed.append(Relayed(fake.state.request_uri, uri, tuple(fake.state.changes)))
    return 1


def _t_suspend(fake: Server) -> int:
    """1 also for what the caller cancelled, which is not suspended then."""
    state = fake.state
    if not state.transaction.exists:
        _t_newtran(fake)
    transaction = state.transaction
    if transaction.canceled:
        return 1
    if transaction.replied:
        return -1
    transaction.suspended = True
    if state.message.method == "INVITE" and transaction.status < _TRYING:
        transaction.status = _TRYING
    transaction.kept = state.keep()
    if transaction not in state.transactions:
        state.transactions.append(transaction)
    return 1


def _t_continue(fake: Server, index: int, label: int, route: str) -> int:
    """1 also where the route does not run, because the caller cancelled."""
    state = fake.state
    found = next((each for each in state.transactions if each.identity == (index, label)), None)
    if found is None or not found.suspended:
        return -1
    found.suspended = False
    if found.canceled:
        return 1
    found.continued = True
    fake.on_continue(found, route)
    if not (found.replied or found.suspended or any(branch.open for branch in found.branches)):
        found.status, found.replied = _ERROR, True
        state.replies.append(Reply(_ERROR, _SERVER_ERROR, (), "", "tm"))
    return 1


def _t_drop_replies(fake: Server, _mode: str = "n") -> int:
    """What came is no longer looked at, when the worst one is chosen."""
    for branch in fake.state.transaction.branches:
        branch.status = branch.status if branch.open else 999
    return 1


def _of_transaction(fake: Server, *_arguments: Any) -> int:
    return 1 if fake.state.transaction.exists else -1


def _is_route(*kinds: str) -> Callable[[Server], int]:
    return lambda fake: 1 if fake.state.route_kind in kinds else -1


def _t_precheck_trans(fake: Server) -> int:
    """Is it a repetition, or does it belong to something that is known?"""
    return 1 if fake.state.message.method in ("ACK", "CANCEL") and _theirs(fake) else -1


COVERED: dict[str, Callable[..., Any]] = {
    "tm.t_newtran": _t_newtran,
    "tm.t_check_trans": _t_check_trans,
    "tm.t_exists": _t_lookup_request,
    "tm.t_lookup_request": _t_lookup_request,
    "tm.t_lookup_cancel": _t_lookup_cancel,
    "tm.t_lookup_cancel_flags": _t_lookup_cancel,
    "tm.t_send_reply": _t_send_reply,
    "tm.t_get_status_code": _status,
    "tm.t_check_status": _t_check_status,
    "tm.t_any_replied": _t_any_replied,
    "tm.t_branch_replied": _t_branch_replied,
    "tm.t_any_timeout": _t_any_timeout,
    "tm.t_branch_timeout": _t_branch_timeout,
    "tm.t_grep_status": _t_grep_status,
    "tm.t_is_canceled": _t_is_canceled,
    "tm.t_is_expired": lambda _: -1,
    "tm.t_get_branch_index": _t_get_branch_index,
    "tm.t_on_branch": _t_on("branch_route"),
    "tm.t_on_branch_failure": _t_on("branch_failure_route"),
    "tm.t_on_failure": _t_on("failure_route"),
    "tm.t_on_reply": _t_on("onreply_route"),
    "tm.t_is_set": _t_is_set,
    "tm.t_relay": _t_relay,
    "tm.t_relay_to_flags": _relay_to,
    "tm.t_relay_to_proto": _relay_to,
    "tm.t_relay_to_proto_addr": _relay_to,
    "tm.t_relay_to_proxy": _t_relay_to_proxy,
    "tm.t_relay_to_proxy_flags": _t_relay_to_proxy,
    "tm.t_replicate": _t_replicate,
    "tm.t_is_retr_async_reply": lambda _: -1,
    "tm.t_retransmit_reply": lambda fake: 1 if fake.state.transaction.status else -1,
    "tm.t_save_lumps": _of_transaction,
    "tm.t_drop_replies": _t_drop_replies,
    "tm.t_drop_replies_all": _t_drop_replies,
    **dict.fromkeys(
        (
            *("tm.t_set_fr", "tm.t_set_fr_inv", "tm.t_reset_fr", "tm.t_set_max_lifetime", "tm.t_reset_max_lifetime"),
            *("tm.t_set_retr", "tm.t_reset_retr", "tm.t_set_auto_inv_100", "tm.t_set_disable_6xx"),
            *("tm.t_release", "tm.t_clean", "tm.t_use_uac_headers", "tm.t_set_disable_failover"),
            *("tm.t_set_disable_internal_reply", "tm.t_set_no_e2e_cancel_reason"),
        ),
        one,
    ),
    "tmx.t_suspend": _t_suspend,
    "tmx.t_continue": _t_continue,
    "tmx.t_flush_flags": _of_transaction,
    "tmx.t_flush_xflags": _of_transaction,
    "tmx.t_drop": _of_transaction,
    "tmx.t_reuse_branch": lambda _: -1,
    "tmx.t_precheck_trans": _t_precheck_trans,
    "tmx.t_is_request_route": _is_route("request"),
    "tmx.t_is_failure_route": _is_route("failure"),
    "tmx.t_is_branch_route": _is_route("branch"),
    "tmx.t_is_reply_route": _is_route("core_onreply", "onreply"),
}
