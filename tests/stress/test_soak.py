"""A mixed load for a long time: memory, descriptors, mappings and /dev/shm stay what they were."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Callable

import pytest

from kemi.queue.format.layout import CHUNK, MAX_FREE
from tests.conftest import HANG
from tests.processes.children import CHECKOUT, PATIENCE
from tests.server.harness import Kamailio
from tests.server.process import wait_until
from tests.stress import gauges, outside
from tests.stress.gauges import MIB
from tests.support.clients import attach

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.processes.children import Children
    from tests.server.harness import Servers

QUEUES = {"q": "", "unique": "addmode=2", "last": "size=200", "bounded": "maxbytes=400k"}
SECONDS, LONG = 12.0, 1800.0
SAMPLES = 60
# Python's own heap breathes by some pages, and in the short form processes still warm up on a busy machine. A leak of
# 30 bytes an item would be three times this within it.
MEMORY, SHORT_MEMORY = 700_000, 2_000_000
SHM = 6 * MIB  # a burst more or less
HANDLER = """
    def request(self, msg):
        number = self.state["number"] = self.state.get("number", 0) + 1
        for name in {queues!r}:
            if mqueue_kemi.mq_size(name) < 1500:
                mqueue_kemi.mq_add(name, str(number % 700), "v" * (20000 if number % 97 == 0 else 100))
        KSR.sl.send_reply(200, "OK")
        return 1

    state = {{}}

    def ksr_consume(self, msg, event):
        for name in {queues!r}:
            for _ in range(60):
                if mqueue_kemi.mq_fetch(name) != 1:
                    break
                KSR.pv.get("$mqk(" + name + ")"), mqueue_kemi.mqv_gete(name)
            mqueue_kemi.mq_pv_free(name)
        return 1
"""
COMMANDS = (
    ("mqueue.get_sizes",),
    ("mqueue.stats",),
    ("mqueue.add", "q", "from", "outside"),
    ("mqueue.peek", "unique", "3"),
    ("mqueue.fetch", "q"),
    ("mqueue.get_size", "nosuch"),
)


def names_of(server: Kamailio) -> dict[str, int]:
    """Return the server's processes by names that stay."""
    return {f"server {number}": pid for number, pid in enumerate(server.process.pids())}


@contextmanager
def outsider(what: str, instance: str, stop: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process outside, and end it."""
    argv = [sys.executable, "-m", "tests.stress.mixed", what, instance, str(stop), *QUEUES]
    with subprocess.Popen(argv, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.timeout(2400)
def test_soak(servers: Servers, children: Children, stress: bool, say: Callable[[str], None], tmp_path: Path) -> None:
    """Requests, timers, RPC commands, reloads, and processes outside that attach and close all the time."""
    handler = HANDLER.format(queues=tuple(QUEUES))
    definitions = [f"name={name};{text}" for name, text in QUEUES.items()]
    patient = [("lock_timeout", str(HANG))]  # the machine may stop a holder for a second
    server = servers.start(Kamailio(definitions, params=patient, handler=handler, workers=2, timers=2))
    stop = tmp_path / "stop"
    stop.write_bytes(b"\0")
    with ExitStack() as stack:
        outsiders = [
            stack.enter_context(outsider(what, server.instance, stop)) for what in ("produce", "consume") for _ in "12"
        ]
        soak(server, children, outsiders, stop, say, stress=stress)


def soak(
    server: Kamailio,
    children: Children,
    outsiders: list[subprocess.Popen[str]],
    stop: Path,
    say: Callable[[str], None],
    *,
    stress: bool,
) -> None:
    caller = children.fork(lambda: outside.call(server.ports, 0.004))
    watched = names_of(server)
    for number, process in enumerate(outsiders):
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        watched[f"outsider {number}"] = process.pid
    begin, length = time.monotonic(), LONG if stress else SECONDS
    samples: list[gauges.Sample] = []
    while time.monotonic() < begin + length:
        turn = time.monotonic()
        for command in COMMANDS:
            server._kamcmd(*command)
        if len(samples) % 10 == 5:
            server.reload()
        samples.append(gauges.sample(watched, server.instance))
        time.sleep(max(0.0, turn + length / SAMPLES - time.monotonic()))
    caller.end()
    with stop.open("r+b") as file:  # which is mapped, and never shorter
        file.write(b"\1")
    results = [int(process.communicate(timeout=PATIENCE)[0]) for process in outsiders]
    added, taken = sum(results[:2]), sum(results[2:])
    say(f"soak of {length:.0f} s, {added} added and {taken} taken outside: {gauges.summary(samples)}")
    assert gauges.grown(samples, MEMORY if stress else SHORT_MEMORY, SHM) == []
    assert added > 100 * length
    wait_until(lambda: not any(len(attach(name, server.instance)) for name in QUEUES), "the queues are drained")
    left = {name: attach(name, server.instance).stats().memory for name in QUEUES}
    assert max(left.values()) < MAX_FREE * CHUNK + 2 * MIB, left
    assert server.process.pids() == sorted(watched[name] for name in watched if name.startswith("server"))


def leak(what: str, orders: socket.socket) -> None:
    """Hold on to a little more whenever it is told to."""
    kept: list[object] = []
    while orders.recv(1):
        if what == "memory":
            kept.append(bytearray(1_000_000))
        elif what == "descriptors":
            kept.extend(os.dup(1) for _ in range(2))
        orders.send(b".")


@pytest.mark.parametrize("what", ["memory", "descriptors", "nothing"])
def test_a_planted_leak_is_found(children: Children, what: str) -> None:
    """The same look at a process that leaks: 1 MB, or 2 descriptors, from one look to the next."""
    here, there = socket.socketpair()
    with here, there:
        child = children.fork(lambda: leak(what, there))
        samples = []
        for _ in range(15):
            here.send(b".")
            assert here.recv(1)
            samples.append(gauges.sample({"leaking": child.pid}, "none"))
    found = [text.split()[1] for text in gauges.grown(samples, SHORT_MEMORY, SHM)]
    assert found == ([] if what == "nothing" else [what])
