"""Python threads of a script in a worker of the server."""

from __future__ import annotations

import textwrap
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import HANG
from tests.server.harness import EMBEDDER, Kamailio, release
from tests.server.process import wait_until

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


def test_a_thread_does_not_stop_the_server(servers: Servers) -> None:
    """A thread beside 150 requests: none of them is refused, and the thread is told what to do."""
    server = servers.start(Kamailio(["name=q"], workers=2))
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
    server = servers.start(Kamailio(["name=q"]))
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
