# SPDX-License-Identifier: 0BSD
"""Routing script (KEMI): a phone that is not registered is woken by a push, by wake.py; then the call goes on.

`ask` suspends the transaction; no SIP worker waits for the phone. Each registration is queued for the worker, which
answers as soon as the phone is there. When that takes longer than WAIT seconds, the caller hears so.
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
from mqueue_kemi import AnswerStatus, AskResult, modparam, mq_add  # noqa: E402

WAIT = float(os.environ.get("PUSH_WAIT", "20"))  # seconds for a phone to wake up; callers hear nothing meanwhile
LOCATION = "location"

modparam("mqueue", "instance", os.environ.get("MQUEUE_KEMI_INSTANCE", "kamailio"))
modparam("mqueue", "mqueue", "name=push;size=5000")
modparam("mqueue", "mqueue", "name=registered;size=50000")  # the oldest go, when no worker takes them


class Script:
    """The handler: one object in every Kamailio process."""

    def child_init(self, _rank: int) -> int:
        return 0

    def ksr_request_route(self, _msg: object) -> int:
        if KSR.maxfwd.process_maxfwd(10) < 0:
            KSR.sl.sl_send_reply(483, "Too Many Hops")
        elif KSR.is_OPTIONS():
            KSR.sl.sl_send_reply(200, "Keepalive")
        elif KSR.is_CANCEL():
            if KSR.tm.t_check_trans() > 0:
                KSR.tm.t_relay()
        elif KSR.pv.gete("$tt"):
            self.inside_a_call()
        elif KSR.is_REGISTER():
            self.register()
        elif KSR.is_INVITE():
            self.call()
        else:
            KSR.sl.sl_send_reply(405, "Method Not Allowed")
        return 1

    def ksr_onsend_route(self, _msg: object) -> int:
        return 1  # Kamailio calls it for whatever is relayed

    def ksr_reply_route(self, _msg: object) -> int:
        return 1

    def inside_a_call(self) -> None:
        if KSR.rr.loose_route() > 0:
            KSR.tm.t_relay()
        elif KSR.is_ACK():
            if KSR.tm.t_check_trans() > 0:
                KSR.tm.t_relay()
        else:
            KSR.sl.sl_send_reply(404, "Not Here")

    def register(self) -> None:
        """A server in the open asks for a password first, and looks at the request for a push token (RFC 8599)."""
        if KSR.registrar.save(LOCATION, 0) > 0:
            mq_add("registered", KSR.pv.gete("$tU"), "")

    def call(self) -> None:
        KSR.rr.record_route()
        if KSR.registrar.lookup(LOCATION) > 0:
            KSR.tm.t_relay()
            return
        asked = mqueue_kemi.ask("push", KSR.pv.gete("$rU"), then="ksr_woken", timeout=WAIT)
        if not asked and asked != AskResult.CANCELLED:
            KSR.sl.send_reply(480, "Temporarily Unavailable")

    def ksr_woken(self, _msg: object) -> int:
        """The call goes on, in the answers process. Nothing here may wait: it would keep all other answers."""
        answer = mqueue_kemi.answer()
        if answer and KSR.registrar.lookup(LOCATION) > 0:
            KSR.tm.t_relay()
        elif answer.status is AnswerStatus.TIMED_OUT:
            KSR.tm.t_reply(480, "The Phone Does Not Wake Up")
        else:
            KSR.tm.t_reply(480, "Temporarily Unavailable")
        return 1


def mod_init() -> object:
    """Make the queues and give app_python3 its handler."""
    return mqueue_kemi.mod_init(Script())
