# SPDX-License-Identifier: GPL-2.0-or-later
"""Items and the bytes of their records.

str crosses as UTF-8. Bytes that were not UTF-8 reach Python as lone surrogates U+DC80..U+DCFF (`surrogateescape`) and
become the same bytes again. A str with any other lone surrogates, which no bytes stand for, is kept with
`surrogatepass`, and a flag in the record says so: every str comes back as it went in.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Iterator
from typing import Any, Union

from kemi.errors import ItemError
from kemi.queue.format.layout import KEY_PASS, LENGTH_MASK, RECORD, RECORD_HEAD, VALUE_PASS

Data = Union[str, bytes, bytearray, memoryview]  # what a key or a value may be

# Parts of layout.RECORD: a script reads keys and values more often than it adds.
_key_length = struct.Struct("@4xI").unpack_from
_lengths = struct.Struct("@4xII").unpack_from


class Item:
    """A key and a value, and when they were added. Equal and hashed by their bytes; unpacks as key, value; pickles."""

    __slots__ = ("_deadline", "_record")

    def __init__(self, record: bytes, deadline: float | None = None) -> None:
        """deadline: moment from which nobody wants it, seconds since the epoch."""
        self._record = record
        self._deadline = deadline

    @property
    def key(self) -> str:
        """The key as str; bytes that are not UTF-8 as surrogates (`surrogateescape`)."""
        return key_of(self._record)

    @property
    def value(self) -> str:
        """The value, as `key`."""
        return value_of(self._record)

    @property
    def key_bytes(self) -> bytes:
        """The key as it lies in shared memory."""
        return key_bytes_of(self._record)

    @property
    def value_bytes(self) -> bytes:
        """The value as it lies in shared memory."""
        return value_bytes_of(self._record)

    @property
    def added(self) -> float:
        """When it was added, seconds since the epoch."""
        added: float = RECORD.unpack_from(self._record)[4]
        return added

    @property
    def age(self) -> float:
        """Seconds since it was added, by this host's clock; at least 0."""
        return max(0.0, time.time() - self.added)

    @property
    def deadline(self) -> float | None:
        """Moment from which nobody wants it, seconds since the epoch; None: there is none."""
        return self._deadline

    @property
    def left(self) -> float | None:
        """Seconds to the deadline, at least 0; None: there is none. Fits every `timeout=`."""
        return None if self._deadline is None else max(0.0, self._deadline - time.time())

    def __reduce__(self) -> tuple[Any, ...]:
        return Item, (self._record, self._deadline)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Item):
            return NotImplemented
        return (self.key_bytes, self.value_bytes) == (other.key_bytes, other.value_bytes)

    def __hash__(self) -> int:
        return hash((self.key_bytes, self.value_bytes))

    def __iter__(self) -> Iterator[str]:
        """So that `key, value = item` reads well."""
        return iter((self.key, self.value))

    def __repr__(self) -> str:
        return f"Item(key={self.key!r}, value={self.value!r}, added={self.added!r})"


def item_id(created: int, seq: int) -> str:
    """Return the id of an item, never used again: when its queue was made (ns since the epoch), its number there."""
    return f"{created:x}-{seq:x}"


def item_of(record: bytes, max_age: int) -> Item:
    """Return the item of a record, in a queue that delivers for `max_age` ns; 0: for ever."""
    return Item(record, deadline_after(record, max_age)) if max_age else Item(record)


def deadline_after(record: bytes, max_age: int) -> float | None:
    """Return the moment until which a queue delivers it that does so for `max_age` ns; 0: for ever."""
    if not max_age:
        return None
    added: float = RECORD.unpack_from(record)[4]
    return added + max_age / 1e9


def record_of(key: bytes, value: bytes, added: float, flags: int = 0) -> bytes:
    """Return a record, ready to be appended, of bytes as they lay in shared memory before. flags: see `flags_of`."""
    step = RECORD_HEAD + len(key) + len(value) + 7 & -8
    return RECORD.pack(step, len(key), len(value) | flags, 0, added) + key + value


def parts_of(record: bytes) -> tuple[bytes, bytes, float]:
    """Key, value and time of adding of a record, as they lie in shared memory."""
    _, key_length, value_length, _, added = RECORD.unpack_from(record)
    start = RECORD_HEAD + key_length
    return record[RECORD_HEAD:start], record[start : start + (value_length & LENGTH_MASK)], added


def flags_of(record: bytes) -> int:
    """How the key and the value in a record were encoded (KEY_PASS, VALUE_PASS)."""
    return int(_lengths(record)[1]) & (KEY_PASS | VALUE_PASS)


def key_bytes_of(record: bytes) -> bytes:
    """Return the key in a record, as it lies in shared memory."""
    return record[RECORD_HEAD : RECORD_HEAD + _key_length(record)[0]]


def value_bytes_of(record: bytes) -> bytes:
    """Return the value in a record, as it lies in shared memory."""
    key_length, value_length = _lengths(record)
    start = RECORD_HEAD + key_length
    return record[start : start + (value_length & LENGTH_MASK)]


def key_of(record: bytes) -> str:
    """Return the key in a record, as str."""
    end = RECORD_HEAD + _key_length(record)[0]
    try:
        return record[RECORD_HEAD:end].decode()
    except UnicodeDecodeError:
        return _decode_other(record[RECORD_HEAD:end], _lengths(record)[1] & KEY_PASS)


def value_of(record: bytes) -> str:
    """Return the value in a record, as str."""
    key_length, length = _lengths(record)
    start = RECORD_HEAD + key_length
    try:
        return record[start : start + (length & LENGTH_MASK)].decode()
    except UnicodeDecodeError:
        return _decode_other(record[start : start + (length & LENGTH_MASK)], length & VALUE_PASS)


def _decode_other(data: bytes, passed: int) -> str:
    if passed:
        with contextlib.suppress(UnicodeDecodeError):  # only in damaged memory
            return data.decode("utf-8", "surrogatepass")
    return data.decode("utf-8", "surrogateescape")


def encode(key: Data, value: Data) -> tuple[bytes, bytes, int]:
    """Key, value and flags, for whatever `str.encode` alone does not take. Raises ItemError for other types."""
    key_bytes, key_pass = _encode("key", key)
    value_bytes, value_pass = _encode("value", value)
    return key_bytes, value_bytes, (KEY_PASS if key_pass else 0) | (VALUE_PASS if value_pass else 0)


def _encode(what: str, text: object) -> tuple[bytes, bool]:
    if isinstance(text, (bytes, bytearray, memoryview)):
        return bytes(text), False
    if not isinstance(text, str):
        raise ItemError(f"{what} must be str or bytes, not {type(text).__name__}")
    try:
        data = text.encode("utf-8", "surrogateescape")
        if data.decode("utf-8", "surrogateescape") == text:
            return data, False
    except UnicodeEncodeError:
        pass
    return text.encode("utf-8", "surrogatepass"), True
