"""Who may use a queue: its server's user, and a group only where mode and group say so."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest

from kemi.queue.log.core import ADDED
from kemi.queue.shm.naming import SHM_DIR
from mqueue_kemi import SegmentError, attach
from tests.processes.moments import die
from tests.processes.serve import items

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kemi.queue.queue import Queue
    from tests.processes.children import Children
    from tests.processes.serve import Serve

NOBODY = 65534
GROUP = 54321  # numbers need no entry in any file


@pytest.fixture
def as_user(children: Children) -> Callable[..., Any]:
    """Return what runs an action as another user, with these groups."""
    if os.geteuid():
        pytest.fail("only root can become other users: run these tests as root")

    def run(action: Callable[[], object], groups: Sequence[int] = ()) -> object:
        def act() -> object:
            os.setgroups(groups)
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            return action()

        return children.fork(act).result()

    return run


def files(serve: Serve) -> list[Path]:
    """Return the instance's files."""
    return sorted(Path(SHM_DIR).glob(f"mqk.{serve.instance}*"))


def refusals(serve: Serve) -> dict[str, str]:
    """Try to get at the queue in every way; return how each was refused."""
    found = {}
    for path in files(serve):
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            try:
                os.close(os.open(path, flags))
                found[f"{path.name} {flags}"] = "opened"
            except PermissionError:
                pass
        for name, action in (("unlink", path.unlink), ("chmod", lambda path=path: path.chmod(0o666))):
            try:
                action()
                found[f"{path.name} {name}"] = "done"
            except PermissionError:
                pass
    try:
        attach("q", serve.instance)
        found["attach"] = "done"
    except SegmentError as error:
        found["attach"] = str(error)
    return found


def add_and_fetch(serve: Serve) -> list[str]:
    """Use the queue as any process does: grow it, drain it, give back what it took."""
    with attach("q", serve.instance) as queue:
        for number in range(3):
            assert queue.add(str(number), "v" * 300_000) == ADDED
        keys = []
        while (item := queue.fetch()) is not None:
            keys.append(item.key)
        assert queue.add("from", "nobody") == ADDED
        return keys


def test_another_user_is_shut_out(serve: Serve, as_user: Callable[..., Any]) -> None:
    """Mode 0600 unless said otherwise: nobody else can read, add, or take the files away."""
    queue = serve("name=q")
    queue.add("k", "v")
    assert {oct(path.stat().st_mode & 0o777) for path in files(serve)} == {"0o600"}
    found = as_user(lambda: refusals(serve))
    assert f"not allowed for user {NOBODY}" in found.pop("attach")
    assert found == {}
    assert items(queue) == [("k", "v")]


@pytest.mark.parametrize("group", [str(GROUP)])
def test_a_group_is_let_in(serve: Serve, as_user: Callable[..., Any], group: str) -> None:
    """Mode 0660 and a group: its members add and fetch, in both directions; others still cannot."""
    queue = serve("name=q", mode="0660", group=group)
    queue.add("from", "root")
    assert {(oct(path.stat().st_mode & 0o777), path.stat().st_gid) for path in files(serve)} == {("0o660", GROUP)}
    assert as_user(lambda: add_and_fetch(serve), [GROUP]) == ["from", "0", "1", "2"]
    assert items(queue) == [("from", "nobody")]
    found = as_user(lambda: refusals(serve))
    assert f"not allowed for user {NOBODY}" in found.pop("attach")
    assert found == {}


@pytest.mark.parametrize("mode", ["0600", "0640"])
def test_a_group_that_may_not_write_is_shut_out(serve: Serve, as_user: Callable[..., Any], mode: str) -> None:
    """A queue cannot be used by reading alone: its members get an error that says what they lack."""
    serve("name=q", mode=mode, group=str(GROUP))
    found = as_user(lambda: refusals(serve), [GROUP])
    assert f"not allowed for user {NOBODY}" in found["attach"]


def test_a_member_repairs(serve: Serve, children: Children, as_user: Callable[..., Any]) -> None:
    """A holder of the lock is killed: a member of the group repairs, also when a repair has failed before."""
    queue = serve("name=q", mode="0660", group=str(GROUP), lock_timeout="0.5")
    queue.add("k", "v")

    def hold(queue: Queue) -> None:
        queue._mutex.take()
        die()

    def fail_to_repair() -> str:
        queue._log.recover = lambda: 1 / 0  # type: ignore[assignment]
        try:
            queue.stats()
        except ZeroDivisionError as error:
            return str(error)
        return ""

    assert children.fork(lambda: hold(queue)).killed_by() == signal.SIGKILL
    assert as_user(lambda: add_and_fetch(serve), [GROUP]) == ["k", "0", "1", "2"]
    assert children.fork(lambda: hold(queue)).killed_by() == signal.SIGKILL
    assert children.fork(fail_to_repair).result() == "division by zero"
    assert as_user(lambda: add_and_fetch(serve), [GROUP]) == ["from", "0", "1", "2"]
    assert children.fork(lambda: items(queue)).result() == [["from", "nobody"]]
