"""`mqueue-kemi check --live`: what a probe may rely on."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from kemi.cli import live
from kemi.host import Found
from kemi.queue.catalog.ownership import UNKNOWN
from kemi.queue.format import layout
from tests.conftest import SHM
from tests.locked import locked

if TYPE_CHECKING:
    from tests.cli.command import Command
    from tests.processes.serve import Serve


def test_a_living_server(serve: Serve, command: Command) -> None:
    """0, also while a lock is held: a busy server is alive."""
    queue = serve("name=a", "name=b")
    with locked(queue._mutex):
        done = command("check", "--live")
    assert (done.code, done.out) == (0, "")
    assert "is served, pid " in done.err
    assert done.err.endswith("queues: a, b\n")
    found = command("check", "--live", "--json").json()
    assert (found["server"], found["queues"], found["problems"]) == ("alive", ["a", "b"], [])


def test_a_dead_server(dead: Serve, command: Command) -> None:
    del dead
    done = command("check", "--live")
    assert done.code == 9
    assert done.out.endswith(" is dead\n")
    assert command("check", "--live", "--json").json()["server"] == "dead"


def test_no_server(command: Command) -> None:
    assert "no instance" in command("check", "--live").failed(3)


def test_a_queue_that_cannot_be_read(serve: Serve, command: Command) -> None:
    queue = serve("name=a", "name=b")
    queue.segment.bytes[0:8] = b"damaged!"
    done = command("check", "--live")
    queue.segment.bytes[0:8] = b"mqkemi-q"
    assert done.code == 9
    assert f"/dev/shm/mqk.{serve.instance}.a" in done.out


def test_the_instances_own_segment_is_gone(serve: Serve, command: Command) -> None:
    serve("name=a")
    path = SHM / f"mqk.{serve.instance}"
    path.rename(path.with_name(f"{path.name}~aside"))
    done = command("check", "--live")
    path.with_name(f"{path.name}~aside").rename(path)
    assert (done.code, done.out.count("\n")) == (9, 1)


def test_from_another_pid_namespace(serve: Serve, command: Command) -> None:
    """The server's life lock is seen from there, too; without one nothing can be said, and that is not "alive"."""
    serve("name=a")
    unshare = shutil.which("unshare")
    assert unshare is not None
    argv = [unshare, "--pid", "--fork", "--mount-proc", *command.argv("check", "--live")]

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, cwd=command.cwd, env=command.env(), capture_output=True, text=True, check=False)

    assert check().returncode == 0
    with (SHM / f"mqk.{serve.instance}").open("r+b") as file:
        file.seek(layout.W_OWNER_LIFE * 8)
        file.write(bytes(8))
    done = check()
    assert done.returncode == 9, done.stderr
    assert "of another pid namespace, cannot be seen from here" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["--live", "file"], ["--live", "--strict"], ["--live", "-A", "X"]])
def test_a_file_or_live(command: Command, arguments: list[str]) -> None:
    assert "check takes a FILE" in command("check", *arguments).failed(2)


def test_a_state_that_is_not_known_is_a_problem(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every doubt counts as not alive here: a probe that is content with doubts finds nothing."""
    from kemi import host

    serve("name=a")
    monkeypatch.setattr(Found, "state", lambda _self: UNKNOWN)
    assert len(live._problems(host.find(serve.instance))) == 1
