# SPDX-License-Identifier: GPL-2.0-or-later
"""What the fake does for the functions of Kamailio's modules that keep something, or that need more than the message.

Results are those of Kamailio 5.6.3 and 6.0.1, where each was tried (tests/testing/idioms.py has the calls).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kemi.testing.functions.modules import addresses, edits, kx, nat, pvx, services, tables, users

COVERED: dict[str, Callable[..., Any]] = {
    **addresses.COVERED,
    **edits.COVERED,
    **kx.COVERED,
    **nat.COVERED,
    **pvx.COVERED,
    **services.COVERED,
    **tables.COVERED,
    **users.COVERED,
}
