"""A server whose main process was killed while others of it live on: who would take its queues over, or away."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kemi import host
from kemi.errors import InstanceInUse
from kemi.queue.shm import trust
from tests.cli.command import CHECKOUT
from tests.conftest import SHM
from tests.processes.serve import items
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.command import Command
    from tests.processes.serve import Serve

NAMESPACES = ("--pid", "--fork", "--kill-child", "--mount-proc")

# A server that forks in some way; the child says its pid, does something, and waits for the end of its input.
SERVER = """
import ctypes, os, signal, sys
import mqueue_kemi as mq
mq.modparam("mqueue", "instance", sys.argv[1])
mq.modparam("mqueue", "mqueue", "name=q")
mq.modparam("mqueue", "mqueue", "name=other")
mq.mod_init(object())
mq.mq_add("q", "k", "v")
say = lambda text: os.write(1, str(text).encode() + b"\\n")
if not {fork}:
    {use}
    say(os.getpid())
    while sys.stdin.readline(): pass
    os._exit(0)
say("server")
{end}
signal.pause()
"""
BY_PYTHON, BY_C = "os.fork()", "ctypes.PyDLL(None).fork()"
USES = {
    "add": 'mq.mq_add("q", "child", "v")',
    "fetch": 'assert mq.mq_fetch("q") == 1',
    "another queue": 'mq.mq_add("other", "child", "v")',
    "reserve": 'mq._queues["q"].reserve().take()',
}


class Killed:
    """A server that was killed, and the process that it forked."""

    def __init__(self, instance: str, fork: str, use: str = "pass", end: str = "", start: tuple[str, ...] = ()) -> None:
        code = SERVER.format(fork=fork, use=use, end=end)
        argv = [*start, sys.executable, "-c", code, instance]
        env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        assert self.process.stdout is not None
        said = {self.process.stdout.readline(), self.process.stdout.readline()}
        self.child = int((said - {b"server\n"}).pop())
        if end:
            self.process.wait(60)
        elif not start:
            self.process.kill()
            self.process.wait(60)

    def end(self) -> None:
        """End the child, too."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        select.select([self.process.stdout], [], [], 60)  # its last descriptor is closed at its end
        self.process.stdout.close()
        self.process.kill()
        self.process.wait(60)


@pytest.fixture
def started() -> Iterator[list[Killed]]:
    """What is ended at the end of the test."""
    killed: list[Killed] = []
    yield killed
    for one in killed:
        one.end()


def test_what_goes_on_is_told_and_refused(
    serve: Serve, command: Command, started: list[Killed], tmp_path: Path
) -> None:
    """A worker that C code forked, as Kamailio does."""
    started.append(killed := Killed(serve.instance, BY_C))
    url = f"--db-url=sqlite:///{tmp_path}/x.db"
    before = sorted(path.name for path in SHM.glob(f"mqk.{serve.instance}*"))
    for arguments in (["drop", "--yes"], ["drop", "q", "--yes"], ["save", "q", url], ["load", "q", url]):
        text = command(*arguments, bare=False).failed(6)
        assert f"main process, pid {killed.process.pid}, is gone: pid {killed.child} (" in text
        assert f"{trust.shown(os.geteuid())})" in text
        assert "end them (kill" in text
    done = command("check", "--live")
    assert (done.code, f"is gone: pid {killed.child} (" in done.out) == (9, True)
    assert f"is gone: pid {killed.child} (" in command("instances").err
    assert before == sorted(path.name for path in SHM.glob(f"mqk.{serve.instance}*"))
    killed.end()
    started.clear()
    assert "is dead" in command("check", "--live").out
    assert items(serve("name=q")) == [("k", "v")]


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_a_child_of_python_code_that_used_a_queue_is_one_of_them(serve: Serve, started: list[Killed], use: str) -> None:
    started.append(killed := Killed(serve.instance, BY_PYTHON, use))
    with pytest.raises(InstanceInUse, match=rf"pid {killed.process.pid}, is gone: pid {killed.child} \("):
        host.drop(serve.instance)
    killed.end()
    started.clear()
    host.drop(serve.instance)


@pytest.mark.parametrize("use", ["pass", 'mq.mqk_get("q")'])
def test_a_child_of_python_code_that_used_no_queue_keeps_nobody_alive(
    serve: Serve, started: list[Killed], use: str
) -> None:
    started.append(Killed(serve.instance, BY_PYTHON, use))
    assert items(serve("name=q")) == [("k", "v")]


def test_a_child_that_used_a_queue_and_was_replaced_is_a_client(serve: Serve, started: list[Killed]) -> None:
    """It used its queue after another server had taken over, so it is none of that server's processes."""
    use = 'sys.stdin.readline(); mq.mq_add("q", "late", "v"); say("added"); '
    code = SERVER.format(fork=BY_PYTHON, use="say(os.getpid()); " + use, end="")
    argv = [sys.executable, "-c", code, serve.instance]
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        process.kill()
        process.wait(60)
        queue = serve("name=q")
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"added\n"
        assert [item.key for item in queue.peek(None)] == ["k", "late"]
        serve.stop()
        serve("name=q")  # the child lives on, and is in nobody's way
    assert started == []


@pytest.mark.parametrize("keep", [False, True])
def test_a_server_that_ended_in_order_is_dead_whoever_goes_on(
    serve: Serve, started: list[Killed], *, keep: bool
) -> None:
    """Also a child that used its queues."""
    policy = 'from kemi.queue.catalog import keeping; keeping.set_policy(mq._queues["q"].segment.words, 0, 2); '
    stop = f"from kemi import app; {policy if keep else ''}app.stop_now(); os._exit(0)"
    wait = 'mq.mq_add("q", "child", "v")'
    started.append(Killed(serve.instance, BY_PYTHON, wait, f"sys.stdout.flush(); {stop}"))
    assert len(items(serve("name=q"))) in ((1, 2) if keep else (0,))


def inside(pid: int) -> int:
    """The pid of the one child of a process, as this namespace has it."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()[0])


@pytest.fixture
def unshare() -> str:
    """Skip where this process may not have namespaces of its own."""
    found = shutil.which("unshare")
    if found is None or subprocess.run([found, *NAMESPACES, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces may be made here")
    return found


def test_from_another_namespace_than_the_servers(
    serve: Serve, command: Command, started: list[Killed], unshare: str, tmp_path: Path
) -> None:
    """The life lock tells: in use while it lives, for the host and another container; taken away when it is dead."""
    url = f"--db-url=sqlite:///{tmp_path}/x.db"
    started.append(killed := Killed(serve.instance, BY_C, start=(unshare, *NAMESPACES)))
    main = inside(killed.process.pid)
    everything = (["drop", "--yes"], ["drop", "q", "--yes"], ["save", "q", url], ["load", "q", url])
    for arguments in everything:
        text = command(*arguments, bare=False).failed(6)
        assert "pid 1, user 0 (root), in another pid namespace, where it lives (pid " in text
        assert str(main) in text
    elsewhere = [unshare, *NAMESPACES]

    def other(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [*elsewhere, *command.argv(*arguments, bare=False)]
        return subprocess.run(argv, cwd=command.cwd, env=command.env(), capture_output=True, text=True, check=False)

    for arguments in everything:
        done = other(*arguments)
        assert (done.returncode, "none that can be seen from here" in done.stderr) == (6, True), done.stderr
    os.kill(main, signal.SIGKILL)  # and with it all others of that namespace
    killed.process.wait(60)
    until(lambda: command("check", "--live").code == 9, "they have ended")
    assert other("save", "q", url).returncode == 0
    assert other("load", "q", url).returncode == 0
    assert other("drop", "q", "--yes").returncode == 0
    assert command("sizes").out == "other\t0\n"
    assert command("drop", "--yes").code == 0


def test_c_code_forks_here() -> None:
    """What the tests above mean by that has no hooks."""
    called: list[int] = []
    os.register_at_fork(before=lambda: called.append(1))
    pid = ctypes.PyDLL(None).fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    assert called == []
