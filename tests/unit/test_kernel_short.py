"""The native kernel's part of the default run says when it did not run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT
from tests.kernel import short


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/no/compiler")
    argv = [sys.executable, "-m", "tests.kernel.short"]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=280, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("\n******** NOT TESTED: the native kernel; ")


def test_what_it_runs_is_there() -> None:
    for files in short.RUNS.values():
        assert files
        for name in files:
            assert (CHECKOUT / name).exists(), name


@pytest.mark.parametrize("step", range(3))
def test_a_failure_is_one(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Of the build, or of either run; what comes after it is not begun."""
    began: list[list[str]] = []

    def run(argv: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        began.append(argv)
        return subprocess.CompletedProcess(argv, 3 if len(began) == step + 1 else 0)

    monkeypatch.setattr(short, "why_not", lambda: "")
    monkeypatch.setattr(subprocess, "run", run)
    assert short.main(["-q"]) == 3
    assert len(began) == step + 1
