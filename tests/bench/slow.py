"""What a slow look-up does to callers: made in the routing script, and handed to a worker outside by a queue.

Calls come at the same moment. Each needs an answer from a service that takes LOOK_UP seconds (a sleep stands for it).
In the route, a SIP worker waits for it and serves nobody else meanwhile. Queued, the route answers at once, and one
process outside makes all look-ups side by side with asyncio.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mqueue_kemi import attach
from tests.bench.tables import Part, bars, machine, markdown, number
from tests.processes.children import Children
from tests.server.harness import Kamailio, Servers
from tests.server.sip import send

if TYPE_CHECKING:
    from collections.abc import Callable

IN_THE_ROUTE, QUEUED = "in the route", "queued, one worker outside"
VARIANTS = (IN_THE_ROUTE, QUEUED)
WORKERS = 2
LOOK_UP = 0.2  # seconds
_ANSWERED_WITHIN = 120.0  # seconds

HANDLER = """
    def request(self, msg):
        if KSR.pv.get("$rm") != "MESSAGE":
            KSR.sl.send_reply(200, "OK")
            return 1
        if KSR.tm.t_newtran() <= 0:
            return 1
        {work}
        KSR.tm.t_reply(202, "Accepted")
        return 1
"""
WORK = {
    IN_THE_ROUTE: f'__import__("time").sleep({LOOK_UP})',
    QUEUED: 'mqueue_kemi.mq_add("q", KSR.pv.gete("$rU"), "call from " + KSR.pv.gete("$fU"))',
}


def worker(instance: str, calls: int) -> Callable[[], float]:
    """Return the work of a process: every look-up, side by side; it gives the moment at which the last one was done."""

    async def look_up(key: str) -> str:
        await asyncio.sleep(LOOK_UP)
        return key

    async def work() -> float:
        begun = set()
        with attach("q", instance) as queue:
            async for item in queue.aconsume():
                begun.add(asyncio.ensure_future(look_up(item.key)))
                if len(begun) == calls:
                    break
        assert len(set(await asyncio.gather(*begun))) == calls
        return time.monotonic()

    return lambda: asyncio.run(work())


def one(servers: Servers, children: Children, variant: str, calls: int) -> dict[str, Any]:
    """Seconds until each caller is answered, and until the last look-up is done."""
    server = servers.start(Kamailio(workers=WORKERS, handler=HANDLER.format(work=WORK[variant])))
    outside = children.fork(worker(server.instance, calls)) if variant == QUEUED else None
    begin = time.monotonic()
    sent = [send(server.ports[n % WORKERS], "MESSAGE", to=b"%d" % n) for n in range(calls)]

    def answered(n: int) -> float:
        assert sent[n].result(_ANSWERED_WITHIN).status == 202
        return time.monotonic() - begin

    with ThreadPoolExecutor(calls) as pool:
        seconds = sorted(pool.map(answered, range(calls)))
    done = outside.result() - begin if outside else seconds[-1]
    server.stop()
    return {"answered": seconds, "done": done}


def measure(quick: bool, _only: str) -> dict[str, Any]:
    """Take turns."""
    calls, rounds = (20, 1) if quick else (200, 3)
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    about = machine()
    with ExitStack() as stack:
        servers, children = Servers(stack), Children()
        stack.callback(children.end)
        for turn in range(rounds):
            for variant in VARIANTS if turn % 2 else reversed(VARIANTS):
                found[variant].append(one(servers, children, variant, calls))
    return {"machine": about, "calls": calls, "rounds": rounds, "workers": WORKERS, "look-up": LOOK_UP, "found": found}


def tables(results: dict[str, Any]) -> str:
    """What a page can show."""
    intro = (
        f"{results['calls']} calls at once to {results['workers']} SIP workers, a look-up of {results['look-up']:g} s "
        f"for each; medians of {results['rounds']} rounds, seconds."
    )
    rows = [[variant, *map(number, _figures(some))] for variant, some in results["found"].items()]
    head = ["the look-up is made", "a caller waits (median)", "the last caller waits", "the last look-up is done after"]
    return "\n".join([intro, "", *markdown(head, rows)])


def _figures(some: list[dict[str, Any]]) -> list[float]:
    waits = [statistics.median(each["answered"]) for each in some]
    return [statistics.median(of) for of in (waits, [x["answered"][-1] for x in some], [x["done"] for x in some])]


def plots(results: dict[str, Any]) -> dict[str, str]:
    """How long the last caller waits."""
    last = {variant: [_figures(results["found"][variant])[1]] for variant in reversed(VARIANTS)}
    return {"last-caller": bars("Seconds until the last caller is answered", [""], last)}


def part() -> Part:
    return Part("slow", "A slow look-up, in the route and behind a queue", measure, tables, plots)
