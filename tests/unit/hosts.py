"""A /proc and control groups of a test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kemi.queue.shm import rooms

if TYPE_CHECKING:
    from pathlib import Path


MB = 1 << 20


MEMINFO = "MemTotal:       4194304 kB\nMemFree: 1 kB\nMemAvailable:   2097152 kB\nSwapFree:             0 kB\n"
V2 = "30 24 0:26 / HERE rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


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
