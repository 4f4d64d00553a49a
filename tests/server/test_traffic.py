"""Items go in by several processes and come out in others: nothing lost, nothing twice, order kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conftest import HANG
from tests.server.harness import Kamailio
from tests.server.process import wait_until
from tests.support.clients import attach

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.server.harness import Servers

WORKERS = 4
TIMERS = 3
ROUNDS = 25
ADDS = 100  # a round and worker

ADD = """
    for number in range({first}, {last}):
        assert mq.mq_add('q', '{producer}', str(number)) == 1
"""


def in_order(items: Sequence[tuple[str, str]]) -> bool:
    """Whether each producer's items (key: producer, value: number) rise."""
    by_producer: dict[str, list[int]] = {}
    for producer, number in items:
        by_producer.setdefault(producer, []).append(int(number))
    return all(a < b for numbers in by_producer.values() for a, b in zip(numbers, numbers[1:]))


def test_workers_add_and_timers_consume(servers: Servers) -> None:
    """What four workers add at once, three timer processes take at once, each item exactly once and in order."""
    server = servers.start(Kamailio(workers=WORKERS, timers=TIMERS))
    for turn in range(ROUNDS):
        first = turn * ADDS
        jobs = [
            server.submit(ADD.format(first=first, last=first + ADDS, producer=f"w{worker}"), worker)
            for worker in range(WORKERS)
        ]
        for job in jobs:
            job.result()
    expected = {(f"w{worker}", str(number)) for worker in range(WORKERS) for number in range(ROUNDS * ADDS)}
    wait_until(lambda: sum(map(len, server.taken())) >= len(expected), "everything is consumed")

    by_timer = server.taken()
    everything = [item for items in by_timer for item in items]
    assert len(everything) == len(expected)
    assert set(everything) == expected
    assert all(in_order(items) for items in by_timer)
    assert sum(1 for items in by_timer if items) > 1, "one timer did it all: nothing was shown"
    assert server.call("mq_size", "q") == -1


def test_requests_become_items(servers: Servers) -> None:
    """A SIP request handled by one worker is an item that another worker fetches."""
    handler = """
        def request(self, msg):
            code = mqueue_kemi.mq_add("q", KSR.pv.gete("$rU"), "call from " + KSR.pv.gete("$fU"))
            KSR.sl.send_reply(202 if code == 1 else 503, "Queued")
            return 1
    """
    server = servers.start(Kamailio(handler=handler, workers=2))
    for number in range(20):
        reply = server.request("MESSAGE", 0, to=b"bob%d" % number, sender=b"alice%d" % number)
        assert reply.status == 202
    fetched = server.run("return [(mq.mq_fetch('q'), mq.mqk_get('q'), mq.mqv_get('q')) for _ in range(21)]", 1)
    assert fetched == [*((1, f"bob{n}", f"call from alice{n}") for n in range(20)), (-2, None, None)]


def test_what_is_fetched_belongs_to_the_process(servers: Servers) -> None:
    """The fetched key and value are the fetching process's own; the queue is common to all."""
    server = servers.start(Kamailio(workers=2))
    assert server.call("mq_add", "q", "k", "v", worker=0) == 1
    assert server.call("mq_size", "q", worker=1) == 1
    assert server.call("mq_fetch", "q", worker=1) == 1
    assert server.call("mqk_get", "q", worker=1) == "k"
    assert server.call("mqk_get", "q", worker=0) is None
    assert server.call("mq_size", "q", worker=0) == -1
    assert server.call("mq_pv_free", "q", worker=1) == 1
    assert server.call("mqk_get", "q", worker=1) is None


def test_a_fetch_that_waits_is_woken_by_an_add(servers: Servers) -> None:
    """mq_fetch with a timeout in one worker returns as soon as another worker adds, not at its next look."""
    server = servers.start(Kamailio(workers=2))
    waiting = server.submit(
        f"import time; from kemi.queue.sync import eventcount; eventcount.RECHECK = {10 * HANG}; "
        f"return mq.mq_fetch('q', {HANG}), mq.mqv_get('q'), time.monotonic()",
        worker=0,
    )
    added = server.run(
        "import time; time.sleep(0.2); before = time.monotonic(); mq.mq_add('q', 'k', 'v'); return before", worker=1
    )
    code, value, woken = waiting.result()
    assert (code, value) == (1, "v")
    assert 0 <= woken - added < HANG / 2


def test_a_plain_python_process_shares_the_queue(servers: Servers) -> None:
    """A process outside Kamailio takes what a worker adds, waiting for it, and adds what a worker takes."""
    server = servers.start(Kamailio())
    with attach("q", server.instance) as queue:
        job = server.submit("import time; time.sleep(0.2); return mq.mq_add('q', 'in', 'side')")
        item = queue.fetch(timeout=HANG)
        assert job.result() == 1
        assert item is not None
        assert (item.key, item.value) == ("in", "side")
        assert queue.fetch() is None
        queue.add("out", "side")
        assert server.run("return mq.mq_fetch('q'), mq.mqk_get('q'), mq.mqv_get('q')") == (1, "out", "side")


def test_the_oldest_goes_when_the_queue_is_full(servers: Servers) -> None:
    """A queue of three keeps the last three items, whichever worker added them."""
    server = servers.start(Kamailio(["name=q;size=3"], workers=2))
    for number in range(8):
        assert server.call("mq_add", "q", "k", str(number), worker=number % 2) == 1
    assert server.run("return [mq.mqv_get('q') for _ in range(3) if mq.mq_fetch('q') == 1]") == ["5", "6", "7"]
    assert server.call("mq_size", "q", worker=1) == -1
