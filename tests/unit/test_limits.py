"""Limits of the machine and control groups: what is refused before the kernel kills, and which limit was met."""

from __future__ import annotations

import errno
import os
import resource
from typing import TYPE_CHECKING

import pytest

from kemi.queue.shm import limits
from tests.unit.hosts import MB, MEMINFO, V2

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from tests.unit.hosts import Host


def test_refused_before_the_kernel_kills(host: Host) -> None:
    """What is left to the server is not touched; the file with the limit is named."""
    host.groups("0::/a\n", V2)
    host.files("a", max=256 * MB, current=200 * MB, stat="active_file 0\ninactive_file 0")
    assert limits.why_not(1000 * MB, 40 * MB) == ""
    assert limits.why_not(1000 * MB, 41 * MB) == (
        f"the control group's limit is reached ({host.tree}/a/memory.max): 56 MB are left of 256 MB"
    )
    host.files("a", current=236 * MB)
    assert limits.why_not(1000 * MB, MB) == "", "within what the look before has allowed, and its second"
    limits._budget[0] = (0.0, 0)
    assert limits.why_not(1000 * MB, 5 * MB)


@pytest.mark.parametrize(("limit", "left"), [(128, 16), (256, 16), (1024, 64), (4096, 256), (16384, 256)])
def test_a_sixteenth_is_left_to_the_server(host: Host, limit: int, left: int) -> None:
    """At least 16 MB, at most 256."""
    (host.root / "proc/meminfo").write_text(MEMINFO.replace("2097152", "20971520"), "ascii")
    host.groups("0::/a\n", V2)
    host.files("a", max=limit * MB, current=0, stat="active_file 0\ninactive_file 0")
    assert limits.why_not(1 << 50, (limit - left) * MB + 1)
    assert limits.why_not(1 << 50, (limit - left) * MB) == ""


def test_a_small_queue_may_take_more(host: Host) -> None:
    """A server starts, and its queues begin, where nearly nothing is left."""
    host.groups("0::/a\n", V2)
    host.files("a", max=256 * MB, current=246 * MB, stat="active_file 0\ninactive_file 0")
    assert limits.why_not(3 * MB, MB)
    assert limits.why_not(2 * MB, MB) == ""
    host.files("a", current=255 * MB)
    limits._budget[0] = (0.0, 0)
    assert limits.why_not(2 * MB, MB)


def test_the_default_of_max_memory(host: Host, mocker: MockerFixture) -> None:
    """Half of the file system; a quarter of the machine or group, and half of what is left of it, at most."""
    shm = mocker.patch("os.statvfs")
    shm.return_value.f_frsize, shm.return_value.f_blocks = 4096, 64 * MB // 4096
    assert limits.default_max_memory("/dev/shm") == 32 * MB
    shm.return_value.f_blocks = 1 << 40
    assert limits.default_max_memory("/dev/shm") == 1024 * MB
    host.groups("0::/a\n", V2)
    host.files("a", max=256 * MB, current=56 * MB)
    assert limits.default_max_memory("/dev/shm") == 64 * MB
    host.files("a", current=200 * MB, stat="active_file 0\ninactive_file 0")
    assert limits.default_max_memory("/dev/shm") == 28 * MB


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EFBIG, "ulimit -f"),
        (errno.EDQUOT, "quota"),
        (errno.ENOSPC, "is full"),
        (errno.ENOMEM, "is full"),
        (errno.EACCES, ""),
    ],
)
@pytest.mark.usefixtures("host")
def test_which_limit_an_error_means(code: int, words: str) -> None:
    found = limits.why_refused("/dev/shm", 1 << 60, OSError(code, os.strerror(code)))
    assert words in found
    assert bool(found) == bool(words)


def test_memory_that_was_promised_to_others(host: Host) -> None:
    """There is room in /dev/shm, so it is not what is full."""
    (host.root / "proc/sys/vm").mkdir(parents=True)
    (host.root / "proc/sys/vm/overcommit_memory").write_text("2\n", "ascii")
    assert "overcommit_memory=2" in limits.why_refused("/dev/shm", 1, OSError(errno.ENOSPC, "full"))
    assert "is full" in limits.why_refused("/dev/shm", 1 << 60, OSError(errno.ENOSPC, "full"))


@pytest.mark.usefixtures("host")
def test_files_that_may_not_be_large(mocker: MockerFixture) -> None:
    """Asking the system would be SIGXFSZ."""
    mocker.patch("resource.getrlimit", return_value=(1000, resource.RLIM_INFINITY))
    assert limits.why_not(1000, 10) == ""
    assert "1000 bytes at most" in limits.why_not(1001, 10)
    assert "1000 bytes at most" in limits.why_refused("/dev/shm", 10, OSError(errno.EFBIG, "File too large"))
