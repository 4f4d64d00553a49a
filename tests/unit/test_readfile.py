"""Files that a person names, where something else lies: told at once, whoever reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kemi import readfile
from tests.conftest import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

TOLD = {
    "pipe": "it is a pipe, not a file",
    "device": "it is a device, not a file",
    "folder": "Is a directory",
    "huge": "it has more than 64 MB",
    "loop": "Too many levels of symbolic links",
}
READ = """
import sys
from kemi import definitions
from kemi.spec import Settings
definitions.read(sys.argv[1], Settings())
"""
READERS = {
    "definitions": ("-c", READ),
    "check": ("-m", "mqueue_kemi", "check"),
    "relay": ("-m", "mqueue_kemi", "relay", "--config"),
}


def put(path: Path, what: str) -> None:
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "folder":
        path.mkdir()
    elif what == "huge":
        with path.open("wb") as file:
            file.truncate(readfile.MOST + 1)
    else:
        path.symlink_to(path)


def run(reader: str, path: Path) -> str:
    """Return what it says of the file; it ends by itself, with an error and without a traceback of its own."""
    argv = [sys.executable, *READERS[reader], str(path)]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode not in (0, -9)
    return done.stdout + done.stderr


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", TOLD)
def test_it_is_no_file(tmp_path: Path, what: str, reader: str) -> None:
    path = tmp_path / "queues.cfg"
    put(path, what)
    text = run(reader, path)
    assert str(path) in text
    assert TOLD[what] in text


@pytest.mark.parametrize("name", ["script.py", "kamailio.cfg"])
def test_a_script_and_what_a_configuration_includes(tmp_path: Path, name: str) -> None:
    put(tmp_path / "script.py", "pipe")
    (tmp_path / "kamailio.cfg").write_text(f'loadmodule "tm.so"\ninclude_file "{tmp_path}/script.py"\n', "utf-8")
    assert TOLD["pipe"] in run("check", tmp_path / name)


def test_the_ends_of_lines() -> None:
    assert readfile.text_of(b"a\r\nb\rc\n\xff") == "a\nb\nc\n\udcff"
