"""Processes of a test: each is started here, ended by its own pid, and waited for, whatever happens to the test."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Sequence

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds; only a process that hangs takes that long


class ChildError(Exception):
    """A process of the test failed; the message holds its own traceback or output."""


def _run(action: Callable[[], object], pipe: int) -> None:
    """Send what the action returns or raises through a pipe, and end this process without any clean-up."""
    code = 1
    try:
        answer = {"returned": action()}
        code = 0
    except BaseException:  # noqa: BLE001 it is handed to the test
        answer = {"raised": traceback.format_exc()}
    try:
        with os.fdopen(pipe, "w") as file:
            json.dump(answer, file)
    finally:
        os._exit(code)


class Child:
    """A forked process. It knows what its parent knew; its result comes back as JSON."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._pipe, end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _run(action, end)
        os.close(end)
        self.status: int | None = None
        self._text = b""

    def result(self, timeout: float = PATIENCE) -> Any:
        """Wait for the end, and return what the action returned; ChildError if it raised or was killed."""
        deadline = time.monotonic() + timeout
        self._read(deadline)
        status = self.wait(max(1.0, deadline - time.monotonic()))
        answer = json.loads(self._text) if self._text else {}
        if "returned" not in answer:
            msg = f"process {self.pid} ended with status {status}: {answer.get('raised', 'no answer')}"
            raise ChildError(msg)
        return answer["returned"]

    def _read(self, deadline: float) -> None:
        """Read the answer until its end, or until the deadline."""
        poll = select.poll()
        if self._pipe >= 0:
            poll.register(self._pipe, select.POLLIN)
            while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                part = os.read(self._pipe, 1 << 16)
                if not part:
                    break
                self._text += part

    def _close(self) -> None:
        """Let go of the pipe. What was sent is kept."""
        if self._pipe >= 0:
            self._read(0.0)
            os.close(self._pipe)
            self._pipe = -1

    def wait(self, timeout: float = PATIENCE, options: int = 0) -> int:
        """Return the wait status when it has ended (or stopped, with WUNTRACED); ChildError if it does neither."""
        if self.status is not None:
            return self.status
        deadline = time.monotonic() + timeout
        pause = 0.0002
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG | options)
            if pid and os.WIFSTOPPED(status):
                return status
            if pid:
                self.status = status
                self._close()
                return status
            if time.monotonic() > deadline:
                msg = f"process {self.pid} did not end within {timeout} s"
                raise ChildError(msg)
            time.sleep(pause)
            pause = min(pause * 1.2, 0.02)

    def killed_by(self, timeout: float = PATIENCE) -> int:
        """Wait for the end, and return the signal that ended it; 0 if it ended by itself."""
        status = self.wait(timeout)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended and its pid may be another's."""
        if self.status is None:
            os.kill(self.pid, number)

    def end(self) -> None:
        """Kill it if it still runs."""
        if self.status is None:
            self.send(signal.SIGKILL)
            self.wait()


class Program:
    """An unrelated Python process, which runs `python -m MODULE ARGUMENT...` and prints JSON."""

    def __init__(
        self, module: str, *arguments: object, wrapper: Sequence[str] = (), options: Sequence[str] = ()
    ) -> None:
        argv = [*wrapper, sys.executable, *options, "-m", module, *map(str, arguments)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=CHECKOUT)

    def output(self, timeout: float = PATIENCE) -> tuple[int, str, str]:
        """Wait for the end, and return exit code, standard output and standard error."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out.decode(), err.decode()

    def result(self, timeout: float = PATIENCE) -> Any:
        """Wait for the end, and return what it printed; ChildError if it failed."""
        code, out, err = self.output(timeout)
        if code:
            msg = f"{self.process.args!r} ended with {code}: {out}{err}"
            raise ChildError(msg)
        return json.loads(out)

    def end(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.process.wait()


class Children:
    """All processes of one test."""

    def __init__(self) -> None:
        self._all: list[Child | Program] = []

    def fork(self, action: Callable[[], object]) -> Child:
        """Run an action in a forked process."""
        child = Child(action)
        self._all.append(child)
        return child

    def program(
        self, module: str, *arguments: object, wrapper: Sequence[str] = (), options: Sequence[str] = ()
    ) -> Program:
        """Run a module of the tests in an interpreter of its own."""
        program = Program(module, *arguments, wrapper=wrapper, options=options)
        self._all.append(program)
        return program

    def end(self) -> None:
        """Kill whatever still runs."""
        for child in self._all:
            child.end()
