"""A Debian with nothing in it, and the README's words typed there as they stand."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.docs import words
from tests.docs.pages import README
from tests.server.harness import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

UNREACHABLE = 75  # as conf/debian_root.sh has it
SCRIPT = ["sh", str(CHECKOUT / "tests" / "newcomer.sh")]


@pytest.mark.stress
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_a_newcomer_has_a_queue(release: str, tmp_path: Path) -> None:
    """The package is built and installed, the demo runs, and the README's script serves a queue.

    Not the tests, which are running: sh tests/run.sh --debian does that.
    """
    with (tmp_path / "log").open("w+") as log:
        argv = [*SCRIPT, "--debian", release, "--without", "tests/run.sh"]
        code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode
        log.seek(0)
        said = log.read()
    if code == UNREACHABLE:
        pytest.skip("the mirror of Debian cannot be reached")
    assert code == 0, said[-5000:]
    assert f"a newcomer to {release} has seen it all" in said


def test_what_is_typed_is_in_the_readme() -> None:
    """The three things that a newcomer does; nothing is added to the README's words."""
    typed = words.commands(README, "newcomer")
    assert [line.split()[1] for line in typed] == ["conf/deb.sh", "conf/demo.sh", "tests/run.sh"]
    assert "def mod_init" in words.block(README, "python", 0)
    assert "app_python3" in words.block(README, "cfg", 0)
    assert "mqueue-kemi stats calls" in words.block(README, "sh", 2)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--debian", "sid"], "'sid' is neither bookworm nor trixie"),
        (["--debian"], "needs a value"),
        (["x"], "unknown"),
    ],
)
def test_a_wrong_option_is_named(arguments: list[str], what: str) -> None:
    done = subprocess.run([*SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert what in done.stderr
