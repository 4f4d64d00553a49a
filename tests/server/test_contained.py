"""The demo in a place like a container's: own pids, a /dev/shm of 64 MB, and 256 MB of memory in all."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.server.harness import CHECKOUT
from tests.server.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUPS = Path("/sys/fs/cgroup/memory")
LIMIT = 256 << 20
ENTER = """
echo $$ > "$1/cgroup.procs" || exit 70
shift
exec unshare --mount --pid --fork --kill-child --mount-proc --propagation private sh -c '
    mount -t tmpfs -o size=64m tmpfs /dev/shm || exit 71
    exec "$@"
' sh "$@"
"""


@pytest.fixture
def group() -> Iterator[Path]:
    if not (GROUPS / "memory.limit_in_bytes").exists():
        pytest.skip("no memory control groups of version 1 can be made here")
    folder = GROUPS / f"mqk-demo-{os.getpid()}"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(str(LIMIT), "ascii")
    yield folder
    folder.rmdir()


@pytest.mark.parametrize(
    "option",
    [
        pytest.param([], id="kamailio.cfg"),
        pytest.param(["--native"], id="native", marks=pytest.mark.stress),
        pytest.param(["--worker"], id="worker", marks=pytest.mark.stress),
    ],
)
def test_the_demo(tmp_path: Path, group: Path, option: list[str]) -> None:
    """It ends with 0, nothing is lost, and nobody was refused memory by the kernel."""
    argv = ["sh", "-c", ENTER, "sh", str(group), "sh", str(CHECKOUT / "conf/demo.sh"), *option]
    demo = ServerProcess(argv, tmp_path / "log")
    try:
        code = demo.spawn().wait(120)
        assert code == 0, demo.log()
        assert re.search(r"lost\D*0\b|missing 0 / twice 0", demo.log()), demo.log()
        assert "under_oom 0" in (group / "memory.oom_control").read_text("ascii")
        assert int((group / "memory.max_usage_in_bytes").read_text("ascii")) > LIMIT // 16
    finally:
        demo.kill()
