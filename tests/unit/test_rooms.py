"""What the machine and control groups leave: both versions, nested, seen from a container; on files of a test."""

from __future__ import annotations

import errno
import os
import resource
from typing import TYPE_CHECKING

import pytest

from kemi.queue.shm import limits, rooms

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

MB = 1 << 20
MEMINFO = "MemTotal:       4194304 kB\nMemFree: 1 kB\nMemAvailable:   2097152 kB\nSwapFree:             0 kB\n"


class Host:
    """A /proc and control groups of a test's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/meminfo").write_text(MEMINFO, "ascii")
        self.tree = root / "cgroup"

    def groups(self, text: str, mount: str) -> None:
        (self.root / "proc/self/cgroup").write_text(text, "ascii")
        (self.root / "proc/self/mountinfo").write_text(mount.replace("HERE", str(self.tree)), "ascii")

    def files(self, folder: str, **values: object) -> None:
        path = self.tree / folder
        path.mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            (path / f"memory.{name}").write_text(f"{value}\n", "ascii")

    def left(self) -> list[tuple[int, int]]:
        """Limit and rest of each control group, MB."""
        return [(room.limit // MB, room.left // MB) for room in list(rooms.all_rooms())[1:]]


V2 = "30 24 0:26 / HERE rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "29 24 0:25 / /elsewhere rw - cgroup cgroup rw,cpu\n"
    "30 24 0:26 / HERE rw,nosuid shared:4 - cgroup cgroup rw,memory\n"
)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(rooms, "PROC", str(tmp_path / "proc"))
    monkeypatch.setattr(rooms, "_found", {})
    monkeypatch.setattr(limits, "_budget", [(0.0, 0)])
    return Host(tmp_path)


@pytest.mark.usefixtures("host")
def test_the_machine_alone() -> None:
    """No control group anywhere."""
    (room,) = rooms.all_rooms()
    assert (room.limit // MB, room.left // MB) == (4096, 2048)


def test_version_2(host: Host) -> None:
    """The smaller of max and high; a group without a limit is passed over; one further up counts too."""
    host.groups("0::/system.slice/kamailio.service\n", V2)
    host.files("system.slice/kamailio.service", max=256 * MB, high="max", current=100 * MB, stat="anon 1\n")
    host.files("system.slice", max="max", high=200 * MB, current=50 * MB)
    host.files(".", stat="")
    assert host.left() == [(256, 156), (200, 150)]
    host.files("system.slice/kamailio.service", high=128 * MB, current=20 * MB)
    assert host.left()[0] == (128, 108)


@pytest.mark.parametrize("mount", [V1, V2])
def test_a_group_without_a_limit_is_passed_over(host: Host, mount: str) -> None:
    """Whatever it says of its usage; a colon in its path is a part of it."""
    kind = "4:memory:" if mount is V1 else "0::"
    host.groups(f"{kind}/a:b\n", mount)
    host.files("a:b", max="max", high="max", current=50 * MB, stat="")
    host.files("a:b", limit_in_bytes=1 << 62, usage_in_bytes=41 * MB)
    assert host.left() == []
    host.files("a:b", max=100 * MB, limit_in_bytes=91 * MB)
    assert host.left() == [(91, 50) if mount is V1 else (100, 50)]


def test_page_cache_does_not_count(host: Host) -> None:
    """The kernel drops it before it kills anybody; shared memory is none of it."""
    host.groups("0::/a\n", V2)
    host.files("a", max=100 * MB, current=90 * MB, stat=f"shmem {MB}\nactive_file {10 * MB}\ninactive_file {30 * MB}")
    assert host.left() == [(100, 50)]


def test_version_1(host: Host) -> None:
    host.groups("3:cpu:/\n4:memory:/docker/abc\n0::/\n", V1)
    stat = f"active_file {MB}\ntotal_active_file {3 * MB}\ntotal_inactive_file 0"
    host.files("docker/abc", limit_in_bytes=64 * MB, usage_in_bytes=40 * MB, stat=stat)
    host.files("docker", limit_in_bytes=9223372036854771712, usage_in_bytes=41 * MB)
    host.files(".", limit_in_bytes=9223372036854771712, usage_in_bytes=41 * MB)
    assert host.left() == [(64, 27)]


@pytest.mark.parametrize("text", ["0::/docker/abc\n", "0::/\n", "0::/../abc\n"])
def test_a_container_sees_a_part_of_the_tree(host: Host, text: str) -> None:
    """With the host's path and a mount of its own group, in a namespace of its own, or of another one."""
    root = "/docker/abc" if "docker" in text else "/.." if ".." in text else "/"
    host.groups(text, V2.replace(" / ", f" {root} "))
    host.files(".", max=64 * MB, current=10 * MB)
    assert host.left() == [(64, 54)]


@pytest.mark.parametrize("broken", ["", "nonsense", "0::", "4:memory:/gone\n"])
def test_what_cannot_be_read_limits_nothing(host: Host, broken: str) -> None:
    host.groups(broken, V1)
    (host.root / "proc/meminfo").write_text("MemTotal: none\n", "ascii")
    assert list(rooms.all_rooms()) == []
    assert limits.why_not(1, 1) == ""


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
