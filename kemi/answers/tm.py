# SPDX-License-Identifier: GPL-2.0-or-later
"""What is asked of Kamailio's transaction module; `kemi.server.transactions` has it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol


class Identity(NamedTuple):
    """How tm names a transaction."""

    hash_index: int
    label: int


class Unaskable(Exception):
    """This is no place to ask from; the text says why."""


class Suspended(Enum):
    """What became of a suspension."""

    YES = 1
    NO = 2
    CANCELLED = 3


class Tm(Protocol):
    """The transaction of the message that is routed now."""

    def has_route(self, name: str) -> bool:
        """Return False if there is certainly no route of that name for a transaction to go on in."""

    def identify(self) -> Identity | None:
        """The transaction, made if need be; None for a retransmission, which belongs to one. Raises Unaskable."""

    def is_cancelled(self) -> bool:
        """Return True if the caller gave up."""

    def suspend(self, milliseconds: int) -> Suspended:
        """Suspend it; tm itself ends it after so long if nobody else does."""

    def restore(self) -> None:
        """In the route that goes on: undo what `suspend` did to tm's timers."""

    def go_on(self, transaction: Identity, then: str) -> int:
        """Let a suspended transaction go on in a route. As t_continue: below 0 it is gone, or not suspended."""
