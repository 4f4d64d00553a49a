"""How many descriptors a server lets itself have: enough for its queues, beside what it had for itself."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import pytest

from kemi.errors import ConfigError
from kemi.queue.shm import descriptor

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

INFINITE = resource.RLIM_INFINITY


class Process:
    """A process with so many descriptors and limits; only root raises the hard one."""

    def __init__(self, mocker: MockerFixture, in_use: int, soft: int, hard: int, *, root: bool) -> None:
        self.limits = soft, hard
        self.root = root
        self.asked: list[tuple[int, int]] = []
        mocker.patch.object(resource, "getrlimit", side_effect=lambda _: self.limits)
        mocker.patch.object(resource, "setrlimit", side_effect=self.set)
        mocker.patch.object(os, "listdir", return_value=["1"] * in_use)

    def set(self, _which: int, limits: tuple[int, int]) -> None:
        self.asked.append(limits)
        if limits[1] not in (self.limits[1], INFINITE) and (limits[1] > self.limits[1] and not self.root):
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("in_use", "soft", "queues"),
    [(100, 182, 10), (100, INFINITE, 10_000), (10, 400, 100)],
    ids=["exactly enough", "no limit", "a quarter is for queues"],
)
def test_a_limit_that_is_enough_stays(mocker: MockerFixture, in_use: int, soft: int, queues: int) -> None:
    """For those in use, the queues', 8 without which nothing works, and 64 for the server."""
    process = Process(mocker, in_use, soft, INFINITE, root=True)
    descriptor.make_room(queues)
    assert process.asked == []


@pytest.mark.parametrize("hard", [4096, INFINITE])
@pytest.mark.parametrize(
    ("in_use", "soft", "queues", "wanted"),
    [(100, 181, 10, 191), (100, 64, 10, 182), (10, 400, 101, 501), (200, 201, 1, 273)],
    ids=["one too few", "far too few", "more than a quarter for queues", "nearly all in use"],
)
def test_a_limit_is_raised_by_the_queues_and_to_what_is_needed(
    mocker: MockerFixture, in_use: int, soft: int, hard: int, queues: int, wanted: int
) -> None:
    """What the server had for itself stays its own."""
    process = Process(mocker, in_use, soft, hard, root=False)
    descriptor.make_room(queues)
    assert process.limits == (wanted, hard)


def test_root_raises_the_hard_limit_with_it(mocker: MockerFixture) -> None:
    process = Process(mocker, 100, 150, 160, root=True)
    descriptor.make_room(10)
    assert process.limits == (182, 182)


def test_others_have_what_the_hard_limit_allows(mocker: MockerFixture) -> None:
    """It is enough for the queues, though not for the server's share."""
    process = Process(mocker, 100, 110, 118, root=False)
    descriptor.make_room(10)
    assert process.limits == (118, 118)


def test_too_few_are_an_error_that_says_how_many(mocker: MockerFixture) -> None:
    Process(mocker, 100, 110, 117, root=False)
    with pytest.raises(ConfigError, match="10 queues need 118 descriptors in all, this process may have 117"):
        descriptor.make_room(10)


def test_when_none_is_left_to_look_with_all_are_in_use(mocker: MockerFixture) -> None:
    process = Process(mocker, 0, 300, 4096, root=False)
    mocker.patch.object(os, "listdir", side_effect=OSError(24, "Too many open files"))
    descriptor.make_room(10)
    assert process.limits == (300 + 10 + 8 + 64, 4096)
