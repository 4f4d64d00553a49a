# SPDX-License-Identifier: GPL-2.0-or-later
"""Queues of a living server whose files something removed or replaced: told, and put back where items are to stay.

The server works on with what it has mapped. That a second one does not start beside it, see `kemi.queue.shm.presence`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from kemi.errors import SegmentError
from kemi.instance import Instance, queues
from kemi.kept import beside
from kemi.queue.catalog import header, keeping
from kemi.queue.catalog.registry import Registry
from kemi.queue.queue import Queue
from kemi.queue.shm.naming import path_of
from kemi.queue.shm.presence import WHAT_REMOVES
from kemi.replacing import Replacing
from kemi.spec import QueueSpec


def is_gone(queue: Queue | Registry) -> bool:
    """Return True if the name does not lead to it any more."""
    with contextlib.suppress(SegmentError):
        return not queue.segment.is_current()
    return False


def told(instance: Instance, all_queues: Iterable[Queue]) -> str:
    """Return what happened, and the cure; "" where no file is gone. What has their names is moved, if it may be."""
    gone = [(f"queue {queue.name!r}", queue.segment.name) for queue in all_queues if is_gone(queue)]
    if is_gone(instance.registry):
        gone.insert(0, (f"instance {instance.name!r}", instance.registry.segment.name))
    if not gone:
        return ""
    others = [_make_way(instance, name) for _, name in gone if os.path.lexists(path_of(name))]
    more = f"; other files had their names: {', '.join(others)}" if others else ""
    return (
        f"{', '.join(what for what, _ in gone)}: {WHAT_REMOVES}{more}; their items are saved, discarded or kept now "
        "as at any stop; keep it from doing so again"
    )


def _make_way(instance: Instance, name: str) -> str:
    moved = instance.make_way(name)
    return f"{path_of(name)} (now {moved})" if moved else f"{path_of(name)} (not of this server's user, left there)"


def put_back(instance: Instance, queue: Queue) -> Queue:
    """Give a queue a file again, with all its items; under a name beside its own where another file has that.

    What comes back has the queue's name and limits; the old one is empty, and ended for all who have it mapped.
    Raises MqueueError, OSError.
    """
    stats, words = queue.stats(), queue.segment.words
    dead_letter = header.dead_letter_of(queue.segment)
    with Replacing(instance) as replacing:
        replacement = replacing.begin(QueueSpec(queue.name, addmode=queue.addmode), queue)
        replacement.copy()
        keeping.set_crossing(replacement.draft.segment.words, keeping.crossing(words))
        if os.path.lexists(path_of(replacement.name)):
            replacement.name = beside(replacement.name)
        replacing.publish()
    new = queues[queue.name]
    new.set_limits(stats.size_limit or 0, stats.byte_limit or 0)
    new.set_deliveries(stats.max_deliveries or 0, dead_letter)
    new.set_max_age(stats.maxage or 0.0)
    keeping.set_policy(new.segment.words, *keeping.policy(words))
    return new
