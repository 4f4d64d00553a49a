"""conf/push/ on the real server: a phone that sleeps is woken by a push, registers, and gets its call."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, Callable

import pytest

from tests.server import sip
from tests.server.harness import CHECKOUT, Example
from tests.server.process import wait_until
from tests.support.clients import attach, inner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server.harness import Servers

_serial = itertools.count(1)
WAIT = 20.0


class Push(Example):
    """The example's server."""

    wait = WAIT

    def env(self) -> dict[str, str]:
        return {**super().env(), "PUSH_WAIT": str(self.wait)}


class Impatient(Push):
    """Its callers wait no longer than that."""

    wait = 1.0


class Phone:
    """Registers, and answers calls, in a thread."""

    def __init__(self, user: str, port: int) -> None:
        self.user, self.port = user, port
        self.calls: list[str] = []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((sip.HOST, 0))
        self.own = f"{sip.HOST}:{self.sock.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def register(self) -> None:
        mark = f"{os.getpid()}-r{next(_serial)}"
        text = (
            f"REGISTER sip:{sip.HOST} SIP/2.0\r\nVia: SIP/2.0/UDP {self.own};branch=z9hG4bK-{mark}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:{self.user}@{sip.HOST}>;tag=1\r\nTo: <sip:{self.user}@{sip.HOST}>\r\n"
            f"Call-ID: {mark}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{self.user}@{self.own}>\r\nExpires: 300\r\n"
            "Content-Length: 0\r\n\r\n"
        )
        self.sock.sendto(text.encode(), (sip.HOST, self.port))

    def _serve(self) -> None:
        while True:
            data, where = self.sock.recvfrom(65535)
            if not data:
                return
            text = data.decode()
            if text.startswith("INVITE "):
                self.calls.append(text)
                kept = re.findall(r"(?mi)^(?:via|record-route|from|call-id|cseq): .*\r\n", text)
                to = re.search(r"(?mi)^to: .*$", text)
                assert to is not None
                head = [*kept, f"{to[0].strip()};tag=2\r\n", f"Contact: <sip:{self.user}@{self.own}>\r\n"]
                self.sock.sendto(f"SIP/2.0 200 OK\r\n{''.join(head)}Content-Length: 0\r\n\r\n".encode(), where)

    def close(self) -> None:
        """Its thread ends with the socket."""
        self.sock.sendto(b"", self.sock.getsockname())
        self._thread.join()
        self.sock.close()


class Service:
    """The push service: what it is asked for, it does."""

    def __init__(self, act: Callable[[str], int]) -> None:
        """act: gives the HTTP status for a user."""
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                user = self.path.strip("/")
                asked.append(user)
                self.send_response(act(user))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = HTTPServer((sip.HOST, 0), Handler)
        self.url = f"http://{sip.HOST}:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


Start = Callable[[Any, Callable[[str], int]], Service]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Start]:
    """Return what starts a push service and the example's worker, which has its queues then."""
    services: list[Service] = []
    processes: list[subprocess.Popen[bytes]] = []

    def start(server: Push, act: Callable[[str], int]) -> Service:
        service = Service(act)
        services.append(service)
        env = {**os.environ, "PUSH_URL": service.url, "MQUEUE_KEMI_INSTANCE": server.instance}
        argv = [sys.executable, "-B", "-m", "mqueue_kemi", "work", "conf/push/wake.py:wake"]
        with (tmp_path / "worker.log").open("wb") as log:
            processes.append(subprocess.Popen(argv, cwd=CHECKOUT, env=env, stderr=log))
        with attach("push", server.instance) as queue:
            wait_until(lambda: inner(queue).has_workers(), "the worker is there")
        return service

    yield start
    for process in processes:
        process.terminate()
        assert process.wait(60) == 0, (tmp_path / "worker.log").read_text("utf-8")
    for service in services:
        service.close()
    assert "Traceback" not in (tmp_path / "worker.log").read_text("utf-8")


@pytest.fixture
def phones() -> Iterator[list[Phone]]:
    made: list[Phone] = []
    yield made
    for phone in made:
        phone.close()


def test_a_sleeping_phone_gets_its_call(servers: Servers, worker: Start, phones: list[Phone]) -> None:
    """It registers when the push comes; the next call finds it without one."""
    server = servers.start(Push("push/kamailio.cfg"))
    phones.append(Phone("bob", server.ports[0]))

    def act(user: str) -> int:
        assert user == "bob"
        phones[0].register()
        return 200

    service = worker(server, act)
    assert server.request("INVITE", to=b"bob").status == 200
    assert server.request("INVITE", to=b"bob").status == 200
    assert (service.asked, len(phones[0].calls)) == (["bob"], 2)
    assert not server.process.log_lines("ERROR")


def test_a_phone_that_does_not_wake_up(servers: Servers, worker: Start) -> None:
    """The caller hears so, when the time is over; other callers are not kept."""
    server = servers.start(Impatient("push/kamailio.cfg"))
    service = worker(server, lambda _user: 200)
    reply = server.request("INVITE", to=b"carol")
    assert reply.status == 480
    assert service.asked == ["carol"]


def test_a_push_service_that_is_away(servers: Servers, worker: Start, phones: list[Phone]) -> None:
    """It is tried again while the caller waits."""
    server = servers.start(Push("push/kamailio.cfg"))
    phones.append(Phone("dave", server.ports[0]))
    tries: list[str] = []

    def act(user: str) -> int:
        tries.append(user)
        if len(tries) == 1:
            return 503
        phones[0].register()
        return 200

    worker(server, act)
    assert server.request("INVITE", to=b"dave").status == 200
    assert tries == ["dave", "dave"]


def test_without_a_worker(servers: Servers) -> None:
    """The caller hears at once that the phone is not there."""
    server = servers.start(Push("push/kamailio.cfg"))
    assert server.request("INVITE", to=b"erin").status == 480
    assert server.check().returncode == 0
