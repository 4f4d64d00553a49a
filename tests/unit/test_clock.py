"""The clock of due times."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

import pytest

from kemi import timens
from kemi.queue.sync import clock

if TYPE_CHECKING:
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
