"""A kernel in C that can be told to make a fault: two stores the other way round, or one that is left out."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from typing import TYPE_CHECKING

from tests.conftest import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SOURCES = CHECKOUT / "kemi" / "queue" / "kernel"
# What the walks go through.
_WALKED = (
    "log/plain.h",
    "log/across.h",
    "log/keyed.h",
    "log/keyed_across.h",
    "segment/journal.h",
    "log/runs.h",
    "delivery/delivery.h",
    "delivery/delivery_across.h",
    "log/growth.h",
    "segment/queue.h",
)
_STORE = re.compile(r"( +)((?:STORE|COMMIT|commit_list|close_list|write_record)\(.*\);)")
# Which store comes at a step: all in order but for the fault that is set. Told to leave it out, it is none of them.
_CHOICE = """
__attribute__((visibility("default"))) int kernel_fault = -1;
static inline int
store_at(int first, int count, int step)
{
    int left_out = kernel_fault - first, swapped = left_out - count;
    if (step == left_out)
        return -1;
    if (swapped < 0 || swapped > count - 2)
        return step;
    return step == swapped ? step + 1 : step == swapped + 1 ? step - 1 : step;
}
"""


def build(folder: Path, planted: Iterable[tuple[str, str, str]] = ()) -> tuple[Path, list[str]]:
    """Build it in a folder. Returns its path, and what each fault is, whose number is its place.

    planted: files, text that is there, and text that is to be there instead, whichever fault is set.
    """
    copy = folder / "kernel"
    shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name, there, instead in planted:
        text = (copy / name).read_text("ascii")
        assert text.count(there) == 1, "this text is there no longer"
        (copy / name).write_text(text.replace(there, instead), "ascii")
    names: list[str] = []
    for file in _WALKED:
        (copy / file).write_text(_selectable((copy / file).read_text("ascii"), names), "ascii")
    memory = copy / "segment/memory.h"
    memory.write_text(memory.read_text("ascii").replace("#define BARRIER()", f"{_CHOICE}#define BARRIER()", 1), "ascii")
    built = copy / "_kernel_crash.abi3.so"
    compile_kernel(copy / "_kernel.c", built)
    return built, names


def _selectable(text: str, names: list[str]) -> str:
    """Put a choice in place of all stores that follow each other; what their faults are is added to the names."""
    changed: list[str] = []
    run: list[str] = []
    function = indent = ""
    for number, line in enumerate(lines := text.split("\n")):
        store = _STORE.fullmatch(line)
        if run and (not store or store[1] != indent):
            changed += _choice(run, indent, len(names))
            names += [f"{function}: without {each}" for each in run]
            names += [f"{function}: {second} before {first}" for first, second in zip(run, run[1:])]
            run = []
        if store:
            indent = store[1]
            run.append(store[2])
            continue
        if line == "{":
            function = lines[number - 1].partition("(")[0]
        changed.append(line)
    return "\n".join(changed)


def _choice(run: list[str], indent: str, first: int) -> list[str]:
    step = f"step{first}"
    head = (
        f"{indent}for (int {step} = 0; {step} < {len(run)}; {step}++) switch (store_at({first}, {len(run)}, {step})) {{"
    )
    cases = [f"{indent}case {number}: {store} break;" for number, store in enumerate(run)]
    return [head, *cases, f"{indent}}}"]


def compile_kernel(source: Path, built: Path) -> None:
    """Build a kernel of its own, to be struck."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    macros = ["-DPy_LIMITED_API=0x030A0000", "-D_GNU_SOURCE", "-DCRASH_POINTS"]
    include = f"-I{sysconfig.get_path('include')}"
    argv = [*compiler, "-std=c11", "-O1", "-shared", "-fPIC", *macros, include, str(source), "-o", str(built)]
    subprocess.run(argv, check=True, timeout=120)
