# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.sl, and replies through the transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kemi.testing.errors import NotCovered
from kemi.testing.state import Reply, Server
from kemi.testing.transaction import FINAL

_SERVER_ERROR = "I'm terribly sorry, server error occurred (1/SL)"
_TRYING = 100


def _send(fake: Server, code: int, reason: str, by: str) -> int:
    state = fake.state
    state.replies.append(Reply(code, reason, tuple(state.reply_headers), state.reply_body, by))
    return 1


def sl_send_reply(fake: Server, code: int, reason: str) -> int:
    """Without the transaction; a reply to an ACK is not sent."""
    if fake.state.message.method == "ACK":
        return 1
    return _send(fake, code, reason, "sl")


def send_reply(fake: Server, code: int, reason: str) -> int:
    """Through the transaction where there is one."""
    return t_reply(fake, code, reason) if fake.state.transaction.exists else sl_send_reply(fake, code, reason)


def _send_reply_mode(fake: Server, code: int, reason: str, _mode: int) -> int:
    return send_reply(fake, code, reason)


def _sl_reply_error(fake: Server) -> int:
    """The server's code for no particular error; which one a failed t_relay leaves, only the server knows."""
    if fake.stubbed("tm.t_relay"):
        raise NotCovered(
            "KSR.sl.sl_reply_error after a stubbed t_relay is not covered, its code depends on the error: "
            'say that it replies with ksr.stub("sl.sl_reply_error", 1)'
        )
    return sl_send_reply(fake, 500, _SERVER_ERROR)


def t_reply(fake: Server, code: int, reason: str) -> int:
    """A reply of the transaction; none after a final one."""
    transaction = fake.state.transaction
    if not transaction.exists or (transaction.status >= FINAL and fake.state.route_kind != "failure"):
        return -1
    if transaction.continued and transaction.replied:
        return -1
    transaction.replied = code >= FINAL
    transaction.status = code
    transaction.suspended = False
    if transaction not in fake.state.transactions:
        fake.state.transactions.append(transaction)
    return _send(fake, code, reason, "tm")


COVERED: dict[str, Callable[..., Any]] = {
    "sl.sl_send_reply": sl_send_reply,
    "sl.send_reply": send_reply,
    "sl.send_reply_mode": _send_reply_mode,
    "sl.sl_reply_error": _sl_reply_error,
    "tm.t_reply": t_reply,
}
