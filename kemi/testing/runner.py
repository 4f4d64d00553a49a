# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a whole routing script as app_python3 (or app_python3s) does: mod_init, child_init, then its routes.

More strict than the server where that would only log: an error in the script is raised to the test.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from kemi.answers.service import THEN
from kemi.instance import queues
from kemi.queue.format.item import Item
from kemi.testing import conversation, embedder, release
from kemi.testing.blocking import ADVICE, REPLY_LOCK, watched
from kemi.testing.calls import system_error
from kemi.testing.errors import SilentMistake
from kemi.testing.fake import CLIENT, Call, FakeKSR
from kemi.testing.loading import ScriptError, execute, loaded
from kemi.testing.message import FAKED, Message
from kemi.testing.msg import Msg
from kemi.testing.questions import Asked, Questions
from kemi.testing.state import Line, Relayed, Reply, Value
from kemi.testing.transaction import Transaction

__all__ = ["Msg", "Result", "Script", "ScriptError", "run_route"]

_HIGHEST_PEEK = 1 << 31
_NONE_IN_C = -1  # what PyLong_AsLong says of a None, and 6.0 then goes on with


class Result(NamedTuple):
    """What one route did."""

    returned: int | None  # None: it ended by exit()
    dropped: bool  # KSR.set_drop()
    log: tuple[Line, ...]
    replies: tuple[Reply, ...]
    relayed: tuple[Relayed, ...]
    calls: tuple[Call, ...]
    queues: dict[str, list[tuple[str, str]]]  # name → key and value of each item, oldest first
    ksr: FakeKSR
    suspended: bool = False  # the transaction waits for an answer

    @property
    def text(self) -> str:
        """The log as one text."""
        return "".join(line.text for line in self.log)

    @property
    def code(self) -> int | None:
        """The code of the last reply; None for none."""
        return self.replies[-1].code if self.replies else None

    def get(self, name: str) -> Value:
        """The value of a variable: result.get("$var(a)")."""
        return self.ksr.get(name)


class Script:
    """A routing script in one process of a server. Use it as a context manager, or call `close`."""

    def __init__(
        self,
        source: str | os.PathLike[str],
        ksr: FakeKSR | None = None,
        rank: int = 1,
        *,
        kamailio: str | None = None,
    ) -> None:
        """source: the file, or the text of a script (with a line's end in it). Raises ScriptError, ValueError.

        ksr: the fake; without it the one of the fixture, else a new one, of the release `kamailio`. rank: what
        child_init is told.
        """
        self._stack = contextlib.ExitStack()
        self.rank = rank
        found = _fake(ksr, kamailio)
        self.ksr = found
        try:
            if FakeKSR.current() is not found:
                self._stack.enter_context(found.installed())
            self._questions = Questions()
            self._stack.enter_context(self._questions.time())
            self._module = self._stack.enter_context(loaded(source))
            self._start()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End it: its queues are gone, and `import KSR` is as before."""
        self.ksr.on_relay = self.ksr.on_forward = lambda: None
        self.ksr.on_continue = lambda *_: None
        self._stack.close()

    def reload(self) -> None:
        """As `kamcmd app_python.reload`: the script is executed again in this process, not the modules it imports."""
        execute(self._module)
        self._start()

    def _start(self) -> None:
        self._embedder = embedder.of_script(self._module, self.ksr.release)
        self.handler = self._embedder.start(self._module, self.rank)
        self.ksr.on_relay = self._on_relay
        self.ksr.on_forward = self._on_forward
        self.ksr.on_continue = self._on_continue

    # --- routes -----------------------------------------------------------------------------------------------------

    def request(self, text: str, source: tuple[str, int] = CLIENT, **where: Any) -> Result:
        """A request comes in: ksr_request_route. `source`, `received`, `proto`: see FakeKSR.receive."""
        self.ksr.receive(text, source, **where)
        if not self.ksr.state.message.is_request:
            raise ValueError(f"this is a reply, for Script.reply: {text[:60]!r}")
        return self._run("ksr_request_route", "request")

    def reply(
        self,
        text: str | int,
        source: tuple[str, int] = CLIENT,
        *,
        reason: str | None = None,
        more: str = "",
        branch: int | None = None,
        **where: Any,
    ) -> Result:
        """A reply comes in. Raises ValueError.

        reply(486): the next hop answers the request that was sent on last. The server's routes follow: the script's
        ksr_reply_route, the route of t_on_reply; for a final one of 300 and more, when no branch is open any more, that
        of t_on_failure; then ksr_onsend_route, if the reply goes on to the caller. more: header lines, and after an
        empty line a body. branch: the number of the branch; without it, the newest that has no final reply.

        reply("SIP/2.0 404 Not Found"): a message as it is, which belongs to no transaction: ksr_reply_route only.
        """
        if isinstance(text, int):
            made = conversation.answer(self.ksr.state, text, reason, more, branch)
            return self._record(lambda: conversation.Conversation(self.ksr.state, self._run_if_there).reply(*made))
        self.ksr.receive(text, source, **where)
        if self.ksr.state.message.is_request:
            raise ValueError(f"this is a request, for Script.request: {text[:60]!r}")
        conversation.enter_core_reply(self.ksr.state)
        return self._run("ksr_reply_route", "core_onreply")

    def timeout(self) -> Result:
        """Nobody has answered in time: what is open of the request that was sent on last fails with 408."""
        found = conversation.timed_out(self.ksr.state)
        return self._record(lambda: conversation.Conversation(self.ksr.state, self._run_if_there).fail(found))

    def onsend(self) -> Result:
        """The message of before is sent: ksr_onsend_route. `KSR.tm.t_relay` runs it by itself."""
        return self._run("ksr_onsend_route", "onsend")

    def timer(self, name: str, event: str = "rtimer") -> Result:
        """An rtimer runs a route; there is no message but the server's own."""
        return self.event(name, event)

    def event(self, name: str, event: str) -> Result:
        """An event route, as modules name them in event_callback: script.event("ksr_xhttp_event", "xhttp:request")."""
        state = self.ksr.state
        state.receive(Message(FAKED, state.listening, state.listening))
        return self._run(name, "event", event)

    def route(self, name: str, kind: str = "failure", code: int | None = None) -> Result:
        """One route that tm runs for the request that was sent on: kind is branch, onreply, failure or branch_failure.

        code: of the reply that it is run for; without it, the last one that came, else 408 for a failure and 200 for a
        reply.
        """
        conversation.enter(self.ksr.state, kind, code)
        return self._run(name, kind)

    def _run(self, name: str, kind: str, *arguments: str) -> Result:
        return self._record(lambda: self._call(name, kind, *arguments))

    def _record(self, run: Callable[[], int | None]) -> Result:
        state = self.ksr.state
        marks = (len(state.log), len(state.replies), len(state.relayed), len(self.ksr.calls))
        returned = run()
        return Result(
            returned,
            state.dropped,
            tuple(state.log[marks[0] :]),
            tuple(state.replies[marks[1] :]),
            tuple(state.relayed[marks[2] :]),
            tuple(self.ksr.calls[marks[3] :]),
            queue_contents(),
            self.ksr,
            state.transaction.suspended,
        )

    def _run_if_there(self, name: str, kind: str) -> int | None:
        """A route that the server looks for; one that is missing is passed over, with a line in its log."""
        if not callable(getattr(self.handler, name, None)):
            self.ksr.server_log.append(Line("err", f"{name} not found or is not callable\n"))
            return 1
        return self._call(name, kind)

    def _call(self, name: str, kind: str, *arguments: str) -> int | None:
        route = getattr(self.handler, name, None)
        if not callable(route):
            has_no = f"{type(self.handler).__name__} has no method"
            if self.handler is self._module:
                has_no = "the script has no function"
            raise ScriptError(
                f"{has_no} {name}; a server that needs it goes on, and in 5.6 the error of that breaks its next route"
            )
        before, self.ksr.state.route_kind = self.ksr.state.route_kind, kind
        try:
            with watched(self._questions.name_of(name), REPLY_LOCK if name == THEN else ADVICE):
                returned = route(*self._embedder.arguments(self.ksr), *arguments)
        except SystemExit:
            return None
        finally:
            self.ksr.state.route_kind = before
            self._questions.tell_ignored()
        return self._number(name, returned)

    def _number(self, name: str, returned: Any) -> int:
        if hasattr(type(returned), "__index__"):
            return int(returned.__index__())
        if self.ksr.release == "5.6":
            raise SilentMistake(
                f"{name} has returned {returned!r}, not a number: in Kamailio 5.6 that error breaks the next route"
            )
        return _NONE_IN_C

    # --- questions --------------------------------------------------------------------------------------------------

    def asked(self, queue: str) -> list[Asked]:
        """What the script has asked there and nobody has answered yet, the oldest first."""
        return self._questions.all(queue)

    def work(self, worker: Any) -> list[Result]:
        """Let a worker (`mqueue_kemi.worker`) answer all that was asked in its queue; what the routes then did."""
        return self._questions.work(worker)

    def advance(self, seconds: float) -> list[Result]:
        """Let time pass, in which nothing sleeps: what routes do whose question has timed out, in order."""
        return self._questions.advance(seconds)

    def no_worker(self, queue: str) -> None:
        """From here on no process works on a queue: `ask` gives NO_WORKER. Until then there seems to be one."""
        self._questions.no_worker(queue)

    def _on_continue(self, transaction: Transaction, route: str) -> None:
        """A suspended transaction goes on, as in a failure route: with its request, not with the message of now."""
        state = self.ksr.state

        def run() -> int | None:
            conversation.enter_request(state, transaction, None)
            returned = self._call(route, "failure")
            transaction.kept = state.keep()
            return returned

        self._questions.went_on(self._record(run))

    def _on_relay(self) -> None:
        """What tm runs while it sends a request on. In 5.6 a route that is missing fails the call."""
        state = self.ksr.state
        branch = state.transaction.routes.pop("branch_route", None)
        for name, kind in ((branch, "branch"), (self.ksr.onsend_route, "onsend")):
            index = state.branch
            state.branch = len(state.transaction.branches) - 1 if kind == "branch" else -1
            self._call_within(name, kind, "t_relay")
            state.branch = index

    def _on_forward(self) -> None:
        """What the core runs while it sends a request on by itself."""
        self._call_within(self.ksr.onsend_route, "onsend", "forward")

    def _call_within(self, name: str | None, kind: str, function: str) -> None:
        """A route that runs inside of a function of KSR. In 5.6 that function fails when there is none."""
        if name is None:
            return
        try:
            getattr(self.handler, name)
        except AttributeError as error:
            if self.ksr.release != "5.6":
                return
            raise system_error(function, error) from error
        self._call(name, kind)


def _fake(ksr: FakeKSR | None, kamailio: str | None) -> FakeKSR:
    """The one to use. Raises ValueError when it is another release than the one that is wanted."""
    found = ksr or FakeKSR.current()
    if found is None:
        return FakeKSR(kamailio=kamailio)
    if kamailio is not None and release.choose(kamailio) != found.release:
        raise ValueError(f"kamailio={kamailio!r}, but the fake of this test is {found.release}")
    return found


def run_route(
    script: str | os.PathLike[str],
    message: str,
    *,
    rank: int = 1,
    ksr: FakeKSR | None = None,
    kamailio: str | None = None,
    **where: Any,
) -> Result:
    """Load a script, let one message come in, and end: a request, or a reply for ksr_reply_route.

    run_route("conf/kamailio.py", "INVITE sip:bob@example.org").replies[0].code == 480
    """
    with Script(script, ksr, rank, kamailio=kamailio) as found:
        is_reply = message.lstrip().startswith("SIP/2.0 ")
        return found.reply(message, **where) if is_reply else found.request(message, **where)


def queue_contents() -> dict[str, list[tuple[str, str]]]:
    """What is in each queue now; nothing is taken out."""
    return {name: [_pair(item) for item in queue.peek(_HIGHEST_PEEK)] for name, queue in queues.items()}


def _pair(item: Item) -> tuple[str, str]:
    return item.key, item.value
