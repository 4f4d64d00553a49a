"""A route that makes its worker wait is warned of; one that works, however long, is not."""

from __future__ import annotations

import time
import warnings

import pytest

from kemi.testing import BlockingRoute, run_route
from kemi.testing.blocking import watched

SCRIPT = """
import socket, subprocess, sys, threading, time
from time import sleep
import KSR

class Handler:
    def child_init(self, rank):
        sleep(0.06)
        return 0

    def ksr_request_route(self, msg):
        getattr(self, KSR.pv.get("$rU"))()
        return 1

    def sleeps(self):
        sleep(0.06)

    def sleeps_often(self):
        for _ in range(7):
            time.sleep(0.01)

    def asks_a_socket(self):
        left, right = socket.socketpair()
        with left, right:
            left.settimeout(0.06)
            try:
                left.recv(1)
            except socket.timeout:
                pass

    def runs_a_program(self):
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.06)"], check=True)

    def starts_a_thread(self):
        thread = threading.Thread(target=int, name="helper")
        thread.start()
        thread.join()

    def computes(self):
        end = time.thread_time() + 0.1
        while time.thread_time() < end:
            pass

    def sleeps_a_little(self):
        sleep(0.001)

def mod_init():
    return Handler()
"""


@pytest.mark.parametrize("user", ["sleeps", "sleeps_often", "asks_a_socket", "runs_a_program"])
def test_a_route_that_waits(user: str) -> None:
    with pytest.warns(
        BlockingRoute,
        match=r"ksr_request_route has waited for \d+\.\d\d s, longest in [\w.]+ \(<script>:\d+\): .* queue",
    ):
        run_route(SCRIPT, f"INVITE sip:{user}@example.org")


def test_a_route_that_starts_a_thread() -> None:
    with pytest.warns(BlockingRoute, match=r"ksr_request_route has started a thread \(helper\)"):
        run_route(SCRIPT, "INVITE sip:starts_a_thread@example.org")


@pytest.mark.parametrize("user", ["computes", "sleeps_a_little"])
def test_a_route_that_does_not(user: str) -> None:
    """Nor the start of the script, which no call waits for."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run_route(SCRIPT, f"INVITE sip:{user}@example.org").returned == 1


def test_where_the_kernel_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kemi.testing.blocking._SCHEDULED", "/nowhere/at/all")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with watched("route"):
            time.sleep(0.06)


def test_an_error_of_the_route_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="mine"), watched("route"):
        raise ValueError("mine")
