# SPDX-License-Identifier: GPL-2.0-or-later
"""One line of the log a minute for what happens to every call: it says how many there were meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import final

SECONDS = 60.0


@final
class Seldom:
    """Lines of one process."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last: dict[Hashable, tuple[float, int]] = {}

    def tell(self, kind: Hashable, text: str) -> None:
        """Write a line, unless there was one of that kind within the last minute."""
        now = time.monotonic()
        last, more = self._last.get(kind, (-SECONDS, 0))
        if now - last < SECONDS:
            self._last[kind] = (last, more + 1)
            return
        self._last[kind] = (now, 0)
        self._write(text + (f" ({more} more in the {now - last:.0f} s before)" if more else ""))
