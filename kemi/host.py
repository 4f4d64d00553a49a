# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies on this host: instances and their queues, by the names in /dev/shm; and taking away what is dead.

For who has no server of his own: the command line, and what watches servers.
"""

from __future__ import annotations

import contextlib
import os

from kemi.errors import ConfigError, InstanceInUse, MqueueError, SegmentError, SegmentMissing, UnknownQueue
from kemi.owner import Owner, this_process
from kemi.queue.catalog import ownership
from kemi.queue.catalog.view import InstanceView, QueueView, look_at_instance, look_at_queue
from kemi.queue.format.outcome import Stats
from kemi.queue.shm import trust
from kemi.queue.shm.naming import PREFIX, SHM_DIR, decoded, path_of, segment_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple

    from kemi.instance import Instance
    from kemi.queue.catalog.registry import Registry
else:
    from kemi.frozen import NamedTuple


class Found(NamedTuple):
    """One instance as it lies there. A view that could not be had is the error that says why."""

    name: str
    view: InstanceView | MqueueError
    queues: dict[str, QueueView | MqueueError]

    def owner(self) -> Owner | None:
        """Return the server; when the instance's own segment is gone, the one that any of its queues names."""
        if isinstance(self.view, InstanceView):
            return self.view.owner
        return next((view.owner for view in self.queues.values() if isinstance(view, QueueView)), None)

    def user(self) -> int | None:
        """Whom the instance belongs to; when its own segment is gone, whom its first queue does. None if unknown."""
        views = [self.view, *self.queues.values()]
        return next((view.user for view in views if not isinstance(view, MqueueError)), None)

    def life(self) -> int:
        """Return the number of the server's life lock, told where `owner` is."""
        views = [self.view, *self.queues.values()]
        return next((view.life for view in views if not isinstance(view, MqueueError)), 0)

    def left_over(self) -> str:
        """Return a sentence about a server whose main process is gone, and others are not; "" where it is not so."""
        owner = self.owner()
        if owner is None or not ownership.is_left_over(owner, self.life()):
            return ""
        told = ownership.who(owner, self.life(), self.user())
        return f"instance {self.name!r} belongs to {told}: {ownership.cure(owner, self.life(), '')}"

    def state(self) -> str:
        """Return True if its server lives."""
        owner = self.owner()
        return ownership.UNKNOWN if owner is None else ownership.state_of(owner, self.life())


def names() -> dict[str, list[str]]:
    """Every instance that has a segment on this host, and the names of its queues, in order."""
    found: dict[str, list[str]] = {}
    try:
        files = sorted(os.listdir(SHM_DIR))
    except OSError as error:
        raise trust.refusal(SHM_DIR, error) from None
    for file in files:
        if not file.startswith(PREFIX) or "~" in file:  # a tilde marks one that is being made
            continue
        parts = _decode(file)
        if parts:
            found.setdefault(parts[0], []).extend(parts[1:])
    return found


def _decode(file: str) -> list[str]:
    """Instance, and queue if it is one; nothing for a name that was not made by `segment_name`."""
    try:
        parts = [decoded(part) for part in file[len(PREFIX) :].split(".", 1)]
        return parts if segment_name(*parts) == file else []
    except ValueError:
        return []


def find(name: str) -> Found:
    """One instance with its queues. Raises UnknownQueue when nothing of it is there."""
    found = _found(name, names().get(name, []))
    if found is None:
        raise UnknownQueue(no_instance(name))
    return found


def read_stats(name: Any) -> dict[str, Stats]:
    """Statistics of all queues of an instance, by name. Raises UnknownQueue, and what kept one from being read."""
    if not isinstance(name, str) or "://" in name:
        raise ConfigError(f"where={name!r}: statistics are read of an instance on this host; an engine has its own")
    stats: dict[str, Stats] = {}
    for queue, view in find(name).queues.items():
        if isinstance(view, MqueueError):
            raise view
        stats[queue] = view.stats
    return stats


def find_all() -> list[Found]:
    """All instances on this host."""
    return [found for name, queues in names().items() if (found := _found(name, queues))]


def find_queue(instance: str, name: str) -> QueueView:
    """One queue. Raises UnknownQueue, NotAllowed, SegmentError."""
    try:
        return look_at_queue(instance, name)
    except SegmentMissing:
        raise UnknownQueue(no_queue(instance, name)) from None


def _found(name: str, queue_names: list[str]) -> Found | None:
    """Return what is there of an instance; None for nothing. Names that were there a moment ago prove nothing."""
    view: InstanceView | MqueueError
    try:
        view = look_at_instance(name)
    except MqueueError as error:
        view = error
    queues: dict[str, QueueView | MqueueError] = {}
    for queue_name in queue_names:
        try:
            queues[queue_name] = look_at_queue(name, queue_name)
        except SegmentMissing:
            continue  # gone meanwhile
        except MqueueError as error:
            queues[queue_name] = error
    return Found(name, view, queues) if queues or not isinstance(view, SegmentMissing) else None


def no_instance(name: str) -> str:
    """Return the sentence for an instance that is not there, with those that are."""
    from kemi.queue.shm import presence

    there = ", ".join(map(repr, names())) or "none"
    lives = presence.vanished(presence.trusted_servers(), name)
    return f"no instance {name!r} on this host; there are: {there}" + (f"; {lives}" if lives else "")


def no_queue(instance: str, name: str) -> str:
    """Return the sentence for a queue that is not there, with those that are."""
    found = names()
    if instance not in found:
        return no_instance(instance)
    return f"instance {instance!r} has no queue {name!r}; there are: {', '.join(found[instance]) or 'none'}"


# --- taking away ----------------------------------------------------------------------------------------------------


def drop(instance: str, queue: str | None = None) -> None:
    """Remove a queue that a dead server left, or all of its instance. Whoever waits on one is woken.

    Raises InstanceInUse when an owner is not proved dead, and then nothing was taken away; UnknownQueue, NotAllowed,
    SegmentError.
    """
    # Who only looks at what is there has no need of these, and they take most of the time of a start.
    from kemi.instance import Instance
    from kemi.queue.catalog.registry import Registry
    from kemi.spec import Settings

    found = find(instance)
    _refuse(found, queue)
    if queue is not None and found.state() == ownership.ALIVE:  # its server does not know that queue any more
        with contextlib.suppress(SegmentMissing):  # it has ended meanwhile: as any other
            _remove(found, queue, Registry.attach(instance))
            return
    # As a starting server does: from here on no other one can take the instance.
    ours = Instance.open(Settings(instance=instance), advice=trust.OWNER_ADVICE)
    gone = False
    try:
        # A server may have started and ended since, or somebody else have dropped it.
        found = find(instance)
        gone = ours.is_new and not found.queues
        if not gone:
            _remove(found, queue, ours.registry)
        if queue is None:
            for path in ours.kept_beside():
                os.unlink(path)
    finally:
        let_go(ours)
    if gone:
        raise UnknownQueue(no_instance(instance))


def _chosen(found: Found, queue: str | None) -> list[str]:
    if queue is None:
        return list(found.queues)
    if queue not in found.queues:
        raise UnknownQueue(no_queue(found.name, queue))
    return [queue]


def _refuse(found: Found, queue: str | None) -> None:
    """Refuse to drop what lives, or may live, or cannot be read."""
    if queue is None:
        if found.owner() is None and isinstance(found.view, MqueueError):
            raise found.view
        _refuse_living(found.owner(), found.life(), found.user(), segment_name(found.name))
    for name in _chosen(found, queue):
        view = found.queues[name]
        if isinstance(view, MqueueError):
            raise view
        _refuse_living(view.owner, view.life, view.user, segment_name(found.name, name))


def let_go(instance: Instance) -> None:
    """End what this process did as the owner of a dead server's instance: its own segment goes with the last queue."""
    instance.let_go()
    if not names().get(instance.name) and not instance.kept_beside():
        instance.registry.segment.unlink()


def _remove(found: Found, queue: str | None, registry: Registry) -> None:
    from kemi.queue.queue import Queue

    removed = 0
    for name in _chosen(found, queue):
        try:
            users = frozenset({registry.segment.user()})  # the queues of an instance have one user
            one = Queue.of_segment(
                segment_name(found.name, name),
                registry,
                name=name,
                users=users,
                advice=trust.INSTANCE_ADVICE,
                takes_over=True,
            )
        except SegmentMissing:
            continue  # another process was faster
        one.adopt(this_process())  # nobody else may take it over now. Refused while its owner lives
        removed += one.segment.is_current()
        one.remove()
    if queue is not None and not removed:
        raise UnknownQueue(no_queue(found.name, queue))


def _refuse_living(owner: Owner | None, life: int, user: int | None, segment: str) -> None:
    if owner is None:
        path = path_of(segment)
        raise SegmentError(
            f"{path} does not tell whose it is, so it is left as it is; fuser -v {path} shows who uses it"
        )
    if ownership.state_of(owner, life) != ownership.DEAD:
        cure = ownership.cure(owner, life, "stop that server, it takes its queues away itself")
        doubt = "" if ownership.is_left_over(owner, life) else ", which is not proved dead"
        raise InstanceInUse(f"{path_of(segment)} belongs to {ownership.who(owner, life, user)}{doubt}: {cure}")
