# SPDX-License-Identifier: GPL-2.0-or-later
"""The queues of one Kamailio: make, find again, define, look up.

Lives once in each process; forked workers inherit it. A reload changes it in place, because the lookup table is shared
with `mqueue_kemi`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
import weakref
from collections.abc import Callable, Collection
from functools import cached_property
from typing import NamedTuple

from kemi import kept
from kemi.errors import ConfigError, InstanceInUse, MqueueError, NotAllowed, SegmentError, SegmentMissing
from kemi.owner import Owner, this_process
from kemi.queue.catalog import header, keeping, ownership
from kemi.queue.catalog.keeping import UNSAVED, Crossing
from kemi.queue.catalog.registry import Registry
from kemi.queue.catalog.view import look_at_instance
from kemi.queue.format import layout
from kemi.queue.kernel import choice
from kemi.queue.queue import Queue
from kemi.queue.shm import descriptor, limits, presence, trust
from kemi.queue.shm.naming import (
    ANSWERS,
    MAKER,
    NAME_MAX,
    SHM_DIR,
    answers_name,
    is_left_draft,
    path_of,
    queue_name,
    segment_name,
)
from kemi.queue.shm.presence import Presence
from kemi.queue.shm.segment import Access, Segment
from kemi.spec import QueueSpec, Settings

# Name → queue of the instance that this process serves. One object for the life of the process.
queues: dict[str, Queue] = {}

_ADDRESS_SPACE = 1 << 45  # bytes of windows together; a process has 47 bits
_LEAST = 4 << 20  # bytes for the queues of an instance where nearly no memory is left
_LOADED = "~loaded"  # in the name of a draft that is complete
_MARK = 9  # characters that make a draft's name one of its own
_LINK_REACH = 1 << 35  # what a 32-bit link in units of 8 bytes can name
_PATIENCE = 5.0  # seconds for processes that were killed with their main process, and have not ended yet


_served: weakref.WeakSet[Instance] = weakref.WeakSet()


def _leave_in_child() -> None:
    """Only where Python code forks: Kamailio forks its workers in C, and calls this from there."""
    if sys._getframe().f_back is not None:  # noqa: SLF001
        for instance in list(_served):
            instance.leave()


os.register_at_fork(after_in_child=_leave_in_child)


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

    def __init__(
        self, settings: Settings, registry: Registry, owner: Owner, access: Access, advice: str = trust.SERVER_ADVICE
    ) -> None:
        self.name = settings.instance
        self.settings = settings
        self.registry = registry
        self.owner = owner
        self._access = access
        self._advice = advice
        self.is_new = False  # was there nothing of it, not even a dead server's?
        self._presence = Presence(_user_of(access), self.name)
        header.set_life(registry.segment, self._presence.number)
        _served.add(self)

    @classmethod
    def open(cls, settings: Settings, uid: int = -1, gid: int = -1, advice: str = trust.SERVER_ADVICE) -> Instance:
        """Make the instance, or take it over from a server that died. Raises InstanceInUse, NotAllowed, SegmentError.

        uid, gid: the user and group that the server will run as, who get the segments; -1 for those of this process.
        advice: what to do where something belongs to another user.
        """
        owner = this_process()
        descriptor.make_room(len(settings.queues) + 1)
        access = Access(settings.mode, uid, settings.group if settings.group >= 0 else gid)
        registry, is_new = cls._open_registry(settings, owner, max_memory_of(settings), access, advice)
        instance = cls(settings, registry, owner, access, advice)
        instance.is_new = is_new
        instance._remove_drafts()
        return instance

    @staticmethod
    def _open_registry(
        settings: Settings, owner: Owner, limit: int, access: Access, advice: str
    ) -> tuple[Registry, bool]:
        while True:
            try:
                registry = Registry.create(settings.instance, owner, limit, settings.lock_timeout, access)
            except FileExistsError:
                pass
            else:
                _refuse_beside(registry, settings.instance, access)
                return registry, True
            users = trust.users([access.uid])
            try:
                registry = Registry.attach(settings.instance, settings.lock_timeout, users, advice)
            except SegmentMissing:
                continue  # its server has ended meanwhile
            except NotAllowed:
                if told := _told_if_it_lives(settings.instance, access):
                    raise InstanceInUse(told) from None
                raise
            _check_giving(registry.segment, access)
            ownership.wait_until_ended(registry.owner(), header.life_of(registry.segment), _PATIENCE)
            registry.claim(owner, limit)
            if registry.segment.is_current():
                _give(registry.segment, access)
                return registry, False

    def is_owner(self) -> bool:
        """Return True in the process that made the instance, False in one forked from it."""
        return os.getpid() == self.owner.pid

    # --- queues -----------------------------------------------------------------------------------------------------

    def define(self, spec: QueueSpec, settle: Settle = untouched) -> Queue:
        """Make a queue, or take over what a dead server left of it, of whatever addmode that is.

        settle: asked about it first, because nobody else uses what was on its way before it is taken over.
        One whose rows are still to be loaded is closed until `Queue.open`: what others add comes behind the rows.
        """
        closed = spec.reads_database()
        kept.bring_back(segment_name(self.name, spec.name), self._is_ours)
        while True:
            with contextlib.suppress(FileExistsError):
                queue = self._create(spec, closed=closed)
                return self._settled(queue, settle(spec, queue))
            if (present := self.take_over(spec, settle, closed=closed)) is not None:
                return present

    def take_over(self, spec: QueueSpec, settle: Settle = untouched, *, closed: bool = False) -> Queue | None:
        """Return what a dead server left of a queue; None where there is nothing, or somebody drops it right now."""
        try:
            queue = self._abandoned(spec)
        except SegmentMissing:
            return None
        settled = settle(spec, queue)
        if settled.queue is queue:
            queue.adopt(self.owner, closed, settled.saved)
            if not queue.segment.is_current():
                return None
            _give(queue.segment, self._access)
        return self._settled(queue, settled)

    def _settled(self, queue: Queue, settled: Settled) -> Queue:
        if settled.queue is not queue:
            self._put_in_place(settled.queue, queue)
        self.take(settled.queue)
        return settled.queue

    def _put_in_place(self, draft: Queue, old: Queue) -> None:
        """Put a draft that was complete in the place of the queue from which it was made."""
        draft.adopt(self.owner)
        _give(draft.segment, self._access)
        draft.publish(segment_name(self.name, draft.name))
        keeping.set_crossing(draft.segment.words, Crossing(UNSAVED))
        old.remove()

    def join(self, spec: QueueSpec, convert: Callable[[QueueSpec, Queue], None]) -> Queue | None:
        """Reload: use a queue that another process of this server may have made, or make it.

        convert: puts a queue of the addmode that is defined now in the place of one that a dead server left.
        None when a dead server left it on the way between memory and its table: a start finds out where its items are.
        """
        while True:
            with contextlib.suppress(FileExistsError):
                self.take(queue := self._create(spec))
                return queue
            with contextlib.suppress(SegmentMissing):  # somebody has dropped it meanwhile
                queue = self._abandoned(spec)
                if queue.owner() == self.owner:
                    self.take(queue)
                    return queue
                if queue.is_moving() or keeping.is_under_way(queue.segment.words) or self.loaded_draft(spec):
                    return None
                if (present := self.take_over(spec)) is not None:
                    if present.addmode != spec.addmode:
                        convert(spec, present)
                    return queues[spec.name]

    def configure(self, queue: Queue, spec: QueueSpec) -> None:
        """Give a queue what its definition says and can be changed."""
        queue.set_limits(spec.size, spec.maxbytes)
        queue.set_deliveries(spec.max_deliveries, spec.dead_letter)
        queue.set_max_age(spec.maxage)
        keeping.set_policy(queue.segment.words, spec.dbmode, spec.recover)

    def _attach(self, name: str) -> Queue:
        return self._of_segment(segment_name(self.name, name), name)

    def _of_segment(self, full_name: str, name: str) -> Queue:
        users = trust.users([self._access.uid])
        queue = Queue.of_segment(
            full_name, self.registry, self.settings.lock_timeout, name, users, self._advice, takes_over=True
        )
        _check_giving(queue.segment, self._access)
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

    @cached_property
    def _kept(self) -> int:
        """Bytes that free chunks may keep: of what the host has, where the operator allows more than that."""
        return min(self.registry.max_memory, limits.default_max_memory(SHM_DIR)) >> layout.FREE_SHIFT

    def _create(self, spec: QueueSpec, draft: bool = False, closed: bool = False) -> Queue:
        space = min(_ADDRESS_SPACE, limits.address_space())
        queues = max(1, len(self.settings.queues))
        window = min(self.registry.max_memory, space // queues)
        return Queue.create(
            self.name,
            spec.name,
            window=max(1 << layout.CHUNK_BITS, min(window, _LINK_REACH // 2) if spec.addmode else window),
            addmode=spec.addmode,
            size_limit=spec.size,
            byte_limit=spec.maxbytes,
            registry=self.registry,
            owner=self.owner,
            lock_timeout=self.settings.lock_timeout,
            access=self._access,
            draft=draft,
            closed=closed,
            keep=self._kept // queues,
        )

    # --- queues that are to take another one's place ------------------------------------------------------------------

    def draft(self, spec: QueueSpec) -> Queue:
        """Return an empty queue without a name and without limits, to be filled."""
        return self._create(spec._replace(size=0, maxbytes=0), draft=True)

    def keep_draft(self, draft: Queue) -> None:
        """From here on the draft outlives this process: the next start decides about it."""
        name = self._loaded_name(draft.name)
        if os.path.lexists(path_of(name)):  # whatever somebody put there, it does not stop a server
            name = f"{name[: NAME_MAX - _MARK]}.{secrets.token_hex(4)}"
        draft.segment.rename(name)

    def _loaded_name(self, name: str) -> str:
        """Return the name of a queue's complete draft. Raises ConfigError where there can be none."""
        full_name = segment_name(self.name, name) + _LOADED
        if len(full_name) + _MARK > NAME_MAX:
            raise ConfigError(
                f"queue {name!r}: its name is {len(full_name) + _MARK - NAME_MAX} characters too long for dbmode 1 or "
                f"3, which needs a second file in {SHM_DIR}; take a shorter name"
            )
        return full_name

    def loaded_path(self, spec: QueueSpec) -> str | None:
        """Where `keep_draft` of a server that was killed kept it; None if nowhere."""
        try:
            paths = _files(self._loaded_name(spec.name))
        except ConfigError:
            return None
        return next((path for path in paths if self._is_ours(path)), None)

    def loaded_draft(self, spec: QueueSpec) -> Queue | None:
        """Return what `keep_draft` kept in a server that was killed before it was published."""
        path = self.loaded_path(spec)
        return None if path is None else self._of_segment(os.path.basename(path), spec.name)

    def kept_beside(self) -> list[str]:
        """Files of queues that were kept at a stop while other files had their names, and still are there so."""
        return [path for path in kept.files(self.name) if self._is_ours(path)]

    def strange_drafts(self) -> list[str]:
        """Files that are named like a complete draft of this server, and are none: not looked into, and left alone."""
        paths = _files(segment_name(self.name) + ".")
        return [path for path in paths if _LOADED in path and not self._is_ours(path)]

    def _is_ours(self, path: str) -> bool:
        """Return True if this file can be of this server. It is not opened for that: it may be anything."""
        try:
            status = os.lstat(path)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_uid in trust.users([self._access.uid])

    def take(self, queue: Queue) -> None:
        """From here on this is the queue of its name."""
        if queue.owner() == self.owner:
            header.set_life(queue.segment, self._presence.number)
        queues[queue.name] = queue
        queue.set_siblings(queues.get)

    def _abandoned(self, spec: QueueSpec) -> Queue:
        """Return the queue of a dead server, or of this one. Raises InstanceInUse."""
        queue = self._attach(spec.name)
        present = queue.owner()
        if present != self.owner:
            header.refuse_living(
                queue.segment,
                f"queue {spec.name!r}",
                'stop that server, or take another modparam("mqueue", "instance", "...")',
            )
        return queue

    def _remove_drafts(self) -> None:
        """Take away segments that a process was making when it was killed; never those of one that may live.

        Whatever else lies under such a name goes too, if it can; a link goes, not what it leads to.
        """
        beginning = segment_name(self.name)[: NAME_MAX - MAKER]
        for path in [*_files(beginning + "~"), *_files(beginning + ".")]:
            if _LOADED not in path and not kept.is_kept(path) and is_left_draft(path):
                with contextlib.suppress(OSError):  # gone meanwhile, a folder, or not allowed
                    os.unlink(path)

    def left_over(self) -> list[str]:
        """Files of queues of this instance that are not defined any more."""
        defined = {path_of(segment_name(self.name, name)) for name in queues}
        return [path for path in _files(segment_name(self.name) + ".") if path not in defined and "~" not in path]

    # --- answers queues: see kemi.answers -----------------------------------------------------------------------------

    def make_answers(self, number: int) -> Queue:
        """Make an answers queue. Raises FileExistsError when it is there."""
        name = answers_name(segment_name(self.name, "x"), number)
        if os.path.lexists(path_of(name)):
            raise FileExistsError(name)
        queue = self._create(QueueSpec(f"{ANSWERS}{number}"), draft=True)
        try:
            queue.segment.take_free(name)
        except BaseException:
            queue.remove()
            raise
        return queue

    def attach_answers(self, number: int) -> Queue:
        """Use an answers queue. Raises SegmentMissing, SegmentError."""
        return self._of_segment(answers_name(segment_name(self.name, "x"), number), f"{ANSWERS}{number}")

    def _remove_answers(self) -> None:
        number = 0
        with contextlib.suppress(SegmentError):  # the last one, or what is left to `_remove_drafts`
            while True:
                self.attach_answers(number).remove()
                number += 1

    # --- the end ------------------------------------------------------------------------------------------------------

    def put_registry_back(self) -> None:
        """Make the instance's own segment anew, if something removed its file. Raises MqueueError."""
        if not self.registry.segment.is_current():
            with contextlib.suppress(FileExistsError):
                self.registry = Registry.create(
                    self.name, self.owner, self.registry.max_memory, self.settings.lock_timeout, self._access
                )

    def make_way(self, name: str) -> str:
        """Move what has this name, if it is of the server's user. Returns where to; nothing where it stays."""
        return kept.make_way(name, _user_of(self._access))

    def let_go(self) -> None:
        """From here on no process of this server counts as one that lives, also of those that go on."""
        _served.discard(self)
        self._end_life(self.registry.segment)
        self._presence.end()

    def _end_life(self, segment: Segment) -> None:
        """Note that the server ended in order: it is dead, also for a process of it that goes on."""
        if header.owner_of(segment) == self.owner:
            header.set_life(segment, presence.ENDED)

    # --- in a process that Python code of the server forks ------------------------------------------------------------

    def leave(self) -> None:
        """Say nothing of whether the server lives, until this process uses one of its queues."""
        self._presence.leave()
        for queue in queues.values():
            if not queue.closed:
                choice.detach(queue)  # whose calls come to the lock in Python then
                queue.call_before_use(self._join)

    def _join(self) -> None:
        """Count this process as one of the server's from here on: it uses a queue."""
        for queue in queues.values():
            if not queue.closed:
                queue.call_before_use(None)
                choice.attach(queue, queue.segment)
        if header.life_of(self.registry.segment) == self._presence.number:  # no other server has taken over
            self._presence.join()

    def close(self, kept: Collection[Queue] = ()) -> None:
        """End the instance: take all its names away but those of queues that are kept."""
        with contextlib.ExitStack() as each:  # also when one of them resists
            if not kept:
                each.callback(self.registry.segment.unlink)
            # Called before that one: who finds no file any more is free to start.
            each.callback(self.let_go)
            each.callback(self._remove_drafts)  # of workers that were ended in the middle of a reload
            each.callback(self._remove_answers)  # before their names are taken for drafts'
            for queue in queues.values():
                if queue not in kept:
                    each.callback(queue.remove)
                else:
                    self._end_life(queue.segment)
            queues.clear()


def _give(segment: Segment, access: Access) -> None:
    """Give the new server's user what a dead server of another one left: the queues of an instance have one user."""
    wanted = _user_of(access)
    if segment.user() != wanted:
        segment.give(access._replace(uid=wanted))


def _check_giving(segment: Segment, access: Access) -> None:
    """Refuse, before anything is changed, what could not be given to the server's user. Raises NotAllowed."""
    present, wanted = segment.user(), _user_of(access)
    if present != wanted and os.geteuid():
        raise NotAllowed(
            f"{path_of(segment.name)} belongs to {trust.shown(present)}, and only root can give it to "
            f"{trust.shown(wanted)}; start once as root (with -u), or go on as the user it belongs to"
        )


def _told_if_it_lives(instance: str, access: Access) -> str:
    """Return a sentence about an instance of a user who is not trusted here; nothing when its server is dead."""
    path = path_of(segment_name(instance))
    by, users = "", presence.trusted_servers(access.uid)
    with contextlib.suppress(MqueueError, OSError):
        user = os.lstat(path).st_uid
        if presence.is_present(users | {user}, instance):
            by = f"a server of {trust.shown(user)}"
        view = look_at_instance(instance)  # not everybody may look
        if ownership.state_of(view.owner, view.life) != ownership.DEAD:
            by = ownership.who(view.owner, view.life, user)
    if not by:
        return ""
    return (
        f"instance {instance!r} in use by {by} ({path}): stop that server, or give this one another name with "
        'modparam("mqueue", "instance", "...")'
    )


def _refuse_beside(registry: Registry, instance: str, access: Access) -> None:
    """There was no file of the instance. Raises InstanceInUse when its server lives all the same."""
    if told := presence.vanished(presence.trusted_servers(access.uid), instance):
        registry.segment.unlink()
        raise InstanceInUse(f"instance {instance!r} in use: {told}")


def _user_of(access: Access) -> int:
    return os.geteuid() if access.uid < 0 else access.uid


def _files(beginning: str) -> list[str]:
    """Files of shared memory whose names begin like that, in order. Raises SegmentError."""
    try:
        names = os.listdir(SHM_DIR)
    except OSError as error:
        raise trust.refusal(SHM_DIR, error) from None
    return [path_of(name) for name in sorted(names) if name.startswith(beginning)]


def max_memory_of(settings: Settings) -> int:
    """Bytes that the queues may hold together. Raises SegmentError."""
    try:
        return settings.max_memory or max(_LEAST, limits.default_max_memory(SHM_DIR))
    except OSError as error:
        raise trust.refusal(SHM_DIR, error) from None
