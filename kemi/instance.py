"""The queues of one Kamailio: make, find again, define, look up.

Lives once in each process; forked workers inherit it. A reload changes it in place, because the lookup table is shared
with `mqueue_kemi`.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable, Collection
from typing import NamedTuple

from kemi.errors import InstanceInUse, SegmentError, SegmentMissing
from kemi.owner import Owner, this_process
from kemi.queue import keeping, layout
from kemi.queue.keeping import UNSAVED, Crossing
from kemi.queue.queue import Queue
from kemi.queue.registry import Registry
from kemi.queue.segment import SHM_DIR, Access, Segment, path_of, queue_name, segment_name
from kemi.spec import QueueSpec, Settings, default_max_memory

# Name → queue of the instance that this process serves. One object for the life of the process.
queues: dict[str, Queue] = {}

_ADDRESS_SPACE = 1 << 45  # bytes of windows together; a process has 47 bits
_LOADED = "~loaded"  # ends the name of a draft that is complete
_LINK_REACH = 1 << 35  # what a 32-bit link in units of 8 bytes can name


class Settled(NamedTuple):
    """Where the items of a queue are that a dead server left."""

    queue: Queue  # the one that counts
    saved: bool = False  # are they in its table?


Settle = Callable[[QueueSpec, Queue], Settled]


def untouched(_spec: QueueSpec, queue: Queue) -> Settled:
    """They are where they were."""
    return Settled(queue)


class Instance:
    """The queues of one server, in the process that owns them or in one forked from it."""

    def __init__(self, settings: Settings, registry: Registry, owner: Owner, access: Access) -> None:
        self.name = settings.instance
        self.settings = settings
        self.registry = registry
        self.owner = owner
        self._access = access

    @classmethod
    def open(cls, settings: Settings, uid: int = -1, gid: int = -1) -> Instance:
        """Make the instance, or take it over from a server that died. Raises InstanceInUse.

        uid, gid: the user and group that the server will run as, who get the segments; -1 for those of this process.
        """
        owner = this_process()
        access = Access(settings.mode, uid, settings.group if settings.group >= 0 else gid)
        limit = settings.max_memory or default_max_memory(SHM_DIR)
        registry = cls._open_registry(settings, owner, limit, access)
        instance = cls(settings, registry, owner, access)
        instance._remove_drafts()
        return instance

    @staticmethod
    def _open_registry(settings: Settings, owner: Owner, limit: int, access: Access) -> Registry:
        while True:
            try:
                return Registry.create(settings.instance, owner, limit, settings.lock_timeout, access)
            except FileExistsError:
                pass
            try:
                registry = Registry.attach(settings.instance, settings.lock_timeout)
            except SegmentMissing:
                continue  # its server has ended meanwhile
            _check_user(registry.segment, access.uid)
            registry.claim(owner, limit)
            if registry.segment.is_current():
                return registry

    def is_owner(self) -> bool:
        """Is this the process that made the instance, not one forked from it?"""
        return os.getpid() == self.owner.pid

    # --- queues -----------------------------------------------------------------------------------------------------

    def define(self, spec: QueueSpec, settle: Settle = untouched) -> Queue:
        """Make a queue, or take over what a dead server left of it.

        settle: asked about it first, because nobody else uses what was on its way before it is taken over.
        One whose rows are still to be loaded is closed until `Queue.open`: what others add comes behind the rows.
        """
        closed = spec.reads_database()
        try:
            queue = self._create(spec, closed=closed)
        except FileExistsError:
            queue = self._abandoned(spec)
            settled = settle(spec, queue)
            if settled.queue is queue:
                queue.adopt(self.owner, closed, settled.saved)
        else:
            settled = settle(spec, queue)
        if settled.queue is not queue:
            self._put_in_place(settled.queue, queue)
        queue = self._with_addmode(settled.queue, spec)
        self.take(queue)
        return queue

    def _put_in_place(self, draft: Queue, old: Queue) -> None:
        """A draft that was complete takes the place of the queue from which it was made."""
        draft.adopt(self.owner)
        draft.publish(self.name)
        keeping.set_crossing(draft.segment.words, Crossing(UNSAVED))
        old.remove()

    def join(self, spec: QueueSpec) -> Queue | None:
        """Reload: use a queue that another process of this server may have made, or make it.

        None when a dead server left it on the way between memory and its table: a start finds out where its items are.
        """
        try:
            queue = self._create(spec)
        except FileExistsError:
            queue = self._abandoned(spec)
            if queue.owner() != self.owner:
                if queue.is_moving() or keeping.is_under_way(queue.segment.words) or self.loaded_draft(spec):
                    return None
                queue.adopt(self.owner)
                queue = self._with_addmode(queue, spec)
        self.take(queue)
        return queue

    def configure(self, queue: Queue, spec: QueueSpec) -> None:
        """Give a queue what its definition says and can be changed."""
        queue.set_limits(spec.size, spec.maxbytes)
        queue.set_deliveries(spec.max_deliveries, spec.dead_letter)
        keeping.set_policy(queue.segment.words, spec.dbmode, spec.recover)

    def _attach(self, name: str) -> Queue:
        queue = Queue.attach(self.name, name, self.registry, self.settings.lock_timeout)
        _check_user(queue.segment, self._access.uid)
        return queue

    def meet_new(self) -> None:
        """For a process that runs no script, and so never reloads: use the queues that others have made since."""
        for path in self.left_over():
            with contextlib.suppress(SegmentError):  # gone meanwhile, or not of this server
                queue = self._attach(queue_name(path))
                if queue.owner() == self.owner:
                    self.take(queue)
                else:
                    queue.close()

    def _create(self, spec: QueueSpec, draft: bool = False, closed: bool = False) -> Queue:
        window = min(self.registry.max_memory, _ADDRESS_SPACE // max(1, len(self.settings.queues)))
        return Queue.create(
            self.name,
            spec.name,
            window=max(layout.CHUNK, min(window, _LINK_REACH // 2) if spec.addmode else window),
            addmode=spec.addmode,
            size_limit=spec.size,
            byte_limit=spec.maxbytes,
            registry=self.registry,
            owner=self.owner,
            lock_timeout=self.settings.lock_timeout,
            access=self._access,
            draft=draft,
            closed=closed,
        )

    # --- queues that are to take another one's place ------------------------------------------------------------------

    def draft(self, spec: QueueSpec) -> Queue:
        """An empty queue without a name and without limits, to be filled."""
        return self._create(spec._replace(size=0, maxbytes=0), draft=True)

    def keep_draft(self, draft: Queue) -> None:
        """From here on the draft outlives this process: the next start decides about it."""
        draft.segment.rename(segment_name(self.name, draft.name) + _LOADED)

    def loaded_path(self, spec: QueueSpec) -> str:
        """Where `keep_draft` keeps it."""
        return path_of(segment_name(self.name, spec.name) + _LOADED)

    def loaded_draft(self, spec: QueueSpec) -> Queue | None:
        """What `keep_draft` kept in a server that was killed before it was published."""
        try:
            full_name = segment_name(self.name, spec.name) + _LOADED
            draft = Queue.of_segment(full_name, self.registry, self.settings.lock_timeout, spec.name)
        except SegmentMissing:
            return None
        _check_user(draft.segment, self._access.uid)
        return draft

    def take(self, queue: Queue) -> None:
        """From here on this is the queue of its name."""
        queues[queue.name] = queue

    def _abandoned(self, spec: QueueSpec) -> Queue:
        """The queue of a dead server, or of this one. Raises InstanceInUse."""
        queue = self._attach(spec.name)
        present = queue.owner()
        if present != self.owner and not present.is_dead():
            raise InstanceInUse(
                f"queue {spec.name!r} in use by pid {present.pid} ({path_of(segment_name(self.name, spec.name))}): "
                'stop that server, or take another modparam("mqueue", "instance", "...")'
            )
        return queue

    def _with_addmode(self, queue: Queue, spec: QueueSpec) -> Queue:
        return queue if queue.addmode == spec.addmode else self._convert(queue, spec)

    def _convert(self, old: Queue, spec: QueueSpec) -> Queue:
        """The same items in a queue of another addmode, which then takes the old one's name in one step."""
        new = self.draft(spec)
        try:
            with old.moving() as records:
                for record in records:
                    new.append_record(record)
                keeping.set_crossing(new.segment.words, keeping.crossing(old.segment.words))
                new.publish(self.name)
        except BaseException:
            new.remove()
            raise
        old.remove()
        return new

    def _remove_drafts(self) -> None:
        """Segments that a process was making when it was killed. Only those of this server make any."""
        for path in [*_files(self.name, "~*"), *_files(self.name, ".*~*")]:
            if not path.endswith(_LOADED):
                os.unlink(path)

    def left_over(self) -> list[str]:
        """Files of queues of this instance that are not defined any more."""
        defined = {path_of(segment_name(self.name, name)) for name in queues}
        paths = _files(self.name, ".*")
        return sorted(path for path in paths if path not in defined and not path.endswith(_LOADED))

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self, kept: Collection[Queue] = ()) -> None:
        """End the instance: take all its names away but those of queues that are kept."""
        with contextlib.ExitStack() as each:  # also when one of them resists
            if not kept:
                each.callback(self.registry.segment.unlink)
            each.callback(self._remove_drafts)  # of workers that were ended in the middle of a reload
            for queue in queues.values():
                if queue not in kept:
                    each.callback(queue.remove)
            queues.clear()


def _check_user(segment: Segment, uid: int) -> None:
    """Take over only what root, this user, or the server's user made: anyone may put a file in /dev/shm."""
    if segment.user() not in (0, os.geteuid(), uid):
        raise SegmentError(
            f"{path_of(segment.name)} belongs to user {segment.user()}, who may not own queues of this server; "
            "it is left as it is, remove it if it should not be there"
        )


def _files(instance: str, pattern: str) -> list[str]:
    return glob.glob(glob.escape(path_of(segment_name(instance))) + pattern)
