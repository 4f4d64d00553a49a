"""Each mistake of the table is caught where the table says."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kemi.testing import FakeError, api, run_route
from tests.testing.mistakes import MISTAKES

STUBS = Path(api.PATH).parent / "stubs"
RIGHT = """
KSR.info('user ' + KSR.pv.gete('$rU'))
if KSR.tm.t_newtran() > 0 and KSR.is_INVITE():
    KSR.tm.t_reply(480, 'x')
"""
PYRIGHT = "basedpyright"


def write_all(folder: Path) -> dict[str, str]:
    """Write each script, and one without a mistake; return file → mistake."""
    names = {}
    for number, (name, mistake) in enumerate(MISTAKES.items()):
        path = folder / f"m{number}.py"
        path.write_text(mistake.script(), "utf-8")
        names[path.name] = name
    mistake = next(iter(MISTAKES.values()))._replace(lines=RIGHT)
    (folder / "right.py").write_text(mistake.script(), "utf-8")
    return names


def install_stubs(folder: Path) -> None:
    """As pip would put them: a package KSR-stubs on the path."""
    (folder / "KSR-stubs").mkdir()
    (folder / "KSR-stubs/__init__.pyi").write_text((STUBS / "KSR-stubs/__init__.pyi").read_text("utf-8"), "utf-8")


def test_there_are_enough() -> None:
    assert len(MISTAKES) >= 20
    assert all(mistake.mypy or mistake.fake for mistake in MISTAKES.values())


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed; tox does it")
def test_what_mypy_catches(tmp_path: Path) -> None:
    """Errors of that kind in each script, and none where there is no mistake."""
    names = write_all(tmp_path)
    stub = STUBS / "KSR-stubs/__init__.pyi"
    options = ["--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache"), "--show-error-codes"]
    (tmp_path / "KSR").mkdir()
    (tmp_path / "KSR/__init__.pyi").write_text(stub.read_text("utf-8"), "utf-8")
    command = [sys.executable, "-m", "mypy", *options, *names, "right.py", "KSR"]
    environment = {**os.environ, "MYPYPATH": str(tmp_path)}
    told = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    errors: dict[str, set[str]] = {}
    for line in told.stdout.splitlines():
        found = re.match(r"(\S+):\d+: error: .*\[([\w-]+)\]$", line)
        assert found or ": note: " in line, told.stdout + told.stderr
        if found:
            errors.setdefault(names.get(found[1], found[1]), set()).add(found[2])
    assert errors == {name: {mistake.mypy} for name, mistake in MISTAKES.items() if mistake.mypy}


@pytest.mark.skipif(
    importlib.util.find_spec("basedpyright") is None, reason="basedpyright is not installed; tox does it"
)
def test_what_pyright_catches(tmp_path: Path) -> None:
    """The same, for the mistakes that mypy finds; what else it finds is in scripts with mistakes."""
    names = write_all(tmp_path)
    install_stubs(tmp_path)
    settings = {"stubPath": ".", "typeCheckingMode": "standard", "reportMissingModuleSource": False}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    command = [sys.executable, "-m", PYRIGHT, "--outputjson", "-p", str(tmp_path)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False).stdout)
    wrong = {Path(each["file"]).name for each in told["generalDiagnostics"] if each["severity"] == "error"}
    assert "__init__.pyi" not in wrong
    assert "right.py" not in wrong
    unseen = {"a result that is none", "a value for a function's name"}  # warnings in its strict mode only
    wanted = {file for file, name in names.items() if MISTAKES[name].mypy and name not in unseen}
    assert wanted <= wrong


@pytest.mark.parametrize("name", MISTAKES)
def test_what_the_fake_catches(name: str) -> None:
    """The exception that the server has too, or one of the fake's own that no script can hide."""
    mistake = MISTAKES[name]
    script = mistake.script()
    if mistake.fake is None:
        assert run_route(script, "INVITE sip:bob@example.org", kamailio="5.6").returned == 1
        return
    with pytest.raises(BaseException) as caught:  # noqa: PT011 the name is compared
        run_route(script, "INVITE sip:bob@example.org", kamailio="5.6")
    assert type(caught.value).__name__ == mistake.fake
    assert isinstance(caught.value, (FakeError, Exception))


def test_the_script_without_a_mistake() -> None:
    script = MISTAKES["keywords"]._replace(lines=RIGHT).script()
    assert [reply.code for reply in run_route(script, "INVITE sip:bob@example.org", kamailio="5.6").replies] == [480]
