"""Real engines for tests: a Redis or Valkey server of the test's own, on 127.0.0.1, ended by its pid."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.waits import until

HOST = "127.0.0.1"
PATIENCE = 60.0  # seconds; only what hangs takes so long
redis: Any = importlib.import_module("redis") if importlib.util.find_spec("redis") else None
PROGRAMS = tuple(name for name in ("redis-server", "valkey-server") if shutil.which(name))


# What a server that was killed while it began its file anew may end with; then a service manager starts it once more.
# It has mended the file; or the process that writes the new one had not come to closing what it was born with.
_ONCE_MORE = ("Fatal error: the truncated file is not the last file", "Address already in use")


class EngineServer:
    """A server. `options` are its settings, as on its command line; `preload` is a library that it is started with."""

    def __init__(
        self, folder: Path, *options: str, program: str = "", port: int = 0, tls: bool = False, preload: str = ""
    ) -> None:
        self.folder = folder
        self.program = program or PROGRAMS[0]
        self.port = port or free_port()
        self.tls = tls
        self.socket = str(folder / "socket")
        self.options = options
        self.env = {**os.environ, "LD_PRELOAD": preload} if preload else None
        self.process: subprocess.Popen[bytes] | None = None
        self._log_before = 0  # bytes in its log when it was started
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        """Start it, with what it has on its disk."""
        self._spawn()
        until(self._is_up, f"{self.program} is up; its log: {(self.folder / 'log').read_text()[-500:]}")

    def _spawn(self) -> None:
        port = ["--port", "0", "--tls-port", str(self.port)] if self.tls else ["--port", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._log_before = log.tell()
            self.process = subprocess.Popen(
                [
                    str(shutil.which(self.program)),
                    *("--bind", HOST, *port, "--unixsocket", self.socket, "--dir", str(self.folder), "--save", ""),
                    *("--loglevel", "warning", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
                    *self.options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
            )

    def _is_up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            log = (self.folder / "log").read_bytes()[self._log_before :].decode()
            assert any(text in log for text in _ONCE_MORE), log[-1000:]
            self._spawn()
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(PATIENCE)
            try:
                one.connect(self.socket)
                one.sendall(b"PING\r\n")
                return one.recv(100).startswith((b"+PONG", b"-NOAUTH"))
            except OSError:
                return False

    def client(self) -> Any:
        """A client by the unix socket, for the test itself."""
        return redis.Redis(unix_socket_path=self.socket, socket_timeout=PATIENCE)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def forget(self) -> None:
        """Lose what is on the disk."""
        for path in (*self.folder.glob("*.rdb"), *self.folder.glob("*.aof")):
            path.unlink(missing_ok=True)  # the process that wrote it may end only now
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)

    def hold(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def release(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def items(self, queue: str) -> list[dict[bytes, bytes]]:
        """What is in a queue there."""
        with self.client() as client:
            return [fields for _, fields in client.xrange(f"mqk:{{{queue}}}")]


DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
