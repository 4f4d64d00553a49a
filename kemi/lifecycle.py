# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to the queues of a server at its start, at a reload, and at its stop."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from kemi import dbmode, vanished
from kemi.crossing import Crossings, Load
from kemi.errors import CommitUnknown, ConfigError, DatabaseAway, MqueueError, StoreError
from kemi.instance import Instance, Settled, max_memory_of, queues
from kemi.kept import KEPT_BESIDE, is_kept
from kemi.queue.catalog import keeping
from kemi.queue.catalog.keeping import NONE, UNSAVED, Crossing
from kemi.queue.queue import Queue
from kemi.queue.shm.naming import path_of, segment_name
from kemi.replacing import Replacing
from kemi.spec import QueueSpec, Settings
from kemi.store import Options, Store


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

    Either all are there afterwards or an exception says why not; then memory and tables are as they were.
    """
    settings.check()
    if settings.ambiguous and not settings.dbmode_compat:
        around.say(dbmode.notice(settings.ambiguous))
    crosses = any(spec.dbmode for spec in settings.queues.values())
    store = _open_store(settings, around) if crosses else None
    with contextlib.ExitStack() as undo:
        if store:
            undo.callback(store.close)
            if settings.db_retry:
                store.wait_until_there(settings.db_retry, around.warn)
        instance = Instance.open(settings, around.uid, around.gid)
        try:
            crossings = Crossings(instance, store, around.say, around.working) if store else None
            _start_queues(instance, crossings, around)
        except BaseException:
            _leave_as_it_was(instance)
            raise
        if crossings:
            crossings.conclude()
    _tell_of_files(instance, around)
    return instance


def _tell_of_files(instance: Instance, around: Surroundings) -> None:
    """Name what this start found in shared memory and did not use."""
    for path in instance.left_over():
        around.say(f"{path} was left by a server that died and is not defined any more; it is left as it is")
    for path in instance.kept_beside():
        around.warn(f"{path} {KEPT_BESIDE}")
    for path in instance.strange_drafts():
        around.warn(
            f"{path} is no file of this server's user, so it is not used, and left as it is; find out who put it there"
        )


def _open_store(settings: Settings, around: Surroundings) -> Store:
    if not settings.db_url:
        names = ", ".join(f'"{spec.name}"' for spec in settings.queues.values() if spec.dbmode)
        raise ConfigError(f'queue {names}: dbmode needs a database: modparam("mqueue", "db_url", "...")')
    owner = (around.uid, around.gid) if around.uid >= 0 else None
    return Store.open(settings.db_url, owner, Options(settings.db_timeout, settings.db_tls, settings.db_inexact))


class _Started(NamedTuple):
    """A queue that is there, and what is to become of it."""

    spec: QueueSpec
    queue: Queue
    items: int  # that the last server left
    keep: bool  # these


def _start_queues(instance: Instance, crossings: Crossings | None, around: Surroundings) -> None:
    """In three steps: find all queues; fill what takes the place of others; and only then change anything."""
    started = [_find_queue(instance, spec, crossings, around) for spec in instance.settings.queues.values()]
    rows: dict[str, int] = {}
    with Replacing(instance) as replacing:

        def convert(loaded: list[str]) -> None:
            for one in started:
                if one.queue.addmode != one.spec.addmode and one.spec.name not in loaded:
                    _convert(replacing, one.spec, one.queue, keep=one.keep)

        if crossings:
            for note in crossings.prepare(one.spec for one in started):
                around.warn(note)
            loads = [Load(one.spec, one.queue, one.keep) for one in started if one.spec.reads_database()]
            rows = crossings.load(loads, replacing, convert)
        else:
            convert([])
        replacing.publish()
    for one in started:
        _finish_queue(instance, one, rows.get(one.spec.name, 0), around)


def _find_queue(instance: Instance, spec: QueueSpec, crossings: Crossings | None, around: Surroundings) -> _Started:
    queue = instance.define(spec, lambda spec, queue: _settle(instance, spec, queue, crossings, around))
    return _Started(spec, queue, queue.held(), _is_recovered(spec, queue))


def _convert(replacing: Replacing, spec: QueueSpec, queue: Queue, *, keep: bool = True) -> None:
    """Put the same items into a queue of another addmode."""
    replacement = replacing.begin(spec, queue)
    if keep:
        replacement.copy()
    keeping.set_crossing(replacement.draft.segment.words, keeping.crossing(queue.segment.words))


def _finish_queue(instance: Instance, one: _Started, rows: int, around: Surroundings) -> None:
    name, queue = one.spec.name, queues[one.spec.name]
    if one.items and not one.keep:
        if queue is one.queue:
            queue.clear()
        around.warn(f"queue {name!r}: {one.items} items of the last server are thrown away, as recover=0 says")
    elif one.items:
        around.say(f"queue {name!r}: {one.items} items of the last server taken over")
    keeping.set_crossing(queue.segment.words, Crossing(NONE))
    if rows:
        around.say(f"queue {name!r}: {rows} rows loaded from its table")
    queue.open()
    instance.configure(queue, one.spec)


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
    """Return True if it has what should have been saved, which is never thrown away."""
    return spec.recover > 0 or keeping.crossing(queue.segment.words).kind != NONE


def _leave_as_it_was(instance: Instance) -> None:
    """Clean up after a start that failed: what holds items stays for the next one, what does not goes."""
    instance.close([queue for queue in queues.values() if queue.held()])
    instance.let_go()
    instance.registry.segment.unlink()  # this process may live on, and try again


def _mark_unsaved(queue: Queue) -> None:
    """Its items are not to be thrown away by the next start."""
    if keeping.crossing(queue.segment.words).kind == NONE:
        keeping.set_crossing(queue.segment.words, Crossing(UNSAVED))


# --- reload -----------------------------------------------------------------------------------------------------------


def reload(instance: Instance, settings: Settings, around: Surroundings) -> None:
    """Take new parameters in a process of a running server. Every process comes here by itself; all items stay."""
    settings.check()
    for name in ("instance", "mode", "group", "lock_timeout", "db_url", "db_tls", "db_timeout", "db_inexact", "core"):
        if getattr(settings, name) != getattr(instance.settings, name):
            around.say(f"{name}: a change takes effect when the server is started again")
    instance.registry.set_max_memory(max_memory_of(settings))
    for spec in settings.queues.values():
        queue = queues.get(spec.name) or _join(instance, spec)
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
    for name in ("db_url", "db_tls", "db_timeout", "db_inexact"):
        setattr(settings, name, getattr(instance.settings, name))
    instance.settings = settings


def _join(instance: Instance, spec: QueueSpec) -> Queue | None:
    """Return a queue that is new in this process."""

    def convert(spec: QueueSpec, queue: Queue) -> None:
        with Replacing(instance) as replacing:
            _convert(replacing, spec, queue)
            replacing.publish()

    return instance.join(spec, convert)


# --- stop -------------------------------------------------------------------------------------------------------------


def stop(instance: Instance, crashed: Callable[[], bool], around: Surroundings) -> None:
    """End the server. Items go to their tables; what cannot or may not go stays in shared memory.

    crashed: says whether it ends because a process of it died, or because it could not start; asked once at most, and
    only when a queue's items depend on it.
    """
    ending = _Ending(instance, crashed, around)
    instance.meet_new()  # the process that ends the server has not reloaded
    everything = list(queues.values())
    for queue in everything:
        if keeping.policy(queue.segment.words).writes_database():
            _mark_unsaved(queue)  # so it is, if this process is killed before its turn
    if told := vanished.told(instance, everything):
        around.warn(told)
    try:
        instance.close([queues[queue.name] for left, queue in _countdown(everything) if ending.stays(queue, left)])
        ending.conclude()
    finally:
        ending.close()


def _countdown(queues: list[Queue]) -> Iterator[tuple[int, Queue]]:
    """Each queue, with how many come after it."""
    for number, queue in enumerate(queues, 1):
        yield len(queues) - number, queue


class _Ending:
    """Decides for each queue."""

    def __init__(self, instance: Instance, crashed: Callable[[], bool], around: Surroundings) -> None:
        self._instance = instance
        self._crashed = functools.cache(crashed)
        self._around = around
        self._store: Store | None = None
        self._crossings: Crossings | None = None
        self._given_up = ""  # the database, when there was no connection
        self._discarded: dict[str, int] = {}  # items by queue

    def conclude(self) -> None:
        """All that was saved is out of the memory; what was meant to go with the server is told."""
        if self._discarded:
            each = ", ".join(f"{name} {items}" for name, items in self._discarded.items())
            self._around.say(
                f"{sum(self._discarded.values())} items discarded at this stop, as dbmode and recover of their queues "
                f"say: {each}"
            )
        if self._crossings:
            self._crossings.conclude()

    def close(self) -> None:
        if self._store:
            self._store.close()

    def stays(self, queue: Queue, others: int) -> bool:
        """Save what is to be saved. Return True if anything is left that the next start, or a person, wants.

        others: queues that come after this one, which leave time for their turn.
        """
        try:
            return self._decide(queue, others)
        except Exception as error:  # noqa: BLE001 - the other queues end as well
            if isinstance(error, DatabaseAway):
                self._given_up = str(error)
            _mark_unsaved(queue)
            where = self._where_perhaps if isinstance(error, CommitUnknown) else self._where
            return self._keep(queue, where, self._around.warn, f"{error}; ")

    def _decide(self, queue: Queue, others: int) -> bool:
        if not queue.held():
            return False
        policy = keeping.policy(queue.segment.words)
        if policy.writes_database():
            self._save(queue, others)
            return False
        if policy.outlives(self._crashed):
            return self._keep(queue, self._where, self._around.say)
        self._discarded[queue.name] = queue.held()
        return False

    def _keep(self, queue: Queue, where: Callable[[Queue], str], tell: Callable[[str], None], why: str = "") -> bool:
        """Leave the items in memory, if they can be left there, and tell where they are."""
        with contextlib.suppress(MqueueError, OSError):
            self._instance.put_registry_back()
        if vanished.is_gone(queue):
            items = queue.held()
            try:
                queue = vanished.put_back(self._instance, queue)
            except (MqueueError, OSError) as error:
                self._around.warn(
                    f"queue {queue.name!r}: {why}its {items} items are lost, they cannot be kept: {error}"
                )
                return False
        tell(f"queue {queue.name!r}: {why}{where(queue)}")
        return True

    def _save(self, queue: Queue, others: int) -> None:
        self._around.working()
        if self._given_up:
            raise StoreError(f"not tried again: {self._given_up}")
        if self._store is None or self._crossings is None:
            self._store = _open_store(self._instance.settings, self._around)
            self._crossings = Crossings(self._instance, self._store, self._around.say, self._around.working)
        self._store.clock.others = others
        saved = self._crossings.save(queue)
        self._around.say(f"queue {queue.name!r}: {saved.items} items saved to its table")
        if saved.unfit:
            self._around.warn(
                f"queue {queue.name!r}: {saved.unfit} of these items do not fit into its table and are in the table "
                f"mqueue_kemi_items, from which the next start takes them in their order: {saved.why}"
            )

    def _where_perhaps(self, queue: Queue) -> str:
        return (
            f"its {queue.held()} items stay in {path_of(queue.segment.name)} until the next start has found out "
            "whether they are in the table; nobody can take them before"
        )

    def _where(self, queue: Queue) -> str:
        stay = f"its {queue.held()} items stay in {path_of(queue.segment.name)}, and the next start takes them over"
        if is_kept(queue.segment.name):
            name = segment_name(self._instance.name, queue.name)
            return f"{stay} when {path_of(name)}, which is not this server's, is removed"
        return f"{stay} (python3 -m mqueue_kemi drain --instance {self._instance.name} {queue.name} gets them out)"
