"""The distributions, built once: the wheel from the source distribution, as an installer does it."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
NEVER_SHIPPED = (".git", ".venv*", ".tox", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", "*.egg-info")
OLDEST, NEWEST = 9, 14  # of Python 3


class Built(NamedTuple):
    """What was built, and what the builders said."""

    sdist: Path
    wheel: Path
    said: str


def run(*argv: str | Path, cwd: Path = CHECKOUT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; its output is in one text."""
    others = ("PYTHON", "PIP_", "MYPY", "MQUEUE_KEMI_KERNEL")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    # What is built here is the same with and without a compiler, where a test does not say otherwise.
    merged = {**clean, "PIP_CONFIG_FILE": os.devnull, "MQUEUE_KEMI_BUILD": "pure", **(env or {})}
    return subprocess.run(
        [str(one) for one in argv],
        cwd=cwd,
        env=merged,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=300,
        text=True,
    )


def build(source: Path, kind: str, target: Path) -> str:
    """Build a distribution with this environment's setuptools; return what was said."""
    done = run(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", target, source, cwd=target)
    assert done.returncode == 0, done.stdout
    return done.stdout


def unpack(sdist: Path, path: Path) -> Path:
    """Unpack a source distribution into a folder that is empty; return where it is."""
    with tarfile.open(sdist) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(path)  # noqa: S202 - ours
    (unpacked,) = path.iterdir()
    return unpacked


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Return both distributions of a copy of this checkout."""
    place = tmp_path_factory.mktemp("dist")
    source = place / "source"
    shutil.copytree(CHECKOUT, source, ignore=shutil.ignore_patterns(*NEVER_SHIPPED))
    said = build(source, "sdist", place)
    (sdist,) = place.glob("*.tar.gz")
    said += build(unpack(sdist, place / "unpacked"), "wheel", place)
    (wheel,) = place.glob("*.whl")
    return Built(sdist, wheel, said)


class Environment:
    """A virtual environment with the wheel in it, and nothing else."""

    def __init__(self, python: str | Path, place: Path, wheel: Path) -> None:
        made = run(python, "-I", "-m", "venv", place)
        assert made.returncode == 0, made.stdout
        self.python = place / "bin" / "python"
        options = ("--disable-pip-version-check", "--no-index", "--no-deps")
        done = run(self.python, "-m", "pip", "install", *options, wheel)
        assert done.returncode == 0, done.stdout
        self.said = done.stdout
        found = run(self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        self.site = Path(found.stdout.strip())

    def command(self, name: str) -> Path:
        """Return the path of an installed command."""
        return self.python.with_name(name)


@pytest.fixture(scope="session")
def environment(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment of this Python."""
    return Environment(sys.executable, tmp_path_factory.mktemp("environment") / "venv", built.wheel)


def interpreter(minor: int) -> str | None:
    """Return a Python 3.minor of this machine: this one, on PATH, or pyenv's."""
    if sys.version_info[:2] == (3, minor):
        return sys.executable
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    for path in [shutil.which(f"python3.{minor}"), *sorted(glob.glob(f"{root}/versions/3.{minor}.*/bin/python"))]:
        if path and run(path, "-c", "import venv, ensurepip").returncode == 0:
            return path
    return None
