"""What is made from the modules is current, and works: manual page, completion, stub."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from docs.share import make, manual
from kemi.cli.usage import codes
from tests.package.conftest import CHECKOUT


@pytest.mark.parametrize("name", make.FILES)
def test_current(name: str) -> None:
    assert (make.CHECKOUT / name).read_text("utf-8") == make.FILES[name](), "run python3 -m docs.share.make"


def test_a_stale_file_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    name = "docs/share/man/man1/mqueue-kemi.1"
    monkeypatch.setattr(make, "FILES", {name: lambda: "another"})
    assert make.main(["--check"]) == 1
    assert f"{name} is not current" in capsys.readouterr().err
    assert (make.CHECKOUT / name).read_text("utf-8") != "another"


def test_the_manual_page_is_good_troff() -> None:
    """Man finds no fault with it; every command, option and exit code is there."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    path = CHECKOUT / "docs" / "share" / "man" / "man1" / "mqueue-kemi.1"
    argv = ["groff", "-man", "-Tutf8", "-ww", "-z", str(path)]
    assert subprocess.run(argv, capture_output=True, check=True, text=True).stderr == ""
    argv = ["groff", "-man", "-Tascii", "-P-cbou", str(path)]
    shown = subprocess.run(argv, capture_output=True, check=True, text=True).stdout
    whole = make.command_line()
    for name, one in manual.commands(whole).items():
        assert f"\n   {name}\n" in shown
        for action in one._actions:
            assert all(option in shown for option in action.option_strings)
    for code in codes.CODES:
        assert f"\n       {code} " in shown
    assert r"written as \\, \t, \n, \r, \xNN, \uNNNN. --json" in " ".join(shown.split())


def completed(*words: str, queues: str = "") -> list[str]:
    """Return what bash would offer for the last of the words."""
    script = f"""
    mqueue-kemi() {{ printf '{queues}'; }}
    source docs/share/bash-completion/completions/mqueue-kemi
    COMP_WORDS=(mqueue-kemi {" ".join(f"'{word}'" for word in words)}) COMP_CWORD={len(words)}
    _shtab_mqueue_kemi mqueue-kemi '{words[-1]}' ''
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    argv = ["bash", "--norc", "-c", script]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, check=True, text=True, timeout=30)
    assert done.stderr == ""
    return sorted(done.stdout.split())


def test_completion_of_commands_and_options() -> None:
    assert completed("s") == ["save", "serve-metrics", "sizes", "stats"]
    assert completed("consume", "--f") == ["--follow"]


def test_completion_of_queues() -> None:
    """They are asked for when they are wanted."""
    assert completed("fetch", "c", queues="calls\\t3\\ncdr\\t0\\nother\\t1\\n") == ["calls", "cdr"]
    assert completed("--instance", "k", queues="INSTANCE  SERVER\\nk1  alive\\nx  dead\\n") == ["k1"]
