"""What happens to the queues of a server at its start, at a reload, and at its stop."""

from __future__ import annotations

from typing import Callable

from kemi.instance import Instance, queues
from kemi.queue.segment import SHM_DIR
from kemi.spec import Settings, default_max_memory

Say = Callable[[str], None]


def start(settings: Settings, uid: int, gid: int, say: Say) -> Instance:
    """Make every queue that is defined, with what a server that died left in it.

    Either all are there afterwards or an exception says why not, and nothing is left behind but what holds items.
    """
    settings.check()
    instance = Instance.open(settings, uid, gid)
    try:
        for spec in settings.queues.values():
            _, items = instance.define(spec)
            if items:
                say(f"queue {spec.name!r}: {items} items taken over from a server that died")
    except BaseException:
        instance.undo()
        raise
    for path in instance.left_over():
        say(f"{path} was left by a server that died and is not defined any more; it is left as it is")
    return instance


def reload(instance: Instance, settings: Settings, say: Say) -> None:
    """Take new parameters in a process of a running server. Every process comes here by itself; all items stay."""
    settings.check()
    for name in ("instance", "mode", "group", "lock_timeout"):
        if getattr(settings, name) != getattr(instance.settings, name):
            say(f"{name}: a change takes effect when the server is started again")
    instance.registry.set_max_memory(settings.max_memory or default_max_memory(SHM_DIR))
    for spec in settings.queues.values():
        queue = queues.get(spec.name) or instance.join(spec)
        queue.set_limits(spec.size, spec.maxbytes)
        queue.set_deliveries(spec.max_deliveries, spec.dead_letter)
        if queue.addmode != spec.addmode:
            say(f"queue {spec.name!r}: addmode stays {queue.addmode} until the server is started again")
    for name in queues.keys() - settings.queues.keys():
        say(f"queue {name!r} is not defined any more; it stays, with its items, until the server is started again")
    settings.instance = instance.name
    instance.settings = settings


def stop(instance: Instance) -> None:
    """The server ends: nothing of it stays in shared memory."""
    instance.close()
