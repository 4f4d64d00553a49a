# SPDX-License-Identifier: 0BSD
"""Routing script (KEMI): each call is queued as a record, for a worker outside (cdr_worker.py, or cdr/worker.py).

The key is the Call-ID, which tells one call from every other; the value is JSON, so that it can grow.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import KSR

# As in kamailio.py: an installed mqueue_kemi is preferred to the one beside this file.
ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:
    sys.path.append(ROOT)

import mqueue_kemi  # noqa: E402
from mqueue_kemi import modparam, mq_add  # noqa: E402

QUEUE = "cdr"

modparam("mqueue", "instance", os.environ.get("MQUEUE_KEMI_INSTANCE", "kamailio"))
# Bounded, because nobody may take anything out: when the worker is away for too long, calls are still answered.
# What the worker cannot write, whatever it tries, goes to the second queue, and waits there for a person.
modparam("mqueue", "mqueue", f"name={QUEUE}_dead;maxbytes=16m")
modparam("mqueue", "mqueue", f"name={QUEUE};maxbytes=64m;max_deliveries=20;dead_letter={QUEUE}_dead")


class Script:
    """The handler: one object in every Kamailio process."""

    def child_init(self, _rank: int) -> int:
        return 0

    def ksr_request_route(self, _msg: object) -> int:
        if KSR.is_OPTIONS():
            KSR.sl.sl_send_reply(200, "Keepalive")
        elif KSR.is_INVITE():
            self.record_call()
        elif KSR.is_ACK():
            KSR.tm.t_check_trans()  # ends the repetition of the answer; an ACK itself is never answered
        elif KSR.is_CANCEL() and KSR.tm.t_check_trans() > 0:
            KSR.sl.sl_send_reply(200, "Too late to cancel")  # its INVITE has had the final answer already
        elif KSR.is_CANCEL() or KSR.is_BYE():
            KSR.sl.sl_send_reply(481, "Call/Transaction Does Not Exist")
        else:
            KSR.hdr.append_to_reply("Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n")
            KSR.sl.sl_send_reply(405, "Method Not Allowed")
        return 1

    def record_call(self) -> None:
        """Queue the call, once however often its INVITE is repeated, and answer it."""
        try:
            call_id = KSR.pv.gete("$ci")
            record = {"caller": KSR.pv.gete("$fU"), "callee": KSR.pv.gete("$rU"), "at": time.time()}
        except UnicodeDecodeError:  # KSR gives text, and these bytes are none
            KSR.sl.sl_send_reply(400, "User Names Must Be UTF-8")
            return
        if KSR.tm.t_newtran() <= 0:
            return
        code, reason = 480, "We will call back"
        if mq_add(QUEUE, call_id, json.dumps(record)) < 0:  # mq_add has logged why
            code, reason = 503, "Service Unavailable"
        KSR.tm.t_reply(code, reason)


def mod_init() -> object:
    """Make the queue and give app_python3 its handler."""
    return mqueue_kemi.mod_init(Script())
