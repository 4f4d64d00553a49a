"""`with queue.reserve_many(count) as batch:` - at least once, for several items at a time.

Each item stays in shared memory in the name of this process until it is settled, as with `reserve`. The lock is taken
for a few items at a time, so that an add never waits for a batch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Callable, Protocol, final

from kemi.errors import MqueueError
from kemi.queue.log.core import Delivery
from kemi.queue.reservation import ReservedItem

Keep = Callable[[Delivery, "BatchSource", bytes], None]


class BatchSource(Protocol):
    """What a batch wants of a queue."""

    def reserve_some(self, count: int, timeout: float | None, keep: Keep) -> int | None:
        """Reserve up to `count` items, and call `keep` with each, under the lock; wait for the first one.

        Returns how many; None if none came.
        """

    def claim(self, held: Delivery, by: object) -> None:
        """Enter who stands for an item, with the lock held."""

    def settle_many(self, deliveries: Sequence[Delivery], *, done: bool) -> int:
        """Be done with items, or give them back. Returns how many were this process's until then."""


@final
class _Held:
    """One item of a batch, as long as it is not settled."""

    __slots__ = ("__weakref__", "delivery", "item", "source")

    def __init__(self, delivery: Delivery, source: BatchSource, item: ReservedItem) -> None:
        self.delivery = delivery
        self.source = source
        self.item = item


@final
class Batch(tuple[ReservedItem, ...]):  # noqa: SLOT001 - it has attributes
    """Items that were reserved together, the oldest first; false when none came in time."""

    _settle: Callable[[Iterable[ReservedItem] | None, bool], int]
    _unsettled: Callable[[], list[ReservedItem]]

    @property
    def unsettled(self) -> list[ReservedItem]:
        """Those that are neither done nor given back."""
        return self._unsettled()

    def done(self, items: Iterable[ReservedItem] | None = None) -> int:
        """Be done with these (None: with all that are unsettled). Returns how many were settled by this call.

        Raises LockTimeout: it is kept in mind, and they are done with this process's next call that takes items.
        """
        return self._settle(items, True)

    def give_back(self, items: Iterable[ReservedItem] | None = None) -> int:
        """Let others take these, before all other items; else as `done`."""
        return self._settle(items, False)


@final
class BatchReservation:
    """`with`: at the end what is unsettled is done; after an exception, given back. The exception passes.

    What nobody settles goes back at the latest when this object dies.
    """

    def __init__(self, queue: BatchSource, count: int, timeout: float | None) -> None:
        self._queue = queue
        self._count = count
        self._timeout = timeout
        self._pid = os.getpid()
        self._held: dict[int, _Held] = {}  # by the item's id

    def __enter__(self) -> Batch:
        if self._held:
            raise RuntimeError(f"{self!r} is in use: call reserve_many() for each block")
        self._pid = os.getpid()
        items: list[ReservedItem] = []

        def keep(delivery: Delivery, source: BatchSource, record: bytes) -> None:
            held = _Held(delivery, source, ReservedItem(record, delivery.deliveries))
            source.claim(delivery, held)
            self._held[id(held.item)] = held
            items.append(held.item)

        try:
            timeout = self._timeout
            while len(items) < self._count and self._queue.reserve_some(self._count - len(items), timeout, keep):
                timeout = 0.0
        except MqueueError:
            if not items:
                raise  # else the next call meets the error again
        except BaseException:
            self._give_up()
            raise
        batch = Batch(items)
        batch._settle, batch._unsettled = self._settle, self._unsettled  # noqa: SLF001 - this is what makes one
        return batch

    def _unsettled(self) -> list[ReservedItem]:
        return [held.item for held in self._held.values()]

    def _settle(self, items: Iterable[ReservedItem] | None, done: bool) -> int:
        """Settle items that are this process's."""
        keys = list(self._held) if items is None else [id(item) for item in items]
        held = [self._held.pop(key) for key in keys if key in self._held]
        if self._pid != os.getpid():
            return 0  # a process forked in the block holds nothing: its parent does
        settled = 0
        for source in {id(one.source): one.source for one in held}.values():
            settled += source.settle_many([one.delivery for one in held if one.source is source], done=done)
        return settled

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._give_up()
        else:
            self._settle(None, True)

    def _give_up(self) -> None:
        """Give back what is held. Whoever calls this has an exception that counts more than an error of the queue."""
        with contextlib.suppress(MqueueError):
            self._settle(None, False)

    def __del__(self) -> None:
        if self._held:
            self._give_up()

    def __repr__(self) -> str:
        return f"<BatchReservation of {self._queue!r}: {len(self._held)} items>"
