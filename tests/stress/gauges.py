"""How much memory, how many descriptors and mappings processes have, and whether it grows."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kemi.queue.shm.naming import SHM_DIR

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MIB = 1 << 20


class Gauge(NamedTuple):
    """One process at one moment. `shared` is its part of the memory that it shares with others."""

    memory: int  # bytes of its own
    shared: int
    descriptors: int
    segments: int  # mappings of segments


class Sample(NamedTuple):
    """All at one moment."""

    moment: float
    processes: dict[str, Gauge]
    shm: int  # bytes of the instance's files


def gauge(pid: int) -> Gauge:
    """Look at one process."""
    process = Path(f"/proc/{pid}")
    rollup = {}
    for line in process.joinpath("smaps_rollup").read_text("ascii").splitlines()[1:]:
        name, _, value = line.partition(":")
        rollup[name] = int(value.split()[0]) << 10
    segments = sum("/mqk." in line for line in process.joinpath("maps").read_text("utf-8").splitlines())
    own = rollup["Private_Dirty"] - rollup.get("Pss_Shmem", 0) if "Pss_Anon" not in rollup else rollup["Pss_Anon"]
    return Gauge(own, rollup["Pss"] - own, len(os.listdir(process / "fd")), segments)


def sample(processes: dict[str, int], instance: str) -> Sample:
    """Look at all processes and the instance's files."""
    files = Path(SHM_DIR).glob(f"mqk.{instance}*")
    shm = sum(os.stat(path).st_blocks * 512 for path in files)
    return Sample(time.monotonic(), {name: gauge(pid) for name, pid in processes.items()}, shm)


def grown(samples: Sequence[Sample], memory: int, shm: int) -> list[str]:
    """Say what is more in the last third of the samples than in the third before it, beyond what may be.

    Medians, since a look may fall into a reload or a large item, and what leaks is there at every look.
    memory: bytes that each process may have more. shm: bytes that the files may have more. Descriptors and mappings
    may be more by what one attach has, since some processes attach again and again. The first third is for warming up.
    """
    third = len(samples) // 3
    before, after = samples[third : 2 * third], samples[2 * third :]
    wrong = []
    for name in after[-1].processes:
        for field, spare in (("memory", memory), ("shared", shm), ("descriptors", 4), ("segments", 6)):
            was, became = (_usual(part, name, field) for part in (before, after))
            if became > was + spare:
                wrong.append(f"{name}: {field} {was} -> {became}")
    was, became = (max(each.shm for each in part) for part in (before, after))
    if became > was + shm:
        wrong.append(f"{SHM_DIR}: {was} -> {became}")
    return wrong


def _usual(samples: Iterable[Sample], name: str, field: str) -> int:
    return statistics.median_low([int(getattr(each.processes[name], field)) for each in samples])


def summary(samples: Sequence[Sample]) -> str:
    """Return the largest process's figures and those of the files, at the end of each third."""
    third = len(samples) // 3
    lines = []
    for at in (third, 2 * third, len(samples) - 1):
        each = samples[at]
        own = sum(found.memory for found in each.processes.values()) / len(each.processes) / MIB
        fds = sum(found.descriptors for found in each.processes.values())
        seconds = each.moment - samples[0].moment
        lines.append(f"{seconds:.0f} s: {own:.2f} MiB a process, {fds} descriptors, {each.shm / MIB:.2f} MiB {SHM_DIR}")
    return "; ".join(lines)
