"""Every block of code and every command of README and docs/ is run as it stands.

A block has its language. Above one that cannot be run here stands a comment that says why,

    <!-- not run: REASON -->

and they are counted. Other comments say `given: a = 1; b = 2`, which the page takes for granted; `file: NAME`, under
which the reader saves it for the blocks below; `wrong: NAME`, the same for a file with mistakes; `background: COMMAND`,
what goes on meanwhile, begun when COMMAND succeeds. How each language is run is in `inside`; a block without a language
is a figure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.docs import inside, pages
from tests.docs.pages import CHECKOUT, MANUAL, Block
from tests.server.harness import program

if TYPE_CHECKING:
    from pathlib import Path

NOT_RUN = "not run"
WORDS = ("", NOT_RUN, "given", "file", "wrong", "background")
FIGURES = ("", "text")
# Why a block is not run here, and what runs it instead, or nothing can.
REASONS = {
    "newcomer": "tests/newcomer.sh types it on a fresh Debian",
    "tests/package": "what it installs is built and installed there",
    "systemd": "a running systemd; the units are judged by tests/cli/test_ops.py",
    "needs docker": "no container engine; the page's last block does the same by unshare",
    "needs a project of your own": "its files are the reader's; each command is tested by itself",
    "needs postgresql": "tests/databases has the statements",
    "needs redis": "tests/relay runs the commands with real servers",
    "needs gevent": "it is not among the tests' packages; tests/unit/test_address.py has the refusal",
    "needs a dead server and a database": "tests/cli/test_database.py",
}
BLOCKS = [block for page in MANUAL for block in pages.blocks(page)]
CODE = [block for block in BLOCKS if block.language not in FIGURES]
RUN = [block for block in CODE if block.word != NOT_RUN]


@cache
def results_of(page: str, folder: Path) -> list[str]:
    """Run the blocks of a page; what was wrong with each, or nothing."""
    blocks = [block for block in RUN if block.page == page]
    given, found = folder / "blocks", folder / "results"
    given.write_text(json.dumps([block._asdict() for block in blocks]), "utf-8")
    unshare = ["--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    argv = [program("unshare"), *unshare, sys.executable, "-m", "tests.docs.inside", str(given), str(found)]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=250, check=False)
    assert found.exists(), done.stdout + done.stderr
    results: list[str] = json.loads(found.read_text("utf-8"))
    assert len(results) == len(blocks), done.stdout + done.stderr
    return results


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a folder for each page."""
    return {page: tmp_path_factory.mktemp("page") for page in MANUAL}


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.place)
def test_a_block_does_what_the_page_says(block: Block, folders: dict[str, Path]) -> None:
    results = results_of(block.page, folders[block.page])
    number = [other for other in RUN if other.page == block.page].index(block)
    if results[number].startswith(inside.SKIPPED):
        pytest.skip(results[number])
    assert results[number] == "", block.place


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_says_what_it_is(block: Block) -> None:
    """A language that can be run, or a figure in which nothing looks like a command."""
    if block.language in FIGURES:
        commands = ("$ ", "sh ", "apt ", "mqueue-kemi ", "kamcmd ", "import ", "from ", "modparam(", "loadmodule ")
        assert not [line for line in block.code.splitlines() if line.lstrip().startswith(commands)], block.place
    else:
        assert block.language in inside.KINDS or block.word == NOT_RUN, block.place
    assert block.word in WORDS, block.place


def test_what_is_not_run_has_a_reason() -> None:
    """How many there are is said here, so that one more is a decision."""
    left_out = [block for block in CODE if block.word == NOT_RUN]
    assert {block.place for block in left_out if block.detail not in REASONS} == set()
    assert {block.detail for block in left_out} == set(REASONS)
    assert len(left_out) == 23
    assert len(RUN) > 70


def test_a_wrong_block_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each language."""
    wrong = {
        "python": 'from mqueue_kemi import attach\nattach("nosuch")\n',
        "sh": "mqueue-kemi nosuch\n",
        "console": "$ echo a\nb\n",
        "cfg": 'loadmodule "nosuch.so"\n',
        "ini": "[Service]\nNoSuch=1\n",
        "yaml": "a: [\n",
    }
    blocks = [Block("wrong", number, language, code) for number, (language, code) in enumerate(wrong.items())]
    monkeypatch.setattr(sys.modules[__name__], "RUN", blocks)
    found = results_of("wrong", tmp_path)
    assert [language for language, result in zip(wrong, found) if not result] == []
