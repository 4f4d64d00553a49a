"""Times have one rule, whatever has one."""

from __future__ import annotations

import math

import pytest

from kemi import times
from kemi.errors import ConfigError


def test_the_rule_for_times() -> None:
    """None and inf are for ever; less than 0 is 0 or stays negative, which does not wait; a year is for ever."""
    assert [times.seconds(value) for value in (None, math.inf, 1e300, 10**400)] == [math.inf] * 4
    assert [times.seconds(value) for value in (0, 2, -1, 0.5, -math.inf)] == [0.0, 2.0, -1.0, 0.5, -math.inf]
    assert [times.delay(value) for value in (0, -5, 2.5, 10**12)] == [0.0, 0.0, 2.5, times.LONGEST]
    for value in (math.inf, None):
        with pytest.raises(ConfigError):
            times.delay(value)
