"""What is in the distributions, and what their checkers say."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from email import message_from_bytes
from typing import TYPE_CHECKING

import pytest

import mqueue_kemi
from tests.package.conftest import CHECKOUT, NEWEST, OLDEST, Environment, build, interpreter, run, unpack

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

    from tests.package.conftest import Built

# In the repository, and not for who builds or uses it.
FOR_THE_REPOSITORY = {".gitignore"}


def files(built: Built) -> set[str]:
    with tarfile.open(built.sdist) as archive:
        return {one.name.partition("/")[2] for one in archive if one.isfile()}


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def test_no_builder_warns(built: Built) -> None:
    allowed = r"no previously-included|no files found matching"  # what MANIFEST.in names, and is not there today
    assert re.findall(rf"(?i).*(?:deprecat|warning:(?! (?:{allowed}))).*", built.said) == []


def test_twine_check(built: Built) -> None:
    done = run(sys.executable, "-m", "twine", "check", "--strict", built.sdist, built.wheel)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 2


def test_check_wheel_contents(built: Built) -> None:
    """It looks for what does not belong there. W010: the stub packages, which have no modules to import."""
    toplevel = "kemi,mqueue_kemi.py,KSR-stubs,mqueue_kemi-stubs"
    done = run(sys.executable, "-m", "check_wheel_contents", "--toplevel", toplevel, "--ignore", "W010", built.wheel)
    assert (done.returncode, done.stdout.strip()) == (0, f"{built.wheel}: OK")


def test_the_source_distribution_is_complete(built: Built) -> None:
    """Whatever the repository has: tests, examples, changelog, the makers of packages."""
    found = files(built)
    assert {"tests/run.sh", "conf/demo.sh", "CHANGELOG.md", "tox.ini", "debian/control", "docs/share/make.py"} <= found
    if not (CHECKOUT / ".git").exists():
        pytest.skip("not a repository: nothing to compare with")
    repository = {name for name in run("git", "ls-files").stdout.splitlines() if (CHECKOUT / name).exists()}
    assert {name for name in repository - found if not name.startswith((".ci/", ".github/"))} <= FOR_THE_REPOSITORY


def test_the_wheel_is_complete(built: Built) -> None:
    """Every module and what it reads, the types, the manual page and the completions; no tests."""
    with zipfile.ZipFile(built.wheel) as archive:
        found = set(archive.namelist())
    modules = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "kemi").rglob("*.py")}
    needed = {"mqueue_kemi.py", "kemi/py.typed", "kemi/testing/api.json", "KSR-stubs/__init__.pyi"}
    assert modules | needed | {"mqueue_kemi-stubs/__init__.pyi"} <= found
    data = {name.partition(".data/data/share/")[2] for name in found} - {""}
    assert data == {
        "man/man1/mqueue-kemi.1",
        "bash-completion/completions/mqueue-kemi",
        "zsh/site-functions/_mqueue-kemi",
    }
    assert not [name for name in found if name.startswith(("tests", "conf", "docs", "share"))]


def test_the_version_stands_in_one_place(built: Built) -> None:
    found = metadata(built.wheel)
    assert found["Version"] == mqueue_kemi.__version__
    assert found["License"] == "GPL-2.0-or-later"
    assert f'"{mqueue_kemi.__version__}"' not in (CHECKOUT / "pyproject.toml").read_text("utf-8")
    first = (CHECKOUT / "debian" / "changelog").read_text("utf-8").splitlines()[0]
    assert first.startswith(f"mqueue-kemi ({mqueue_kemi.__version__}-")
    assert f"## {mqueue_kemi.__version__}" in (CHECKOUT / "CHANGELOG.md").read_text("utf-8")


LINK = re.compile(r"!?\[[^\]]*\]\((?!#)([^)\s]+)\)")


def test_links_of_the_description(built: Built) -> None:
    """On a package index a relative link leads nowhere."""
    text = str(metadata(built.wheel).get_payload())
    assert text.startswith("# mqueue_kemi")
    assert [link for link in LINK.findall(text) if "://" not in link] == []


def test_links_lead_to_the_source(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is said where that is, pictures too."""
    monkeypatch.setenv("MQUEUE_KEMI_SOURCE_URL", "https://example.org/raw/v1/")
    build(unpack(built.sdist, tmp_path / "unpacked"), "wheel", tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    links = LINK.findall(str(metadata(wheel).get_payload()))
    ours = [link.partition("https://example.org/raw/v1/")[2] for link in links if "example.org/raw" in link]
    assert ours
    assert [name for name in ours if not (CHECKOUT / name.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("minor", range(OLDEST, NEWEST + 1))
def test_it_installs(built: Built, tmp_path: Path, minor: int) -> None:
    """Without a warning, and works there: the module, the command, the manual beside it."""
    python = interpreter(minor)
    if python is None:
        pytest.skip(f"there is no Python 3.{minor} here")
    there = Environment(python, tmp_path / "venv", built.wheel)
    assert re.findall(r"(?i).*(?:warning|deprecat).*", there.said) == []
    code = "import mqueue_kemi, kemi.testing; print(mqueue_kemi.__version__, mqueue_kemi.__file__)"
    done = run(there.python, "-bb", "-X", "dev", "-W", "error", "-c", code, cwd=tmp_path)
    assert done.stdout.split() == [mqueue_kemi.__version__, str(there.site / "mqueue_kemi.py")]
    done = run(there.command("mqueue-kemi"), "--version", cwd=tmp_path)
    version = f"mqueue-kemi {mqueue_kemi.__version__} (kernel: pure Python (the native one was not built))\n"
    assert (done.returncode, done.stdout) == (
        0,
        version if minor >= 10 else version.replace("was not built", "needs Python 3.10"),
    )
    assert (tmp_path / "venv/share/man/man1/mqueue-kemi.1").exists()
