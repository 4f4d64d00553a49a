"""`ask`, step by step: what each failure between two steps leaves, with a tm that does as the test says."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from kemi.answers.process import AnswersProcess, Log
from kemi.answers.results import Answer, AnswerStatus, AskResult
from kemi.answers.tm import Identity, Suspended, Unaskable
from kemi.answers.view import totals
from kemi.queue.format.outcome import AddResult
from tests.unit.asked import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

_serial = itertools.count(1)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server's queues, with a transaction that can be suspended."""
    with Server(f"test-{os.getpid()}-ask{next(_serial)}") as found:
        yield found


def test_an_answer_goes_to_its_transaction(server: Server) -> None:
    """One line of events: asked, suspended, queued, answered, gone on."""
    assert server.ask() is AskResult.ASKED
    assert server.tm.said == [("suspend", 3000)]
    with server.queue.reserve(0) as item:
        assert item is not None
        assert item.asked
        assert item.left == pytest.approx(2.0, abs=1.0)
        assert item.answer(b"\xffyes")
    server.process.work()
    assert server.tm.went_on == [(Identity(5, 6), "then")]
    (answer,) = server.tm.answers
    assert (answer.status, answer.value_bytes, answer.value) == (AnswerStatus.ANSWERED, b"\xffyes", "\udcffyes")
    assert (answer.queue, answer.key, answer.reason) == ("q", "key", "")
    assert bool(answer)
    assert server.process.answer().status is AnswerStatus.NONE
    assert server.totals().answered == 1


def test_an_answer_that_is_too_large_fails_at_once(server: Server) -> None:
    """The script hears of it now, with a reason, and not by its timeout; the worker is told False."""
    assert server.ask() is AskResult.ASKED
    with server.queue.reserve(0) as item:
        assert item is not None
        assert not item.answer(b"x" * (1 << 26))  # all the memory that the instance may have
    server.process.work()
    (answer,) = server.tm.answers
    assert answer.status is AnswerStatus.FAILED
    assert f"the answer, {1 << 26} bytes, was refused: " in answer.reason
    assert (server.totals().failed, server.totals().pending, len(server.queue)) == (1, 0, 0)


def test_a_retransmission_asks_nothing(server: Server) -> None:
    """It belongs to a transaction that has asked."""
    server.tm.transaction = None
    assert server.ask() is AskResult.ASKED
    assert (len(server.queue), server.totals().asked) == (0, 0)


@pytest.mark.parametrize(
    ("suspended", "result", "said"),
    [(Suspended.NO, AskResult.FAILED, "tm could not suspend"), (Suspended.CANCELLED, AskResult.CANCELLED, "")],
)
def test_what_is_not_suspended_is_not_asked(server: Server, suspended: Suspended, result: AskResult, said: str) -> None:
    """It is withdrawn, and no worker sees it."""
    server.tm.suspended = suspended
    assert server.ask() is result
    assert len(server.queue) == 0
    server.process.work()
    found = server.totals()
    assert (found.asked, found.withdrawn, found.pending) == (1, 1, 0)
    assert server.tm.went_on == []
    assert said in "".join(server.errors)


def test_a_queue_that_filled_in_between(server: Server) -> None:
    """The transaction is suspended already, so its route runs as failed, and says why."""
    server.queue.set_limits(1, 0)
    server.tm.before_suspend = lambda: server.queue.add("other", "item")
    assert server.ask() is AskResult.ASKED
    server.process.work()
    (answer,) = server.tm.answers
    assert (answer.status, answer.reason) == (AnswerStatus.FAILED, "not queued: the queue is full")
    assert [item.key for item in server.queue.peek(None)] == ["other"]
    assert server.totals().failed == 1


def test_what_goes_on_without_its_route_is_cancelled_and_what_is_not_there_is_gone(server: Server) -> None:
    """Neither return value of t_continue means "answered"."""
    for code, runs in ((1, False), (-1, False)):
        assert server.ask() is AskResult.ASKED
        server.tm.code, server.tm.runs = code, runs
        assert server.answer("x")
        server.process.work()
    found = server.totals()
    assert (found.cancelled, found.gone, found.answered, found.pending) == (1, 1, 0, 0)


def test_a_route_that_raises_does_not_keep_the_others(server: Server) -> None:
    """It is told, and the next answer goes on."""
    for _ in range(2):
        assert server.ask() is AskResult.ASKED
    server.tm.error = RuntimeError("broken")
    for _ in range(2):
        server.answer("x")
    server.process.work()
    assert len(server.tm.went_on) == 2
    assert [error for error in server.errors if "RuntimeError: broken" in error]


def test_bounds(server: Server) -> None:
    """max_asked is exact, and what has ended makes room."""
    assert [server.ask() for _ in range(4)] == [AskResult.ASKED] * 3 + [AskResult.FULL]
    server.answer("x")
    server.process.work()
    assert server.ask() is AskResult.ASKED
    assert server.totals().pending == 3


def test_a_place_where_nobody_can_ask(server: Server) -> None:
    """The text of tm's refusal is told."""
    server.tm.unaskable = Unaskable("an ACK has no transaction")
    assert server.ask() is AskResult.FAILED
    assert server.errors == ["ask('q'): an ACK has no transaction"]


def test_one_line_a_minute_for_what_happens_to_every_call(server: Server) -> None:
    """Not a line a call, while nobody works."""
    server.worked_on = False
    assert {server.ask(wait_for_worker=False) for _ in range(50)} == {AskResult.NO_WORKER}
    assert len(server.errors) == 1


def test_another_answers_process_begins_with_the_next_shard(server: Server) -> None:
    """What one has claimed is its own while it lives; a second claim in this process is the same."""
    first = server.shards.claim()
    assert first is not None
    assert first.number == 0
    assert first.queue.segment.name.endswith(".~answers0")
    assert len(server.shards.all()) == 1
    assert totals(server.name).processes == 1


def test_an_answer_is_false_unless_answered() -> None:
    """What a script writes as `if answer:`."""
    assert not Answer(AnswerStatus.FAILED, "q", "k", reason="no")
    assert Answer(AnswerStatus.ANSWERED, "q", "k", b"")
    assert AskResult.ASKED
    assert not AskResult.FULL


def test_the_hidden_queue_is_none_of_the_users(server: Server) -> None:
    """It is in no list, its name is nobody's, and it goes with the server."""
    from kemi import host

    assert server.ask() is AskResult.ASKED
    assert host.names()[server.name] == ["q"]
    assert server.queue.add("k", "v") is AddResult.ADDED
    shard = server.shards.all()[0].queue
    server.end()
    assert shard.is_closed()
    assert isinstance(server.process, AnswersProcess)
    assert Log._fields == ("error", "warn")
