# SPDX-License-Identifier: GPL-2.0-or-later
"""`ask`, `answer` and the answers process as a script and kamailio.cfg reach them: one object in each process.

rtimer calls `ksr_mqueue_answers` of the script's handler, and tm lets transactions go on in its `ksr_mqueue_then`,
which runs the route that was named. Both are put there: a script does not write them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from kemi.answers.asking import Asking, Request
from kemi.answers.process import AnswersProcess, Log
from kemi.answers.results import NOTHING, Answer, AskResult
from kemi.answers.shards import MAX_SHARDS, Shards
from kemi.answers.tm import Tm
from kemi.errors import MqueueError
from kemi.instance import Instance
from kemi.names import ANSWERS_ROUTE
from kemi.queue.queue import Queue
from kemi.queue.sync import futex

SERVE, THEN = ANSWERS_ROUTE, "ksr_mqueue_then"
TURN = 30.0  # seconds that one call of the timer takes; then Kamailio has its turn
_PAUSE = 1.0  # seconds after an error, so that a timer of a millisecond does not fill the log


def _has_worker(queue: Queue) -> bool:
    return queue.has_workers()


class Service:
    """What this process asks and answers."""

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        instance: Instance,
        queues: Mapping[str, Queue],
        max_asked: int,
        tm: Tm,
        log: Log,
        *,
        why_no_queue: Callable[[str], str],
        why_no_answers: Callable[[], str],
        alone: bool = False,
    ) -> None:
        """alone: this process is all that there is of a server, as in a test; every queue has a worker then."""
        self.shards = Shards(instance, made_when_asked=alone)
        self.without_worker: set[str] = set()  # names of queues, where this process is alone
        self.handler: Any = None
        self._tm = tm
        self._log = log
        self._route: str | None = THEN
        self._process: AnswersProcess | None = None
        self._asking = Asking(
            self.shards,
            tm,
            queues,
            max_asked,
            self._seems_to_have_worker if alone else _has_worker,
            why_no_queue=why_no_queue,
            why_no_answers=why_no_answers,
            error=log.error,
        )

    def _seems_to_have_worker(self, queue: Queue) -> bool:
        return queue.name not in self.without_worker

    def attach_to(self, handler: Any, *, in_named_route: bool) -> None:
        """Let the handler of a script have what rtimer and tm call. Raises AttributeError where it takes nothing.

        in_named_route: transactions go on in the route that was named, which calls `begin_route`.
        """
        self.handler = handler
        self._route = None if in_named_route else THEN
        setattr(handler, SERVE, self.serve)
        setattr(handler, THEN, self.then)

    def prepare(self, count: int) -> None:
        """Make answers queues before the processes are there that will serve them. Raises MqueueError."""
        for _ in range(min(count, MAX_SHARDS)):
            self.shards.make()

    # --- in a SIP worker

    def ask(self, request: Request) -> AskResult:
        """Ask; see `asking`."""
        return self._asking.ask(request)

    # --- in an answers process

    @property
    def process(self) -> AnswersProcess | None:
        """What this process is, once it has served."""
        return self._process

    def answer(self) -> Answer:
        """What the route that runs now runs for."""
        return NOTHING if self._process is None else self._process.answer()

    def serve(self, *_message: object) -> int:
        """Be an answers process for a while: what the timer calls, again and again."""
        try:
            process = self.begin()
            if process is not None:
                futex.expect_no_signals()
                process.serve(TURN)
                return 1
            self._log.error(f"there are {MAX_SHARDS} answers processes already: lower mode= of their rtimer")
        except MqueueError as error:
            self._log.error(f"the answers process: {error}")
        time.sleep(_PAUSE)
        return 1

    def begin(self) -> AnswersProcess | None:
        """Be an answers process from now on; None if there are too many. Raises MqueueError."""
        if self._process is not None:
            return self._process
        shard = self.shards.claim()
        if shard is None:
            return None
        self._process = AnswersProcess(shard, self._tm, self._log, self._route)
        return self._process

    def then(self, *message: object) -> int:
        """Run the route that was named for the transaction that goes on."""
        turn = self._process.turn if self._process is not None else None
        if turn is None:
            return 1
        self.begin_route()
        result: int = getattr(self.handler, turn.then)(*message)
        return result

    def begin_route(self) -> Answer:
        """Note that the route runs, as it must for its answer to count. Returns what it runs for."""
        turn = self._process.turn if self._process is not None else None
        if turn is None:
            return NOTHING
        if not turn.ran:
            turn.ran = True
            self._tm.restore()
        return turn.answer
