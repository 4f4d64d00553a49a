# SPDX-License-Identifier: GPL-2.0-or-later
"""Items for unit tests of a worker's function: what it is given, and what it did with it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kemi.queue.delivery.hold import Hold, Settlement
from kemi.queue.delivery.reserved import ReservedItem
from kemi.queue.format.item import encode
from kemi.queue.format.layout import RECORD, RECORD_HEAD

if TYPE_CHECKING:
    from typing import Literal

    from kemi.queue.format.item import Data

    Outcome = Literal["", "done", "given back", "rejected", "answered"]

_serial = itertools.count(1)
_OUTCOMES: dict[str, Any] = {
    "done": "done",
    "give back": "given back",
    "reject": "rejected",
    "answer": "answered",
}


def record(key: Data, value: Data, added: float) -> bytes:
    """A record as queues have it. Raises ItemError for a key or value that is neither str nor bytes."""
    key_bytes, value_bytes, flags = encode(key, value)
    step = RECORD_HEAD + len(key_bytes) + len(value_bytes) + 7 & -8
    return RECORD.pack(step, len(key_bytes), len(value_bytes) | flags, 0, added) + key_bytes + value_bytes


class FakeItem(ReservedItem):
    """A reserved item of no queue, which remembers how it was settled."""

    __slots__ = ("after", "answer_bytes", "outcome", "reason")

    def __init__(self, record: bytes, hold: Hold, deadline: float | None = None) -> None:
        super().__init__(record, hold, deadline)
        self.outcome: Outcome = ""
        self.answer_bytes: bytes | None = None
        self.after = 0.0  # seconds, of give_back
        self.reason = ""  # of reject


class _Remembers:
    """The source of one item."""

    def __init__(self) -> None:
        self.item: FakeItem | None = None

    def settle(self, tokens: Sequence[Any], how: Settlement) -> int:
        """Remember it. Return 0 for an answer that nobody asked for, else 1."""
        item = self.item
        if item is None:
            return 0
        asked = how.kind != "answer" or item.asked
        item.outcome = _OUTCOMES[how.kind] if asked else "done"
        item.after, item.reason = how.after, how.reason
        item.answer_bytes = how.value if how.kind == "answer" and asked else None
        return len(tokens) if asked else 0

    async def asettle(self, tokens: Sequence[Any], how: Settlement) -> int:
        """`settle` for asyncio."""
        return self.settle(tokens, how)


def item(
    key: Data,
    value: Data = "",
    *,
    added: float | None = None,
    deliveries: int = 1,
    asked: bool = False,
    deadline: float | None = None,
) -> FakeItem:
    """An item as a worker's function is given it.

    added: when it was added, seconds since the epoch; now by default. deliveries: how often it was delivered. asked:
    whether somebody waits for its answer. deadline: moment from which nobody wants it, seconds since the epoch.
    Raises ItemError.
    """
    source = _Remembers()
    hold = Hold(source, None, f"fake-{next(_serial):x}", deliveries, asked=asked)
    fake = FakeItem(record(key, value, time.time() if added is None else added), hold, deadline)
    source.item = fake
    return fake
