"""The clock of due times."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

import pytest

from kemi import timens
from kemi.queue.sync import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

HOUR = 3_600 * 10**9


@pytest.mark.parametrize("shift", [0, HOUR, -HOUR])
def test_it_says_what_the_host_has(mocker: MockerFixture, shift: int) -> None:
    """In a time namespace whose monotonic clock is ahead of the host's, or behind; the other clock does not count."""
    mocker.patch.object(timens, "_shifts", {"monotonic": shift, "boottime": 77 * HOUR})
    before, found, after = monotonic_ns(), clock.now(), monotonic_ns()
    assert before <= found + shift <= after


def test_it_is_the_same_in_two_namespaces(mocker: MockerFixture) -> None:
    """What is due in one is due in the other at the same moment."""
    here = 5 * HOUR
    host = mocker.patch.object(clock, "monotonic_ns", return_value=here)
    mocker.patch.object(timens, "_shifts", {"monotonic": 0})
    at_home = clock.now()
    timens._shifts["monotonic"] = 2 * HOUR
    host.return_value = here + 2 * HOUR  # what the clock shows there
    assert clock.now() == at_home


@pytest.fixture
def after(mocker: MockerFixture) -> Callable[[int], None]:
    """Return what lets so many ns pass."""
    host = mocker.patch.object(clock, "monotonic_ns", return_value=HOUR)

    def wait(span: int) -> None:
        host.return_value += span

    return wait


def test_the_lock_is_held_on_for_what_takes_as_long_as_the_longest_so_far(
    after: Callable[[int], None], mocker: MockerFixture
) -> None:
    """Not past the end, be it by one ns; what came before `begin` does not count."""
    lock_time = clock.LockTime()
    after(HOUR)
    lock_time.begin()
    after(clock.MOST_LOCKED // 3)
    assert lock_time.is_left()
    after(1)
    assert lock_time.is_left()
    after(clock.MOST_LOCKED // 3 - 1)
    assert lock_time.is_left()
    after(1)
    assert not lock_time.is_left()
    lock_time.begin()
    after(clock.MOST_LOCKED // 2)
    assert lock_time.is_left()
    after(0)
    assert lock_time.is_left()
    lock_time.begin()
    after(clock.MOST_LOCKED // 2 + 1)
    assert not lock_time.is_left()
    mocker.patch.object(clock, "MOST_LOCKED", 0)
    lock_time.begin()
    assert lock_time.is_left()  # what takes no time at all
