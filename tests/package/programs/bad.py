"""Mistakes: both checkers refuse each line that is marked, and no other."""

from __future__ import annotations

import KSR as KSR

import mqueue_kemi
from mqueue_kemi import AttachedQueue, Queue


def use(queue: Queue) -> None:
    queue.fetch(2.5).key  # E: None is forgotten
    with queue.reserve(1) as item:
        item.deliveries  # E: None is forgotten
    queue.add(1, "x")  # E: a key is text or bytes
    queue.add("x")  # E: no value
    queue.fetch("1")  # E: seconds
    queue.stats().full  # E: no such statistic
    queue.peek()[0].deliveries  # E: was not reserved
    queue.putt("x", "y")  # E: no such method
    queue.undone()  # E: no engine has it
    queue.clear()  # E: only the server does that
    queue.peek()[0].done()  # E: was not reserved
    queue.peek()[0].key = "x"  # E: an item stays as it is
    queue.stats().size = 3  # E: so do statistics
    with queue.reserve(None) as kept:
        kept.give_back(5)  # E: by its name
        kept.id = "x"  # E: an item stays as it is
    queue.reserve_many(2).take().done(5)  # E: which items


async def use_async(queue: AttachedQueue) -> None:
    (await queue.afetch()).key  # E: None is forgotten
    queue.areserve(1).__enter__()  # E: async with


def route() -> None:
    mqueue_kemi.mq_add("calls", "key")  # E: no value
    mqueue_kemi.mq_add("calls", b"key", "value")  # E: text; mypy: arg-type
    mqueue_kemi.mqk_get("calls") + "x"  # E: None is forgotten
    mqueue_kemi.mq_fetch()  # E: which queue
    mqueue_kemi.mq_ad("calls", "key", "value")  # E: no such function; mypy: attr-defined
    mqueue_kemi.attach("calls", reattach="yes")  # E: True or False
    mqueue_kemi.attach("calls", "kamailio", 1.0)  # E: by its name
    KSR.tm.t_relai()  # E: no such function
    KSR.sl.sl_send_reply("200", "OK")  # E: a number
    text: str = KSR.pv.get("$fU")  # E: a number, or null
    print(text)


def compare() -> None:
    KSR.pv.get("$rs") == "200"  # E: a number; mypy: comparison-overlap
    KSR.pv.get("$sp") == "5060"  # E: a number; mypy: comparison-overlap
    KSR.pv.get("$T(id_index)") == "5"  # E: a number; mypy: comparison-overlap
    KSR.pv.get("$T(reply_code)") == "486"  # E: a number; mypy: comparison-overlap
    KSR.pv.getw("$T_branch_idx") == "0"  # E: a number; mypy: comparison-overlap
    KSR.pv.getvs("$Rp", "none") == "none"  # E: a number; mypy: comparison-overlap
    KSR.pv.get("$rU") == 100  # E: text; mypy: comparison-overlap


def put_together() -> None:
    "a" + KSR.pv.get("$rU")  # E: None is forgotten; mypy: operator
    "a" + KSR.pv.get("$avp(x)")  # E: None and a number are forgotten; mypy: operator
    "a" + KSR.pv.gete("$sp")  # E: a number; mypy: operator
    KSR.pv.seti("$var(a)", "5")  # E: a number; mypy: arg-type
    KSR.pv.setl("$var(a)", "5")  # E: a number; mypy: arg-type
