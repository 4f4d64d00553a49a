"""A real terminal for a test: tmux with a server of its own, in which a command runs and whose screen can be read."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes.children import PATIENCE
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Sequence


class Terminal:
    """One window of a given size."""

    def __init__(self, folder: Path, width: int = 100, height: int = 20) -> None:
        self._program = shutil.which("tmux")
        if self._program is None:
            pytest.fail("tmux is not installed: `sh tests/run.sh` installs what the tests need")
        self._socket = folder / "tmux"
        self._size = ["-x", str(width), "-y", str(height)]
        self._code = folder / "code"

    def _tmux(self, *arguments: str) -> str:
        argv = [str(self._program), "-S", str(self._socket), "-f", "/dev/null", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout

    def run(self, argv: Sequence[str], cwd: Path) -> None:
        """Start a command; afterwards the window stays, with a line that says so."""
        # trap: Ctrl-C ends the command, and not this shell. The size is that of the window, whatever this shell thinks.
        setting = "trap : INT; unset COLUMNS LINES; export PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8"
        text = f"{setting}; {shlex.join(argv)}; echo $? > {self._code}; echo ended; cat"
        self._tmux("new-session", "-d", *self._size, "-c", str(cwd), "sh", "-c", text)

    def screen(self) -> str:
        """Return what a person sees."""
        return self._tmux("capture-pane", "-p")

    def shows(self, *texts: str) -> str:
        """Return the screen when all these texts are on it."""
        deadline = time.monotonic() + PATIENCE
        while not all(text in (seen := self.screen()) for text in texts):
            assert time.monotonic() < deadline, f"{texts} are not on the screen:\n{seen}"
            time.sleep(0.05)
        return seen

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def code(self) -> int:
        """Return the exit code, when the command has ended."""
        until(lambda: self._code.exists() and self._code.read_text("ascii").endswith("\n"), "the command ends")
        return int(self._code.read_text("ascii"))

    def flag(self, name: str) -> str:
        """Return a format of tmux, like cursor_flag or alternate_on."""
        return self._tmux("display-message", "-p", f"#{{{name}}}").strip()

    def end(self) -> None:
        if self._socket.exists():
            self._tmux("kill-server")
