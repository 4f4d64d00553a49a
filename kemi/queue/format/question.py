# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of a question, and of what is told to its asker.

A question is an item of a user's queue whose record has the flag QUESTION: behind the value lies its envelope, which
says to whom the answer goes and until when somebody waits for it.

    envelope: answers u64 | index u32 | label u32 | serial u64 | deadline u64 | asked u64 | shard u32 | 20 bytes of 0

ANSWERS is CREATED of the queue that the answer goes to, so a question that outlived its server is told from one whose
asker waits. INDEX and LABEL are tm's name of the transaction; with SERIAL, which no other question of a server has,
they are the question's name. DEADLINE and ASKED are monotonic ns. SHARD is the number of the answers queue.

What goes through an answers queue is an item each: the key is a head, the value depends on the kind.

    head: kind u32 | index u32 | label u32 | 0 u32 | serial u64 | deadline u64 | asked u64
"""

from __future__ import annotations

import struct
import time
from typing import NamedTuple

from kemi.queue.format.item import record_of
from kemi.queue.format.layout import ENVELOPE_BYTES, LENGTH_MASK, QUESTION, R_VALUE, RECORD, RECORD_HEAD

_ENVELOPE = struct.Struct("=QIIQQQI20x")
_HEAD = struct.Struct("=IIIIQQQ")
_WORD = struct.Struct("@I")
_LENGTHS = struct.Struct("@4xII")
HEAD_BYTES = _HEAD.size
if _ENVELOPE.size != ENVELOPE_BYTES:
    raise AssertionError(_ENVELOPE.size)

# Kinds of messages.
ASKED, WITHDRAWN, ANSWERED, FAILED = 1, 2, 3, 4


class Name(NamedTuple):
    """A question's name: tm's index and label of the transaction, and a number that no other question has."""

    hash_index: int
    label: int
    serial: int


class Envelope(NamedTuple):
    """To whom the answer goes, and until when."""

    answers: int  # CREATED of the answers queue
    name: Name
    deadline: int  # monotonic ns
    asked: int  # monotonic ns
    shard: int  # number of the answers queue


class Message(NamedTuple):
    """What goes through an answers queue: that a question was asked, or what became of it."""

    kind: int
    name: Name
    deadline: int  # monotonic ns; of ASKED
    asked: int  # monotonic ns; of ASKED
    value: bytes  # ASKED: see `Route`; ANSWERED: the answer; FAILED: why


class Route(NamedTuple):
    """How the transaction goes on, and what was asked."""

    then: str
    queue: str
    key: bytes


def question_record(key: bytes, value: bytes, flags: int, envelope: Envelope) -> bytes:
    """Return a record, padded, ready to be appended. flags: of the texts, see `item.encode`."""
    answers, name, deadline, asked, shard = envelope
    size = RECORD_HEAD + len(key) + len(value) + ENVELOPE_BYTES
    step = size + 7 & -8
    head = RECORD.pack(step, len(key), len(value) | flags | QUESTION, 0, time.time())
    return head + key + value + _ENVELOPE.pack(answers, *name, deadline, asked, shard) + bytes(step - size)


def is_question(record: bytes) -> bool:
    """Return True if somebody asked."""
    return bool(_WORD.unpack_from(record, R_VALUE * 4)[0] & QUESTION)


def envelope_of(record: bytes) -> Envelope | None:
    """Return the envelope of a question; None of another item."""
    key_length, length = _LENGTHS.unpack_from(record)
    if not length & QUESTION:
        return None
    at = RECORD_HEAD + key_length + (length & LENGTH_MASK)
    answers, index, label, serial, deadline, asked, shard = _ENVELOPE.unpack_from(record, at)
    return Envelope(answers, Name(index, label, serial), deadline, asked, shard)


def message_key(kind: int, name: Name, deadline: int = 0, asked: int = 0) -> bytes:
    """Return the head of a message, which is its item's key."""
    return _HEAD.pack(kind, name.hash_index, name.label, 0, name.serial, deadline, asked)


def message_record(kind: int, name: Name, value: bytes, deadline: int = 0, asked: int = 0) -> bytes:
    """Return a message's record, padded, ready to be appended."""
    record = record_of(message_key(kind, name, deadline, asked), value, time.time())
    return record + bytes(-len(record) & 7)


def message_of(key: bytes, value: bytes) -> Message | None:
    """Return the message of an item; None if it is none."""
    if len(key) != HEAD_BYTES:
        return None
    kind, index, label, _, serial, deadline, asked = _HEAD.unpack(key)
    return Message(kind, Name(index, label, serial), deadline, asked, value)


def route_bytes(route: Route) -> bytes:
    """Return the value of ASKED."""
    then, queue = (text.encode("utf-8", "surrogatepass") for text in route[:2])
    return b"%d %d " % (len(then), len(queue)) + then + queue + route.key


def route_of(value: bytes) -> Route:
    """Its opposite. Raises ValueError for what is none."""
    then_length, queue_length, rest = value.split(b" ", 2)
    middle = int(then_length)
    end = middle + int(queue_length)
    then, queue = (part.decode("utf-8", "surrogatepass") for part in (rest[:middle], rest[middle:end]))
    return Route(then, queue, rest[end:])
