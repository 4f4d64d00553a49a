# SPDX-License-Identifier: GPL-2.0-or-later
"""The clock of due times: it only goes forward, and says the same in every process of the host, in any namespace.

While the machine sleeps it stands still.
"""

from __future__ import annotations

from time import monotonic_ns

from kemi import timens


def now() -> int:
    """Monotonic ns of the host."""
    return monotonic_ns() - timens.shift("monotonic")
