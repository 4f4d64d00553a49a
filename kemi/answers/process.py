# SPDX-License-Identifier: GPL-2.0-or-later
"""The answers process: sleeps until the next answer or deadline, and lets transactions go on.

A route runs with its transaction's reply lock held. While it blocks, SIP workers that get a retransmission of that call
block too, and every other answer waits: so what takes longer than SLOW is told.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, final

from kemi.answers.pending import Pending, Question
from kemi.answers.results import NOTHING, Answer, AnswerStatus
from kemi.answers.seldom import Seldom
from kemi.answers.shards import Shard
from kemi.answers.tm import Identity, Tm
from kemi.queue.format.item import Item
from kemi.queue.format.layout import (
    W_ASK_ANSWERED,
    W_ASK_CANCELLED,
    W_ASK_FAILED,
    W_ASK_GONE,
    W_ASK_LATE,
    W_ASK_SLOW,
    W_ASK_TIMED_OUT,
    W_ASK_WITHDRAWN,
)
from kemi.queue.format.question import ANSWERED, ASKED, FAILED, WITHDRAWN, Message, message_of, route_of
from kemi.queue.sync.clock import now

SLOW = 0.05  # seconds
BATCH = 32
_WORDS = {
    AnswerStatus.ANSWERED: W_ASK_ANSWERED,
    AnswerStatus.FAILED: W_ASK_FAILED,
    AnswerStatus.TIMED_OUT: W_ASK_TIMED_OUT,
}


class Log(NamedTuple):
    """Where lines go."""

    error: Callable[[str], None]
    warn: Callable[[str], None]


class Turn:
    """One transaction that goes on: what its route is to know, and whether it ran."""

    def __init__(self, then: str, answer: Answer) -> None:
        self.then = then
        self.answer = answer
        self.ran = False


@final
class AnswersProcess:
    """What one answers process knows. All of it is lost with the process, as are the transactions."""

    def __init__(self, shard: Shard, tm: Tm, log: Log, route: str | None = None) -> None:
        """route: in which all transactions go on; None: each in the one that was named."""
        self._shard = shard
        self._tm = tm
        self._route = route
        self._error = log.error
        self._seldom = Seldom(log.warn)
        self._taken: deque[Item] = deque()  # from the queue, and not looked at
        self._pending = Pending()
        self._turn: Turn | None = None

    @property
    def turn(self) -> Turn | None:
        """The transaction that goes on at this moment."""
        return self._turn

    def answer(self) -> Answer:
        """What the route that runs now runs for."""
        return NOTHING if self._turn is None else self._turn.answer

    def pending(self) -> list[Question]:
        """What waits, in the order of asking."""
        return self._pending.all()

    def next_deadline(self) -> int | None:
        """When the next one's time is over, in monotonic ns; None if none waits."""
        return self._pending.next_deadline()

    def serve(self, seconds: float) -> None:
        """Work for so long, asleep while there is nothing to do. Raises MqueueError."""
        end = now() + int(seconds * 1e9)
        while (left := end - now()) > 0:
            deadline = self._pending.next_deadline()
            wait = left if deadline is None else min(left, max(0, deadline - now()))
            self.work(wait / 1e9)

    def work(self, timeout: float = 0.0) -> None:
        """Take what has come, for which it waits so long at most, and end what is over."""
        if not self._taken:
            self._taken.extend(self._shard.queue.fetch_many(BATCH, timeout))
        while self._taken:
            self._take(self._taken.popleft())
        while (late := self._pending.take_late(now())) is not None:
            self._go_on(late, AnswerStatus.TIMED_OUT, b"", "no answer came in time")

    def _take(self, item: Item) -> None:
        message = message_of(item.key_bytes, item.value_bytes)
        if message is None:
            self._shard.count(W_ASK_LATE)
        elif message.kind == ASKED:
            self._pending.add(Question(message.name, message.deadline, message.asked, route_of(message.value)))
        else:
            self._end(message)

    def _end(self, message: Message) -> None:
        question = self._pending.take(message.name)
        if question is None:
            self._shard.count(W_ASK_LATE)
        elif message.kind == WITHDRAWN:
            self._shard.count(W_ASK_WITHDRAWN)
        elif message.kind == ANSWERED:
            self._go_on(question, AnswerStatus.ANSWERED, message.value, "")
        elif message.kind == FAILED:
            self._go_on(question, AnswerStatus.FAILED, b"", message.value.decode("utf-8", "replace"))

    def _go_on(self, question: Question, status: AnswerStatus, value: bytes, reason: str) -> None:
        then, queue, key = question.route
        waited = (now() - question.asked) / 1e9
        answer = Answer(status, queue, key.decode("utf-8", "surrogateescape"), value, reason, waited)
        turn = self._turn = Turn(then, answer)
        begin = time.monotonic()
        try:
            code = self._tm.go_on(Identity(question.name.hash_index, question.name.label), self._route or then)
        except Exception as error:  # noqa: BLE001 - the others' answers go on
            self._error(f"route {then}: {type(error).__name__}: {error}")
            code = 0
        finally:
            self._turn = None
        if code < 0:
            self._shard.count(W_ASK_GONE)
        else:
            self._shard.count(_WORDS[status] if turn.ran else W_ASK_CANCELLED)
        if (took := time.monotonic() - begin) > SLOW:
            self._shard.count(W_ASK_SLOW)
            self._seldom.tell(
                then,
                f"route {then} took {took * 1000:.0f} ms: it has the transaction's reply lock meanwhile, so SIP "
                "workers that get a retransmission of that call wait, and so does every other answer; let it do "
                "nothing slow",
            )
