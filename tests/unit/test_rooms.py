"""What the machine and control groups leave: both versions, nested, seen from a container; on files of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.queue.shm import limits, rooms
from tests.unit.hosts import MB, V2

if TYPE_CHECKING:
    from tests.unit.hosts import Host


V1 = (
    "29 24 0:25 / /elsewhere rw - cgroup cgroup rw,cpu\n"
    "30 24 0:26 / HERE rw,nosuid shared:4 - cgroup cgroup rw,memory\n"
)


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
