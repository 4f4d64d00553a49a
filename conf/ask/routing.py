# SPDX-License-Identifier: 0BSD
"""Routing script (KEMI): where a call goes is looked up over HTTP, by lookup.py; no SIP worker waits for it.

`ask` suspends the transaction. When the answer has come, or 2 seconds are over, it goes on in ksr_answered.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import KSR

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.append(ROOT)  # last, so that an installed mqueue_kemi is preferred

import mqueue_kemi  # noqa: E402
from mqueue_kemi import AskResult, modparam  # noqa: E402

QUEUE = "lookups"
UNKNOWN = "unknown number"  # why lookup.py has no answer

modparam("mqueue", "instance", os.environ.get("MQUEUE_KEMI_INSTANCE", "kamailio"))
modparam("mqueue", "mqueue", f"name={QUEUE};size=5000")


class Script:
    """The handler: one object in every Kamailio process."""

    def child_init(self, _rank: int) -> int:
        return 0

    def ksr_request_route(self, _msg: object) -> int:
        if KSR.is_INVITE():
            self.route_call()
        elif KSR.is_CANCEL():
            if KSR.tm.t_check_trans() > 0:
                KSR.tm.t_relay()  # tm answers, and the route below does not run
        elif KSR.is_ACK():
            KSR.tm.t_check_trans()
        elif KSR.is_OPTIONS():
            KSR.sl.sl_send_reply(200, "Keepalive")
        else:
            KSR.sl.sl_send_reply(405, "Method Not Allowed")
        return 1

    def route_call(self) -> None:
        asked = mqueue_kemi.ask(QUEUE, KSR.pv.gete("$rU"), then="ksr_answered", timeout=2.0)
        if not asked and asked != AskResult.CANCELLED:
            KSR.sl.send_reply(503, "Try Later")

    def ksr_answered(self, _msg: object) -> int:
        """The transaction goes on, in the answers process. Nothing here may wait: it would keep all other answers."""
        answer = mqueue_kemi.answer()
        if answer:
            redirect(answer.value)
        elif answer.reason == UNKNOWN:
            KSR.tm.t_reply(404, "Not Found")
        else:  # AnswerStatus.TIMED_OUT, or FAILED because the directory is away
            KSR.warn(f"no answer for {answer.key}: {answer.reason}\n")
            KSR.tm.t_reply(504, "Directory Does Not Answer")
        return 1


def redirect(uri: str) -> None:
    """Tell the caller where the callee is: Kamailio puts $ru into Contact. (A proxy would set $du, and t_relay.)"""
    KSR.pv.sets("$ru", uri)
    KSR.tm.t_reply(302, "Moved Temporarily")


def mod_init() -> object:
    """Make the queues and give app_python3 its handler."""
    return mqueue_kemi.mod_init(Script())
