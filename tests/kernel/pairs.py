"""A queue with the native kernel beside one without: the same calls must give the same results, errors and bytes."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable

from kemi.queue.format import layout
from kemi.queue.format.layout import R_ADDED, RECORD_HEAD
from kemi.queue.kernel import choice
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.queue import Queue
from kemi.queue.store.keyindex import KeyIndex

# Words that differ between two queues of one process: when it was made, its secret, its place in a quota, its mutex. A
# list of the journal means nothing afterwards, and the native kernel has fewer of them. The time in the queue is
# measured now and then.
_OWN = {
    layout.W_CREATED,
    layout.W_SECRET,
    layout.W_QUOTA_ENTRY,
    *range(128, 144),
    *range(152, 248),
    *range(296, 312),
    *range(384, 512),
}
WINDOW = 8 << 20
SECRET = 0x0123456789ABCDEF


def index_of(queue: Queue) -> KeyIndex:
    """The key index of a queue that has one."""
    assert isinstance(queue._log, KeyedLog)
    return queue._log.index


def outcome(call: Callable[[], object]) -> tuple[str, object]:
    """What a call returned or raised."""
    try:
        return "returned", call()
    except Exception as error:  # noqa: BLE001 - it is compared
        return type(error).__name__, str(error)


class Pair:
    """Two queues that get the same calls."""

    def __init__(self, instance: str, addmode: int, window: int = WINDOW, **kind: Any) -> None:
        # Of a plain log's cursors, a run stores but the word that counts afterwards: the other one depends on the runs.
        self.has_runs = False
        self.native = Queue.create(instance, "native", window=window, addmode=addmode, **kind)
        self.pure = Queue.create(instance, "pure", window=window, addmode=addmode, **kind)
        choice.detach(self.pure)
        if addmode:
            for queue in (self.native, self.pure):  # before the first item: both hash in the same way
                queue._u64[layout.W_SECRET] = SECRET
                index_of(queue)._secret = SECRET
            choice.attach(self.native, self.native.segment)

    def both(self, call: Callable[[Queue], object]) -> tuple[str, object]:
        """Call it with each. Returns what came of it, which must be the same."""
        native, pure = (outcome(partial(call, queue)) for queue in (self.native, self.pure))
        expected = (pure[0], pure[1].replace("'pure'", "'native'") if isinstance(pure[1], str) else pure[1])
        assert timeless(native) == timeless(expected)
        return native

    def header(self) -> list[int]:
        """The header of the native one, which must be the other one's."""
        native, pure = (self._header(queue) for queue in (self.native, self.pure))
        assert native == pure, [(at, *both) for at, both in enumerate(zip(native, pure)) if both[0] != both[1]]
        return native

    def _header(self, queue: Queue) -> list[int]:
        words = queue._u64[: layout.PAGE // 8].tolist()
        own = {*_OWN}
        if self.has_runs and not queue.addmode:
            own |= {layout.W_TAIL_ODD - (words[layout.W_ADDED] & 1), layout.W_HEAD_ODD - (words[layout.W_POPPED] & 1)}
        return [0 if at in own else word for at, word in enumerate(words)]

    def compare(self) -> None:
        """Compare headers, chunk maps, and every record with its place and links; both must be sound."""
        self.header()
        native, pure = (self._contents(queue) for queue in (self.native, self.pure))
        assert native == pure

    @staticmethod
    def _contents(queue: Queue) -> object:
        log = queue._log
        places = [*log.scan(), *(entry.at for entry in log.core.in_flight.entries())]
        records = [(at, timeless(("", log.core.records.read(at)))) for at in places]
        buckets = []
        if queue._keyed:
            index = index_of(queue)
            index._look()
            buckets = [[*index.chain(index.bucket(number))] for number in range(index.count)]
        assert queue.handle.verify() == []
        return log.core.chunks.states(), records, buckets

    def remove(self) -> None:
        for queue in (self.native, self.pure):
            if not queue.closed:
                queue.remove()


def timeless(found: Any) -> Any:
    """A result, without the time in a record."""
    kind, value = found
    if isinstance(value, bytes) and len(value) >= RECORD_HEAD:
        value = value[:R_ADDED] + bytes(8) + value[R_ADDED + 8 :]
    return kind, value
