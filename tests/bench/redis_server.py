"""A Redis server of the bench's own, never the system's: unix socket only, nothing on disk, ended by its pid."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

# The same program under two names: redis-tools brings no service, and looks at the name it is called by.
PROGRAMS = ("redis-server", "redis-check-rdb")
_WITHIN = 10.0  # seconds


def missing_server() -> str:
    """Why there is no server; empty if there is one."""
    return "" if _program() else "not installed: no redis-server (Debian: redis-tools is enough)"


def _program() -> str | None:
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


class RedisServer:
    """A running server."""

    def __init__(self, folder: Path) -> None:
        self.socket = str(folder / "redis")
        options = ["--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no", "--dir", str(folder)]
        self._process = subprocess.Popen(
            ["redis-server", *options],  # noqa: S607 the name that the program goes by
            executable=_program(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.pid = self._process.pid
        deadline = time.monotonic() + _WITHIN
        while not Path(self.socket).exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                msg = "the Redis server did not start"
                raise OSError(msg)
            time.sleep(0.01)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
