# SPDX-License-Identifier: GPL-2.0-or-later
"""Items on their way to an engine and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kemi.queue.format.item import Item, record_of
from kemi.remote.group import Entry

BATCH, BATCH_BYTES = 500, 1 << 20  # of one call to the engine
LARGEST = 500 << 20  # bytes: what an engine takes as one string


def id_of(entry: Entry) -> str:
    """What the item is called for ever: what it was called where it was relayed from."""
    return entry.fields.get(b"i", entry.name.encode()).decode("utf-8", "surrogateescape")


def record_from(entry: Entry) -> bytes:
    """The item as a record."""
    fields = entry.fields
    return record_of(fields[b"k"], fields[b"v"], float(fields[b"t"]), int(fields.get(b"f", 0)))


def parts_of_pair(pair: Any) -> tuple[Any, Any]:
    """Key and value of what is to be added."""
    if isinstance(pair, Item):
        return pair.key, pair.value
    key, value = pair
    return key, value


def batch_of(records: Sequence[tuple[bytes, bytes, int]], first: int) -> list[tuple[bytes, bytes, int]]:
    """As many from there on as are sent together; none if the first one is too large."""
    size = 0
    batch: list[tuple[bytes, bytes, int]] = []
    for record in records[first : first + BATCH]:
        length = len(record[0]) + len(record[1])
        if length > LARGEST or (batch and size + length > BATCH_BYTES):
            break
        batch.append(record)
        size += length
    return batch
