"""A real Kamailio within limits of memory: locked pages, a control group."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes.children import Children
from tests.server.harness import Kamailio, Servers
from tests.server.process import adopt_orphans

if TYPE_CHECKING:
    from collections.abc import Iterator

MB = 1 << 20
GROUPS = Path("/sys/fs/cgroup/memory")
FILL = """
    added = 0
    while added < {most} and mq.mq_add({queue!r}, str(added), 'v' * 4000) == 1:
        added += 1
    return added
"""
TAKE = """
    taken = []
    while mq.mq_fetch({queue!r}) == 1:
        taken.append(int(mq.mqk_get({queue!r})))
    return taken
"""


def status(pid: int, name: str) -> int:
    """Return a number of /proc/PID/status, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) << 10


def test_locked_pages(servers: Servers) -> None:
    """mlock_pages=yes: no window is filled, and a server that was killed in a burst is followed by the next one."""
    definitions = ["name=q;recover=2", "name=keyed;addmode=2;recover=2"]
    options = {"params": [("max_memory", "1G")], "cfg": "mlock_pages=yes"}
    server = servers.start(Kamailio(definitions, **options))  # type: ignore[arg-type]
    assert status(server.main_pid, "VmLck") > 0
    assert status(server.main_pid, "VmRSS") < 400 * MB
    for queue in ("q", "keyed"):
        assert server.run(FILL.format(queue=queue, most=3000)) == 3000
        assert server.run(f"return [mq.mq_fetch({queue!r}) for _ in range(2000)].count(1)") == 2000
    for pid in server.process.pids():
        os.kill(pid, signal.SIGKILL)
    server.process.kill()
    again = servers.start(Kamailio(definitions, instance=server.instance, **options))  # type: ignore[arg-type]
    assert status(again.main_pid, "VmRSS") < 400 * MB
    for queue in ("q", "keyed"):
        assert again.run(TAKE.format(queue=queue)) == list(range(2000, 3000))
    again.stop()
    assert again.segments() == []


@pytest.fixture
def group() -> Iterator[Path]:
    if not (GROUPS / "memory.limit_in_bytes").exists():
        pytest.skip("no memory control groups of version 1 can be made here")
    folder = GROUPS / f"mqk-server-{os.getpid()}"
    folder.mkdir()
    yield folder
    for pid in (folder / "cgroup.procs").read_text("ascii").split():
        (GROUPS / "cgroup.procs").write_text(pid, "ascii")
    folder.rmdir()


@pytest.mark.parametrize("max_memory", ["0", "4G"])
def test_a_control_group(group: Path, max_memory: str) -> None:
    """A full queue is a refusal, told once; no process of the server is killed, and it serves on."""
    (group / "memory.limit_in_bytes").write_text(str(256 * MB), "ascii")

    def act() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()), "ascii")
        adopt_orphans()
        with ExitStack() as stack:
            server = Servers(stack).start(Kamailio(workers=2, params=[("max_memory", max_memory)]))
            pids = server.process.pids()
            added = server.run(FILL.format(queue="q", most=1 << 20))
            assert added > 5000
            refused = server.run("return [mq.mq_add('q', 'no', 'v' * 100000) for _ in range(435)]", worker=1).count(-1)
            assert refused > 1  # not all, if the kernel takes memory back from a cache in between
            (line,) = server.process.log_lines("mq_add('q'): not added: no memory")
            assert ("max_memory is reached" if max_memory == "0" else f"{group}/memory.limit_in_bytes") in line
            assert server.process.pids() == pids
            assert server.call("mq_fetch", "q", worker=1) == 1
            assert server.call("mqk_get", "q", worker=1) == "0"
            assert server.run("return sum(mq.mq_fetch('q') == 1 for _ in range(2000))") == 2000
            assert server.call("mq_add", "q", "k", "v") == 1
            server.stop()
            assert server.segments() == []

    own = Children()
    try:
        own.fork(act).result(timeout=90)
    finally:
        own.end()
