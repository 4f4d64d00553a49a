"""Let a queue see its memory through something: every store of it then passes there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from kemi.queue.delivery.holding import Holding
from kemi.queue.format.layout import Mapping
from kemi.queue.kernel import choice
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.plain import PlainLog
from kemi.queue.sync.eventcount import EventCount

if TYPE_CHECKING:
    from kemi.queue.queue import Queue


def rewire(queue: Queue, through: Callable[[Any], Any]) -> None:
    """Build the parts of a queue anew, on views that `through` makes of its bytes, u64 and u32.

    The native kernel would pass them by: it leaves this queue to Python, unless it has a hook for its stores.
    """
    if not hasattr(choice.lib, "set_hook"):
        choice.detach(queue)
    one: Any = queue.handle
    one.bytes, one.u64, one.u32 = map(through, (one.bytes, one.u64, one.u32))
    mapping = Mapping(one.bytes, one.u64, one.u32)
    hashes = (one.key_hash(),) if one.addmode else ()
    one.log = (KeyedLog if one.addmode else PlainLog)(mapping, one.memory, *hashes)
    one.holding = Holding(one.log)
    one.events = EventCount(mapping, one.events._futex)
    queue.have_at_hand()
