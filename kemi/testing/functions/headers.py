# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.hdr, KSR.maxfwd, and what KSR.textops does with headers and the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kemi.testing import draft, regex
from kemi.testing.errors import SilentMistake
from kemi.testing.message import Header, canonical
from kemi.testing.state import Change, Server

_FOUND, _NOT_FOUND = 1, -1
_HIGHEST_HOPS = 255


# --- read -------------------------------------------------------------------------------------------------------------


def _getter(null: str | None) -> Callable[..., str | None]:
    def get(fake: Server, name: str, index: int = 0) -> str | None:
        bodies = fake.state.message.all(name)
        return bodies[index] if -len(bodies) <= index < len(bodies) else null

    return get


def _is_present(fake: Server, name: str) -> int:
    return _FOUND if fake.state.message.all(name) else _NOT_FOUND


def _matching(fake: Server, pattern: str) -> list[str]:
    return [header.name for header in fake.state.message.headers if regex.search(pattern, header.name)]


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda body, value: body == value,
    "ne": lambda body, value: body != value,
    "sw": lambda body, value: body.startswith(value),
    "in": lambda body, value: value in body,
}
_WHICH: dict[str, Callable[[list[bool]], bool]] = {
    "f": lambda results: results[0],
    "l": lambda results: results[-1],
    "a": all,
    "o": any,
}


def _match_content(fake: Server, name: str, operator: str, value: str, which: str) -> bool:
    matches, choose = _OPERATORS.get(operator.lower()), _WHICH.get(which[:1].lower())
    if matches is None or choose is None:
        raise SilentMistake(
            f"hdr.match_content: the server knows {', '.join(_OPERATORS)} and {', '.join(_WHICH)}, "
            f"not {operator!r} and {which!r}; it logs an error and gives False"
        )
    bodies = fake.state.message.all(name)
    return bool(bodies) and choose([matches(body.strip().lower(), value.lower()) for body in bodies])


def _search_hf(fake: Server, name: str, pattern: str, which: str) -> int:
    bodies = fake.state.message.all(name)
    chosen = {"f": bodies[:1], "l": bodies[-1:]}.get(which[:1].lower(), bodies)
    return _FOUND if any(regex.search(pattern, body) for body in chosen) else _NOT_FOUND


def _search(fake: Server, pattern: str) -> int:
    return _FOUND if regex.search(pattern, fake.state.message.text) else _NOT_FOUND


def _search_body(fake: Server, pattern: str) -> int:
    return _FOUND if regex.search(pattern, fake.state.message.body) else _NOT_FOUND


def _has_body_type(fake: Server, wanted: str) -> int:
    kind = (fake.state.message.first("Content-Type") or "").partition(";")[0].strip()
    return _FOUND if fake.state.message.body and kind.lower() == wanted.lower() else _NOT_FOUND


# --- change: the message as it is stays, only what is sent on is changed ----------------------------------------------


def _line(text: str) -> str:
    """A header as the server takes it: as it is."""
    if text and not text.endswith("\r\n"):
        raise SilentMistake(f"the header {text!r} has no \\r\\n at its end: the server would send a broken message")
    return text


def _adder(edit: Callable[..., draft.Edit]) -> Callable[..., int]:
    def add(fake: Server, text: str, *other: str) -> int:
        fake.state.changes.append(Change("add", _line(text)))
        if text:
            fake.state.edits.append(edit(text, *other))
        return 1

    return add


_append = _adder(draft.append)
_insert = _adder(draft.insert)
_append_after = _adder(lambda text, name: draft.beside(text, name, after=True))
_insert_before = _adder(lambda text, name: draft.beside(text, name, after=False))


def remove_header(fake: Server, header: Header) -> None:
    """One header of the message is not sent on."""
    fake.state.changes.append(Change("remove", header.name))
    fake.state.edits.append(draft.remove(header))


def _remove(fake: Server, name: str) -> int:
    for header in fake.state.message.headers:
        if canonical(header.name) == canonical(name):
            remove_header(fake, header)
    return 1


def _replacer(add: Callable[..., int]) -> Callable[[Server, str, str], int]:
    return lambda fake, name, text: _remove(fake, name) and add(fake, text)


def _remove_matching(fake: Server, pattern: str) -> int:
    found = [header for header in fake.state.message.headers if regex.search(pattern, header.name)]
    for header in found:
        remove_header(fake, header)
    return _FOUND if found else _NOT_FOUND


def _append_to_reply(fake: Server, text: str) -> int:
    fake.state.reply_headers.append(_line(text))
    return 1


def _set_body(fake: Server, body: str, kind: str) -> int:
    fake.state.changes.append(Change("body", f"{kind}\r\n\r\n{body}"))
    for header in fake.state.message.headers:
        if canonical(header.name) == "content-type":
            fake.state.edits.append(draft.remove(header))
    fake.state.edits += [draft.append(f"Content-Type: {kind}"), draft.body(body)]
    return 1


def _set_reply_body(fake: Server, body: str, kind: str) -> int:
    fake.state.reply_body = body
    fake.state.reply_headers.append(f"Content-Type: {kind}\r\n")
    return 1


# --- Max-Forwards -----------------------------------------------------------------------------------------------------


def _hops(fake: Server) -> int | None:
    text = fake.state.message.first("Max-Forwards")
    return int(text) if text is not None else None


def _process_maxfwd(fake: Server, limit: int) -> int:
    """Counts down in the message itself: the one header that a script sees changed."""
    hops = _hops(fake)
    if not 0 <= limit <= _HIGHEST_HOPS:
        return -1
    if hops is None:
        _append(fake, f"Max-Forwards: {limit}\r\n")
        return 2
    if hops == 0:
        return -1
    headers = fake.state.message.headers
    for place, header in enumerate(headers):
        if canonical(header.name) == "max-forwards":
            headers[place] = Header(header.name, str(hops - 1).rjust(len(header.body)))
    return 1


def _is_maxfwd_lt(fake: Server, limit: int) -> int:
    hops = _hops(fake)
    if not 0 <= limit <= _HIGHEST_HOPS:
        return -1
    if hops is None:
        return -2
    return 1 if hops < limit else -1


COVERED: dict[str, Callable[..., Any]] = {
    "hdr.get": _getter(None),
    "hdr.gete": _getter(""),
    "hdr.getw": _getter("<null>"),
    "hdr.get_idx": _getter(None),
    "hdr.gete_idx": _getter(""),
    "hdr.getw_idx": _getter("<null>"),
    "hdr.is_present": _is_present,
    "hdr.match_content": _match_content,
    "hdr.append": _append,
    "hdr.append_after": _append_after,
    "hdr.insert": _insert,
    "hdr.insert_before": _insert_before,
    "hdr.remove": _remove,
    "hdr.rmappend": _replacer(_append),
    "hdr.rminsert": _replacer(_insert),
    "hdr.append_to_reply": _append_to_reply,
    "textops.is_present_hf": _is_present,
    "textops.is_present_hf_re": lambda fake, pattern: _FOUND if _matching(fake, pattern) else _NOT_FOUND,
    "textops.remove_hf": _remove,
    "textops.remove_hf_re": _remove_matching,
    "textops.search": _search,
    "textops.search_body": _search_body,
    "textops.search_hf": _search_hf,
    "textops.has_body": lambda fake: _FOUND if fake.state.message.body else _NOT_FOUND,
    "textops.has_body_type": _has_body_type,
    "textops.set_body": _set_body,
    "textops.set_reply_body": _set_reply_body,
    "maxfwd.process_maxfwd": _process_maxfwd,
    "maxfwd.is_maxfwd_lt": _is_maxfwd_lt,
}
