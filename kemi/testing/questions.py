# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions in a test: what a script asked, answers, and the time that passes, all in this process.

The test's clock stands still but for `advance`, so no deadline passes by itself, and nothing sleeps.
"""

from __future__ import annotations

import contextlib
import dis
import sys
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from kemi import asking
from kemi.answers.asking import Request
from kemi.answers.pending import Question
from kemi.answers.process import AnswersProcess
from kemi.answers.results import AskResult
from kemi.answers.service import THEN, Service
from kemi.instance import queues
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.delivery.hold import Settlement
from kemi.queue.delivery.reserved import ReservedItem, settle
from kemi.queue.format.question import Name, envelope_of
from kemi.queue.sync import clock
from kemi.testing.loading import ScriptError

_clock: Any = clock
_asking: Any = asking
_BACK = Settlement("give back", counted=False)


class IgnoredResult(UserWarning):
    """A script has not looked at what `ask` returned."""


class Asked:
    """A question of a suspended transaction.

    `answer` and `fail` do what a worker's do; the route goes on, and its Result is returned. None: it ran already, or
    the caller has given up.
    """

    def __init__(self, questions: Questions, question: Question, value: str) -> None:
        self._questions = questions
        self._name = question.name
        self.queue = question.route.queue
        self.key = question.route.key.decode("utf-8", "surrogateescape")
        self.value = value
        self.timeout = (question.deadline - question.asked) / 1e9

    def answer(self, value: str | bytes) -> Any:
        """Answer it."""
        return self._questions.settle(self.queue, self._name, lambda item: item.answer(value))

    def fail(self, reason: str) -> Any:
        """Say that there is no answer."""
        return self._questions.settle(self.queue, self._name, lambda item: item.reject(reason))

    def __repr__(self) -> str:
        return f"Asked(queue={self.queue!r}, key={self.key!r}, value={self.value!r}, timeout={self.timeout})"


class Questions:
    """The questions of one script that runs in a test."""

    def __init__(self) -> None:
        self._now: int = _clock.monotonic_ns()
        self._results: list[Any] = []
        self._ignored: list[tuple[str, int, Request]] = []  # file, line

    @contextlib.contextmanager
    def time(self) -> Iterator[None]:
        """As long as this lasts, the clock of deadlines and due times is the test's, and each `ask` is looked at."""
        before, ask = _clock.monotonic_ns, _asking.ask

        def looked_at(request: Request) -> AskResult:
            script = sys._getframe(2)  # noqa: SLF001 - behind mqueue_kemi.ask, or what is written in a kamailio.cfg
            if _drops_result(script):
                self._ignored.append((script.f_code.co_filename, script.f_lineno, request))
            result: AskResult = ask(request)
            return result

        _clock.monotonic_ns = lambda: self._now
        _asking.ask = looked_at
        try:
            yield
        finally:
            _clock.monotonic_ns = before
            _asking.ask = ask

    def tell_ignored(self) -> None:
        """Warn of each `ask` since the last call whose result the script has dropped."""
        ignored, self._ignored = self._ignored, []
        for file, line, request in ignored:
            warnings.warn_explicit(
                f"ask({request.queue!r}): what it returns is not looked at; when it is false the transaction is not "
                "suspended, and nobody replies: write `if not mqueue_kemi.ask(...):` and reply, or return it",
                IgnoredResult,
                file,
                line,
            )

    def went_on(self, result: Any) -> None:
        """A route has run for an answer."""
        self._results.append(result)

    def name_of(self, route: str) -> str:
        """The route that a test knows of, where tm runs the one that runs it."""
        service = asking.service()
        turn = service.process.turn if route == THEN and service is not None and service.process is not None else None
        return route if turn is None else turn.then

    # --- what a test does

    def all(self, queue: str) -> list[Asked]:
        """What was asked there and waits, the oldest first."""
        _known(queue)
        self._work()
        waiting = [question for question in _process().pending() if question.route.queue == queue]
        values = {name: item.value for item in queues[queue].peek(None, reserved=True) if (name := _name(item))}
        return [Asked(self, question, values.get(question.name, "")) for question in waiting]

    def settle(self, queue: str, name: Name, how: Callable[[ReservedItem], object]) -> Any:
        """Do with a question what a worker does. Returns the Result of its route."""
        self._work()
        if not any(question.name == name for question in _process().pending()):
            return None
        items = queues[queue].reserve_many(max(1, len(queues[queue]))).take()
        for item in items:
            if _name(item) == name:
                how(item)
            else:
                settle(item, _BACK)
        return next(iter(self._work()), None)

    def work(self, worker: Any) -> list[Any]:
        """Let a worker answer all; the Results of the routes that went on."""
        _known(worker.queue)
        with AttachedQueue(_service().shards.instance, worker.queue) as queue:
            worker.drain(queue)
        return self._work()

    def advance(self, seconds: float) -> list[Any]:
        """Let time pass; the Results of the routes whose time is over, in order."""
        self._work()
        end = self._now + int(seconds * 1e9)
        results = []
        while (deadline := _process().next_deadline()) is not None and deadline <= end:
            self._now = max(self._now, deadline)
            results += self._work()
        self._now = end
        return results + self._work()

    def no_worker(self, queue: str) -> None:
        """From here on no process works on a queue."""
        _known(queue)
        _service().without_worker.add(queue)

    def _work(self) -> list[Any]:
        """Do what the answers process has to do now; the Results."""
        self._results = []
        _process().work()
        return self._results


def _drops_result(frame: FrameType) -> bool:
    """Does the function forget what the call returns that it makes now?"""
    later = (one for one in dis.get_instructions(frame.f_code) if one.offset > frame.f_lasti)
    return next((one.opname == "POP_TOP" for one in later if one.opname not in ("CACHE", "NOP")), False)


def _service() -> Service:
    service = asking.service()
    if service is None:
        raise ScriptError("the script's mod_init() does not end with mqueue_kemi.mod_init(...), so it cannot ask")
    return service


def _process() -> AnswersProcess:
    process = _service().begin()
    if process is None:
        raise ScriptError("another process serves the answers of this test's queues")
    return process


def _known(queue: str) -> None:
    if queue not in queues:
        raise ValueError(f"the script has no queue {queue!r}; it has {', '.join(sorted(queues)) or 'none'}")


def _name(item: Any) -> Name | None:
    envelope = envelope_of(item._record)  # noqa: SLF001 - what a test sees of it has no envelope
    return None if envelope is None else envelope.name
