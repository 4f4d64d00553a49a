# SPDX-License-Identifier: GPL-2.0-or-later
"""What a client of a queue is made of before it has the queue: its times, and how it comes to another process.

A client pickles as the address of its queue. The queue is attached when it is used first, not while it is unpickled:
an error there would end a pool's process, not the call.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from kemi import times
from kemi.errors import ConfigError, MqueueError
from kemi.queue.shm.naming import segment_name
from kemi.queue.shm.trust import named_owner

if TYPE_CHECKING:
    from kemi.queue.queue import Queue


class Address(NamedTuple):
    """Where a queue is, and how it is to be used."""

    instance: str
    name: str
    lock_timeout: float = 1.0  # seconds
    reattach: bool = True
    owner: int | None = None  # one more user whose files are trusted


def checked(address: Address) -> Address:
    """Return the address, when there can be a queue there. Raises ConfigError."""
    for what, text in (("queue", address.name), ("instance", address.instance)):
        if not isinstance(text, str):
            raise ConfigError(f"{what}={text!r}: the name of the {what} must be text")
    segment_name(address.instance, address.name)
    why = "no call waits longer than that for a lock"
    lock_timeout = times.finite_seconds(address.lock_timeout, "lock_timeout", why)
    return address._replace(lock_timeout=lock_timeout, owner=named_owner(address.owner))


def waited(seconds: float) -> str:
    """Return the end of an error after a wait."""
    return f" (waited {seconds:g} s)" if seconds > 0 else ""


def refuse_to_block() -> None:
    """Raise MqueueError where a wait would stop others: in a thread that runs gevent's loop.

    gevent cannot make a wait in shared memory cooperative. Its threads for such calls (`threadpool`) may wait.
    """
    hub = getattr(sys.modules.get("gevent._hub_local"), "get_hub_if_exists", lambda: None)()
    if hub is not None and hub.main_hub:
        raise MqueueError(
            "this wait would stop all greenlets of this thread: gevent cannot make it cooperative. Wait in a thread, "
            "gevent.get_hub().threadpool.apply(queue.fetch, (5,)); or fetch() without a timeout, and gevent.sleep(0.1) "
            "while it gives None"
        )


class Unattached:
    """In place of the queue of a client that came from another process: it is attached when it is asked for anything.

    Not a descriptor and not a `__getattr__` of the client: these would make every later use of it slower.
    """

    def __init__(self, attach: Callable[[], Queue]) -> None:
        """attach: gives the queue, and puts it in the place of this."""
        self._attach = attach

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attach(), name)

    def __len__(self) -> int:
        return len(self._attach())
