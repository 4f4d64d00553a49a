# SPDX-License-Identifier: GPL-2.0-or-later
"""What the relay wants of an engine, and the way from a URL to what attaches there.

`Engine` is the seam for another one. Redis and Valkey are the only ones there are (see `server`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kemi.errors import ConfigError

if TYPE_CHECKING:
    from kemi.queue.client.api import QueueClient


class Sent(NamedTuple):
    """What became of a batch that the engine has for good."""

    added: int
    resent: int  # that it had already


class Entry(NamedTuple):
    """An item on its way out."""

    slot: int
    turn: int
    id: str
    added: float
    key: bytes
    value: bytes
    flags: int  # how key and value were encoded


class Engine(Protocol):
    """An engine that carries a queue's items on."""

    @property
    def connections(self) -> int:
        """How many connections there were."""

    def connect(self) -> None:
        """Be connected, and have checked that the engine keeps what is asked of it.

        Raises Disconnected and EngineBusy, which pass, and ConfigError, EngineError, NotAllowed, which do not.
        """

    def send(self, source: str, entries: Sequence[Entry], meanwhile: Callable[[], None]) -> Sent:
        """Have the engine keep these, as durably as was asked for. Those that it had already are dropped.

        meanwhile: is called while the engine works.

        Raises OutcomeUnknown, Disconnected, EngineBusy, EngineError, NotAllowed: then all of them are to be sent again.
        """

    def ping(self) -> None:
        """Raise Disconnected if the engine is not there any more."""

    def close(self) -> None:
        """End the connection."""


@dataclass(frozen=True)
class Durability:
    """What must have happened before an item leaves the local queue."""

    fsync: bool = True  # it is on the engine's disk
    replicas: int = 0  # and in so many replicas

    @classmethod
    def parse(cls, text: str) -> Durability:
        """Read `fsync`, `replicas=N`, both with a + between them, or `memory`. Raises ConfigError."""
        fsync, replicas = False, 0
        for word in text.split("+"):
            name, _, number = word.strip().partition("=")
            if name == "fsync" and not number:
                fsync = True
            elif name == "replicas" and re.fullmatch(r"[1-9][0-9]?", number):
                replicas = int(number)
            elif name != "memory" or number or "+" in text:
                raise ConfigError(f"durability={text}: write fsync, replicas=1, fsync+replicas=1, or memory")
        return cls(fsync, replicas)

    def __str__(self) -> str:
        words = ["fsync"] * self.fsync + [f"replicas={self.replicas}"] * bool(self.replicas)
        return "+".join(words) or "memory"


def attach(
    queue: str, where: str, *, wait: float | None = 0.0, lock_timeout: float = 1.0, reattach: bool = True
) -> QueueClient:
    """A queue of an engine. Raises Disconnected, NotAllowed, EngineError, ConfigError. See `mqueue_kemi.attach`.

    wait: seconds for the engine to appear, None for ever. lock_timeout: seconds for one reply.
    """
    from kemi.remote.client import EngineQueue

    del reattach  # an engine's queue has no server that ends it
    return EngineQueue(queue, where, wait=wait, lock_timeout=lock_timeout)


async def aattach(
    queue: str, where: str, *, wait: float | None = 0.0, lock_timeout: float = 1.0, reattach: bool = True
) -> QueueClient:
    """`attach`, while the event loop goes on."""
    import asyncio
    from functools import partial

    call = partial(attach, queue, where, wait=wait, lock_timeout=lock_timeout, reattach=reattach)
    return await asyncio.get_running_loop().run_in_executor(None, call)
