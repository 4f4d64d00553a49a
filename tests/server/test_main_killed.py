"""Kamailio's main process is killed while its workers go on: nobody starts beside them, and the cure works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.server.harness import CHECKOUT, Kamailio
from tests.server.process import wait_until

if TYPE_CHECKING:
    from tests.server.harness import Servers


@pytest.mark.parametrize(("user", "daemon"), [("", False), ("kamailio", True)])
def test_the_main_process_alone_is_killed(servers: Servers, user: str, daemon: bool) -> None:
    first = servers.start(Kamailio(workers=2, user=user, daemon=daemon))
    assert first.call("mq_add", "q", "k", "v", worker=0) == 1
    main = first.main_pid
    os.kill(main, signal.SIGKILL)
    wait_until(lambda: main not in first.process.pids(), "the main process is gone")
    second = servers.add(Kamailio(workers=2, instance=first.instance, user=user))
    log = second.refused(120)  # on a busy machine a start takes long, and waits for those that die
    (line,) = {line.partition("InstanceInUse: ")[2] for line in log.splitlines() if "InstanceInUse: instance" in line}
    assert f"main process, pid {main}, is gone: pid " in line
    assert f"(kamailio, user {0 if not user else first.segments()[0].stat().st_uid} (" in line
    assert "end them (kill" in line
    told = line.partition("is gone: pid ")[2].partition(" (")[0]
    workers = set(map(int, told.split(", ")))
    assert workers
    assert workers <= set(first.process.pids())
    assert first.call("mq_size", "q", worker=1) == 1  # they do work on
    argv = [sys.executable, "-m", "mqueue_kemi", "--instance", first.instance, "drop", "--yes"]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, "is gone: pid " in done.stderr) == (6, True)
    for pid in first.process.pids():
        os.kill(pid, signal.SIGKILL)
    third = servers.start(Kamailio(workers=2, instance=first.instance, user=user))  # at once: what was killed ends soon
    assert third.process.log_lines("1 items of the last server taken over")
