"""What a client of a queue is made of before it has the queue: its times, and how it comes to another process.

A client pickles as the address of its queue. The queue is attached when it is used first, not while it is unpickled:
an error there would end a pool's process, not the call.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from kemi.errors import ConfigError, MqueueError
from kemi.queue.segment import segment_name
from kemi.queue.trust import named_owner

if TYPE_CHECKING:
    from kemi.queue.queue import Queue

_LONGEST = 86400.0 * 365  # seconds; what is more is for ever, and a C struct takes it

# What only a server does with its queues: nobody else may, whatever the class inherits.
OF_THE_SERVER = (
    "adopt",
    "append_record",
    "attach",
    "clear",
    "create",
    "moving",
    "of_segment",
    "open",
    "publish",
    "remove",
    "set_deliveries",
    "set_limits",
)

# What `dir` and completion show of a client: its methods, all of which work, and what it is.
SURFACE = (
    "aconsume",
    "add",
    "add_many",
    "addmode",
    "afetch",
    "areserve",
    "close",
    "closed",
    "consume",
    "fetch",
    "fetch_many",
    "instance",
    "is_closed",
    "name",
    "owner",
    "peek",
    "reserve",
    "reserve_many",
    "stats",
    "undone",
    "where",
)


class Address(NamedTuple):
    """Where a queue is, and how it is to be used."""

    instance: str
    name: str
    lock_timeout: float = 1.0  # seconds
    reattach: bool = True
    owner: int | None = None  # one more user whose files are trusted


def checked(address: Address) -> Address:
    """The address, when there can be a queue there. Raises ConfigError."""
    for what, text in (("queue", address.name), ("instance", address.instance)):
        if not isinstance(text, str):
            raise ConfigError(f"{what}={text!r}: the name of the {what} must be text")
    segment_name(address.instance, address.name)
    return address._replace(lock_timeout=_lock_seconds(address.lock_timeout), owner=named_owner(address.owner))


def instance_of(where: Any, instance: Any = None) -> Any:
    """The instance that `where` names, or its old name `instance`. Raises ConfigError where that is an engine."""
    named = where if instance is None else instance
    if isinstance(named, str) and "://" in named:
        engine = named.partition("://")[0]
        raise ConfigError(
            f"where={engine}://...: this version attaches to instances on this host, not to a {engine} server; write "
            'the name of an instance, like "kamailio"'
        )
    return named


def _lock_seconds(value: Any) -> float:
    """A lock_timeout: finite seconds, more than 0."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value) if value < _LONGEST else _LONGEST
    raise ConfigError(
        f"lock_timeout={value!r}: write seconds, a finite number more than 0, like 0.5; "
        "no call waits longer than that for a lock"
    )


def wait_seconds(value: Any) -> float:
    """How long to wait: seconds, 0 or less not at all, None for ever. Raises ConfigError."""
    if value is None:
        return math.inf
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value):
        return float(value) if value < _LONGEST else math.inf
    raise ConfigError(f"wait={value!r}: write seconds, 0 for not at all, or None for ever")


def waited(seconds: float) -> str:
    """The end of an error after a wait."""
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


def refused_name(name: str) -> property:
    """An attribute that a client does not have, though its class inherits it."""

    def refuse(client: Any) -> Any:
        raise AttributeError(f"queue {client.name!r} has no {name!r} here: only the server does that with its queues")

    return property(refuse)
