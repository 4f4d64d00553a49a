"""Types after installation: users' programs, checked where the wheel is installed and the checkout is not."""

from __future__ import annotations

import json
import re
import shutil
import sys
import sysconfig
from typing import TYPE_CHECKING

import pytest

from tests.package.conftest import CHECKOUT, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.package.conftest import Environment

PROGRAMS = CHECKOUT / "tests" / "package" / "programs"
PYRIGHT = {
    "typeCheckingMode": "strict",
    # What basedpyright has beside pyright's own, and what this is not about.
    **dict.fromkeys(("reportUnusedCallResult", "reportAny", "reportExplicitAny", "reportUnusedExpression"), False),
    "reportMissingModuleSource": False,  # KSR is there inside of Kamailio only
}


def with_mypy(environment: Environment, program: Path, version: str) -> set[int]:
    """Return the lines with which mypy finds fault."""
    argv = ["--strict", "--python-version", version, "--python-executable", str(environment.python), program.name]
    cache = ["--cache-dir", str(program.parent / "cache")]
    done = run(sys.executable, "-m", "mypy", *cache, *argv, cwd=program.parent)
    assert done.returncode in (0, 1), done.stdout
    assert "Found" in done.stdout or "Success" in done.stdout, done.stdout
    assert not re.search(rf"^(?!{program.name}).*: error:", done.stdout, re.MULTILINE), done.stdout
    return {int(line) for line in re.findall(rf"^{program.name}:(\d+): error:", done.stdout, re.MULTILINE)}


def with_pyright(environment: Environment, program: Path, version: str) -> set[int]:
    """Return the lines with which pyright finds fault: basedpyright, which is pyright with Node from a wheel."""
    config = {**PYRIGHT, "include": [program.name], "pythonVersion": version}
    (program.parent / "pyrightconfig.json").write_text(json.dumps(config))
    argv = ["--pythonpath", str(environment.python), "--outputjson", "-p", "."]
    done = run(sys.executable, "-m", "basedpyright", *argv, cwd=program.parent)
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert found["summary"]["filesAnalyzed"] == 1, done.stdout
    faults = [one for one in found["generalDiagnostics"] if one["severity"] == "error"]
    return {one["range"]["start"]["line"] + 1 for one in faults}


CHECKERS = pytest.mark.parametrize("check", [with_mypy, with_pyright])
VERSIONS = pytest.mark.parametrize("version", ["3.10", "3.13"])


@CHECKERS
@VERSIONS
@pytest.mark.parametrize("name", ["good", "bad"])
def test_programs(environment: Environment, tmp_path: Path, check: type, version: str, name: str) -> None:
    """Nothing in what is right; in what is wrong each marked line, and no other."""
    program = tmp_path / f"{name}.py"
    shutil.copy(PROGRAMS / program.name, program)
    marked = {at for at, line in enumerate(program.read_text("utf-8").splitlines(), 1) if "# E:" in line}
    assert bool(marked) == (name == "bad")
    assert check(environment, program, version) == marked


def test_without_the_stubs_nothing_is_found(environment: Environment, tmp_path: Path) -> None:
    """It is the installed stubs that they go by: without those of mqueue_kemi, types are missing."""
    stubs = environment.site / "mqueue_kemi-stubs"
    away = stubs.with_name("away")
    program = tmp_path / "good.py"
    shutil.copy(PROGRAMS / program.name, program)
    stubs.rename(away)
    try:
        assert with_mypy(environment, program, "3.10")
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
