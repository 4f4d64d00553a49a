"""What a relay to a Redis server costs: items a second on its disk, time to a consumer, and what a SIP worker notices.

    python -m tests.bench.relay [rounds]

A server of the bench's own, on a unix socket, with appendfsync always. The last part compares the adds of one process
beside a relay that drains 20,000 items with those beside a local consumer that drains as many, one after the other.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from kemi.relay.engine import Durability
from kemi.relay.forward import Forward
from kemi.relay.server import RedisEngine
from kemi.relay.url import parse
from mqueue_kemi import attach
from tests.processes.serve import Serve
from tests.relay.servers import DURABLE, EngineServer
from tests.support.clients import attach as attach_here

if TYPE_CHECKING:
    from collections.abc import Sequence

VALUE = "x" * 200
BACKLOG = 20_000  # items
RATE, SECONDS = 200, 5  # of the time to a consumer
ADDS, PAUSE = 20_000, 0.0001  # beside a drain


def relaying(instance: str, engine: EngineServer) -> None:
    """Relay until this process is killed."""
    queue = attach_here("q", instance, lock_timeout=60)
    server = RedisEngine(parse(f"unix://{engine.socket}"), "q", Durability.parse("fsync"))
    Forward(queue, server).run(lambda: False, time.sleep)


def consuming(instance: str) -> None:
    """Take items of this host until this process is killed."""
    queue = attach_here("q", instance, lock_timeout=60)
    while True:
        with queue.reserve_many(256, 1.0):
            pass


def forked(action: Callable[[], object]) -> int:
    pid = os.fork()
    if not pid:
        try:
            action()
        finally:
            os._exit(1)
    return pid


def end(pid: int) -> float:
    """Return the seconds that a process took of a processor."""
    os.kill(pid, signal.SIGKILL)
    used = os.wait4(pid, 0)[2]
    return used.ru_utime + used.ru_stime


def at(times: Sequence[float], part: float) -> float:
    """Microseconds below which that part of them is."""
    return sorted(times)[int(len(times) * part)] * 1e6


def throughput(serve: Serve, engine: EngineServer) -> tuple[float, float, float]:
    """Items of 200 bytes a second, from this host's memory to the disk of the server; and what each costs.

    Microseconds of a processor: the relay's, the server's.
    """
    queue = attach_here("q", serve.instance, lock_timeout=60)
    for _ in range(4):
        queue.add_many([("k", VALUE)] * (BACKLOG // 2))
    before = processor(engine)
    begun = time.perf_counter()
    pid = forked(lambda: relaying(serve.instance, engine))
    while len(queue) or queue.stats().reserved:
        time.sleep(0.01)
    seconds = time.perf_counter() - begun
    return 2 * BACKLOG / seconds, end(pid) / 2 / BACKLOG * 1e6, (processor(engine) - before) / 2 / BACKLOG * 1e6


def processor(engine: EngineServer) -> float:
    """Seconds of a processor that the server took."""
    with engine.client() as client:
        used = client.info("cpu")
    return float(used["used_cpu_sys"] + used["used_cpu_user"])


def latency(serve: Serve, engine: EngineServer) -> float:
    """Median microseconds from an add here to the item in the hands of a consumer of the server."""
    pid = forked(lambda: relaying(serve.instance, engine))
    count = RATE * SECONDS

    def add() -> None:
        queue = attach_here("q", serve.instance, lock_timeout=60)
        begun = time.perf_counter()
        for number in range(count):
            time.sleep(max(0.0, begun + number / RATE - time.perf_counter()))
            queue.add("k", VALUE)

    with attach("q", f"unix://{engine.socket}", lock_timeout=60) as there:
        while there.fetch_many(500):
            pass
        adding = forked(add)
        times: list[float] = []
        while len(times) < count:
            batch = there.reserve_many(64, 10).take()
            times += [time.time() - item.added for item in batch]
            batch.done()
    os.waitpid(adding, 0)
    end(pid)
    return at(times, 0.5)


def beside(serve: Serve, drain: Callable[[], object]) -> float:
    """The p99.9 of adds in microseconds, beside what drains a backlog meanwhile."""
    queue = attach_here("q", serve.instance, lock_timeout=60)
    queue.add_many([("k", VALUE)] * BACKLOG)
    pid = forked(drain)
    times: list[float] = []
    for _ in range(ADDS):
        begun = time.perf_counter()
        queue.add("k", VALUE)
        times.append(time.perf_counter() - begun)
        time.sleep(PAUSE)
    while len(queue) or queue.stats().reserved:
        time.sleep(0.01)
    end(pid)
    return at(times, 0.999)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    serve = Serve()
    serve("name=q")
    with tempfile.TemporaryDirectory(prefix="mqk-bench-relay-") as folder:
        engine = EngineServer(Path(folder), *DURABLE)
        try:
            found = zip(*(throughput(serve, engine) for _ in range(rounds)))
            rate, own, servers = map(statistics.median, found)
            print(f"durable: {rate:,.0f} items/s; of a processor {own:.1f} us each, and {servers:.1f} us of the server")
            print(f"to a consumer: p50 {statistics.median(latency(serve, engine) for _ in range(rounds)):,.0f} us")
            local, relay = [], []
            for _ in range(rounds):
                local.append(beside(serve, lambda: consuming(serve.instance)))
                relay.append(beside(serve, lambda: relaying(serve.instance, engine)))
            ratio = statistics.median(relay) / statistics.median(local)
            print(
                f"an add's p99.9 beside a local consumer {statistics.median(local):,.0f} us, "
                f"beside the relay {statistics.median(relay):,.0f} us: {ratio:.2f} times"
            )
        finally:
            engine.kill()
            serve.stop()


if __name__ == "__main__":
    main()
