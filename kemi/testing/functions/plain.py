# SPDX-License-Identifier: GPL-2.0-or-later
"""What many functions do: say how it went and nothing else, or note what was done to the message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kemi.testing.state import Change, Server


def one(_fake: Server, *_arguments: Any) -> int:
    """It went well."""
    return 1


def minus_one(_fake: Server, *_arguments: Any) -> int:
    """There is none, or it is not so."""
    return -1


def noted(action: str) -> Callable[..., int]:
    """Note with its arguments what is done to the message that goes on."""

    def note(fake: Server, *arguments: Any) -> int:
        fake.state.changes.append(Change(action, " ".join(map(str, arguments))))
        return 1

    return note
