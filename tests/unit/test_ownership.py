"""Whether the server of a segment lives, as far as its main process and its life lock tell, and how that is said."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from kemi.owner import Owner, this_process
from kemi.queue.catalog import ownership
from kemi.queue.catalog.ownership import ALIVE, DEAD, UNKNOWN, is_left_over, state_of, wait_until_ended, who
from kemi.queue.shm import presence

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

HERE = this_process()
GONE = HERE._replace(pid=(1 << 22) + 1)
ELSEWHERE = HERE._replace(namespace=HERE.namespace + 1)
LIFE = 4711
UNREADABLE = OSError(13, "Permission denied")


def lock_is(mocker: MockerFixture, locked: Any) -> None:
    """Let the life lock be held, free, or not to be looked at."""
    how = {"side_effect": locked} if isinstance(locked, OSError) else {"return_value": locked}
    mocker.patch.object(presence, "is_life_locked", **how)


@pytest.mark.parametrize(
    ("owner", "life", "locked", "state", "left_over"),
    [
        (HERE, 0, False, ALIVE, False),
        (HERE, LIFE, False, ALIVE, False),
        (GONE, 0, True, DEAD, False),
        (GONE, LIFE, False, DEAD, False),
        (GONE, LIFE, True, ALIVE, True),
        (GONE, LIFE, UNREADABLE, ALIVE, True),
        (ELSEWHERE, 0, True, UNKNOWN, False),
        (ELSEWHERE, LIFE, True, ALIVE, False),
        (ELSEWHERE, LIFE, False, DEAD, False),
        (ELSEWHERE, LIFE, UNREADABLE, UNKNOWN, False),
    ],
)
def test_what_pid_and_life_lock_tell(
    mocker: MockerFixture, owner: Owner, life: int, locked: Any, state: str, left_over: bool
) -> None:
    """A server is dead when its main process and its lock say so; every doubt counts as alive or unknown."""
    lock_is(mocker, locked)
    assert state_of(owner, life) == state
    assert is_left_over(owner, life) is left_over


@pytest.mark.parametrize(
    ("owner", "life", "locked", "words"),
    [
        (HERE, LIFE, True, f"pid {HERE.pid}, user 0"),
        (ELSEWHERE, 0, False, "in another pid namespace, so that it cannot be seen whether it lives"),
        (ELSEWHERE, LIFE, False, "in another pid namespace, so that it cannot be seen whether it lives"),
        (ELSEWHERE, LIFE, True, f"in another pid namespace, where it lives (pid {os.getpid()} ("),
        (GONE, LIFE, True, f"processes of a server whose main process, pid {GONE.pid}, is gone: pid {os.getpid()} ("),
    ],
    ids=["here", "no life lock", "elsewhere", "elsewhere, lives", "main gone"],
)
def test_who_uses_a_segment_is_said_as_far_as_it_is_known(
    mocker: MockerFixture, owner: Owner, life: int, locked: bool, words: str
) -> None:
    lock_is(mocker, locked)
    mocker.patch.object(presence, "holders", return_value=[os.getpid()])
    assert words in who(owner, life, 0)


def test_processes_that_cannot_be_seen_are_said_to_be_there(mocker: MockerFixture) -> None:
    lock_is(mocker, True)
    mocker.patch.object(presence, "holders", return_value=[])
    assert "none that can be seen from here; of user 0" in who(GONE, LIFE, 0)
    assert "none that can be seen from here; in another pid namespace" in who(GONE, LIFE, None)


@pytest.mark.parametrize(("count", "more"), [(8, ""), (9, " and 1 more"), (12, " and 4 more")])
def test_the_first_eight_processes_are_named_and_the_others_counted(
    mocker: MockerFixture, count: int, more: str
) -> None:
    lock_is(mocker, True)
    first = 1 << 23  # no pids: nothing is known of them
    mocker.patch.object(presence, "holders", return_value=list(range(first, first + count)))
    named = ", ".join(str(first + number) for number in range(8))
    assert who(GONE, LIFE, 0).endswith(f"is gone: pid {named}{more}")


def test_a_process_of_this_namespace_is_not_said_to_be_of_another(mocker: MockerFixture) -> None:
    assert "another pid namespace" not in ownership._about(os.getpid())
    at = os.stat("/proc/self/ns/pid")
    others = iter([at, os.stat_result((0, at.st_ino + 1, *at[2:]))])
    mocker.patch.object(os, "stat", side_effect=lambda _: next(others))
    assert "in another pid namespace" in ownership._about(os.getpid())


def test_the_end_of_a_server_is_waited_for_until_its_lock_is_free(mocker: MockerFixture) -> None:
    looks = iter([True, True, True, False])
    mocker.patch.object(presence, "is_life_locked", side_effect=lambda _: next(looks))
    wait_until_ended(GONE, LIFE, 600)
    assert next(looks, None) is None


def test_the_end_of_a_server_is_waited_for_no_longer_than_that(mocker: MockerFixture) -> None:
    lock_is(mocker, True)
    start = time.monotonic()
    wait_until_ended(GONE, LIFE, 0.1)
    assert time.monotonic() - start >= 0.1
