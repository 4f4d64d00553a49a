"""Python threads of a script in a worker of the server."""

from __future__ import annotations

import os
import signal
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

from kemi.names import KERNEL_VARIABLE
from kemi.queue.kernel import choice
from kemi.queue.queue import Queue
from tests.conftest import HANG
from tests.server.harness import EMBEDDER, Kamailio, release
from tests.server.process import wait_until
from tests.unit.children import fork

if TYPE_CHECKING:
    from tests.server.harness import Servers

# A thread as a client library has it: it adds all the time, whenever it gets on.
THREAD = """
    import threading
    counts = {"added": 0, "refused": 0, "errors": set()}
    def work():
        while not counts.get("stop"):
            try:
                queues["q"].add("thread", "v")
                counts["added"] += 1
            except Exception as error:
                counts["refused"] += 1
                counts["errors"].add(f"{type(error).__name__}: {error}")
                time.sleep(0.001)
    import time
    from kemi.instance import queues
    import sys
    sys.counts = counts
    sys.thread = threading.Thread(target=work, name="kafka", daemon=True)
    sys.thread.start()
"""
TURN = """
    import time
    started = time.monotonic()
    for _ in range(3): time.sleep(0.0002)
    return mq.mq_add("q", "worker", "v"), time.monotonic() - started
"""


def with_threads_mode(mode: int) -> Kamailio:
    # Nothing is refused only because the machine is busy.
    params = [("lock_timeout", str(HANG))]
    return Kamailio(params=params, workers=2, cfg=f'modparam("{EMBEDDER}", "threads_mode", {mode})\n')


def requests(server: Kamailio, count: int) -> tuple[list[int], float]:
    """Let workers add an item for each request, beside the thread; return what came of them, and how long it took."""
    begin = time.monotonic()
    outcomes = [server.run(TURN, worker=number % 2)[0] for number in range(count)]
    return outcomes, time.monotonic() - begin


class Pure(Kamailio):
    """A server without the native kernel."""

    def env(self) -> dict[str, str]:
        return {**super().env(), KERNEL_VARIABLE: "pure"}


def test_a_thread_does_not_stop_the_server(servers: Servers) -> None:
    """A thread beside 150 requests: none of them is refused, and the thread is told what to do."""
    server = servers.start(Pure(["name=q"], workers=2))
    server.run(textwrap.dedent(THREAD))
    outcomes, seconds = requests(server, 150)
    assert outcomes == [1] * 150
    assert seconds < HANG
    counts = server.run("import sys; return sys.counts['added'], sys.counts['refused'], sorted(sys.counts['errors'])")
    assert counts[0] == 0
    assert counts[1] > 0
    (error,) = counts[2]
    assert error.startswith("WrongThread: called in thread 'kafka': ")
    assert "threads_mode" in error
    assert "mqueue_kemi.attach" in error
    assert server.run("return mq.mq_size('q')") == 150


def test_what_a_thread_may_ask(servers: Servers) -> None:
    """Functions that need no lock work, the others fail with their code and a line in the log."""
    server = servers.start(Pure(["name=q"]))
    job = """
        import threading, time
        results = []
        def work():
            for call in (lambda: mq.mq_size("q"), lambda: mq.mq_add("q", "k", "v"), lambda: mq.mq_fetch("q")):
                results.append(call())
        thread = threading.Thread(target=work, name="http")
        thread.start()
        thread.join()
        return results, mq.mq_add("q", "k", "v"), mq.mq_fetch("q")
    """
    assert server.run(job) == ([-1, -1, -1], 1, 1)
    wait_until(lambda: server.process.log().count("called in thread 'http'") == 2, "both refusals in the log")


@pytest.mark.skipif(release() < (6,), reason="5.6 has no threads_mode")
def test_threads_that_run_freely_may_use_queues(servers: Servers) -> None:
    """With threads_mode=1 nothing is refused, and nobody waits for long."""
    server = servers.start(with_threads_mode(1))
    server.run(textwrap.dedent(THREAD))
    outcomes, seconds = requests(server, 150)
    assert outcomes == [1] * 150
    assert seconds < HANG
    added, refused, errors = server.run(
        "import sys; sys.counts['stop'] = 1; sys.thread.join(); "
        "return sys.counts['added'], sys.counts['refused'], sorted(sys.counts['errors'])"
    )
    assert (refused, errors) == (0, [])
    assert added > 0
    assert server.run("return mq.mq_size('q')") == 150 + added


# --- with the native kernel -------------------------------------------------------------------------------------------

native = pytest.mark.skipif(choice.lib is None, reason="with the native kernel")
# Adds and fetches each item once, and keeps a ledger of what it did.
BESIDE = """
    import sys, threading, time
    from kemi.instance import queues
    from kemi.queue.format.item import key_of
    ledger = {"added": 0, "taken": [], "errors": []}
    def work():
        queue = queues["q"]
        try:
            while ledger["added"] < MANY and not ledger.get("stop"):
                for _ in range(20):
                    assert queue.add(f"thread {ledger['added']}", "v" * 50)
                    ledger["added"] += 1
                for _ in range(15):
                    if (record := queue.pop()) is not None:
                        ledger["taken"].append(key_of(record))
        except Exception as error:
            ledger["errors"].append(f"{type(error).__name__}: {error}")
    sys.ledger = ledger
    sys.thread = threading.Thread(target=work, name="kafka", daemon=True)
    sys.thread.start()
"""
# A request: an item in, sometimes one out; the other thread gets on while this one sleeps for a moment.
REQUEST = """
    import time
    started = time.monotonic()
    outcome = mq.mq_add("q", "worker %d", "v")
    taken = mq.mqk_get("q") if %d % 3 == 0 and mq.mq_fetch("q") == 1 else None
    for _ in range(3): time.sleep(0.0002)
    return outcome, taken, time.monotonic() - started
"""


def die_with_the_lock(instance: str) -> None:
    """Let a process outside be killed while it has the queue's lock."""

    def child() -> None:
        Queue.attach(instance, "q", lock_timeout=HANG)._mutex.take()
        os.kill(os.getpid(), signal.SIGKILL)

    _, status = os.waitpid(fork(child), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@native
def test_a_thread_beside_the_main_one_may_use_queues(servers: Servers) -> None:
    """It adds and fetches 20,000 items beside requests of two workers; processes die with the lock; each item once."""
    server = servers.start(Kamailio(["name=q"], workers=2, params=[("lock_timeout", str(HANG))]))
    server.run(textwrap.dedent(BESIDE).replace("MANY", "20000"))
    taken: list[str] = []
    added: list[str] = []
    slowest = 0.0
    number = 0
    while number < 150 or server.run("import sys; return sys.thread.is_alive()"):
        number += 1
        if not number % 25:
            die_with_the_lock(server.instance)
        outcome, key, seconds = server.run(REQUEST.replace("%d", str(number)), worker=number % 2)
        assert outcome == 1
        added.append(f"worker {number}")
        taken += [key] if key else []
        slowest = max(slowest, seconds)
    assert slowest < HANG
    assert server.run("from kemi.instance import queues; return queues['q'].stats().recovered") > 0
    ledger = server.run("import sys; sys.thread.join(); return sys.ledger")
    assert ledger["errors"] == []
    added += [f"thread {number}" for number in range(ledger["added"])]
    assert ledger["added"] == 20000
    rest = server.run("from kemi.instance import queues; return [item.key for item in queues['q'].fetch_many(100000)]")
    assert sorted([*taken, *ledger["taken"], *rest]) == sorted(added)
