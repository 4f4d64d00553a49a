"""A server's queues in this process, with a tm that does as a test says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kemi.answers.asking import Asking, Request
from kemi.answers.process import AnswersProcess, Log
from kemi.answers.shards import Shards
from kemi.answers.tm import Identity, Suspended, Unaskable
from kemi.answers.view import Totals, totals
from kemi.instance import Instance, queues
from kemi.spec import QueueSpec, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from kemi.answers.results import Answer, AskResult
    from kemi.queue.queue import Queue


class FakeTm:
    """Implements `kemi.answers.tm.Tm`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.transaction: Identity | None = Identity(5, 6)
        self.suspended = Suspended.YES
        self.unaskable: Unaskable | None = None
        self.before_suspend: Callable[[], object] = lambda: None
        self.code, self.runs = 1, True
        self.error: Exception | None = None
        self.said: list[tuple[str, int]] = []
        self.went_on: list[tuple[Identity, str]] = []
        self.answers: list[Answer] = []

    def has_route(self, name: str) -> bool:
        return name == "then"

    def identify(self) -> Identity | None:
        if self.unaskable is not None:
            raise self.unaskable
        return self.transaction

    def is_cancelled(self) -> bool:
        return False

    def suspend(self, milliseconds: int) -> Suspended:
        self.said.append(("suspend", milliseconds))
        self.before_suspend()
        return self.suspended

    def restore(self) -> None:
        pass

    def go_on(self, transaction: Identity, then: str) -> int:
        self.went_on.append((transaction, then))
        if self.error is not None:
            raise self.error
        if self.runs:
            self.answers.append(self._server.process.answer())
            turn = self._server.process.turn
            assert turn is not None
            turn.ran = True
        return self.code


class Server:
    """One instance with the queue `q`, whose processes are all this one."""

    def __init__(self, name: str) -> None:
        self.name = name
        settings = Settings(instance=name, max_memory=1 << 26)
        settings.define("test", QueueSpec("q"))
        self.instance = Instance.open(settings)
        self.queue: Queue = self.instance.define(settings.queues["q"])
        self.errors: list[str] = []
        self.worked_on = True
        self.tm = FakeTm(self)
        self.shards = Shards(self.instance, made_when_asked=True)
        self._asking = Asking(
            self.shards,
            self.tm,
            queues,
            3,
            lambda _: self.worked_on,
            why_no_queue=str,
            why_no_answers=str,
            error=self.errors.append,
        )
        self.shards.all()
        shard = self.shards.claim()
        assert shard is not None
        self.process = AnswersProcess(shard, self.tm, Log(self.errors.append, self.errors.append))
        self._ended = False

    def ask(self, **options: Any) -> AskResult:
        given = {"wait_for_worker": True, **options}
        return self._asking.ask(Request("q", "key", "value", "then", 2.0, **given))

    def answer(self, value: str | bytes) -> bool:
        """Answer the oldest question, as a worker does."""
        with self.queue.reserve(0) as item:
            assert item is not None
            return item.answer(value)

    def totals(self) -> Totals:
        return totals(self.name)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self.instance.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
