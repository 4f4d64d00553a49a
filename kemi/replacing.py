# SPDX-License-Identifier: GPL-2.0-or-later
"""Queues that take the place of others, all at once: filled first, named when it is certain that they count.

    with Replacing(instance) as replacing:
        draft = replacing.begin(spec, old)    # nobody uses `old` from here on
        ... fill it ...
        replacing.publish()                   # each draft gets its queue's name, the old queue ends

An exception before `publish` leaves every queue as it was, and no draft; but what `keep_draft` has named outlives
CommitUnknown, and its old queue stays unused: the next start finds out which of the two counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType

from kemi.errors import CommitUnknown
from kemi.instance import Instance
from kemi.queue.queue import Queue
from kemi.queue.shm.naming import segment_name
from kemi.spec import QueueSpec


class Replacing:
    """The queues of one instance that get successors."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._under_way: list[Replacement] = []

    def begin(self, spec: QueueSpec, old: Queue) -> Replacement:
        """Begin to replace a queue. Nobody adds to it or takes from it meanwhile. Raises NoMemory."""
        replacement = Replacement(self._instance, spec, old)
        self._under_way.append(replacement)
        return replacement

    def publish(self) -> None:
        """Give each draft its queue's name. What fails leaves the others complete; the first error is raised."""
        errors: list[BaseException] = []
        under_way, self._under_way = self._under_way, []
        for replacement in under_way:
            try:
                replacement.publish()
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if errors:
            raise errors[0]

    def __enter__(self) -> Replacing:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.give_up(error)

    def give_up(self, error: BaseException | None = None) -> None:
        """Leave every queue as it was, so that it can be begun again. error: why."""
        under_way, self._under_way = self._under_way, []
        for replacement in under_way:
            replacement.give_up(error)


class Replacement:
    """A queue and the draft that is to take its place."""

    def __init__(self, instance: Instance, spec: QueueSpec, old: Queue) -> None:
        self.spec, self.old = spec, old
        self.kept = False  # is the draft named, so that the next start finds it?
        self.name = segment_name(instance.name, spec.name)  # that the draft gets
        self._instance = instance
        self._moving = old.moving()
        self.records: Iterator[bytes] = self._moving.__enter__()
        try:
            self.draft: Queue = instance.draft(spec)
            self.draft.take_positions(old)
        except BaseException as error:
            self._leave(error)
            raise

    def copy(self) -> None:
        """Put the items of the old queue into the draft. Raises NoMemory."""
        for record in self.records:
            self.draft.append_record(record)

    def keep(self) -> None:
        """From here on the next start decides about the draft, whatever happens to this process."""
        self._instance.keep_draft(self.draft)
        self.kept = True

    def publish(self) -> None:
        """Make the draft the queue, in one step; the old one is empty then, and ends."""
        try:
            self.draft.publish(self.name)
            self._instance.take(self.draft)
        except BaseException:
            self._leave(CommitUnknown() if self.kept else None)
            raise
        self._moving.__exit__(None, None, None)
        self.old.remove()

    def give_up(self, error: BaseException | None) -> None:
        """Nothing came of it."""
        unknown = self.kept and isinstance(error, CommitUnknown)
        if not unknown:
            self.draft.remove()
        self._leave(error if unknown else None)

    def _leave(self, error: BaseException | None) -> None:
        """Leave the old queue as it was; or unused, when it is not known which of the two counts."""
        error = error if isinstance(error, CommitUnknown) else GaveUp()
        with contextlib.suppress(CommitUnknown, GaveUp):
            self._moving.__exit__(type(error), error, None)


class GaveUp(Exception):
    """Ends a move that was not completed."""
