"""What a server knows while a script runs: the message, what was done to it, variables, the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, Union

from kemi.testing import uri
from kemi.testing.message import FAKED, Message

Value = Union[str, int, None]


class Name(NamedTuple):
    """$(kind(inner)[which]), or less of it."""

    text: str  # as written
    kind: str
    inner: str | None = None
    which: str | None = None  # "1", "-1", "*"


class Line(NamedTuple):
    """One line of the log; text with its line's end, as the script wrote it."""

    level: str  # dbg, info, notice, warn, err, crit, alert
    text: str


class Reply(NamedTuple):
    """A reply that was sent."""

    code: int
    reason: str
    headers: tuple[str, ...]  # lines that the script added
    body: str
    by: str  # sl or tm


class Relayed(NamedTuple):
    """A request that was sent on."""

    uri: str
    destination: str | None  # $du
    changes: tuple[Change, ...]


class Change(NamedTuple):
    """What was done to the message that goes on: add or remove, and the header."""

    action: str
    text: str


class Transaction:
    """What tm knows of the request."""

    def __init__(self) -> None:
        self.exists = False
        self.status = 0  # of the last reply
        self.relayed = False
        self.routes: dict[str, str] = {}  # branch_route → the function's name


class State:
    """Everything that a script can change."""

    def __init__(self) -> None:
        self.log: list[Line] = []
        self.variables: dict[str, Value] = {}  # $var: the process keeps it
        self.named: dict[str, Value] = {}  # $vn
        self.zeroed: dict[str, Value] = {}  # $vz
        self.shared: dict[str, Value] = {}  # $shv
        self.replies: list[Reply] = []
        self.relayed: list[Relayed] = []
        self.listening = ("127.0.0.1", 5060)
        self.receive(Message(FAKED, ("127.0.0.1", 5060), self.listening))

    def receive(self, message: Message) -> None:
        """A new message: what belongs to the one before is gone."""
        self.message = message
        self.new_uri: str | None = None
        self.destination: str | None = None
        self.avps: dict[str, list[Value]] = {}
        self.flags: set[int] = set()
        self.script_flags: set[int] = set()
        self.branch_flags: set[int] = set()
        self.changes: list[Change] = []
        self.reply_headers: list[str] = []
        self.reply_body = ""
        self.dropped = False
        self.record_routed = False
        self.transaction = Transaction()
        self.route_kind = "request"

    @property
    def request_uri(self) -> str:
        """As it is now."""
        return self.message.uri if self.new_uri is None else self.new_uri

    def parsed_uri(self) -> uri.Uri | None:
        """The request's URI in parts; None for a reply, and when it is no URI."""
        return uri.parse(self.request_uri)

    def write(self, level: str, text: str) -> None:
        """To the log."""
        self.log.append(Line(level, text))

    def is_myself(self, host: str, port: int = 0) -> bool:
        """Whether the server listens there; any port for 0."""
        return host.lower() == self.listening[0] and port in (0, self.listening[1])


class Server(Protocol):
    """What the functions of KSR see of the fake."""

    state: State
    on_relay: Callable[[], None]

    def value(self, name: Name) -> Value:
        """The value of a variable."""

    def known(self, name: str) -> bool:
        """Whether the test gave this variable a value of its own."""

    def stubbed(self, path: str) -> bool:
        """Whether the test says what this function gives."""
