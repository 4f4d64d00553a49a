"""conf/ask, as it is: calls are routed by a look-up over HTTP, with the real server, worker and HTTP; and its demo."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kemi.answers.view import totals
from kemi.testing import Script
from tests.server.asking import Agent
from tests.server.harness import CHECKOUT, Server
from tests.server.process import wait_until
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server.harness import Servers


class Example(Server):
    """The server of conf/ask."""

    def config(self) -> Path:
        return CHECKOUT / "conf/ask/kamailio.cfg"

    def options(self) -> list[str]:
        return ["-w", str(CHECKOUT), "-A", f"SIP_PORT={self.ports[0]}"]

    def env(self) -> dict[str, str]:
        return {"MQUEUE_KEMI_INSTANCE": self.instance}


@contextlib.contextmanager
def running(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module of this project; it is ended afterwards."""
    process = subprocess.Popen([sys.executable, "-B", "-m", *command], cwd=CHECKOUT, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def call(server: Server, user: str) -> tuple[int, str, str]:
    """Call a number; return code, reason and where it is."""
    with Agent(server.ports[0], user) as agent:
        code, reason = agent.final()
        contact = [line for line in agent.text.split("\r\n") if line.startswith("Contact: ")]
        return code, reason, contact[0] if contact else ""


def test_calls_are_routed_by_a_look_up(servers: Servers) -> None:
    """Without a worker 503; then where the directory says, or 404; and 504 while the directory is away."""
    server = servers.start(Example())
    (port,) = free_ports(1)
    assert call(server, "1234")[:2] == (503, "Try Later")
    worker = ("mqueue_kemi", "work", "conf.ask.lookup:look_up", "--instance", server.instance)
    with running(*worker, LOOKUP_URL=f"http://127.0.0.1:{port}/"):
        with running("conf.ask.directory", str(port), "0.05"):
            wait_until(lambda: call(server, "1234")[0] == 302, "the worker and its directory are there", 60)
            moved = (302, "Moved Temporarily", "Contact: <sip:4930@192.0.2.1>")
            wait_until(lambda: call(server, "4930") == moved, "its own place", 60)
            wait_until(lambda: call(server, "0000")[:2] == (404, "Not Found"), "it is unknown", 60)
        assert call(server, "5555")[:2] == (504, "Directory Does Not Answer")
        with running("conf.ask.directory", str(port), "0.05"):
            wait_until(lambda: call(server, "6666")[0] == 302, "it goes on when the directory is back", 60)
    found = totals(server.instance)
    assert found.pending == 0
    assert (found.gone, found.withdrawn, found.cancelled) == (0, 0, 0)


def test_its_script_without_a_server() -> None:
    """The same script in the test kit."""
    with Script(CHECKOUT / "conf/ask/routing.py") as script:
        assert script.request("INVITE sip:1234@example.org").suspended
        (asked,) = script.asked("lookups")
        result = asked.answer("sip:1234@192.0.2.1")
        assert (result.code, result.get("$ru")) == (302, "sip:1234@192.0.2.1")
        script.request("INVITE sip:1234@example.org")
        assert script.asked("lookups")[0].fail("unknown number").code == 404
        script.request("INVITE sip:1234@example.org")
        assert [result.code for result in script.advance(2.0)] == [504]
        script.no_worker("lookups")
        assert script.request("INVITE sip:1234@example.org").code == 503


@pytest.mark.stress
def test_the_demo() -> None:
    """It prints both times in one line; the route that waits takes 20 s, the other one a small part of that."""
    command = ["sh", str(CHECKOUT / "conf/demo.sh"), "--ask"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if " with ask()" in line)
    waiting, asking = (float(word) for word in line.replace(",", " ").split() if word.replace(".", "").isdigit())
    assert waiting > 20
    assert asking < waiting / 10
