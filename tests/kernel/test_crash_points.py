"""The kernel is killed at each of its stores; and a wrong order of stores that is planted in it is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from kemi.queue.kernel import choice
from tests.conftest import CHECKOUT

if not hasattr(choice.lib, "set_hook"):
    pytest.skip("MQUEUE_KEMI_KERNEL=crash-points runs these", allow_module_level=True)

from tests.kernel import walks

SOURCES = CHECKOUT / "kemi" / "queue" / "kernel"


@pytest.mark.parametrize(("mode", "name"), walks.NAMES)
def test_killed_at_each_store(mode: int, name: str) -> None:
    """What is left is the state before or after, also when the repair is struck at each of its stores."""
    assert walks.strike_at_each_store(mode, name) > 3


RECORD = "write_record(q, tail, record);"
TAIL, ADDED = "STORE(&u64[K_W_TAIL_ODD - odd], end);", "COMMIT(&u64[K_W_ADDED], added + 1);"
HEAD, POPPED = "STORE(&u64[K_W_HEAD_ODD - odd], end);", "COMMIT(&u64[K_W_POPPED], popped + 1);"
BUCKET = "STORE(&q->u32[bucket], (uint32_t)((at - q->data) >> K_LINK_SHIFT));"
LEAD = "STORE(&q->u32[lead], LOAD(&q->u32[(head >> 2) + K_R_LINK]));"
LIST = "for (uint64_t each = 0; each < 2 * count; each++)\n        STORE(&list[each], pairs[each]);"
COMMITTED, CLOSED = "COMMIT(&q->u64[K_W_COMMIT], count);", "STORE(&q->u64[K_W_COMMIT], UINT64_C(0));"

HOLD = "commit_list(q, pairs, sizeof pairs / sizeof *pairs / 2 - !q->addmode);"
ACK = "commit_list(q, pairs, sizeof pairs / sizeof *pairs / 2);\n    close_list(q);\n    STORE(&u64[K_W_FLAGS], after);"
EVEN = "commit_list(q, pairs, 2);"

# File, lines that are there, and lines that are there instead: an order of stores that is wrong.
FAULTS: dict[str, tuple[str, list[str], list[str]]] = {
    "plain: the counter before the word of TAIL": ("plain.h", [TAIL, ADDED], [ADDED, TAIL]),
    "plain: the counter before the record": ("plain.h", [RECORD, TAIL, ADDED], [TAIL, ADDED, RECORD]),
    "plain: the counter before the word of HEAD": ("plain.h", [HEAD, POPPED], [POPPED, HEAD]),
    "keyed: the bucket before the counter": ("keyed.h", [ADDED, BUCKET], [BUCKET, ADDED]),
    "keyed: popped before it leaves the index": ("keyed.h", [LEAD, HEAD, POPPED], [HEAD, POPPED, LEAD]),
    "hold: the counter before the list": (
        "delivery.h",
        [HOLD],
        ["COMMIT(&u64[K_W_POPPED], popped + 1);", HOLD],
    ),
    "hold: FLAGS before the list is closed": ("delivery.h", [HOLD], [HOLD, "STORE(&u64[K_W_FLAGS], flags);"]),
    "ack: the entry is free before the list": (
        "delivery.h",
        [ACK],
        ["STORE(&u64[row + K_E_AT], UINT64_C(0));", ACK],
    ),
    "run: an even number without a list": (
        "runs.h",
        [EVEN],
        ["COMMIT(&q->u64[counter], number);", "STORE(&q->u64[cursor], offset);"],
    ),
    "keyed: the list commits before it is there": ("journal.h", [LIST, COMMITTED], [COMMITTED, LIST]),
    "keyed: the list is closed before its stores": ("journal.h", [COMMITTED], [COMMITTED, CLOSED]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, tmp_path: Path) -> None:
    """The same walks, of a kernel with the fault: one of them fails."""
    name, *orders = FAULTS[fault]
    there, instead = ("\n    ".join(lines) for lines in orders)
    folder = tmp_path / "kernel"
    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    source = (folder / name).read_text("ascii")
    assert source.count(there) == 1
    (folder / name).write_text(source.replace(there, instead), "ascii")
    assert failing(folder) != ""


def test_without_a_fault_nothing_is_found(tmp_path: Path) -> None:
    """So what is found above is the fault."""
    folder = tmp_path / "kernel"
    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    assert failing(folder) == ""


def failing(folder: Path) -> str:
    """Build a kernel, and return which walks fail with it."""
    built = folder / "_kernel_crash.abi3.so"
    compile_kernel(folder / "_kernel.c", built)
    argv = [sys.executable, "-m", "tests.kernel.planted", str(built)]
    return subprocess.run(argv, cwd=CHECKOUT, check=True, capture_output=True, text=True, timeout=250).stdout


def compile_kernel(source: Path, built: Path) -> None:
    """Build a kernel of its own, to be struck."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    macros = ["-DPy_LIMITED_API=0x030A0000", "-D_GNU_SOURCE", "-DCRASH_POINTS"]
    include = f"-I{sysconfig.get_path('include')}"
    argv = [*compiler, "-std=c11", "-O1", "-shared", "-fPIC", *macros, include, str(source), "-o", str(built)]
    subprocess.run(argv, check=True, timeout=120)
