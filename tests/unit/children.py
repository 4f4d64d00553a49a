"""Other processes for a test: forked ones that do something and stay, and fresh interpreters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import ParamSpec

    P = ParamSpec("P")

CHECKOUT = Path(__file__).parents[2]


def fork(work: Callable[[], object]) -> int:
    """Start a process that does `work` and ends, with code 0 if nothing was raised. Returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - it must not go on as the test
        traceback.print_exc()
    finally:
        os._exit(code)


@contextmanager
def child(work: Callable[[], object]) -> Iterator[int]:
    """Fork a process that does `work` and then sleeps; give its pid when the work is done, kill it at the end."""
    done, tell = os.pipe()

    def work_and_stay() -> None:
        work()
        os.write(tell, b".")
        signal.pause()

    pid = fork(work_and_stay)
    os.close(tell)
    try:
        assert os.read(done, 1), "the other process failed"
        yield pid
    finally:
        os.close(done)
        kill(pid)


def in_child(test: Callable[P, None]) -> Callable[P, None]:
    """Run a test in a process of its own, so that a crash of the C library's fails it and no more."""

    @wraps(test)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        _, status = os.waitpid(fork(lambda: test(*arguments, **options)), 0)
        assert not os.WIFSIGNALED(status), f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
        assert status == 0, "failed; see what it wrote to stderr"

    return run


def kill(pid: int) -> None:
    """Kill a child at once, if it still runs, and wait for its end."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def killed_after(work: Callable[[], object]) -> None:
    """Have another process do `work`, and be killed."""
    with child(work):
        pass


def python(code: str, *arguments: str, timeout: float = 60) -> str:
    """Run code in a fresh interpreter, with warnings as errors; return what it printed."""
    result = subprocess.run(
        [sys.executable, "-bb", "-X", "dev", "-W", "error", "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == 0, (result.returncode, result.stderr)
    return result.stdout
