# SPDX-License-Identifier: GPL-2.0-or-later
"""`ask`: enter the question, suspend the transaction, queue the question. Never blocks, never raises.

The order, and what a failure between two steps leaves:

    1. all that can be refused without a transaction: nothing was done
    2. ASKED into the answers queue: counted, and its deadline is kept from here on
    3. suspend: where that fails, WITHDRAWN; the script goes on with the transaction
    4. the question into the user's queue: where that fails although there was room in 1, the answers queue gets FAILED,
       and the route runs for that. Nobody could take the suspension back.

If a process dies between two steps, so does its server.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, final

from kemi.answers.results import AskResult
from kemi.answers.seldom import Seldom
from kemi.answers.shards import Shard, Shards, new_name
from kemi.answers.tm import Suspended, Tm, Unaskable
from kemi.errors import MqueueError
from kemi.queue.format.item import encode
from kemi.queue.format.outcome import AddResult
from kemi.queue.format.question import Name, Route, question_record
from kemi.queue.queue import Queue
from kemi.queue.sync.clock import now

LONGEST = 3600.0  # seconds
BACKSTOP = 1000  # ms that tm waits longer than the answers process


class Refusal(Exception):
    """Why nothing was asked; `code` is what the script gets."""

    def __init__(self, code: AskResult, text: str) -> None:
        super().__init__(text)
        self.code = code


class Request(NamedTuple):
    """One call of `ask`."""

    queue: str
    key: str | bytes
    value: str | bytes
    then: str
    timeout: float
    wait_for_worker: bool


@final
class Asking:
    """Asks for the processes of one server."""

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        shards: Shards,
        tm: Tm,
        queues: Mapping[str, Queue],
        max_asked: int,
        has_worker: Callable[[Queue], bool],
        *,
        why_no_queue: Callable[[str], str],
        why_no_answers: Callable[[], str],
        error: Callable[[str], None],
    ) -> None:
        self._shards = shards
        self._tm = tm
        self._queues = queues
        self._max_asked = max_asked
        self._has_worker = has_worker
        self._why_no_queue = why_no_queue
        self._why_no_answers = why_no_answers
        self._error = error
        self._seldom = Seldom(error)

    def ask(self, request: Request) -> AskResult:
        """Ask, or say why not."""
        try:
            return self._ask(request)
        except Refusal as refusal:
            text = f"ask({request.queue!r}): {refusal}"
            if refusal.code is AskResult.FAILED:
                self._error(text)
            else:
                self._seldom.tell((request.queue, refusal.code), text)
            return refusal.code
        except Unaskable as error:
            self._error(f"ask({request.queue!r}): {error}")
        except MqueueError as error:
            self._error(f"ask({request.queue!r}): {error}")
        return AskResult.FAILED

    def _ask(self, request: Request) -> AskResult:
        queue, seconds = self._checked(request)
        key, value, flags = encode(request.key, request.value)
        transaction = self._tm.identify()
        if transaction is None:
            return AskResult.ASKED  # a retransmission of what asked already
        if self._tm.is_cancelled():
            return AskResult.CANCELLED
        shard, name = self._shards.of(transaction), new_name(transaction)
        asked = now()
        deadline = asked + int(seconds * 1e9)
        self._enter(shard, name, deadline, asked, Route(request.then, request.queue, key))
        suspended = self._tm.suspend(math.ceil(seconds * 1000) + BACKSTOP)
        if suspended is not Suspended.YES:
            shard.withdraw(name)
            if suspended is Suspended.CANCELLED:
                return AskResult.CANCELLED
            raise Refusal(AskResult.FAILED, "tm could not suspend the transaction; its own line in the log says why")
        record = question_record(key, value, flags, shard.envelope(name, deadline, asked))
        self._put(queue, record, shard, name)
        return AskResult.ASKED

    # --- what can be refused without a transaction --------------------------------------------------------------------

    def _checked(self, request: Request) -> tuple[Queue, float]:
        queue = self._queue(request.queue)
        seconds = _seconds(request.timeout)
        then: object = request.then
        if not isinstance(then, str) or not then:
            raise Refusal(AskResult.FAILED, f"then={then!r}: name the route in which the transaction goes on")
        if not self._tm.has_route(then):
            raise Refusal(AskResult.FAILED, f"then={then!r}: the script has no such route")
        if not self._shards.all():
            raise Refusal(AskResult.FAILED, self._why_no_answers())
        if not request.wait_for_worker and not self._has_worker(queue):
            raise Refusal(
                AskResult.NO_WORKER,
                "no worker: no living process has reserved items of this queue; start one (mqueue-kemi work), or let "
                "questions wait for it (wait_for_worker=True)",
            )
        if queue.is_at_limit():
            raise Refusal(AskResult.FULL, "the queue is full: its workers are behind")
        return queue, seconds

    def _queue(self, name: object) -> Queue:
        if not isinstance(name, str):
            raise Refusal(AskResult.FAILED, f"the queue's name must be str, not {type(name).__name__}")
        queue = self._queues.get(name)
        if queue is None:
            raise Refusal(AskResult.FAILED, f"mqueue not found; {self._why_no_queue(name)}")
        if queue.addmode:
            raise Refusal(
                AskResult.FAILED,
                f"the queue has addmode={queue.addmode}, which drops one of two questions with the same key; ask in a "
                "queue with addmode=0",
            )
        return queue

    # --- the steps ----------------------------------------------------------------------------------------------------

    def _enter(self, shard: Shard, name: Name, deadline: int, asked: int, route: Route) -> None:
        others = sum(each.pending() for each in self._shards.all() if each is not shard)
        outcome = shard.enter(name, deadline, asked, route, self._max_asked - others)
        if outcome is AddResult.FULL:
            raise Refusal(
                AskResult.FULL,
                f"{self._max_asked} questions wait for an answer already; the bound is "
                f'modparam("mqueue", "max_asked", {self._max_asked})',
            )
        if not outcome:
            raise Refusal(AskResult.FULL, f"the answers queue does not take it: {shard.queue.reason(outcome)}")

    def _put(self, queue: Queue, record: bytes, shard: Shard, name: Name) -> None:
        """Queue the question of a suspended transaction. It ends in any case: by its deadline at the latest."""
        try:
            outcome = queue.add_question(record)
            if outcome:
                return
            reason = "the queue is full" if outcome is AddResult.FULL else queue.reason(outcome)
        except MqueueError as error:
            reason = str(error)
        self._seldom.tell((queue.name, "put"), f"ask({queue.name!r}): not queued, its route runs as failed: {reason}")
        try:
            shard.fail(name, f"not queued: {reason}")
        except MqueueError as error:
            self._error(f"ask({queue.name!r}): {error}; the question ends by its timeout")


def _seconds(timeout: object) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= LONGEST:
        raise Refusal(AskResult.FAILED, f"timeout={timeout!r}: write seconds, more than 0 and at most {LONGEST:.0f}")
    return float(timeout)
