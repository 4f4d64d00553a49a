"""Waiting in a test: until something is true, or the test fails."""

from __future__ import annotations

import pytest

from tests.support.waits import until


def test_what_a_condition_gave_is_returned() -> None:
    looks = iter([0, None, "there"])
    assert until(lambda: next(looks)) == "there"


def test_what_does_not_come_fails_and_is_named() -> None:
    with pytest.raises(AssertionError, match="not in time: the train"):
        until(lambda: False, "the train", 0.01)
