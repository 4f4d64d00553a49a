# SPDX-License-Identifier: GPL-2.0-or-later
"""From and To, of which a script sets the parts: $fu, $fU, $fd, $fn, and the same for $t.

As in the server, the message that is sent has them, and a script reads them after msg_apply_changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kemi.testing.draft import Draft
from kemi.testing.errors import SilentMistake
from kemi.testing.message import Header
from kemi.testing.state import Change, State, Value

_HEADERS = {"f": "From", "t": "To"}
# Display name with the space behind it, "<", URI, the rest.
_BODY = re.compile(r'(?P<display>(?:"(?:[^"\\]|\\.)*"|[^<"]*?)\s*)(?P<open><)(?P<uri>[^>]*)(?P<rest>>.*)', re.DOTALL)
_PLAIN = re.compile(r"(?P<display>)(?P<open>)(?P<uri>[^;]*)(?P<rest>.*)", re.DOTALL)
_URI = re.compile(r"(?P<scheme>\w+:)(?P<user>[^@]*@)?(?P<host>\[[^]]*\]|[^:;?]*)(?P<rest>.*)", re.DOTALL)


def put(state: State, kind: str, value: Value) -> bool:
    """Set a part, or take it away with None; what a URI cannot be without stays."""
    name, part = _HEADERS[kind[0]], _PARTS[kind[1]]
    text = None if value is None else str(value)
    if text and part is _put_display and "<" not in (state.message.first(name) or "<"):
        raise SilentMistake(f"{name} has no <...>: with ${kind} before it, the server would send a broken message")
    state.changes.append(Change("change", f"{name}: ${kind} = {text or ''}"))
    state.edits.append(lambda draft: _edit(draft, name, part, text))
    return True


def _edit(draft: Draft, name: str, part: Callable[[dict[str, str], str | None], None], value: str | None) -> None:
    for place in draft.places(name)[:1]:
        header, _ = draft.lines[place]
        found = _BODY.fullmatch(header.body) or _PLAIN.fullmatch(header.body)
        pieces = found.groupdict() if found else {}
        if pieces:
            part(pieces, value)
            draft.lines[place] = (Header(header.name, "".join(pieces.values()).strip()), False)


def _put_uri(pieces: dict[str, str], value: str | None) -> None:
    pieces["uri"] = pieces["uri"] if value is None else value


def _put_display(pieces: dict[str, str], value: str | None) -> None:
    pieces["display"] = "" if value is None else f"{value} "


def _put_user(pieces: dict[str, str], value: str | None) -> None:
    _put_piece(pieces, "user", "" if value is None else f"{value}@")


def _put_host(pieces: dict[str, str], value: str | None) -> None:
    if value is not None:
        _put_piece(pieces, "host", value)


def _put_piece(pieces: dict[str, str], name: str, value: str) -> None:
    found = _URI.fullmatch(pieces["uri"])
    if found:
        parts = {key: text or "" for key, text in found.groupdict().items()}
        pieces["uri"] = "".join({**parts, name: value}.values())


_PARTS = {"u": _put_uri, "U": _put_user, "d": _put_host, "n": _put_display}
KINDS = frozenset(header + part for header in _HEADERS for part in _PARTS)
