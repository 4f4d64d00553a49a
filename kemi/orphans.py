# SPDX-License-Identifier: GPL-2.0-or-later
"""Queues whose server is gone, in a person's hands: their items into the database, and rows into them.

Meanwhile this process is the instance's owner, so no server starts with it; the next one takes over what is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from kemi import host
from kemi.crossing import Crossings, Load, Saved
from kemi.errors import UnknownQueue
from kemi.instance import Instance, queues
from kemi.queue.catalog import keeping
from kemi.queue.catalog.keeping import UNSAVED, Crossing
from kemi.queue.shm.trust import OWNER_ADVICE
from kemi.replacing import Replacing
from kemi.spec import QueueSpec, Settings
from kemi.store import Options, Store

Say = Callable[[str], None]
_ANY = Options()


def save(instance: str, name: str, db_url: str, say: Say, options: Options = _ANY, retry: float = 0.0) -> int:
    """Add the items to the queue's table; then the queue is gone. Returns how many.

    options, retry: what modparams say of the database; seconds that it is tried again while it is away.
    Raises InstanceInUse when its server is not proved dead, UnknownQueue, StoreError, ConfigError, and loses nothing.
    """
    if _spec(instance, name) is None:  # before a database is asked for anything
        raise UnknownQueue(host.no_queue(instance, name))
    with _held(instance, name, db_url, say, options, retry) as (crossings, ours):
        spec = _spec(instance, name)
        queue = None if spec is None else ours.take_over(spec, crossings.settle)
        if queue is None:  # somebody has dropped it meanwhile
            raise UnknownQueue(host.no_queue(instance, name))
        crossings.make_ledger()
        saved = crossings.save(queue) if queue.held() else Saved(0)
        queue.remove()
        crossings.conclude()
        if saved.unfit:
            say(f"{saved.unfit} of these items do not fit into the table and are in mqueue_kemi_items: {saved.why}")
    return saved.items


def load(instance: str, name: str, db_url: str, say: Say, options: Options = _ANY, retry: float = 0.0) -> int:
    """Put the rows of the table before the items of the queue, which is made if it is not there. Returns how many.

    The next server with that queue takes them over, whatever its dbmode and recover are. Raises as `save`.
    """
    _spec(instance, name)  # before a database is asked for anything
    with _held(instance, name, db_url, say, options, retry) as (crossings, ours):
        spec = _spec(instance, name) or QueueSpec(name)
        before = ours.define(spec, crossings.settle)
        policy = keeping.policy(before.segment.words)
        crossings.make_ledger()
        with Replacing(ours) as replacing:
            count = crossings.load([Load(spec, before)], replacing).get(name, 0)
            replacing.publish()
        queue = queues[name]
        queue.set_limits(spec.size, spec.maxbytes)
        keeping.set_policy(queue.segment.words, *policy)
        if queue.held():
            keeping.set_crossing(queue.segment.words, Crossing(UNSAVED))
        else:
            queue.remove()
        crossings.conclude()
    return count


def _spec(instance: str, name: str) -> QueueSpec | None:
    """Return the queue as its segment has it; None where there is none."""
    try:
        view = host.find_queue(instance, name)
    except UnknownQueue:
        return None
    stats = view.stats
    return QueueSpec(name, stats.size_limit or 0, addmode=stats.addmode, maxbytes=stats.byte_limit or 0)


@contextlib.contextmanager
def _held(
    instance: str, name: str, db_url: str, say: Say, options: Options, retry: float
) -> Iterator[tuple[Crossings, Instance]]:
    """Own the instance meanwhile: what is found in it then is there until the end."""
    with contextlib.ExitStack() as undo:
        store = Store.open(db_url, None, options)
        undo.callback(store.close)
        if retry:  # before the instance is held: its server may start meanwhile
            store.wait_until_there(retry, say)
        settings = Settings(instance=instance, queues={name: QueueSpec(name)})
        ours = Instance.open(settings, advice=OWNER_ADVICE)
        undo.callback(host.let_go, ours)
        undo.callback(queues.clear)
        yield Crossings(ours, store, say, lambda: None), ours
