"""KSR.sl, KSR.tm and KSR.tmx: replies, the transaction, and sending on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kemi.testing.errors import NotCovered
from kemi.testing.state import Relayed, Reply, Server

_FINAL = 200
_EXISTS_ALREADY = -10
_SERVER_ERROR = "I'm terribly sorry, server error occurred (1/SL)"
_KINDS = {"branch_route": "branch", "failure_route": "failure", "onreply_route": "onreply"}


def _send(fake: Server, code: int, reason: str, by: str) -> int:
    state = fake.state
    state.replies.append(Reply(code, reason, tuple(state.reply_headers), state.reply_body, by))
    return 1


def _sl_send_reply(fake: Server, code: int, reason: str) -> int:
    return _send(fake, code, reason, "sl")


def _send_reply(fake: Server, code: int, reason: str) -> int:
    """Through the transaction where there is one."""
    return _t_reply(fake, code, reason) if fake.state.transaction.exists else _sl_send_reply(fake, code, reason)


def _sl_reply_error(fake: Server) -> int:
    """The server's code for no particular error; which one a failed t_relay leaves, only the server knows."""
    if fake.stubbed("tm.t_relay"):
        raise NotCovered(
            "KSR.sl.sl_reply_error after a stubbed t_relay is not covered, its code depends on the error: "
            'say that it replies with ksr.stub("sl.sl_reply_error", 1)'
        )
    return _sl_send_reply(fake, 500, _SERVER_ERROR)


# --- the transaction --------------------------------------------------------------------------------------------------


def _only_new_requests(fake: Server, path: str) -> None:
    """Whether an ACK or a CANCEL belongs to something, the fake cannot know."""
    if fake.state.message.method in ("ACK", "CANCEL") or not fake.state.message.is_request:
        what = fake.state.message.method or "a reply"
        raise NotCovered(f"KSR.{path} for {what} is not covered: say what it gives with ksr.stub({path!r}, 1)")


def _t_newtran(fake: Server) -> int:
    _only_new_requests(fake, "tm.t_newtran")
    if fake.state.transaction.exists:
        return _EXISTS_ALREADY
    fake.state.transaction.exists = True
    return 1


def _t_check_trans(fake: Server) -> int:
    _only_new_requests(fake, "tm.t_check_trans")
    return 0 if fake.state.transaction.exists else -1


def _t_lookup_request(fake: Server) -> int:
    _only_new_requests(fake, "tm.t_lookup_request")
    return 1 if fake.state.transaction.exists else -1


def _t_reply(fake: Server, code: int, reason: str) -> int:
    transaction = fake.state.transaction
    if not transaction.exists or transaction.status >= _FINAL:
        return -1
    transaction.status = code
    return _send(fake, code, reason, "tm")


def _t_send_reply(fake: Server, code: int, reason: str) -> int:
    if not fake.state.transaction.exists:
        _t_newtran(fake)
    return _t_reply(fake, code, reason)


def _t_get_status_code(fake: Server) -> int:
    return fake.state.transaction.status or -1


def _no_branches(path: str) -> Callable[[Server], int]:
    """What is asked of branches has one answer only while there are none."""

    def ask(fake: Server) -> int:
        if fake.state.transaction.relayed or fake.state.route_kind != "request":
            raise NotCovered(f"KSR.{path} after t_relay is not covered: say what it gives with ksr.stub({path!r}, 1)")
        return -1

    return ask


# --- sending on -------------------------------------------------------------------------------------------------------


def _t_on(kind: str) -> Callable[[Server, str], int]:
    def arm(fake: Server, route: str) -> int:
        fake.state.transaction.routes[kind] = route
        return 1

    return arm


def _t_is_set(fake: Server, kind: str) -> int:
    return 1 if fake.state.transaction.routes.get(kind) else -1


def _t_relay(fake: Server) -> int:
    """Sent on, as where the next hop is reached; the script's routes for that run as in the server."""
    state = fake.state
    _only_new_requests(fake, "tm.t_relay")
    if state.transaction.status >= _FINAL:
        raise NotCovered(
            'KSR.tm.t_relay after a final reply is not covered: say what it gives with ksr.stub("tm.t_relay", 1)'
        )
    if state.transaction.relayed:
        return -1
    state.transaction.exists = state.transaction.relayed = True
    state.relayed.append(Relayed(state.request_uri, state.destination, tuple(state.changes)))
    fake.on_relay()
    return 1


def _one(_fake: Server, *_arguments: Any) -> int:
    return 1


def _is_route(kind: str) -> Callable[[Server], int]:
    return lambda fake: 1 if fake.state.route_kind == kind else -1


COVERED: dict[str, Callable[..., Any]] = {
    "sl.sl_send_reply": _sl_send_reply,
    "sl.send_reply": _send_reply,
    "sl.sl_reply_error": _sl_reply_error,
    "tm.t_newtran": _t_newtran,
    "tm.t_check_trans": _t_check_trans,
    "tm.t_lookup_request": _t_lookup_request,
    "tm.t_reply": _t_reply,
    "tm.t_send_reply": _t_send_reply,
    "tm.t_get_status_code": _t_get_status_code,
    "tm.t_any_replied": _no_branches("tm.t_any_replied"),
    "tm.t_is_canceled": _no_branches("tm.t_is_canceled"),
    "tm.t_is_expired": _no_branches("tm.t_is_expired"),
    "tm.t_on_branch": _t_on("branch_route"),
    "tm.t_on_failure": _t_on("failure_route"),
    "tm.t_on_reply": _t_on("onreply_route"),
    "tm.t_is_set": _t_is_set,
    "tm.t_relay": _t_relay,
    "tm.t_set_fr": _one,
    "tm.t_reset_fr": _one,
    "tmx.t_precheck_trans": _no_branches("tmx.t_precheck_trans"),
    "tmx.t_is_request_route": _is_route("request"),
    "tmx.t_is_failure_route": _is_route("failure"),
    "tmx.t_is_branch_route": _is_route("branch"),
    "tmx.t_is_reply_route": _is_route("onreply"),
}
