# SPDX-License-Identifier: GPL-2.0-or-later
"""The one rule for every timeout: float seconds; 0 or less never waits, None and inf wait for ever."""

from __future__ import annotations

import math
from typing import Any

from kemi.errors import ConfigError

LONGEST = 86400.0 * 365  # seconds; what is more is for ever, and a C struct takes it


def seconds(value: Any, name: str = "timeout") -> float:
    """Return a timeout as a float, math.inf for one that never ends.

    name: what the argument is called. Raises ConfigError for NaN, bool, text and whatever else is no number of seconds.
    """
    if value.__class__ is float and 0 <= value < LONGEST:  # nearly always; the rest is the whole rule
        return value
    if value is None:
        return math.inf
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:  # noqa: PLR0124 - no NaN
        return float(value) if value < LONGEST else math.inf
    raise ConfigError(f"{name}={value!r}: write a number of seconds, 0 for not at all, or None for ever")


def finite_seconds(value: Any, name: str, why: str) -> float:
    """Return a time that must end: finite seconds, more than 0. why: ends the error's text. Raises ConfigError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value) if value < LONGEST else LONGEST
    raise ConfigError(f"{name}={value!r}: write seconds, a finite number more than 0, like 0.5; {why}")


def delay(value: Any, name: str = "after") -> float:
    """Return a delay as a float: finite seconds; what is less than 0 is 0. Raises ConfigError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value < math.inf:
        return max(0.0, min(float(value), LONGEST))
    raise ConfigError(f"{name}={value!r}: write a finite number of seconds, 0 for at once")
