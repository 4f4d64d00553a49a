# SPDX-License-Identifier: GPL-2.0-or-later
"""What tells a consumer to stop: a threading.Event, or a function."""

from __future__ import annotations

from typing import Callable, Protocol, Union

STOP_LOOK = 0.2  # seconds between two looks at it


class Event(Protocol):
    """As threading.Event, multiprocessing's, or asyncio's."""

    def is_set(self) -> bool:
        """Return True once it is time."""


Stop = Union[Event, Callable[[], bool], None]


def stopper(stop: Stop) -> Callable[[], bool]:
    """Return a function that says whether it is time to stop."""
    if stop is None:
        return lambda: False
    is_set = getattr(stop, "is_set", stop)
    if not callable(is_set):
        raise TypeError(f"stop must be an Event or a function, not {type(stop).__name__}")
    return is_set
