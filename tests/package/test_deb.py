"""conf/deb.sh and debian/, as far as they can be tried without a build, which takes minutes and a network."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.package.conftest import CHECKOUT, run

DEBIAN = CHECKOUT / "debian"


def test_help() -> None:
    done = run("sh", "conf/deb.sh", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: sh conf/deb.sh")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nope"], "unknown option '--nope'; sh conf/deb.sh --help lists what there is"),
        (["--suite"], "--suite needs a value; sh conf/deb.sh --help says which"),
        (["--suite", "../x"], "'../x' is no name of a Debian; there are bookworm, trixie and later ones"),
        (["--suite", "12"], "'12' is no name of a Debian; there are bookworm, trixie and later ones"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], message: str) -> None:
    """Told before anything is made."""
    done = run("sh", "conf/deb.sh", *arguments)
    assert (done.returncode, done.stdout) == (2, f"deb.sh: {message}\n")


def test_what_it_names_is_there() -> None:
    """The tests that the build runs, the folders that it copies, the examples that it installs."""
    rules = (DEBIAN / "rules").read_text("utf-8").replace("\\\n", " ")
    named = re.findall(r"tests/\S+\.py", rules)
    (beside,) = re.findall(r"^beside = (.*)$", rules, re.MULTILINE)
    for name in [*named, *beside.split()]:
        assert (CHECKOUT / name).exists(), name
    assert named
    for name in ("docs", "examples"):
        for pattern in (DEBIAN / name).read_text("utf-8").split():
            assert list(CHECKOUT.glob(pattern)), pattern


SHELL = [
    "conf/deb.sh",
    "conf/debian_root.sh",
    "conf/demo.sh",
    "conf/kernel.sh",
    "debian/tests/cli",
    "debian/tests/server",
    "tests/run.sh",
    "tests/other_debian.sh",
    "tests/newcomer.sh",
]


@pytest.mark.parametrize("name", [*SHELL, ".ci/run"])
def test_shell(name: str) -> None:
    """Shellcheck finds no fault."""
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = run("shellcheck", "-x", name)
    assert (done.returncode, done.stdout) == (0, "")
