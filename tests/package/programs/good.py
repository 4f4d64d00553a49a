"""What users write: both checkers find nothing in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import KSR as KSR

import mqueue_kemi
from mqueue_kemi import AddResult, AttachedQueue, Item, MqueueError, Queue, Refused, ReservedItem, Stats, attach


def add_all(queue: Queue, pairs: list[tuple[str | bytes, str | bytes]]) -> list[AddResult]:
    results = queue.add_many(pairs)
    return [result for result in results if not result]


def work(stop: threading.Event) -> Iterator[str]:
    with attach("calls", "kamailio") as queue:
        first = queue.fetch(None)  # never None
        yield first.key
        second = queue.fetch(timeout=2.5)
        yield "none" if second is None else second.value
        with queue.reserve(timeout=None) as item:  # never None
            yield f"{item.key_bytes!r} {item.deliveries}"
        with queue.reserve(1.0) as maybe:
            if maybe is not None:
                yield maybe.value
        for one in queue.consume(stop):
            yield one.key


async def work_in_a_loop(queue: AttachedQueue) -> float:
    item = await queue.afetch(None)
    async with queue.areserve(timeout=None) as reserved:
        count: int = reserved.deliveries
    maybe: Item | None = await queue.afetch(2)
    return item.added + count + (maybe.added if maybe else 0)


def watch(queue: Queue) -> int:
    stats: Stats = queue.stats()
    return len(queue) + stats.size + len(queue.peek(10)) + (0 if stats.oldest is None else 1)


def or_raise(queue: Queue) -> str:
    try:
        queue.add("k", b"v").or_raise()
    except Refused as error:
        return error.result.name
    except MqueueError as error:
        return str(error)
    return mqueue_kemi.__version__


def handle(item: ReservedItem) -> str:
    return f"{item.key}={item.value}"


class Script:
    def child_init(self, rank: int) -> int:
        return 0

    def ksr_request_route(self, message: object) -> int:
        if mqueue_kemi.mq_add("calls", KSR.pv.getw("$ci"), KSR.pv.getw("$fU")) < 0:
            KSR.err("not added\n")
        while mqueue_kemi.mq_fetch("calls", 0.5) > 0:
            key = mqueue_kemi.mqk_get("calls")
            KSR.info("none" if key is None else key + mqueue_kemi.mqv_gete("calls"))
            mqueue_kemi.mq_pv_free("calls")
        return mqueue_kemi.mq_size("calls")


def mod_init() -> Any:
    mqueue_kemi.modparam("mqueue", "mqueue", "name=calls;size=100")
    return mqueue_kemi.mod_init(Script())
