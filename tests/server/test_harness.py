"""The harness itself: what fails inside the server fails the test, and nothing that it started is left."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.asleep import asleep
from tests.server.harness import Kamailio, RemoteError, program
from tests.server.process import ServerError, ServerProcess, wait_until

if TYPE_CHECKING:
    from tests.server.harness import Servers


def test_a_job_that_raises_fails_the_test(servers: Servers) -> None:
    """An exception inside the server reaches the test: what a test asserts there counts."""
    server = servers.start(Kamailio())
    with pytest.raises(RemoteError, match="AssertionError"):
        server.run("assert mq.mq_size('q') == 7")


def test_a_server_that_is_not_installed_fails_the_test() -> None:
    """It is an error that says what to do, not a skip."""
    with pytest.raises(ServerError, match=r"not installed.*run\.sh"):
        program("kamailio-that-nobody-has")


def test_a_server_that_ends_at_once_fails_the_test(servers: Servers) -> None:
    """A start that did not succeed is told with the log."""
    server = servers.add(Kamailio(cfg="no such line"))
    with pytest.raises(ServerError, match=r"(?s)ended instead of starting.*parse error"):
        server.start()


def test_a_server_that_starts_is_not_taken_for_refused(servers: Servers) -> None:
    """`refused` fails when the server runs."""
    server = servers.add(Kamailio())
    with pytest.raises(ServerError, match="all processes end"):
        server.refused(within=1.0)


@pytest.mark.parametrize("command", ["sleep 600", "sleep 600 & sleep 600", "setsid sleep 600 & exit 0"])
def test_every_descendant_is_found_and_ended(tmp_path: Path, command: str) -> None:
    """Also one that left its session and whose parents are gone."""
    process = ServerProcess(["/bin/sh", "-c", command], tmp_path / "log")
    process.spawn()
    try:
        wait_until(lambda: "sleep" in process.programs(), "the command runs")
        pids = process.pids()
    finally:
        process.kill()
    assert pids
    assert process.pids() == []
    for pid in pids:
        assert not os.path.exists(f"/proc/{pid}"), "a zombie is left"


# A futex in shared anonymous memory, as Kamailio's locks; with `shared` in one that no other process reaches.
WAITS = """
import ctypes, mmap, platform, sys
kind = mmap.MAP_SHARED if sys.argv[1] == "shared" else mmap.MAP_PRIVATE
memory = mmap.mmap(-1, 4096, flags=kind | mmap.MAP_ANONYMOUS)
word = ctypes.c_uint32.from_buffer(memory)
word.value = 2
number = {"x86_64": 202, "aarch64": 98}[platform.machine()]
while True:
    ctypes.CDLL(None).syscall(number, ctypes.byref(word), 0, 2, None, None, 0)
"""


@pytest.mark.parametrize(
    ("memory", "others", "stuck"), [("shared", 0, True), ("private", 0, False), ("shared", 1, False)]
)
def test_who_waits_for_a_lock_of_the_dead_is_ended(tmp_path: Path, memory: str, others: int, *, stuck: bool) -> None:
    """Nobody else is there who could give the lock back; whatever else keeps a server from its end is a failure."""
    (tmp_path / "waits.py").write_text(WAITS, "utf-8")
    wait = f"{sys.executable} {tmp_path}/waits.py {memory}"
    process = ServerProcess(["/bin/sh", "-c", f"{'sleep 600 &' * others} exec {wait}"], tmp_path / "log")
    process.spawn()
    try:
        wait_until(lambda: any(map(asleep, process.pids())) and len(process.pids()) == 1 + others, "it waits")
        if stuck:
            process.wait_gone(0.1)
            assert "waits for a lock" in process.log()
        else:
            with pytest.raises(ServerError, match="all processes end"):
                process.wait_gone(0.1)
        assert bool(process.pids()) is not stuck
    finally:
        process.kill()


def test_a_server_whose_start_failed_is_killed(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not asked to end, which its processes may not hear yet."""
    server = Kamailio()
    monkeypatch.setattr(server, "patience", 0.0)
    monkeypatch.setattr(server, "answers", lambda: False)
    monkeypatch.setattr(server, "stop", lambda: pytest.fail("it was asked to end"))
    with pytest.raises(ServerError, match="it answers: not within"):
        servers.start(server)
