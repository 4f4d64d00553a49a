# SPDX-License-Identifier: 0BSD
"""Routing script (KEMI): the SIP workers queue who called, two timer processes take the callers out.

app_python3 runs this file once in the main process, before it forks, and in each process again after
`kamcmd app_python.reload`. kamailio.cfg says which methods are called: ksr_request_route for each request, the
two consumers by timers.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import KSR

# app_python3 knows this file's folder only. The project's root goes last, so that an installed mqueue_kemi is
# preferred, and once, because a reload runs these lines again.
ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:
    sys.path.append(ROOT)

import mqueue_kemi  # noqa: E402
from mqueue_kemi import modparam, mq_add, mq_fetch, mqk_gete, mqv_gete  # noqa: E402

QUEUE = "myq"

modparam("mqueue", "instance", os.environ.get("MQUEUE_KEMI_INSTANCE", "kamailio"))
modparam("mqueue", "mqueue", f"name={QUEUE}")


class Script:
    """The handler: one object in every Kamailio process."""

    def child_init(self, _rank: int) -> int:
        return 0

    def ksr_request_route(self, _msg: object) -> int:
        if KSR.is_OPTIONS():
            KSR.sl.sl_send_reply(200, "Keepalive")
        elif KSR.is_INVITE():
            self.queue_caller(480, "We will call back")
        elif KSR.is_MESSAGE():
            self.queue_caller(202, "Accepted")
        elif KSR.is_ACK():
            KSR.tm.t_check_trans()  # ends the repetition of the answer; an ACK itself is never answered
        elif KSR.is_CANCEL() and KSR.tm.t_check_trans() > 0:
            KSR.sl.sl_send_reply(200, "Too late to cancel")  # its INVITE has had the final answer already
        elif KSR.is_CANCEL() or KSR.is_BYE():
            KSR.sl.sl_send_reply(481, "Call/Transaction Does Not Exist")
        else:
            KSR.hdr.append_to_reply("Allow: INVITE, ACK, CANCEL, BYE, MESSAGE, OPTIONS\r\n")
            KSR.sl.sl_send_reply(405, "Method Not Allowed")
        return 1

    def ksr_consume_a(self, _msg: object, _event: str) -> int:
        return self.consume("a")

    def ksr_consume_b(self, _msg: object, _event: str) -> int:
        return self.consume("b")

    def queue_caller(self, code: int, reason: str) -> None:
        try:
            key, value = KSR.pv.gete("$rU"), "call from " + KSR.pv.gete("$fU")
        except UnicodeDecodeError:  # KSR gives text, and these bytes are none
            KSR.sl.sl_send_reply(400, "User Names Must Be UTF-8")
            return
        # The transaction answers repetitions of the request by itself: it is queued once, however often it comes.
        if KSR.tm.t_newtran() <= 0:
            return
        if mq_add(QUEUE, key, value) < 0:  # mq_add has logged why
            code, reason = 503, "Service Unavailable"
        KSR.tm.t_reply(code, reason)

    def consume(self, consumer: str) -> int:
        """Take what is there. Work that takes its time (a database, an HTTP call) belongs here."""
        while mq_fetch(QUEUE) > 0:
            # Not KSR.xlog: that would expand a "$" that a caller sent.
            KSR.info(f"consumer {consumer}: {printable(mqk_gete(QUEUE))} - {printable(mqv_gete(QUEUE))}\n")
        return 1


def printable(text: str) -> str:
    r"""What a caller sent, for the log: KSR takes no NUL and nothing but UTF-8, so these become \x00 and the like."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def mod_init() -> object:
    """Make the queues and give app_python3 its handler."""
    return mqueue_kemi.mod_init(Script())
