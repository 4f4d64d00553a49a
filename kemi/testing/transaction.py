# SPDX-License-Identifier: GPL-2.0-or-later
"""What tm keeps of a request that the fake has seen: its branches, its replies, the routes that wait for them."""

from __future__ import annotations

from typing import Any

from kemi.testing.message import Message

FINAL = 200
FAILED = 300


class Branch:
    """The request as it was sent to one next hop."""

    def __init__(self, uri: str, destination: str | None, flags: set[int]) -> None:
        self.uri = uri
        self.destination = destination
        self.flags = flags
        self.status = 0  # of its last reply
        self.timed_out = False
        self.reply: Message | None = None  # the last one

    @property
    def open(self) -> bool:
        """No final reply has come yet."""
        return self.status < FINAL


_INDEX, _LABEL = 15173, 736549355  # which ones, only a server knows


class Transaction:
    """What tm knows of the request."""

    def __init__(self, message: Message, number: int = 0) -> None:
        """number: of those that a state has seen."""
        self.message = message  # the request
        self.identity = (_INDEX, _LABEL + number)
        self.exists = False
        self.status = 0  # of the last reply that was sent
        self.branches: list[Branch] = []
        self.canceled = False
        self.routes: dict[str, str] = {}  # branch_route → the function's name
        self.kept: dict[str, Any] = {}  # what belongs to the request, for the routes that come later
        self.suspended = False
        self.continued = False  # it went on after an answer
        self.replied = False  # with a final reply

    @property
    def relayed(self) -> bool:
        """It was sent on."""
        return bool(self.branches)

    @property
    def answered(self) -> bool:
        """A branch has had a final reply that no timer made."""
        return any(not branch.open and not branch.timed_out for branch in self.branches)

    def belongs(self, message: Message) -> bool:
        """Return True for an ACK or a CANCEL of this request."""
        mine = self.message
        return (
            mine.method == "INVITE"
            and mine.first("Call-ID") == message.first("Call-ID")
            and number_of(mine) == number_of(message)
        )

    def last_open(self) -> Branch | None:
        """Return the newest branch that waits for a final reply."""
        return next((branch for branch in reversed(self.branches) if branch.open), None)

    def worst(self) -> Branch | None:
        """Return the branch whose final reply is the one to pass on: the lowest code, a 6xx before all."""
        done = [branch for branch in self.branches if branch.status >= FAILED]
        return min(done, key=lambda branch: (branch.status < 600, branch.status), default=None)  # noqa: PLR2004 SIP's


def number_of(message: Message) -> str:
    """Return the number in CSeq."""
    return ((message.first("CSeq") or "").split() or [""])[0]
