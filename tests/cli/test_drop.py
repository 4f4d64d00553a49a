"""drop: takes away what is provably dead, asks a person before, and never touches what lives."""

from __future__ import annotations

import os
import pty
import signal
from typing import TYPE_CHECKING

import pytest

from kemi import host
from kemi.errors import InstanceInUse
from kemi.owner import Owner, this_process
from kemi.queue.catalog import header, ownership
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from tests.asleep import asleep
from tests.conftest import SHM
from tests.processes.serve import items
from tests.support.waits import until

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from tests.cli.command import Command
    from tests.processes.children import Children
    from tests.processes.serve import Serve


def files(serve: Serve) -> list[str]:
    return sorted(path.name[len(f"mqk.{serve.instance}") :] for path in SHM.glob(f"mqk.{serve.instance}*"))


def test_drop_of_an_instance(dead: Serve, command: Command) -> None:
    (SHM / f"mqk.{dead.instance}.q~123").touch()  # one that was being made
    done = command("drop", "--yes")
    assert (done.code, done.out) == (0, "")
    assert done.err == f"mqueue-kemi: took away instance {dead.instance!r}, 3 items\n"
    assert files(dead) == []


def test_what_was_kept_beside_another_file(dead: Serve, command: Command) -> None:
    """`instances` tells of it; it goes with the instance, and not with another queue."""
    own = SHM / f"mqk.{dead.instance}.q"
    beside = own.with_name(f"{own.name}~kept.01234567")
    own.rename(beside)
    assert f"{beside} was kept at a stop" in command("instances").err
    assert command("drop", "empty", "--yes").code == 0
    assert files(dead) == ["", ".q~kept.01234567"]
    assert f"{beside} was kept at a stop" in command("instances").err
    assert command("drop", "--yes").code == 0
    assert files(dead) == []


def test_drop_of_one_queue(dead: Serve, command: Command) -> None:
    assert command("drop", "q", "--yes").code == 0
    assert files(dead) == ["", ".empty"]
    assert host.find(dead.instance).state() == ownership.DEAD  # the next server can take it over
    dead("name=empty")
    assert command("sizes").out == "empty\t0\n"


def test_drop_without_the_instances_own_segment(dead: Serve, command: Command) -> None:
    (SHM / f"mqk.{dead.instance}").unlink()
    assert command("drop", "--yes").code == 0
    assert files(dead) == []


@pytest.mark.parametrize("arguments", [[], ["q"]])
def test_what_lives_is_left(serve: Serve, command: Command, arguments: list[str]) -> None:
    queue = serve("name=q")
    queue.add("k", "v")
    text = command("drop", *arguments, "--yes").failed(6)
    assert f"belongs to pid {os.getpid()}, user 0 (root), which is not proved dead" in text
    assert items(queue) == [("k", "v")]
    assert files(serve) == ["", ".q"]


def test_what_may_live_is_left(dead: Serve, command: Command) -> None:
    """An owner in another pid namespace cannot be proved dead."""
    with Queue.attach(dead.instance, "q") as queue:
        header.set_owner(queue.segment, Owner(1 << 21, 1, 1))
    assert "not proved dead" in command("drop", "--yes").failed(6)
    assert files(dead) == ["", ".empty", ".q"]


def test_a_queue_that_a_living_server_does_not_know(dead: Serve, command: Command) -> None:
    """What a dead server left under the name of an instance that lives again."""
    living = dead("name=other")
    assert command("drop", "--yes").failed(6)
    assert command("drop", "q", "--yes").code == 0
    assert files(dead) == ["", ".empty", ".other"]
    assert living.add("k", "v") == ADDED
    assert command("sizes").out == "empty\t0\nother\t1\n"


def test_it_is_ours_before_it_goes(dead: Serve, mocker: MockerFixture) -> None:
    """A living server that is told of the queue in this moment finds it owned, and does not take over what goes."""
    dead("name=other")
    owners = []
    remove = Queue.remove

    def watched(queue: Queue) -> None:
        owners.append(queue.owner())
        remove(queue)

    mocker.patch.object(Queue, "remove", watched)
    host.drop(dead.instance, "q")
    mocker.stopall()
    assert owners == [this_process()]


def test_a_server_that_starts_meanwhile_wins(dead: Serve, children: Children) -> None:
    """Whoever claims the instance first; the other one is refused, and no item is lost."""

    def live() -> None:
        dead("name=q")
        signal.pause()

    children.fork(live)
    until(lambda: host.find(dead.instance).state() == ownership.ALIVE, "the new server")
    with pytest.raises(InstanceInUse):
        host.drop(dead.instance)
    assert host.find_queue(dead.instance, "q").stats.size == 3


def test_who_waits_is_woken(dead: Serve, command: Command) -> None:
    """And waits for the next server."""
    process = command.start("consume", "empty", "--follow", "-n", "1")
    until(lambda: asleep(process.pid), "it waits")
    assert command("drop", "--yes").code == 0
    assert files(dead) == []
    dead("name=empty").add("k", "v")
    assert command.end(process).out == "k\tv\n"


def test_nobody_can_be_asked(dead: Serve, command: Command) -> None:
    text = command("drop").failed(2)
    assert f"would take away instance {dead.instance!r}, 3 items; say --yes" in text
    assert len(files(dead)) == 3


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"Yes\n", 0), (b"n\n", 2), (b"\n", 2), (b"\x04", 2)])
def test_a_person_is_asked(dead: Serve, command: Command, answer: bytes, code: int) -> None:
    keyboard, terminal = pty.openpty()
    process = command.start("drop", "q", stdin=terminal, start_new_session=True)
    os.write(keyboard, answer)
    done = command.end(process)
    os.close(terminal)
    os.close(keyboard)
    assert done.code == code
    assert done.err.startswith(f"Take away queue 'q' of instance {dead.instance!r}, 3 items? [y/N] ")
    assert (".q" in files(dead)) == bool(code)
