"""The two kinds of wheel: with the native kernel, and without."""

from __future__ import annotations

import os
import sys
import sysconfig
import zipfile
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import pytest

import mqueue_kemi
from tests.package.conftest import CHECKOUT, NEWEST, Environment, interpreter, run, unpack

if TYPE_CHECKING:
    from tests.package.conftest import Built

needs_a_compiler = pytest.mark.skipif(
    which((sysconfig.get_config_var("CC") or "cc").split()[0]) is None
    or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="there is no C compiler here, or nothing to compile for Python with (python3-dev)",
)
# Each compiles several times, or makes an environment for each Python that is there.
pytestmark = pytest.mark.timeout(1500)
WORKS = """
import os
from kemi.queue.kernel import choice
from kemi.queue.queue import Queue
queue = Queue.create(f"package-{os.getpid()}", "q", window=1 << 20)
assert queue.add("k", "v") and queue.pop() is not None
queue.remove()
print(choice.description(), choice.lib.calls())
"""


def build_with(built: Built, tmp_path: Path, kernel: str, **env: str) -> tuple[int, str, list[str]]:
    """Build a wheel; return the code, what was said, and the names of what was made."""
    source = unpack(built.sdist, tmp_path / "unpacked")
    argv: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, source]
    done = run(*argv, cwd=tmp_path, env={"MQUEUE_KEMI_BUILD": kernel, **env})
    return done.returncode, done.stdout, [path.name for path in tmp_path.glob("*.whl")]


@needs_a_compiler
@pytest.mark.parametrize("kernel", ["native", "auto"])
def test_with_the_kernel(built: Built, tmp_path: Path, kernel: str) -> None:
    """One file for all Pythons from 3.10 on; each of them that is there says that it runs."""
    code, said, names = build_with(built, tmp_path, kernel)
    assert code == 0, said
    (name,) = names
    assert name.startswith(f"mqueue_kemi-{mqueue_kemi.__version__}-cp310-abi3-linux_")
    wheel = tmp_path / name
    with zipfile.ZipFile(wheel) as archive:
        libraries = [entry for entry in archive.namelist() if entry.endswith(".so")]
    assert libraries == ["kemi/queue/kernel/_kernel.abi3.so"]
    for minor in range(10, NEWEST + 1) if kernel == "native" else []:
        python = interpreter(minor)
        if python is None:
            continue
        there = Environment(python, tmp_path / f"venv{minor}", wheel)
        done = run(there.command("mqueue-kemi"), "--version", cwd=tmp_path)
        assert done.stdout == f"mqueue-kemi {mqueue_kemi.__version__} (kernel: native)\n"
        done = run(there.python, "-bb", "-X", "dev", "-W", "error", "-c", WORKS, cwd=tmp_path)
        assert done.stdout == "native (2, 0)\n"


NO_COMPILER = {"CC": "/no/compiler", "LDSHARED": "/no/compiler"}


def test_without_a_compiler_it_is_pure(built: Built, tmp_path: Path) -> None:
    """And says so; the wheel is for every machine."""
    code, said, names = build_with(built, tmp_path, "auto", **NO_COMPILER)
    assert code == 0, said
    assert names == [f"mqueue_kemi-{mqueue_kemi.__version__}-py3-none-any.whl"]
    assert "mqueue-kemi: without the native kernel, in pure Python: " in said


def test_a_native_wheel_is_never_without_it(built: Built, tmp_path: Path) -> None:
    code, said, names = build_with(built, tmp_path, "native", **NO_COMPILER)
    assert code != 0
    assert names == []
    assert "/no/compiler" in said


def test_a_wrong_word(built: Built, tmp_path: Path) -> None:
    code, said, names = build_with(built, tmp_path, "fast")
    assert (code != 0, names) == (True, [])
    assert "MQUEUE_KEMI_BUILD='fast': it must be auto, native or pure" in said


def by_hand(source: Path, *argv: str, **env: str) -> tuple[int, str]:
    """Run conf/kernel.sh of a checkout; return the code and what was said."""
    done = run("sh", source / "conf" / "kernel.sh", *argv, cwd=source, env=env)
    return done.returncode, done.stdout


@needs_a_compiler
def test_by_hand(built: Built, tmp_path: Path) -> None:
    """conf/kernel.sh, as conf/demo.sh calls it: built once, and again when its sources are newer."""
    source = unpack(built.sdist, tmp_path / "unpacked")
    kernel = source / "kemi" / "queue" / "kernel"
    assert by_hand(source) == (0, "")
    done = run(sys.executable, "-B", "-c", WORKS, cwd=source, env={"MQUEUE_KEMI_KERNEL": "native"})
    assert done.stdout == "native (2, 0)\n"
    first = (kernel / "_kernel.abi3.so").stat()
    assert by_hand(source, CC="/no/compiler") == (0, ""), "there was nothing to do"
    newer = kernel / "log" / "plain.h"
    os.utime(newer, ns=(first.st_mtime_ns + 10**9,) * 2)
    code, said = by_hand(source, CC="/no/compiler")
    assert (code, said) == (1, "kernel.sh: there is no C compiler (/no/compiler): apt install gcc libc6-dev\n")
    assert by_hand(source) == (0, "")
    assert (kernel / "_kernel.abi3.so").stat().st_ino != first.st_ino, "whoever uses the old file keeps it whole"
    newer.write_text("#error broken\n", "ascii")
    os.utime(newer, ns=(first.st_mtime_ns + 10**12,) * 2)
    code, said = by_hand(source)
    assert code == 1
    assert "broken" in said
    assert said.endswith("kernel.sh: the kernel cannot be built here (see above)\n")
    assert sorted(path.name for path in kernel.glob("_kernel*")) == ["_kernel.abi3.so", "_kernel.c", "_kernel.pyi"]


def test_by_hand_with_a_wrong_argument() -> None:
    said = "kernel.sh: unknown argument 'x'; sh conf/kernel.sh --help says what it does\n"
    assert by_hand(CHECKOUT, "x") == (2, said)


def test_both_ways_build_the_same() -> None:
    """What conf/kernel.sh and setup.py tell the compiler."""
    by_setup = (CHECKOUT / "setup.py").read_text("utf-8")
    for option in ("-std=c11", "-O2", "-fvisibility=hidden"):
        assert f'"{option}"' in by_setup
        assert f" {option} " in (CHECKOUT / "conf/kernel.sh").read_text("utf-8")
    for name in ('("Py_LIMITED_API", "0x030A0000")', '("_GNU_SOURCE", None)'):
        assert name in by_setup
        macro = name.split('"')[1]
        assert f" -D{macro}" in (CHECKOUT / "conf/kernel.sh").read_text("utf-8")
