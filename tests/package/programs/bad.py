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


async def use_async(queue: AttachedQueue) -> None:
    (await queue.afetch()).key  # E: None is forgotten
    queue.areserve(1).__enter__()  # E: async with


def route() -> None:
    mqueue_kemi.mq_add("calls", "key")  # E: no value
    mqueue_kemi.mq_add("calls", b"key", "value")  # E: text
    mqueue_kemi.mqk_get("calls") + "x"  # E: None is forgotten
    mqueue_kemi.mq_fetch()  # E: which queue
    mqueue_kemi.mq_ad("calls", "key", "value")  # E: no such function
    mqueue_kemi.attach("calls", reattach="yes")  # E: True or False
    mqueue_kemi.attach("calls", "kamailio", 1.0, True)  # E: by its name
    KSR.tm.t_relai()  # E: no such function
    KSR.sl.sl_send_reply("200", "OK")  # E: a number
    text: str = KSR.pv.get("$fU")  # E: a number, or null
    print(text)
