"""The harness itself: what fails inside the server fails the test, and nothing that it started is left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

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
