"""A route that makes its worker wait is warned of; one that works, however long, is not."""

from __future__ import annotations

import time
import warnings

import pytest

from kemi.testing import BlockingRoute, run_route
from kemi.testing.blocking import watched

SCRIPT = """
import _thread, contextlib, fcntl, os, socket, sqlite3, subprocess, sys, tempfile, threading, time
from time import sleep
import KSR
import mqueue_kemi

class Handler:
    def child_init(self, rank):
        sleep(0.06)
        return 0

    def ksr_request_route(self, msg):
        getattr(self, KSR.pv.get("$rU"))()
        return 1

    # Each waits long: on a busy machine some of it may pass before the sleep begins, and counts as work.
    def sleeps(self):
        sleep(1)

    def sleeps_often(self):
        for _ in range(100):
            time.sleep(0.01)

    def asks_a_socket(self):
        left, right = socket.socketpair()
        with left, right:
            left.settimeout(1)
            try:
                left.recv(1)
            except socket.timeout:
                pass

    def runs_a_program(self):
        subprocess.run([sys.executable, "-c", "import time; time.sleep(2)"], check=True)

    def reads_a_pipe(self):
        with self.sleeper() as process:
            os.write(process.stdin.fileno(), b"\\n")
            process.stdout.read()

    def reads_a_descriptor(self):
        with self.sleeper() as process:
            os.write(process.stdin.fileno(), b"\\n")
            os.read(process.stdout.fileno(), 1)

    def sleeper(self):
        # It begins to sleep when this one is about to read, and not before.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen("read line; sleep 2; echo", shell=True, **pipes)

    def waits_for_a_queue(self):
        mqueue_kemi.mq_fetch("q", 1)

    def waits_for_a_database(self):
        with tempfile.TemporaryDirectory() as folder:
            with contextlib.closing(sqlite3.connect(folder + "/db", isolation_level=None)) as one:
                one.execute("BEGIN EXCLUSIVE")
                with contextlib.closing(sqlite3.connect(folder + "/db", timeout=1)) as other:
                    try:
                        other.execute("SELECT * FROM sqlite_master")
                    except sqlite3.OperationalError:
                        pass

    def waits_for_a_file(self):
        with tempfile.NamedTemporaryFile() as file:
            with subprocess.Popen(["flock", file.name, "sh", "-c", "echo; sleep 2"], stdout=subprocess.PIPE) as other:
                other.stdout.readline()
                fcntl.flock(file, fcntl.LOCK_EX)

    def starts_a_bare_thread(self):
        _thread.start_new_thread(int, ())

    def starts_a_thread(self):
        thread = threading.Thread(target=int, name="helper")
        thread.start()
        thread.join()

    def computes(self):
        end = time.thread_time() + 0.1
        while time.thread_time() < end:
            pass

    def reads_a_file(self):
        for _ in range(200):
            with open(__import__("kemi").__file__, "rb") as file:
                file.read()

    def sleeps_a_little(self):
        sleep(0.001)

def mod_init():
    mqueue_kemi.modparam("mqueue", "mqueue", "name=q")
    return mqueue_kemi.mod_init(Handler())
"""


@pytest.mark.parametrize(
    "user",
    [
        *("sleeps", "sleeps_often", "asks_a_socket", "runs_a_program", "reads_a_pipe", "reads_a_descriptor"),
        *("waits_for_a_queue", "waits_for_a_database", "waits_for_a_file"),
    ],
)
def test_a_route_that_waits(user: str) -> None:
    with pytest.warns(
        BlockingRoute,
        match=r"ksr_request_route has waited for \d+\.\d\d s, longest in [\w. ]+ \(<script>:\d+\): .* queue",
    ):
        run_route(SCRIPT, f"INVITE sip:{user}@example.org")


def test_a_route_that_starts_a_thread() -> None:
    with pytest.warns(BlockingRoute, match=r"ksr_request_route has started a thread \(helper\)"):
        run_route(SCRIPT, "INVITE sip:starts_a_thread@example.org")


def test_a_route_that_starts_a_thread_by_itself() -> None:
    with pytest.warns(BlockingRoute, match=r"has started a thread \(_thread\.start_new_thread\)"):
        run_route(SCRIPT, "INVITE sip:starts_a_bare_thread@example.org")


@pytest.mark.parametrize("user", ["computes", "reads_a_file", "sleeps_a_little"])
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
