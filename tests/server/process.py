"""A server program that a test starts, finds again with all its descendants, and is sure to end.

Each start carries a mark of its own in the environment. Whoever descends from it carries the mark too: a worker,
a daemon that left its session, a helper that some library started. So they are found without a name being
guessed, and nothing else is ever signalled.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NoReturn

from tests.asleep import doing, in_shared_futex

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# In the environment of every process that this test run starts; a serial number follows.
MARK = b"MQUEUE_TEST_SERVER=%d-" % os.getpid()
PR_SET_CHILD_SUBREAPER = 36
STOPS_WITHIN = 30.0  # seconds, half of what Kamailio waits before it kills what hangs
_serial = itertools.count(1)


class ServerError(Exception):
    """The server did not do what the test waits for; the message ends with its log."""


def adopt_orphans() -> None:
    """Make this process the parent of whom a daemon leaves behind, so that it can wait for them."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def environments() -> Iterator[tuple[int, list[bytes]]]:
    """Every process whose environment can be read: its pid, and the variables."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            variables = Path("/proc", name, "environ").read_bytes()
        except OSError:  # ended meanwhile
            continue
        yield int(name), variables.split(b"\0")


def wait_until(condition: Callable[[], object], what: str, timeout: float = 60.0) -> float:
    """Return the seconds until the condition held; a TimeoutError names what did not come."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > timeout:
            msg = f"{what}: not within {timeout} s"
            raise TimeoutError(msg)
        time.sleep(0.01)
    return time.monotonic() - start


class ServerProcess:
    """One start of a program, with its log and all its descendants."""

    def __init__(self, argv: Sequence[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.argv = list(argv)
        self.log_path = log
        self.mark = MARK + b"%d" % next(_serial)
        name, _, value = self.mark.decode().partition("=")
        # Neither the test's Python variables nor its PATH (a virtual environment) reach the embedded Python.
        self.env = {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        self.env.update(env or {})
        self.env[name] = value
        self.seen: set[int] = set()
        self.child: subprocess.Popen[bytes] | None = None

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the program in a session of its own."""
        with self.log_path.open("ab") as log:
            self.child = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                start_new_session=True,
            )
        return self.child

    def pids(self) -> list[int]:
        """Return every living process that carries the mark, ended ones reaped."""
        self._reap()
        found = {pid for pid, environment in environments() if self.mark in environment}
        if self.child is not None and self.child.returncode is None:
            found.add(self.child.pid)  # for a moment, a process that begins a program shows no environment
        self.seen |= found
        return sorted(found)

    def programs(self) -> set[str]:
        """Return the executables of the living processes."""
        found = set()
        for pid in self.pids():
            with contextlib.suppress(OSError):  # ended meanwhile
                found.add(Path(f"/proc/{pid}/exe").resolve(strict=True).name)
        return found

    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def log_lines(self, *words: str) -> list[str]:
        """Return the log's lines that hold all these words."""
        return [line for line in self.log().splitlines() if all(word in line for word in words)]

    def wait_gone(self, timeout: float = STOPS_WITHIN) -> float:
        """Return the seconds until no process is left."""
        start = time.monotonic()
        try:
            wait_until(lambda: not self.pids(), "all processes end", timeout)
        except TimeoutError as error:
            if not self._end_stuck():
                self.fail(f"{error}; left: {self.describe()}")
        finally:
            self._reap()
        return time.monotonic() - start

    def _end_stuck(self) -> bool:
        """End a main process that waits for a lock of Kamailio's which nobody can give back any more.

        A process of Kamailio ends within its handler of SIGTERM, also while it holds a lock. The timer process, for
        one, leaves the main process in destroy_dns_cache() then, after all modules have ended, until it aborts itself
        after exit_timeout, 60 s. That happens to a Kamailio without Python too; a second SIGTERM changes nothing.
        """
        pids = self.pids()
        if len(pids) != 1 or not in_shared_futex(pids[0]):
            return False
        with self.log_path.open("a", encoding="utf-8") as log:
            log.write(f"tests: {pids[0]} waits for a lock that an ended process of Kamailio held; it is killed\n")
        self.kill()
        return True

    def kill(self) -> None:
        """End whatever is left, at once; nothing is said if there is nothing."""
        wait_until(self._kill_all, "killed processes end")
        self._reap()

    def _kill_all(self) -> bool:
        """Kill who is there; True when nobody is."""
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    def describe(self) -> list[str]:
        """Return pid, command line and what the kernel says of the living processes."""
        found = []
        for pid in self.pids():
            with contextlib.suppress(OSError):  # ended meanwhile
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                found.append(f"{pid} {command.decode('utf-8', 'replace')}({doing(pid)})")
        return found

    def fail(self, why: str) -> NoReturn:
        msg = f"{why}\n--- log ---\n{self.log()}"
        raise ServerError(msg)

    def _reap(self) -> None:
        if self.child is not None:
            self.child.poll()
        # Only processes of this start, and never the one that Popen waits for.
        for pid in self.seen - {self.child.pid if self.child else 0}:
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    self.seen.discard(pid)
            except ChildProcessError:  # its own parent waits for it
                continue
