"""Types after installation: users' programs, checked where the wheel is installed and the checkout is not."""

from __future__ import annotations

import re
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

from tests.package.checkers import Fault, with_mypy, with_pyright
from tests.package.conftest import CHECKOUT, run

if TYPE_CHECKING:
    from tests.package.conftest import Environment

PROGRAMS = CHECKOUT / "tests" / "package" / "programs"
CHECKERS = pytest.mark.parametrize("check", [with_mypy, with_pyright])
VERSIONS = pytest.mark.parametrize("version", ["3.10", "3.13"])


def copied(name: str, folder: Path) -> Path:
    """Put a program where no checkout is near."""
    return Path(shutil.copy(PROGRAMS / name, folder))


@CHECKERS
@VERSIONS
@pytest.mark.parametrize("name", ["good", "clients", "bad"])
def test_programs(
    environment: Environment, tmp_path: Path, check: Callable[..., list[Fault]], version: str, name: str
) -> None:
    """Nothing in what is right; in what is wrong each marked line, and no other."""
    program = copied(f"{name}.py", tmp_path)
    marked = {at for at, line in enumerate(program.read_text("utf-8").splitlines(), 1) if "# E:" in line}
    assert bool(marked) == (name == "bad")
    assert {one.line for one in check(environment, tmp_path, version, program)} == marked


def test_what_mypy_says(environment: Environment, tmp_path: Path) -> None:
    """It refuses a line for the reason that is meant, where the line names it."""
    program = copied("bad.py", tmp_path)
    named = [re.search(r"# E:.*; mypy: (\S+)$", line) for line in program.read_text("utf-8").splitlines()]
    wanted = {(line, found[1]) for line, found in enumerate(named, 1) if found}
    lines = {line for line, _ in wanted}
    told = with_mypy(environment, tmp_path, "3.10", program)
    assert wanted
    assert {(one.line, one.rule) for one in told if one.line in lines} == wanted


def test_without_the_stubs_nothing_is_found(environment: Environment, tmp_path: Path) -> None:
    """It is the installed stubs that they go by: without those of mqueue_kemi, types are missing."""
    stubs = environment.site / "mqueue_kemi-stubs"
    away = stubs.with_name("away")
    program = copied("good.py", tmp_path)
    stubs.rename(away)
    try:
        assert with_mypy(environment, tmp_path, "3.10", program)
    finally:
        away.rename(stubs)


def test_stubtest(environment: Environment, tmp_path: Path) -> None:
    """The stub says what the module has, by what the module has when it is imported."""
    here = sysconfig.get_path("purelib")
    path = environment.site / "mypy_of_the_tests.pth"
    path.write_text(f"{here}\n")
    try:
        done = run(environment.python, "-m", "mypy.stubtest", "mqueue_kemi", cwd=tmp_path)
    finally:
        path.unlink()
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Success: no issues found in 1 module"), done.stdout
