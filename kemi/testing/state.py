# SPDX-License-Identifier: GPL-2.0-or-later
"""What a server knows while a script runs: the message, what was done to it, variables, the log."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Union

from kemi.testing import uri
from kemi.testing.draft import Edit
from kemi.testing.memory import Memory
from kemi.testing.message import FAKED, Message
from kemi.testing.transaction import Transaction

Value = Union[str, int, None]


class Name(NamedTuple):
    """$(kind(inner)[which]{transformed}), or less of it."""

    text: str  # as written
    kind: str
    inner: str | None = None
    which: str | None = None  # "1", "-1", "*"
    transformations: tuple[str, ...] = ()  # s.len, param.value,home


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


# What comes with a message and is gone with it; a transaction keeps it for its later routes.
_OF_A_MESSAGE = (
    *("new_uri", "destination", "path", "avps", "xavps", "flags", "script_flags", "branch_flags"),
    *("changes", "edits", "branches", "reply_headers", "reply_body", "record_routed", "sockets", "to_dialog"),
)


class State:
    """Everything that a script can change."""

    def __init__(self) -> None:
        self.log: list[Line] = []
        self.variables: dict[str, Value] = {}  # $var: the process keeps it
        self.named: dict[str, Value] = {}  # $vn
        self.zeroed: dict[str, Value] = {}  # $vz
        self.shared: dict[str, Value] = {}  # $shv
        self.counted: dict[str, Value] = {}  # $xavu
        self.named_lists: dict[str, Any] = {}  # $xavi, by name in lower case
        self.memory = Memory()  # what modules keep in shared memory
        self.replies: list[Reply] = []
        self.relayed: list[Relayed] = []
        self.transactions: list[Transaction] = []  # those that were sent on or answered, oldest first
        self.armed: dict[str, str] = {}  # routes as a script of this process armed them last
        self.listening = ("127.0.0.1", 5060)
        self.dropped = False
        self._received = itertools.count()
        self.receive(Message(FAKED, ("127.0.0.1", 5060), self.listening))

    def receive(self, message: Message) -> None:
        """A new message: what belongs to the one before is gone."""
        self.message = message
        self.clear()
        self.dropped = False
        self.transaction = Transaction(message, next(self._received))
        self.branch = 0  # $T_branch_idx
        self.route_kind = "request"

    def clear(self) -> None:
        """Nothing is known of the message but what stands in it."""
        self.new_uri: str | None = None
        self.destination: str | None = None
        self.path: str | None = None
        self.avps: dict[str, list[Value]] = {}
        self.xavps: dict[str, Any] = {}
        self.flags: set[int] = set()
        self.script_flags: set[int] = set()
        self.branch_flags: set[int] = set()
        self.changes: list[Change] = []
        self.edits: list[Edit] = []  # the same, as it is done to the message
        self.branches: list[tuple[str, str | None]] = []  # more targets: URI, destination
        self.reply_headers: list[str] = []
        self.reply_body = ""
        self.record_routed = False
        self.sockets: dict[str, str] = {}  # $fs and the like
        self.to_dialog: dict[str, Value] = {}  # $dlg_var

    def keep(self) -> dict[str, Any]:
        """Return what belongs to the message, as it is now."""
        return {name: copy.copy(getattr(self, name)) for name in _OF_A_MESSAGE}

    def bring_back(self, kept: dict[str, Any], *names: str) -> None:
        """Let what was kept be so again; only what is named, if anything is."""
        for name in names or kept:
            if name in kept:
                setattr(self, name, copy.copy(kept[name]))

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

    release: str
    state: State
    server_log: list[Line]
    on_relay: Callable[[], None]
    on_forward: Callable[[], None]
    on_continue: Callable[[Transaction, str], None]

    def value(self, name: Name) -> Value:
        """The value of a variable."""

    def known(self, name: str) -> bool:
        """Whether the test gave this variable a value of its own."""

    def stubbed(self, path: str) -> bool:
        """Whether the test says what this function gives."""
