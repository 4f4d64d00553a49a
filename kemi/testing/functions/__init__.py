# SPDX-License-Identifier: GPL-2.0-or-later
"""What the fake does for each function that it covers: path → a function of the fake and the checked arguments.

Results are those of Kamailio 5.6.3 and 6.0.1, where each was tried (tests/testing has the calls).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kemi.testing.errors import SilentMistake
from kemi.testing.functions import core, headers, modules, replies, routing, text, transactions, variables

COVERED: dict[str, Callable[..., Any]] = {
    **core.COVERED,
    **headers.COVERED,
    **modules.COVERED,
    **replies.COVERED,
    **routing.COVERED,
    **text.COVERED,
    **transactions.COVERED,
    **variables.COVERED,
}


def modf(*_arguments: Any) -> Any:
    """KSR.x.modf, which is in no list of KEMI."""
    raise SilentMistake(
        "KSR.x.modf crashes the server (app_python3 of 5.6.3): call the function of KSR's module instead"
    )
