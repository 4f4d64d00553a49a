# SPDX-License-Identifier: GPL-2.0-or-later
"""What follows when a request was sent on: the routes of tm, and the message and the variables that each of them has.

| route | message | $rs | $T_reply_code | $T_branch_idx | $avp, flags |
|---|---|---|---|---|---|
| branch | the request, its URI that of the branch | null | 100 for an INVITE, else 0 | the branch | the request's |
| onsend | what is sent | null, or the reply's | 0 | -1; of a reply 0 | the request's |
| ksr_reply_route | the reply | its code | its code | -1 | none |
| onreply | the reply | its code | its code | the branch | the request's |
| failure | the request, its URI that of the branch | null | the code that failed | number of branches | the request's |

Seen in 5.6.3 and 6.0.1, which agree; tests/testing/flows.py has the calls.
"""

from __future__ import annotations

from collections.abc import Callable

from kemi.testing.message import Message
from kemi.testing.state import Reply, State
from kemi.testing.transaction import FAILED, FINAL, Branch, Transaction

_TIMEOUT, _OK, _TRYING = 408, 200, 100
_REASONS = {
    100: "Trying",
    180: "Ringing",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    484: "Address Incomplete",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    500: "Server Internal Error",
    503: "Service Unavailable",
    600: "Busy Everywhere",
    603: "Decline",
}
_OF_ROUTES = ("avps", "xavps", "flags")  # what a reply's routes have of the request's


def reason_of(code: int) -> str:
    """Return the usual reason of a code."""
    return _REASONS.get(code, "Reason")


def answerable(state: State, what: str) -> Transaction:
    """Return the newest transaction that was sent on. Raises ValueError, which says what `what` misses."""
    found = next((each for each in reversed(state.transactions) if each.relayed), None)
    if found is None:
        raise ValueError(
            f"{what}: there is nothing to reply to, for no request was sent on yet (no KSR.tm.t_relay); "
            "let script.request(...) come before it"
        )
    return found


def answer(
    state: State, code: int, reason: str | None, more: str, branch: int | None
) -> tuple[Transaction, Branch, Message]:
    """Return the reply of a next hop to the request that was sent on last. Raises ValueError."""
    if not _TRYING <= code <= 699:  # noqa: PLR2004 SIP's
        raise ValueError(f"reply({code}): no code of a SIP reply (100 to 699)")
    transaction = answerable(state, f"reply({code})")
    if branch is None:
        chosen = transaction.last_open()
        if chosen is None:
            raise ValueError(
                f"reply({code}): there is nothing to reply to, for each branch of the last request has had its final "
                f"reply ({', '.join(str(each.status) for each in transaction.branches)})"
            )
    elif not 0 <= branch < len(transaction.branches):
        raise ValueError(
            f"reply({code}): the last request has {len(transaction.branches)} branches, none number {branch}"
        )
    else:
        chosen = transaction.branches[branch]
    return transaction, chosen, _message(state, transaction, code, reason, more)


def timed_out(state: State) -> Transaction:
    """Return the transaction whose open branches now have 408 from the timer. Raises ValueError."""
    transaction = answerable(state, "timeout()")
    opened = [each for each in transaction.branches if each.open]
    if not opened:
        raise ValueError("timeout(): each branch of the last request has had its final reply")
    for branch in opened:
        branch.status, branch.timed_out = _TIMEOUT, True
    return transaction


def _message(state: State, transaction: Transaction, code: int, reason: str | None, more: str) -> Message:
    request = transaction.message
    head, _, body = more.replace("\r\n", "\n").partition("\n\n")
    own = [line for line in head.split("\n") if line]
    to = request.first("To") or ""
    host, port = state.listening
    lines = [
        f"SIP/2.0 {code} {reason_of(code) if reason is None else reason}",
        f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK-fake.{len(state.transactions)}",
        *(f"Via: {via}" for via in request.all("Via")),
        f"From: {request.first('From')}",
        f"To: {to}" if "tag=" in to or code == _TRYING else f"To: {to};tag=callee",
        f"Call-ID: {request.first('Call-ID')}",
        f"CSeq: {request.first('CSeq')}",
        *own,
        f"Content-Length: {len(body.encode('utf-8', 'surrogateescape'))}",
    ]
    return Message("\r\n".join(lines) + "\r\n\r\n" + body, request.source, state.listening, request.proto)


# --- the state of one route -------------------------------------------------------------------------------------------


def enter_core_reply(state: State) -> None:
    """ksr_reply_route: nothing is known but the reply itself."""
    state.branch = -1


def enter(state: State, kind: str, code: int | None) -> None:
    """Let the state be that of a route of tm, for the request that was sent on last; without one, of this message."""
    transaction = next((each for each in reversed(state.transactions) if each.relayed), state.transaction)
    branch = transaction.branches[-1] if transaction.branches else None
    if not transaction.message.is_request:
        return
    if kind == "onreply":
        status = code or (branch.status if branch and branch.status else _OK)
        _enter_reply(state, transaction, _message(state, transaction, status, None, ""), branch)
    elif kind in ("failure", "branch_failure"):
        failed = code or next((each.status for each in transaction.branches if each.status >= FAILED), _TIMEOUT)
        if branch is not None and (branch.open or code is not None):
            branch.status, branch.timed_out = failed, code is None
        enter_request(state, transaction, branch)
        state.branch = len(transaction.branches)
        transaction.status = failed
        transaction.exists = True
        transaction.routes.pop("failure_route" if kind == "failure" else "branch_failure_route", None)
    else:
        enter_request(state, transaction, branch)
        state.branch = max(0, len(transaction.branches) - 1)
        transaction.routes.pop("branch_route", None)


def enter_request(state: State, transaction: Transaction, branch: Branch | None) -> None:
    """The request is the message again, as it was sent to this branch."""
    state.message = transaction.message
    state.dropped = False
    if transaction.kept:
        state.clear()
        state.bring_back(transaction.kept)
    if branch is not None:
        state.new_uri, state.destination = branch.uri, branch.destination
        state.branch_flags = set(branch.flags)
    state.transaction = transaction


def _enter_reply(state: State, transaction: Transaction, message: Message, branch: Branch | None) -> None:
    state.receive(message)
    state.transaction = transaction
    state.bring_back(transaction.kept, *_OF_ROUTES)
    state.branch_flags = set(branch.flags) if branch else set()
    state.branch = transaction.branches.index(branch) if branch else -1


class Conversation:
    """Runs what follows a reply, as tm does."""

    def __init__(self, state: State, run: Callable[[str, str], int | None]) -> None:
        """run: calls a route of the script by its name, with the kind of route that it is."""
        self._state = state
        self._run = run

    def reply(self, transaction: Transaction, branch: Branch, message: Message) -> int | None:
        """A next hop has replied. Returns what the last route returned."""
        state = self._state
        state.receive(message)
        state.transaction = transaction
        enter_core_reply(state)
        returned = self._run("ksr_reply_route", "core_onreply")
        if state.dropped:
            return returned
        branch.status, branch.reply = message.status, message
        name = transaction.routes.get("onreply_route")
        if name is not None:
            _enter_reply(state, transaction, message, branch)
            returned = self._run(name, "onreply")
            transaction.kept.update({each: getattr(state, each) for each in _OF_ROUTES})
            if self._was_dropped() and message.status < FINAL:
                return returned
        if message.status >= FAILED:
            if any(each.open for each in transaction.branches):
                return returned  # another one may still answer
            return self.fail(transaction, returned)
        if message.status > _TRYING:
            self._pass_on(transaction, branch, message)
        return returned

    def fail(self, transaction: Transaction, returned: int | None = 1) -> int | None:
        """All branches have failed: the failure route, and if it does nothing, the worst reply goes to the caller."""
        state = self._state
        worst = transaction.worst()
        if worst is None:
            return returned
        count, sent = len(transaction.branches), len(state.replies)
        name = transaction.routes.pop("failure_route", None)
        transaction.status = worst.status
        if name is not None:
            enter_request(state, transaction, worst)
            state.branch = count
            returned = self._run(name, "failure")
            transaction.kept = state.keep()
        if len(transaction.branches) == count and len(state.replies) == sent:
            self._pass_on(transaction, worst, worst.reply or _message(state, transaction, worst.status, None, ""))
        return returned

    def _was_dropped(self) -> bool:
        return self._state.dropped

    def _pass_on(self, transaction: Transaction, branch: Branch, message: Message) -> None:
        """The reply goes to the caller."""
        state = self._state
        transaction.status = message.status
        state.replies.append(Reply(message.status, message.reason, tuple(state.reply_headers), message.body, "tm"))
        before = state.message, state.route_kind, state.branch
        kept = state.keep()
        _enter_reply(state, transaction, message, branch)
        state.bring_back({"avps": {}, "xavps": {}})
        state.branch = 0
        self._run("ksr_onsend_route", "onsend")
        state.message, state.route_kind, state.branch = before
        state.bring_back(kept)
