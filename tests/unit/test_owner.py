"""Who owns a segment, and when it is proved dead."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kemi import owner
from kemi.owner import Owner, this_process
from tests.unit import children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture


@pytest.fixture
def child() -> Iterator[int]:
    """Give the pid of a process that sleeps."""
    with children.child(lambda: None) as pid:
        yield pid


def owner_of(pid: int) -> Owner:
    """Return the owner record of a process that runs."""
    start = owner._start_time(pid)
    assert start is not None
    return this_process()._replace(pid=pid, start=start)


def test_this_process_is_alive() -> None:
    """Its record is the same each time, and not dead."""
    assert this_process() == this_process()
    assert this_process().pid == os.getpid()
    assert not this_process().is_dead()


def test_a_process_that_runs_is_alive(child: int) -> None:
    """Another process's record is not dead while it runs, also when it is stopped."""
    record = owner_of(child)
    os.kill(child, signal.SIGSTOP)
    assert not record.is_dead()


def test_a_pid_that_is_gone(child: int) -> None:
    """When no process has the pid any more, its owner is dead."""
    record = owner_of(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert record.is_dead()


def test_a_zombie_is_dead(child: int) -> None:
    """A process that ended and was not waited for runs no more."""
    record = owner_of(child)
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert record.is_dead()


@pytest.mark.parametrize("difference", [-2, 2])
def test_a_pid_that_is_used_again(child: int, difference: int) -> None:
    """The same pid with another start time is another process."""
    record = owner_of(child)
    assert record._replace(start=record.start + difference).is_dead()


@pytest.mark.parametrize("pid", [os.getpid(), 1, 1 << 22], ids=["this one", "the first", "none"])
def test_another_namespace_proves_nothing(pid: int) -> None:
    """A pid of another pid namespace may be alive, whatever it is here."""
    assert not Owner(pid, 1, this_process().namespace + 1).is_dead()


@pytest.mark.parametrize("pid", [1 << 31, (1 << 62) - 1, (1 << 64) - 1])
def test_what_is_no_pid_proves_nothing(pid: int) -> None:
    """Damaged memory may say anything."""
    assert not Owner(pid, 1, this_process().namespace).is_dead()


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(24, "Too many open files")])
def test_what_cannot_be_looked_at_is_not_dead(mocker: MockerFixture, child: int, error: Exception) -> None:
    """Only that there is no such process proves its death, not that /proc could not be read."""
    record = owner_of(child)
    mocker.patch("builtins.open", side_effect=error)
    assert not record.is_dead()


def test_without_proc_nobody_is_dead(mocker: MockerFixture) -> None:
    """Where /proc is not there at all, no process is proved dead."""
    mocker.patch("builtins.open", side_effect=FileNotFoundError())
    mocker.patch("os.stat", side_effect=FileNotFoundError())
    assert not this_process().is_dead()


@pytest.mark.parametrize("name", [b"plain", b"a b) R 1 2 (c", b")))) Z"])
def test_any_command_name(name: bytes) -> None:
    """The name of a command, which may hold blanks and parentheses, is not taken for other fields."""
    comm = Path("/proc/self/comm")
    before, start = comm.read_bytes(), owner._start_time(os.getpid())
    comm.write_bytes(name)
    try:
        assert comm.read_bytes() == name + b"\n"
        assert owner._start_time(os.getpid()) == start
    finally:
        comm.write_bytes(before)
