"""The bytes of questions and of what goes through an answers queue; the answers process's own table."""

from __future__ import annotations

import random

import pytest

from kemi.answers.pending import Pending, Question
from kemi.queue.format.item import encode, key_bytes_of, key_of, value_bytes_of, value_of
from kemi.queue.format.layout import RECORD
from kemi.queue.format.question import (
    ANSWERED,
    ASKED,
    Envelope,
    Name,
    Route,
    envelope_of,
    is_question,
    message_of,
    message_record,
    question_record,
    route_bytes,
    route_of,
)

NAME = Name(0x01020304, 0xFFFFFFFE, 0x1112131415161718)
ENVELOPE = Envelope(0x2122232425262728, NAME, 0x3132333435363738, 0x4142434445464748, 7)


@pytest.mark.parametrize(("key", "value"), [("", ""), ("k", "v"), ("ä" * 33, "x" * 1000), (b"\xff\0", b"\xfe")])
def test_a_question_reads_as_any_item(key: str | bytes, value: str | bytes) -> None:
    """Key and value are what was put in; the envelope comes back; the record is as long as its step."""
    key_bytes, value_bytes, flags = encode(key, value)
    record = question_record(key_bytes, value_bytes, flags, ENVELOPE)
    assert (key_bytes_of(record), value_bytes_of(record)) == (key_bytes, value_bytes)
    if isinstance(key, str):
        assert (key_of(record), value_of(record)) == (key, value)
    assert is_question(record)
    assert envelope_of(record) == ENVELOPE
    step, key_length, _, link, _ = RECORD.unpack_from(record)
    assert (step, key_length, link) == (len(record), len(key_bytes), 0)
    assert not len(record) % 8


def test_the_bytes_of_an_envelope() -> None:
    """Behind the value, 64 bytes, whatever machine writes them."""
    record = question_record(b"12345678", b"", 0, ENVELOPE)
    expected = "282726252423222104030201feffffff18171615141312113837363534333231484746454443424107000000"
    assert record[32:].hex() == expected + "00" * 20


def test_messages() -> None:
    """The head is the key; anything else is no message."""
    route = Route("ksr answered", "lookups ü", b"key \0")
    record = message_record(ASKED, NAME, route_bytes(route), 5, 6)
    message = message_of(key_bytes_of(record), value_bytes_of(record))
    assert message is not None
    assert message[:4] == (ASKED, NAME, 5, 6)
    assert route_of(message.value) == route
    step, _, _, link, _ = RECORD.unpack_from(record)
    assert (step, link, len(record) % 8) == (len(record), 0, 0)
    assert len(message_record(ANSWERED, NAME, b"x")) % 8 == 0
    assert not is_question(record)
    assert message_of(b"other", b"") is None


# --- what waits -------------------------------------------------------------------------------------------------------


def question(number: int, deadline: int) -> Question:
    return Question(Name(1, 2, number), deadline, 0, Route("then", "queue", b""))


def test_what_waits_ends_once_and_in_order() -> None:
    """By its answer, or by its time; never by both."""
    pending = Pending()
    for number, deadline in enumerate((30, 10, 20)):
        pending.add(question(number, deadline))
    assert pending.next_deadline() == 10
    assert pending.take_late(9) is None
    taken = pending.take(Name(1, 2, 1))
    assert taken is not None
    assert pending.take(Name(1, 2, 1)) is None
    assert pending.next_deadline() == 20
    late = [pending.take_late(100), pending.take_late(100), pending.take_late(100)]
    assert [each and each.deadline for each in late] == [20, 30, None]
    assert (len(pending), pending.next_deadline()) == (0, None)


def test_what_was_answered_leaves_nothing() -> None:
    """A million answered questions with far deadlines take no memory."""
    pending = Pending()
    dice = random.Random(1)  # noqa: S311 - no secret
    for number in range(20_000):
        pending.add(question(number, dice.randrange(10**9, 2 * 10**9)))
        if number >= 50:
            assert pending.take(Name(1, 2, number - 50)) is not None
    assert len(pending) == 50
    assert len(pending._deadlines) <= 2 * 50 + 65
