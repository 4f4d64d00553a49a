"""The command line beside a real Kamailio: what the server queues is seen, taken and watched from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.asleep import asleep
from tests.server.harness import CHECKOUT, Kamailio
from tests.server.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server.harness import Servers

PYTHON = "/usr/bin/python3"  # the server's own, which may have no packages at all


class Commands:
    """Commands for one server's instance."""

    def __init__(self, instance: str) -> None:
        self._argv = [PYTHON, "-B", "-m", "mqueue_kemi", "--instance", instance]
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        argv = [*self._argv, *arguments]
        process = subprocess.Popen(argv, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._started.append(process)
        return process

    def __call__(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=30)
        return process.returncode, (out + err).decode()

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def server(servers: Servers) -> Kamailio:
    return servers.start(Kamailio(["name=q", "name=last;size=2"], workers=2))


@pytest.fixture
def command(server: Kamailio) -> Iterator[Commands]:
    commands = Commands(server.instance)
    yield commands
    commands.end()


def test_what_the_server_queues(server: Kamailio, command: Commands) -> None:
    """From SIP workers to the shell, and back."""
    for number in range(3):
        assert server.call("mq_add", "q", str(number), "ü\udcff", worker=number % 2) == 1
    assert command("sizes") == (0, "last\t0\nq\t3\n")
    assert command("fetch", "q") == (0, "0\tü\\xff\n")
    assert server.call("mq_size", "q") == 2
    code, text = command("drain", "q")
    assert code == 0
    assert [json.loads(line)["key"] for line in text.splitlines()] == ["1", "2"]
    assert command("add", "q", "from", "outside") == (0, "")
    assert server.call("mq_fetch", "q") == 1
    assert server.call("mqv_get", "q") == "outside"
    code, text = command("instances")
    row = next(line.split() for line in text.splitlines() if line.startswith(server.instance))
    assert row[1:3] == ["alive", str(server.main_pid)]


def test_a_server_that_is_loaded_as_a_script_runs_no_command(servers: Servers) -> None:
    """app_python3 loads mqueue_kemi.py itself for a native kamailio.cfg; under its own name."""
    server = servers.start(Kamailio(["name=q"]))
    assert server.run("return mq.__name__") == "mqueue_kemi"
    assert server.run("import sys; return sorted(m for m in sys.modules if m.startswith('kemi.cli'))") == []


def test_consume_beside_traffic(server: Kamailio, command: Commands) -> None:
    """What two workers add comes out at once, in each worker's order, and once."""
    process = command.start("consume", "q", "--follow", "--json", "-n", "200")
    wait_until(lambda: asleep(process.pid), "it waits")
    jobs = [
        server.submit(f"return [mq.mq_add('q', f'{worker}-{{n}}', 'v') for n in range(100)]", worker)
        for worker in range(2)
    ]
    for job in jobs:
        assert set(job.result()) == {1}
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    keys = [json.loads(line)["key"] for line in out.splitlines()]
    for worker in range(2):
        assert [key for key in keys if key[0] == str(worker)] == [f"{worker}-{n}" for n in range(100)]


def test_drop_after_a_crash(server: Kamailio, command: Commands) -> None:
    """While the server lives it is refused; after `kill -9` of the server what it left is shown and taken away."""
    server.call("mq_add", "q", "k", "v")
    code, text = command("drop", "--yes")
    assert (code, f"belongs to pid {server.main_pid}" in text) == (6, True)
    for pid in server.process.pids():
        os.kill(pid, signal.SIGKILL)
    server.process.wait_gone()
    code, text = command("stats", "--prometheus")
    assert (code, f'mqueue_kemi_up{{mqueue_instance="{server.instance}"}} 0.0' in text) == (0, True)
    assert command("get_size", "q") == (0, "1\n")
    assert command("drop", "--yes")[0] == 0
    assert server.segments() == []


def test_a_restart_under_a_consumer(server: Kamailio, command: Commands) -> None:
    """It goes on with the next server's queue."""
    process = command.start("consume", "q", "--follow", "-n", "1")
    wait_until(lambda: asleep(process.pid), "it waits")
    server.stop()
    server.start()
    server.call("mq_add", "q", "k", "v")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, b"k\tv\n", b"")
