"""The command line as its users start it: a process of its own, with pipes, a terminal's signals, and an end."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kemi
from kemi.cli.main import main
from tests.processes.children import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.processes.children import Children

CHECKOUT = Path(__file__).resolve().parents[2]
NOBODY = 65534
STRICT = ["-bb", "-X", "dev", "-W", "error"]


class Done:
    """How a command ended."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out.decode()
        self.err = err.decode()

    def json(self) -> Any:
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    def failed(self, code: int) -> str:
        """Check that it failed with one line on stderr and nothing on stdout; return that line."""
        assert (self.code, self.out) == (code, ""), (self.code, self.out, self.err)
        assert self.err.startswith("mqueue-kemi: ")
        assert self.err.count("\n") == 1, self.err
        return self.err


class Command:
    """`python3 -m mqueue_kemi` for one instance. Whatever it started has ended at the end of the test."""

    cwd = CHECKOUT

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self.started: list[subprocess.Popen[bytes]] = []

    def argv(self, *arguments: str, bare: bool = False, strict: bool = True) -> list[str]:
        """Return the whole command line; bare: without any installed package, as on a SIP server."""
        options = [*(STRICT if strict else []), *(["-S"] if bare else [])]
        return [sys.executable, *options, "-m", "mqueue_kemi", "--instance", self.instance, *arguments]

    def env(self) -> dict[str, str]:
        return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "TERM": "xterm"}

    def start(self, *arguments: str, bare: bool = True, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command, with pipes unless told otherwise."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(
            self.argv(*arguments, bare=bare, strict=bare), cwd=self.cwd, env=self.env(), **{**pipes, **options}
        )
        self.started.append(process)
        return process

    def __call__(self, *arguments: str, stdin: bytes = b"", bare: bool = True, **options: Any) -> Done:
        """Run a command to its end."""
        return self.end(self.start(*arguments, bare=bare, **options), stdin)

    @staticmethod
    def end(process: subprocess.Popen[bytes], stdin: bytes | None = None) -> Done:
        """Wait for the end of a command."""
        out, err = process.communicate(stdin, timeout=PATIENCE)
        return Done(process.returncode, out or b"", err or b"")

    def as_nobody(self, children: Children, *arguments: str) -> Done:
        """Run a command as a user who owns nothing; forked, because that user may not even read the checkout."""
        if os.geteuid():
            pytest.fail("only root can become other users: run these tests as root")
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:

            def act() -> int:
                os.dup2(out.fileno(), 1)
                sys.stderr = err
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                try:
                    return main(["--instance", self.instance, *arguments])
                finally:
                    err.flush()

            _import_all()  # before the fork: what is imported late may lie below a folder of root's
            code = children.fork(act).result()
            return Done(code, *(os.pread(file.fileno(), 1 << 16, 0) for file in (out, err)))

    def clean(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None and not pipe.closed:
                    pipe.close()
            process.wait()


def pairs(lines: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return key and value of lines of JSON."""
    return [(line["key"], line["value"]) for line in lines]


def _import_all() -> None:
    """Import what a command may import late, but the test kit and what the environment has no library for."""
    for module in pkgutil.walk_packages(kemi.__path__, "kemi."):
        if not module.name.startswith("kemi.testing"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
