# SPDX-License-Identifier: GPL-2.0-or-later
"""Which objects of this process have its reserved items in their hands.

A signal handler may raise just when an item was reserved, so that nobody knows of it. So each object that stands for an
item is entered here, under the queue's lock, and goes away by its death, in C. What this process holds and nothing
claims is nobody's.
"""

from __future__ import annotations

import os
import weakref
from functools import partial
from typing import Any

from kemi.queue.log.core import Delivery

# By process and queue (its time of creation): a forked process holds nothing.
_claims: dict[tuple[int, int], dict[Delivery, Any]] = {}


def of(created: int) -> dict[Delivery, Any]:
    """Return the claims of this process to items of one queue."""
    return _claims.setdefault((os.getpid(), created), {})


def reference(mine: dict[Delivery, Any], held: Delivery, by: object) -> Any:
    """Return a claim of an object to one of these, which ends with it."""
    return weakref.ref(by, partial(mine.pop, held))


def enter(created: int, held: Delivery, by: object) -> None:
    """Claim a reserved item of one queue for an object, which has it in its hands."""
    mine = of(created)
    mine[held] = reference(mine, held, by)
