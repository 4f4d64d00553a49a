"""What happens to the queues of a server at its start, at a reload, and at its stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from kemi.crossing import Crossings
from kemi.errors import CommitUnknown, ConfigError, StoreError
from kemi.instance import Instance, Settled, max_memory_of, queues
from kemi.queue import keeping
from kemi.queue.keeping import NONE, UNSAVED, Crossing
from kemi.queue.queue import Queue
from kemi.queue.segment import path_of
from kemi.spec import QueueSpec, Settings
from kemi.store import Store

_PATIENCE = 3  # seconds for a database that does not answer; other queues do not wait for it again


class Surroundings(NamedTuple):
    """What the server around the queues offers."""

    say: Callable[[str], None]  # a line for the log
    warn: Callable[[str], None]  # a line that an operator should see
    working: Callable[[], None]  # called now and then, so that nobody takes a long work for a process that hangs
    uid: int = -1  # user and group that the server will run as, -1 for those of this process
    gid: int = -1


# --- start ------------------------------------------------------------------------------------------------------------


def start(settings: Settings, around: Surroundings) -> Instance:
    """Make every queue that is defined, with what a server that died left in it, and the rows of its table.

    Either all are there afterwards or an exception says why not. Nothing is left behind then but what holds items.
    """
    settings.check()
    crosses = any(spec.dbmode for spec in settings.queues.values())
    store = _open_store(settings, around) if crosses else None
    instance = Instance.open(settings, around.uid, around.gid)
    try:
        crossings = Crossings(instance, store, around.say, around.working) if store else None
        for spec in settings.queues.values():
            _start_queue(instance, spec, crossings, around)
    except BaseException:
        _leave_what_was_loaded(instance)
        raise
    finally:
        if store:
            store.close()
    for path in instance.left_over():
        around.say(f"{path} was left by a server that died and is not defined any more; it is left as it is")
    for path in instance.strange_drafts():
        around.warn(
            f"{path} is no file of this server's user, so it is not used; if it is not from a server of another user, "
            "remove it"
        )
    return instance


def _open_store(settings: Settings, around: Surroundings) -> Store:
    if not settings.db_url:
        names = ", ".join(f'"{spec.name}"' for spec in settings.queues.values() if spec.dbmode)
        raise ConfigError(f'queue {names}: dbmode needs a database: modparam("mqueue", "db_url", "...")')
    owner = (around.uid, around.gid) if around.uid >= 0 else None
    return Store.open(settings.db_url, owner)


def _start_queue(instance: Instance, spec: QueueSpec, crossings: Crossings | None, around: Surroundings) -> None:
    queue = instance.define(spec, lambda spec, queue: _settle(instance, spec, queue, crossings, around))
    items = queue.held()
    if items and not _is_recovered(spec, queue):
        queue.clear()
        around.warn(f"queue {spec.name!r}: {items} items of the last server are thrown away, as recover=0 says")
    elif items:
        around.say(f"queue {spec.name!r}: {items} items of the last server taken over")
    keeping.set_crossing(queue.segment.words, Crossing(NONE))
    if crossings and spec.reads_database():
        queue, rows = crossings.load(spec, queue)
        if rows:
            around.say(f"queue {spec.name!r}: {rows} rows loaded from its table")
    queue.open()
    instance.configure(queue, spec)


def _settle(
    instance: Instance, spec: QueueSpec, queue: Queue, crossings: Crossings | None, around: Surroundings
) -> Settled:
    """Find out where the items are, when the last server was killed on their way to the table or from it."""
    if crossings and spec.dbmode:
        return crossings.settle(spec, queue)
    if keeping.crossing(queue.segment.words).kind == keeping.SAVING:
        around.warn(
            f"queue {spec.name!r}: the last server died while it saved; without dbmode it cannot be found out whether "
            "its items are in the table too"
        )
    loaded = instance.loaded_path(spec)
    if loaded is not None:
        around.warn(
            f"queue {spec.name!r}: the last server died while it loaded; only with dbmode it can be found out whether "
            f"the rows of its table are there still, or in {loaded}, which is left as it is"
        )
    return Settled(queue)


def _is_recovered(spec: QueueSpec, queue: Queue) -> bool:
    """What should have been saved is never thrown away."""
    return spec.recover > 0 or keeping.crossing(queue.segment.words).kind != NONE


def _leave_what_was_loaded(instance: Instance) -> None:
    """The start failed. What is in the queues stays there for the next one, whatever it says."""
    kept = [queue for queue in queues.values() if queue.held()]
    for queue in kept:
        _mark_unsaved(queue)
    instance.close(kept)
    instance.registry.segment.unlink()  # this process may live on, and try again


def _mark_unsaved(queue: Queue) -> None:
    """Its items are not to be thrown away by the next start."""
    if keeping.crossing(queue.segment.words).kind == NONE:
        keeping.set_crossing(queue.segment.words, Crossing(UNSAVED))


# --- reload -----------------------------------------------------------------------------------------------------------


def reload(instance: Instance, settings: Settings, around: Surroundings) -> None:
    """Take new parameters in a process of a running server. Every process comes here by itself; all items stay."""
    settings.check()
    for name in ("instance", "mode", "group", "lock_timeout", "db_url", "core"):
        if getattr(settings, name) != getattr(instance.settings, name):
            around.say(f"{name}: a change takes effect when the server is started again")
    instance.registry.set_max_memory(max_memory_of(settings))
    for spec in settings.queues.values():
        queue = queues.get(spec.name) or instance.join(spec)
        if queue is None:
            around.warn(
                f"queue {spec.name!r}: a dead server left its items on the way between memory and their table; "
                "it is there after the next start, which finds out where they are"
            )
            continue
        instance.configure(queue, spec)
        if queue.addmode != spec.addmode:
            around.say(f"queue {spec.name!r}: addmode stays {queue.addmode} until the server is started again")
    for name in queues.keys() - settings.queues.keys():
        around.say(
            f"queue {name!r} is not defined any more; it stays, with its items, until the server is started again"
        )
    settings.instance = instance.name
    settings.db_url = instance.settings.db_url
    instance.settings = settings


# --- stop -------------------------------------------------------------------------------------------------------------


def stop(instance: Instance, crashed: bool, around: Surroundings) -> None:
    """The server ends. Items go to their tables; what cannot or may not go stays in shared memory.

    crashed: it ends because a process of it died, or because it could not start.
    """
    ending = _Ending(instance, crashed, around)
    instance.meet_new()  # the process that ends the server has not reloaded
    everything = list(queues.values())
    for queue in everything:
        if keeping.policy(queue.segment.words).writes_database():
            _mark_unsaved(queue)  # so it is, if this process is killed before its turn
    try:
        instance.close([queue for queue in everything if ending.stays(queue)])
    finally:
        ending.close()


class _Ending:
    """Decides for each queue."""

    def __init__(self, instance: Instance, crashed: bool, around: Surroundings) -> None:
        self._instance = instance
        self._crashed = crashed
        self._around = around
        self._store: Store | None = None
        self._given_up = ""  # the database, when it let us wait for nothing

    def close(self) -> None:
        if self._store:
            self._store.close()

    def stays(self, queue: Queue) -> bool:
        """Save what is to be saved. Is there anything left that the next start, or a person, wants?"""
        begin = time.monotonic()
        try:
            return self._decide(queue)
        except Exception as error:  # noqa: BLE001 - the other queues end as well
            if isinstance(error, StoreError) and time.monotonic() - begin > _PATIENCE:
                self._given_up = str(error)
            _mark_unsaved(queue)
            where = self._where_perhaps(queue) if isinstance(error, CommitUnknown) else self._where(queue)
            self._around.warn(f"queue {queue.name!r}: {error}; {where}")
            return True

    def _decide(self, queue: Queue) -> bool:
        if not queue.held():
            return False
        policy = keeping.policy(queue.segment.words)
        if policy.writes_database():
            saved = self._crossings().save(queue)
            self._around.say(f"queue {queue.name!r}: {saved} items saved to its table")
            return False
        if policy.outlives(self._crashed):
            self._around.say(f"queue {queue.name!r}: {self._where(queue)}")
            return True
        return False

    def _crossings(self) -> Crossings:
        self._around.working()
        if self._given_up:
            raise StoreError(f"not tried again: {self._given_up}")
        if self._store is None:
            self._store = _open_store(self._instance.settings, self._around)
        return Crossings(self._instance, self._store, self._around.say, self._around.working)

    def _where_perhaps(self, queue: Queue) -> str:
        return (
            f"its {queue.held()} items stay in {path_of(queue.segment.name)} until the next start has found out "
            "whether they are in the table; nobody can take them before"
        )

    def _where(self, queue: Queue) -> str:
        return (
            f"its {queue.held()} items stay in {path_of(queue.segment.name)}, and the next start takes them over "
            f"(python3 -m mqueue_kemi drain --instance {self._instance.name} {queue.name} gets them out)"
        )
