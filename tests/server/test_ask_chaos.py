"""Workers and servers are killed while calls ask: each question ends once, and nothing is left of any.

The long form (marked stress) kills a hundred times.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kemi.queue.format.layout import CHUNK
from tests.server.asking import Agent, Asking
from tests.server.harness import CHECKOUT
from tests.server.process import wait_until

if TYPE_CHECKING:
    from tests.server.harness import Servers

SEED = 20261128
CALLS = 6  # in each round
# Some wait until the next worker is there, others may be too early for it.
MORE = "def call(self, user):\n    self.ask(user, 1.0 if user[-1] in '13579' else 20.0)\n    return 1"
# Answers with the caller's own number, some late, some by a process that is killed before or after that.
WORKER = f"""
import random, sys, time
sys.path.insert(0, {str(CHECKOUT)!r})
from mqueue_kemi import attach
queue = attach("lookups", sys.argv[1], wait=60)
with queue.reserve(0):
    print("ready", flush=True)
for each in queue.reserve_each():
    with each as question:
        time.sleep(random.choice((0, 0, 0.001, 0.02)))
        question.answer(question.key)
"""


class Crew:
    """One worker that is killed, and started anew."""

    def __init__(self, instance: str) -> None:
        self._command = [sys.executable, "-c", WORKER, instance]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def wait(self) -> None:
        """Return when it works."""
        assert self.process.stdout is not None
        if not self.process.stdout.closed:
            with self.process.stdout as said:
                assert said.readline() == b"ready\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def memory(self) -> tuple[int, int]:
        """Return descriptors and mappings of the worker."""
        pid = self.process.pid
        return len(list(Path(f"/proc/{pid}/fd").iterdir())), Path(f"/proc/{pid}/maps").read_text().count("mqk.")


def own_memory(server: Asking) -> int:
    """Return the kilobytes that the server's processes have, but what they share, and what tm has of that."""
    anonymous = 0
    for pid in server.process.pids():
        status = Path(f"/proc/{pid}/status").read_text("ascii")
        anonymous += int(status.partition("RssAnon:")[2].split()[0])
    return anonymous + int(server.kamcmd("core.shmmem").partition("real_used:")[2].split()[0]) // 1024


def ends_once(agents: list[Agent], *, killed: bool) -> int:
    """Listen until each call has ended; return how many were answered by a worker."""
    answered = 0
    for agent in agents:
        with agent:
            if not killed:
                agent.final()
            agent.quiet(0.05)
            finals = {reason for _, code, reason, _ in agent.replies if code >= 200}  # tm repeats one until the ACK
            assert killed or len(finals) == 1, agent.replies
            assert finals < {f"ANSWERED {agent.user}", "TIMED_OUT no answer came in time"}, agent.replies
            answered += any(reason.startswith("ANSWERED") for reason in finals)
    return answered


def is_answered(server: Asking) -> bool:
    """Make one more call; one that was made before the worker was there is refused or late."""
    with Agent(server.ports[0], "last") as last:
        return last.final() == (480, "ANSWERED last")


def stays_flat(server: Asking, crew: Crew, rounds: int) -> None:
    """Questions and killed workers, again and again: nothing grows, in the processes, in tm, and in the queues."""
    sizes = []
    for part in (rounds // 2, rounds):
        for number in range(part):
            agents = [Agent(server.ports[each % 2], f"f{part}-{number}-{each}") for each in range(4 * CALLS)]
            if number % 2:
                crew.kill()
                crew.start()
                crew.wait()
            for agent in agents:
                with agent:
                    assert agent.final()[0] == 480
        server.wait_for()
        wait_until(lambda: "current: 0" in server.kamcmd("tm.stats"), "no transaction is left", 30)
        sizes.append((own_memory(server), sum(path.stat().st_blocks // 2 for path in server.segments())))
    sys.stdout.write(f"{rounds} rounds: kB of the processes and tm, and of the queues, {sizes[0]}, then {sizes[1]}\n")
    assert sizes[1][0] < sizes[0][0] + 1000, sizes
    # A queue gets its second chunk with the burst that first crosses the end of one, whenever that is, and keeps it.
    assert sizes[1][1] <= sizes[0][1] + 2 * CHUNK // 1024, sizes


def run(servers: Servers, kills: int, flat: int = 0) -> None:
    """flat: so many rounds more, in which nothing may grow."""
    dice = random.Random(SEED)  # noqa: S311 - no secret
    server = servers.start(Asking(more=MORE, workers=2))
    crew = Crew(server.instance)
    answered = 0
    try:
        for number in range(kills):
            crew.wait()
            agents = [Agent(server.ports[each % 2], f"u{number}-{each}") for each in range(CALLS)]
            agents[0].listen(dice.random() * 0.03)
            kills_server = dice.random() < 0.3 or number == kills // 2
            if kills_server:
                server.process.kill()
                server.start()
            else:
                crew.kill()
                crew.start()
            answered += ends_once(agents, killed=kills_server)
            found = server.totals()
            assert found.pending == 0 or kills_server
        crew.wait()
        server.wait_for()
        found = server.totals()
        assert found.asked == found.answered + found.timed_out + found.failed + found.cancelled + found.gone
        assert found.gone == 0
        wait_until(lambda: is_answered(server), "the last worker answers", 60)
        wait_until(lambda: "current: 0" in server.kamcmd("tm.stats"), "no transaction is left", 30)
        assert len(server.segments()) == 3  # the instance, its queue, its answers
        if flat:
            stays_flat(server, crew, flat)
        descriptors, mappings = crew.memory()
        assert descriptors < 30
        assert mappings < 12
        assert answered > 0
    finally:
        crew.kill()


def test_kills(servers: Servers) -> None:
    run(servers, 6)


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_a_hundred_kills(servers: Servers) -> None:
    run(servers, 100, flat=100)
