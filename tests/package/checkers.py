"""What type checkers say of programs against the package as it is installed."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

from tests.package.conftest import run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.package.conftest import Environment

STRICT: dict[str, object] = {
    "typeCheckingMode": "strict",
    # What basedpyright has beside pyright's own, and what this is not about.
    **dict.fromkeys(("reportUnusedCallResult", "reportAny", "reportExplicitAny", "reportUnusedExpression"), False),
}
STANDARD: dict[str, object] = {"typeCheckingMode": "standard"}


class Fault(NamedTuple):
    """An error of a checker."""

    file: str
    line: int
    rule: str


def with_mypy(environment: Environment, folder: Path, version: str, *programs: Path) -> list[Fault]:
    """Return what mypy --strict has against programs; each error is in one of them."""
    argv = ["--strict", "--python-version", version, "--python-executable", str(environment.python)]
    cache = ["--cache-dir", str(folder / "cache")]
    done = run(sys.executable, "-m", "mypy", *cache, *argv, *programs, cwd=folder)
    assert done.returncode in (0, 1), done.stdout
    assert "Found" in done.stdout or "Success" in done.stdout, done.stdout
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    found = [re.fullmatch(r"(?:.*/)?([^/]+\.py):(\d+): error: .*\[([\w-]+)\]", line) for line in errors]
    faults = [Fault(one[1], int(one[2]), one[3]) for one in found if one]
    assert len(faults) == len(errors), done.stdout
    assert {one.file for one in faults} <= {program.name for program in programs}, done.stdout
    return faults


def with_pyright(
    environment: Environment, folder: Path, version: str, *programs: Path, settings: Mapping[str, object] = STRICT
) -> list[Fault]:
    """Return what pyright has against programs: basedpyright, which is pyright with Node from a wheel."""
    config = {
        **settings,
        "include": [str(program) for program in programs],
        "pythonVersion": version,
        "reportMissingModuleSource": False,  # KSR is there inside of Kamailio only
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    argv = ["--pythonpath", str(environment.python), "--outputjson", "-p", "."]
    done = run(sys.executable, "-m", "basedpyright", *argv, cwd=folder)
    told = json.loads(done.stdout[done.stdout.index("{") :])
    assert told["summary"]["filesAnalyzed"] == len(programs), done.stdout
    errors = [one for one in told["generalDiagnostics"] if one["severity"] == "error"]
    return [
        Fault(one["file"].rpartition("/")[2], one["range"]["start"]["line"] + 1, one.get("rule", "")) for one in errors
    ]
