"""Whose locks on the folder of shared memory are those of servers, and how many of them are told."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from kemi.queue.shm import presence, trust
from kemi.queue.shm.naming import SHM_DIR
from kemi.queue.sync.lifelock import folder_number

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

ME, STRANGER = 1000, 2000
NUMBER = folder_number(ME, "there")


def locks_are(mocker: MockerFixture, spans: list[tuple[int, float]], users: dict[int, int | None]) -> None:
    """Let the folder have these locks, of processes that run as these users."""
    mocker.patch.object(presence, "is_present", return_value=True)
    mocker.patch.object(presence, "locked_spans", return_value=spans)
    mocker.patch.object(presence, "holders", return_value=sorted(users))
    mocker.patch.object(presence, "_user_of", side_effect=users.get)


@pytest.mark.parametrize(
    ("spans", "users", "lives"),
    [
        ([(NUMBER, NUMBER)], {11: STRANGER}, False),
        ([(NUMBER, NUMBER), (NUMBER, NUMBER)], {11: STRANGER, 12: STRANGER}, False),
        ([(NUMBER, NUMBER), (NUMBER, NUMBER)], {11: STRANGER}, True),
        ([(NUMBER, NUMBER), (NUMBER + 1, NUMBER + 1), (0, float("inf"))], {11: STRANGER}, False),
        ([(NUMBER, NUMBER)], {11: ME}, True),
        ([(NUMBER, NUMBER)] * 2, {11: STRANGER, 12: ME}, True),
        ([(NUMBER, NUMBER)], {11: None}, True),
        ([(NUMBER, NUMBER)], {}, True),
    ],
    ids=["a stranger", "two", "one not seen", "others' locks", "mine", "one of mine", "gone", "nobody seen"],
)
def test_only_locks_of_strangers_are_no_server(
    mocker: MockerFixture, spans: list[tuple[int, float]], users: dict[int, int | None], lives: bool
) -> None:
    """Of this number, of one byte, as many as there are processes to be seen, none of them of a trusted user."""
    locks_are(mocker, spans, users)
    assert bool(presence.vanished({ME}, "there")) is lives


@pytest.mark.parametrize(("count", "told"), [(1, "pid 11)"), (5, "pid 11, 12, 13, 14, 15)"), (7, "14, 15 and 2 more)")])
def test_the_first_five_processes_are_named(mocker: MockerFixture, count: int, told: str) -> None:
    locks_are(mocker, [(NUMBER, NUMBER)] * count, dict.fromkeys(range(11, 11 + count), ME))
    assert told in presence.vanished({ME}, "there")


def test_a_server_that_lives_without_its_files_is_seen_until_it_ends(instance: str) -> None:
    """By its user and instance, and by a number of its own."""
    lives = presence.Presence(os.getuid(), instance)
    assert presence.is_present({os.getuid()}, instance)
    assert presence.is_life_locked(lives.number)
    assert lives.number % 2 == 1
    assert not presence.is_present({os.getuid() + 1}, instance)
    assert not presence.is_present({os.getuid()}, f"{instance}-other")
    assert "its server lives" in presence.why_missing({os.getuid()}, instance)
    lives.end()
    assert not presence.is_present({os.getuid()}, instance)
    assert not presence.is_life_locked(lives.number)
    assert presence.why_missing({os.getuid()}, instance) == "is its server running?"


def test_where_there_are_no_such_locks_nobody_is_seen(mocker: MockerFixture, instance: str) -> None:
    mocker.patch.object(presence, "LifeLock", side_effect=OSError(22, "Invalid argument"))
    mocker.patch.object(presence, "is_number_locked", side_effect=OSError(22, "Invalid argument"))
    lives = presence.Presence(os.getuid(), instance)
    assert lives.number == 0
    assert not presence.is_present({os.getuid()}, instance)
    lives.leave()
    lives.end()


def test_a_process_is_found_by_its_lock(instance: str) -> None:
    """Not this one, which is not told of itself."""
    lives = presence.Presence(os.getuid(), instance)
    found = os.stat(SHM_DIR)
    mine = [fd for fd in os.listdir("/proc/self/fd") if presence._has(os.getpid(), fd, found, {lives.number})]
    assert mine
    assert os.getpid() not in presence.holders({lives.number})
    lives.end()


def test_the_user_of_a_process_is_that_as_which_it_runs() -> None:
    assert presence._user_of(os.getpid()) == os.geteuid()
    assert presence._user_of(sys.maxsize) is None


def test_the_user_counts_that_it_acts_as(mocker: MockerFixture) -> None:
    """Not the one who started it, nor the one to whom it may go back."""
    status = "Name:\tkamailio\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n"
    mocker.patch("builtins.open", mocker.mock_open(read_data=status))
    assert presence._user_of(11) == 2


@pytest.mark.parametrize("server_user", [None, 55])
def test_servers_run_as_root_this_user_the_packages_or_a_named_one(
    mocker: MockerFixture, server_user: int | None
) -> None:
    mocker.patch.object(trust, "server_user", return_value=server_user)
    usual = {0, os.geteuid(), *([] if server_user is None else [server_user])}
    assert presence.trusted_servers() == usual
    assert presence.trusted_servers(77) == usual | {77}
