"""Another module of the name kemi, which Python finds first: the import says which file, and what to rename."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(params=["checkout", "installed"])
def ours(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give the folder of mqueue_kemi: the checkout, or one like site-packages."""
    if request.param == "checkout":
        return CHECKOUT
    place = tmp_path / "site-packages"
    place.mkdir()
    shutil.copy(CHECKOUT / "mqueue_kemi.py", place)
    shutil.copytree(CHECKOUT / "kemi", place / "kemi", ignore=shutil.ignore_patterns("__pycache__", "stubs"))
    return place


def run(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with these folders first on its path."""
    set_path = f"import sys; sys.path[:0] = {[str(folder) for folder in path]!r}\n"
    argv = [sys.executable, "-I", "-c", set_path + code]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd="/")


def expect_refusal(done: subprocess.CompletedProcess[str], place: Path) -> None:
    assert done.returncode == 1
    last = done.stderr.rstrip().splitlines()[-1]
    assert re.fullmatch(
        rf"ImportError: mqueue_kemi cannot use its own package kemi: {re.escape(str(place))} has the name kemi too, .*"
        r"Rename it .*",
        last,
    )


def test_a_routing_script_named_kemi(ours: Path, tmp_path: Path) -> None:
    """As app_python3 does it: the script's folder comes first, and the script is imported by its name."""
    folder = tmp_path / "etc"
    folder.mkdir()
    script = folder / "kemi.py"
    script.write_text("import mqueue_kemi\n", "utf-8")
    expect_refusal(run("import kemi", folder, ours), script)
    script.rename(folder / "routing.py")
    assert run("import routing", folder, ours).stderr == ""


def test_another_package(ours: Path, tmp_path: Path) -> None:
    """A folder with an __init__.py; one without hides nothing, as Python goes on looking."""
    package = tmp_path / "etc" / "kemi"
    package.mkdir(parents=True)
    (package / "routes.py").touch()
    assert run("import mqueue_kemi", package.parent, ours).stderr == ""
    (package / "__init__.py").touch()
    expect_refusal(run("import mqueue_kemi", package.parent, ours), package / "__init__.py")


def test_another_one_was_imported_before(ours: Path, tmp_path: Path) -> None:
    """Also as a package without an __init__.py, and as a module without a file."""
    package = tmp_path / "etc" / "kemi"
    package.mkdir(parents=True)
    (package / "routes.py").touch()
    late = f"import kemi.routes; sys.path.append({str(ours)!r})\nimport mqueue_kemi"
    expect_refusal(run(late, package.parent), package)
    made = "import types; sys.modules['kemi'] = types.ModuleType('kemi')\nimport mqueue_kemi"
    assert "what is loaded has the name kemi too" in run(made, ours).stderr


def test_the_command_line(tmp_path: Path) -> None:
    """`python3 -m mqueue_kemi` in a folder with a kemi.py says so as well."""
    script = tmp_path / "kemi.py"
    script.touch()
    code = "import runpy; runpy.run_module('mqueue_kemi', run_name='__main__')"
    expect_refusal(run(code, tmp_path, CHECKOUT), script)


def test_another_implementation_of_python() -> None:
    """PyPy has no PyDLL: the import says so at once, and what works instead."""
    done = run("import sys; sys.implementation.name = 'pypy'\nimport mqueue_kemi", CHECKOUT)
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith("ImportError: mqueue_kemi needs CPython: this is pypy, whose ctypes has no PyDLL")
    assert "python3 -m mqueue_kemi consume QUEUE --follow --json" in last
