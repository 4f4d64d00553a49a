"""Runs a whole routing script as app_python3 does: mod_init, child_init, then its routes.

More strict than the server where that would only log: an error in the script is raised to the test.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

from kemi.instance import queues
from kemi.queue.item import Item
from kemi.testing.errors import NotCovered, SilentMistake
from kemi.testing.fake import CLIENT, Call, FakeKSR
from kemi.testing.message import FAKED, Message
from kemi.testing.state import Line, Relayed, Reply, Value

_HIGHEST_PEEK = 1 << 31
_IN_TEXT = "script"  # the name of a script that is given as text


class ScriptError(Exception):
    """Kamailio would not start with this script, or not find the route in it; says why."""


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

    @property
    def text(self) -> str:
        """The log as one text."""
        return "".join(line.text for line in self.log)

    def get(self, name: str) -> Value:
        """The value of a variable: result.get("$var(a)")."""
        return self.ksr.get(name)


class Script:
    """A routing script in one process of a server. Use it as a context manager, or call `close`."""

    def __init__(self, source: str | os.PathLike[str], ksr: FakeKSR | None = None, rank: int = 1) -> None:
        """source: the file, or the text of a script (with a line's end in it). Raises ScriptError.

        ksr: the fake; without it the one of the fixture, else a new one. rank: what child_init is told.
        """
        self._stack = contextlib.ExitStack()
        self.rank = rank
        found = ksr or FakeKSR.current() or FakeKSR()
        self.ksr = found
        try:
            if FakeKSR.current() is not found:
                self._stack.enter_context(found.installed())
            self._module = self._stack.enter_context(_loaded(source))
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
        self.ksr.on_relay = lambda: None
        self._stack.close()

    def reload(self) -> None:
        """As `kamcmd app_python.reload`: the script is executed again in this process, not the modules it imports."""
        _execute(self._module)
        self._start()

    def _start(self) -> None:
        mod_init = getattr(self._module, "mod_init", None)
        if not callable(mod_init):
            raise ScriptError("the script has no function mod_init()")
        self.handler = mod_init()
        if self.handler is None:
            raise ScriptError("mod_init() has returned None; it must return the object with the routes")
        child_init = getattr(self.handler, "child_init", None)
        if not callable(child_init):
            raise ScriptError(f"{type(self.handler).__name__} has no method child_init(self, rank)")
        status = child_init(self.rank)
        if not isinstance(status, int):
            raise ScriptError(f"child_init() must return an int, not {status!r}")
        if status < 0:
            raise ScriptError(f"child_init() has returned {status}")
        self.ksr.on_relay = self._on_relay

    # --- routes -----------------------------------------------------------------------------------------------------

    def request(self, text: str, source: tuple[str, int] = CLIENT, **where: Any) -> Result:
        """A request comes in: ksr_request_route. `source`, `received`, `proto`: see FakeKSR.receive."""
        self.ksr.receive(text, source, **where)
        if not self.ksr.state.message.is_request:
            raise ValueError(f"this is a reply, for Script.reply: {text[:60]!r}")
        return self._run("ksr_request_route", "request")

    def reply(self, text: str, source: tuple[str, int] = CLIENT, **where: Any) -> Result:
        """A reply comes in: ksr_reply_route."""
        self.ksr.receive(text, source, **where)
        if self.ksr.state.message.is_request:
            raise ValueError(f"this is a request, for Script.request: {text[:60]!r}")
        return self._run("ksr_reply_route", "core_onreply")

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

    def route(self, name: str, kind: str = "failure") -> Result:
        """A route that tm runs for the request of before: kind is branch, failure or onreply."""
        return self._run(name, kind)

    def _run(self, name: str, kind: str, *arguments: str) -> Result:
        state = self.ksr.state
        marks = (len(state.log), len(state.replies), len(state.relayed), len(self.ksr.calls))
        returned = self._call(name, kind, *arguments)
        return Result(
            returned,
            state.dropped,
            tuple(state.log[marks[0] :]),
            tuple(state.replies[marks[1] :]),
            tuple(state.relayed[marks[2] :]),
            tuple(self.ksr.calls[marks[3] :]),
            queue_contents(),
            self.ksr,
        )

    def _call(self, name: str, kind: str, *arguments: str) -> int | None:
        route = getattr(self.handler, name, None)
        if not callable(route):
            raise ScriptError(
                f"{type(self.handler).__name__} has no method {name}; "
                "a server that needs it goes on, and the error of that breaks its next route"
            )
        before, self.ksr.state.route_kind = self.ksr.state.route_kind, kind
        try:
            returned = route(Msg(self.ksr), *arguments)
        except SystemExit:
            return None
        finally:
            self.ksr.state.route_kind = before
        if not hasattr(type(returned), "__index__"):
            raise SilentMistake(
                f"{name} has returned {returned!r}, not a number: in the server the error of that breaks the next route"
            )
        return int(returned.__index__())

    def _on_relay(self) -> None:
        """What tm runs while it sends a request on. A route that is missing fails as in the server."""
        branch = self.ksr.state.transaction.routes.get("branch_route")
        for name, kind in ((branch, "branch"), (self.ksr.onsend_route, "onsend")):
            if name is None:
                continue
            try:
                getattr(self.handler, name)
            except AttributeError as error:
                text = "<built-in function t_relay> returned a result with an exception set"
                raise SystemError(text) from error
            self._call(name, kind)


class Msg:
    """The argument of each route: app_python3's own view of the message."""

    def __init__(self, ksr: FakeKSR) -> None:
        message = ksr.state.message
        self._message = message
        self.Type = "SIP_REQUEST" if message.is_request else "SIP_REPLY"
        if message.is_request:
            self.Method = message.method
            self.RURI = ksr.state.request_uri
        else:
            self.Status = str(message.status)

    def getHeader(self, name: str) -> str | None:  # noqa: N802 the server's name
        """The body of the first header of a name."""
        return self._message.first(name)

    def __getattr__(self, name: str) -> Any:
        if name in ("call_function", "copy", "dst_address", "rewrite_ruri", "set_dst_uri", "src_address"):
            raise NotCovered(f"msg.{name} is not covered by the fake: use KSR, which has it too")
        raise AttributeError(f"'Router.msg' object has no attribute '{name}'")


def run_route(
    script: str | os.PathLike[str], message: str, *, rank: int = 1, ksr: FakeKSR | None = None, **where: Any
) -> Result:
    """Load a script, let one message come in, and end: a request, or a reply for ksr_reply_route.

    run_route("conf/kamailio.py", "INVITE sip:bob@example.org").replies[0].code == 480
    """
    with Script(script, ksr, rank) as loaded:
        is_reply = message.lstrip().startswith("SIP/2.0 ")
        return loaded.reply(message, **where) if is_reply else loaded.request(message, **where)


def queue_contents() -> dict[str, list[tuple[str, str]]]:
    """What is in each queue now; nothing is taken out."""
    return {name: [_pair(item) for item in queue.peek(_HIGHEST_PEEK)] for name, queue in queues.items()}


def _pair(item: Item) -> tuple[str, str]:
    return item.key, item.value


# --- the file ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _loaded(source: str | os.PathLike[str]) -> Iterator[ModuleType]:
    """The script as a module; its folder is where imports are looked for first, as in the server."""
    text = os.fspath(source)
    if "\n" in text:
        module = ModuleType(_IN_TEXT)
        vars(module)["__source__"] = textwrap.dedent(text)
        folder = None
    else:
        path = os.path.abspath(text)
        name = os.path.splitext(os.path.basename(path))[0]
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or not os.path.exists(path):
            raise ScriptError(f"{text} is no Python file")
        module = importlib.util.module_from_spec(spec)
        folder = os.path.dirname(path)
    before, path_before = sys.modules.get(module.__name__), list(sys.path)
    sys.modules[module.__name__] = module
    if folder is not None:
        sys.path.insert(0, folder)
    try:
        _execute(module)
        yield module
    finally:
        sys.path[:] = path_before
        sys.modules.pop(module.__name__, None)
        if before is not None:
            sys.modules[module.__name__] = before


def _execute(module: ModuleType) -> None:
    spec = module.__spec__
    if spec is None:
        exec(compile(vars(module)["__source__"], "<script>", "exec"), vars(module))  # noqa: S102 the test wrote it
    elif spec.loader is not None:
        spec.loader.exec_module(module)
