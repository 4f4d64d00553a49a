# SPDX-License-Identifier: GPL-2.0-or-later
"""The message as it will be: what a script adds and removes is kept, and made only when the message is sent.

A change looks at the message as it came: a header that was added is not found by a later remove. msg_apply_changes
makes the message what it would be sent as.
"""

from __future__ import annotations

from collections.abc import Callable

from kemi.testing.message import Header, Message, canonical

Edit = Callable[["Draft"], None]


class Draft:
    """Headers with what is new among them, and the body."""

    def __init__(self, message: Message) -> None:
        self.lines: list[tuple[Header, bool]] = [(header, False) for header in message.headers]
        self.body = message.body

    def places(self, name: str) -> list[int]:
        """Where the headers of a name are that came with the message."""
        return [
            place
            for place, (header, new) in enumerate(self.lines)
            if not new and canonical(header.name) == canonical(name)
        ]

    def replace(self, old: Header, new: Header | None) -> None:
        """One header that came with the message becomes another one, or none."""
        for place, (header, is_new) in enumerate(self.lines):
            if header is old and not is_new:
                self.lines[place : place + 1] = [] if new is None else [(new, False)]
                return


def header_of(line: str) -> Header:
    """A line as a header."""
    name, _, body = line.rstrip("\r\n").partition(":")
    return Header(name.strip(), body.strip())


def append(line: str) -> Edit:
    """After all headers."""
    return lambda draft: draft.lines.append((header_of(line), True))


def insert(line: str) -> Edit:
    """Before all headers."""
    return lambda draft: draft.lines.insert(0, (header_of(line), True))


def beside(line: str, name: str, *, after: bool) -> Edit:
    """Beside the first header of a name; at the end, or the beginning, where there is none."""

    def edit(draft: Draft) -> None:
        places = draft.places(name)
        end = len(draft.lines) if after else 0
        draft.lines.insert(places[0] + after if places else end, (header_of(line), True))

    return edit


def remove(header: Header) -> Edit:
    """A header that came with the message goes."""
    return lambda draft: draft.replace(header, None)


def change(header: Header, body: str) -> Edit:
    """A header that came with the message gets another body."""
    return lambda draft: draft.replace(header, Header(header.name, body))


def body(text: str) -> Edit:
    """Another body."""

    def edit(draft: Draft) -> None:
        draft.body = text

    return edit


def apply(message: Message, edits: list[Edit], request_uri: str) -> Message:
    """Return the message as it would be sent."""
    draft = Draft(message)
    for edit in edits:
        edit(draft)
    length = len(draft.body.encode("utf-8", "surrogateescape"))
    first, *_ = message.text.partition("\r\n")
    if message.is_request:
        first = f"{message.method} {request_uri} SIP/2.0"
    lines = [f"{header.name}: {header.body}" for header, _ in draft.lines if canonical(header.name) != "content-length"]
    text = "\r\n".join([first, *lines, f"Content-Length: {length}"]) + "\r\n\r\n" + draft.body
    return Message(text, message.source, message.received, message.proto)
