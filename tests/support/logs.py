"""Records and logs on plain memory, and what is done with both kinds of log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kemi.queue.format import keyhash, layout
from kemi.queue.format.layout import RECORD, RECORD_HEAD
from kemi.queue.log.core import Delivery
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.plain import PlainLog
from kemi.queue.store.inflight import Holder
from tests.support.crash_points import CHUNK_BITS, Segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from kemi.queue.format.layout import Mapping

HASH = keyhash.function_of(keyhash.FORM)
ROOM = (1 << CHUNK_BITS) - layout.CHUNK_HEAD


ME = Holder(7, 100, 200, 300)


OTHER = Holder(8, 101, 200, 300)


def record(key: bytes, size: int = 40, added: float = 0.0) -> tuple[bytes, int]:
    """Return a record of so many bytes (a multiple of 8), and its step."""
    value = (key * size)[: size - RECORD_HEAD - len(key)]
    return RECORD.pack(size, len(key), len(value), 0, added) + key + value, size


def question(key: bytes) -> tuple[bytes, int]:
    """Return the record of a question, and its step."""
    value = b"v" * (16 - len(key))
    size = RECORD_HEAD + 16 + layout.ENVELOPE_BYTES
    head = RECORD.pack(size, len(key), len(value) | layout.QUESTION, 0, 0.0)
    return head + key + value + bytes(layout.ENVELOPE_BYTES), size


def pair(data: bytes) -> tuple[bytes, bytes]:
    """Return key and value of a record."""
    _, key, value, _, _ = RECORD.unpack_from(data)
    return bytes(data[RECORD_HEAD : RECORD_HEAD + key]), bytes(data[RECORD_HEAD + key : RECORD_HEAD + key + value])


def state(log: PlainLog | KeyedLog) -> Any:
    """Return all that counts: items, what is in flight, positions, counters that are seen outside."""
    u64 = log.core.mapping.u64
    read = log.core.records.read
    entries = log.core.in_flight.entries()
    return (
        [pair(read(at)) for at in log.scan()],
        [(pair(read(e.at)), e.seq, e.due, e.deliveries, bool(e.position)) for e in entries],
        [e.holder for e in entries if not e.position],
        log.core.positions(),
        u64[layout.W_DROPPED],
        u64[layout.W_EXPIRED],
        log.core.size(),
        log.core.used_bytes(),
    )


def held(log: PlainLog | KeyedLog, which: int = 0) -> Delivery:
    """Return a delivery that is held."""
    return Delivery.of([entry for entry in log.core.in_flight.entries() if not entry.position][which])


def reserve(log: PlainLog | KeyedLog) -> Delivery:
    found = log.reserve(ME, 0)
    assert found
    return found[0]


def give_back(log: PlainLog | KeyedLog) -> None:
    assert log.nack(reserve(log))


def then(*works: Callable[[Any], object]) -> Callable[[Any], None]:
    def do(log: PlainLog | KeyedLog) -> None:
        for work in works:
            work(log)

    return do


def limited(limit: int) -> Callable[[Any], None]:
    def do(log: PlainLog | KeyedLog) -> None:
        log.core.mapping.u64[layout.W_SIZE_LIMIT] = limit

    return do


def log_in(segment: Segment, mapping: Mapping | None = None) -> PlainLog | KeyedLog:
    """Return the log of a segment, of its kind, on a mapping of it."""
    mapping = mapping or segment.plain
    return KeyedLog(mapping, segment, HASH) if segment.u64[layout.W_ADDMODE] else PlainLog(mapping, segment)


def make(addmode: int = 0, **kind: Any) -> PlainLog | KeyedLog:
    """Return an empty log on a segment of its own, on which `Segment` has the options."""
    log = log_in(Segment(addmode, **kind))
    assert log.format()
    return log


def add(log: PlainLog | KeyedLog, *keys: bytes, size: int = 40) -> None:
    """Append a record for each key."""
    for key in keys:
        assert log.append(*record(key, size))


def waiting(log: PlainLog | KeyedLog) -> list[bytes]:
    """Return the keys in the log, the oldest first."""
    return [log.core.records.key_at(at) for at in log.scan()]
