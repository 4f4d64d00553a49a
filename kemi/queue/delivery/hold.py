# SPDX-License-Identifier: GPL-2.0-or-later
"""What a reserved item is held by: who settles it, and whether that was done.

    Source      a queue, an engine's client, or a double for tests: it settles what it delivered
    Hold        one delivery: a token that its source understands, in the process that reserved it
    Settlement  how an item is settled; one value for all ways, so that a source has one method for all of them

Settling is final: a source says of how many tokens it was this process's until then. A hold stays unsettled when its
source raises, except LockTimeout, for which the source keeps the settlement in mind.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from kemi.errors import ClientClosed, LockTimeout, MqueueError
from kemi.queue.sync.clock import now
from kemi.queue.sync.handlers import is_from_handler


class Settlement(NamedTuple):
    """How an item is settled."""

    kind: str  # "done", "give back", "reject", "answer"
    after: float = 0.0  # give back: seconds before which it is not delivered again
    reason: str = ""  # reject: for people
    value: bytes = b""  # answer
    counted: bool = True  # give back: whether this delivery counts as one; workers that stop do not

    def due(self) -> int:
        """From when on what is given back is delivered again (see `clock`); 0: at once."""
        return now() + int(self.after * 1e9) if self.after else 0


_getpid = os.getpid

DONE = Settlement("done")
GIVE_BACK = Settlement("give back")


class Source(Protocol):
    """Where reserved items come from, and where they are settled."""

    def settle(self, tokens: Sequence[Any], how: Settlement) -> int:
        """Settle deliveries. Return how many were this process's until then; of answers, how many were wanted.

        Raises LockTimeout when that is kept in mind, and done with this process's next call; other errors when it is
        not done.
        """

    async def asettle(self, tokens: Sequence[Any], how: Settlement) -> int:
        """`settle`, while the event loop goes on."""


class Hold:
    """One delivery of an item to this process. While the item was taken for good it is a `_Taken`."""

    __slots__ = ("__weakref__", "asked", "deliveries", "id", "pid", "settled", "source", "token")

    def __init__(
        self, source: Source, token: Any, item_id: str, deliveries: int, *, asked: bool = False, pid: int | None = None
    ) -> None:
        """pid: of the process that reserved it; this one by default."""
        self.source = source
        self.token = token
        self.id = item_id
        self.deliveries = deliveries
        self.asked = asked
        self.pid = _getpid() if pid is None else pid
        self.settled = False

    def is_over(self) -> bool:
        """Return True if this process has nothing to settle: it did so, or another process holds the item."""
        return self.settled or self.pid != _getpid()

    def settle(self, how: Settlement) -> bool:
        """Settle it. False if it was not this process's any more. Raises LockTimeout, MqueueError."""
        # As `settle_all` of this one, which takes three times as long.
        if self.settled or self.pid != _getpid():
            return False
        try:
            mine = self.source.settle([self.token], how)
        except (ClientClosed, LockTimeout) as error:
            if is_from_handler(error):
                raise
            self.end()  # its source remembers it, or gave it back when it was closed
            if isinstance(error, LockTimeout):
                raise
            return False
        self.settled = True
        self.__class__ = Hold
        return mine > 0

    async def asettle(self, how: Settlement) -> bool:
        """`settle`, while the event loop goes on."""
        return await asettle_all([self], how) > 0

    def take(self) -> None:
        """From here on the item is on its own: when it is forgotten, it goes back with a ResourceWarning."""
        self.__class__ = _Taken

    def end(self) -> None:
        """There is nothing to settle any more."""
        self.settled = True
        self.__class__ = Hold


class _Taken(Hold):
    """A hold without a block. Others die without a method: Python drops what a signal handler raises in it."""

    __slots__ = ()

    def __del__(self) -> None:
        if not self.is_over():
            warnings.warn(
                f"a reserved item was forgotten and goes back (delivery {self.deliveries}, id {self.id}): "
                "call its done(), give_back() or reject()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
            with contextlib.suppress(MqueueError):
                self.settle(GIVE_BACK)


class Nowhere:
    """The source of a copy: nothing is settled there."""

    def settle(self, _tokens: Sequence[Any], _how: Settlement) -> int:
        """Return 0."""
        return 0

    async def asettle(self, _tokens: Sequence[Any], _how: Settlement) -> int:
        """Return 0."""
        return 0


def settle_all(holds: Iterable[Hold], how: Settlement) -> int:
    """Settle what is unsettled of these. Return how many were settled by this call. Raises LockTimeout, MqueueError."""
    settled = 0
    late: LockTimeout | None = None
    for source, some in _by_source(holds):
        try:
            settled += source.settle([hold.token for hold in some], how)
        except (ClientClosed, LockTimeout) as error:
            if is_from_handler(error):
                raise
            if isinstance(error, LockTimeout):  # what a closed client had was given back when it was closed
                late = error
        for hold in some:
            hold.end()
    if late is not None:
        raise late
    return settled


async def asettle_all(holds: Iterable[Hold], how: Settlement) -> int:
    """`settle_all`, while the event loop goes on."""
    settled = 0
    late: LockTimeout | None = None
    for source, some in _by_source(holds):
        try:
            settled += await source.asettle([hold.token for hold in some], how)
        except (ClientClosed, LockTimeout) as error:
            if is_from_handler(error):
                raise
            if isinstance(error, LockTimeout):  # what a closed client had was given back when it was closed
                late = error
        for hold in some:
            hold.end()
    if late is not None:
        raise late
    return settled


def _by_source(holds: Iterable[Hold]) -> list[tuple[Source, list[Hold]]]:
    """Return the unsettled ones, each once, with those of one source together."""
    found: dict[int, tuple[Source, list[Hold]]] = {}
    for hold in dict.fromkeys(holds):
        if not hold.is_over():
            found.setdefault(id(hold.source), (hold.source, []))[1].append(hold)
    return list(found.values())
