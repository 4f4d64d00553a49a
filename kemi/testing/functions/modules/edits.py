# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.textopsx, and what KSR.textops, KSR.siputils and KSR.sdpops do with texts in the message."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from typing import Any

from kemi.testing import draft, regex, uri
from kemi.testing.functions.headers import remove_header
from kemi.testing.memory import Iterator
from kemi.testing.message import Header, canonical
from kemi.testing.state import Change, Server

_MATCHES, _DIFFERS = 0, -1  # of fnmatch


def _apply(fake: Server) -> int:
    """The message is now what it would be sent as."""
    state = fake.state
    state.message = draft.apply(state.message, state.edits, state.request_uri)
    state.new_uri, state.edits = None, []
    return 1


def _headers(fake: Server, name: str) -> list[Header]:
    return [header for header in fake.state.message.headers if canonical(header.name) == canonical(name)]


def _edit(fake: Server, action: str, text: str, edit: draft.Edit) -> int:
    fake.state.changes.append(Change(action, text))
    fake.state.edits.append(edit)
    return 1


# --- values of headers: X, X[2] ---------------------------------------------------------------------------------------


def _which(text: str) -> tuple[str, int]:
    """The name, and which one: from 0."""
    found = re.fullmatch(r"([^\[\]]+)(?:\[(-?\d+)\])?", text)
    return (found[1], int(found[2] or 0)) if found else (text, 0)


def _chosen(fake: Server, text: str) -> Header | None:
    name, place = _which(text)
    found = _headers(fake, name)
    return found[place] if -len(found) <= place < len(found) else None


def _append_value(fake: Server, name: str, value: str) -> int:
    line = f"{_which(name)[0]}: {value}"
    return _edit(fake, "add", f"{line}\r\n", draft.append(line))


def _insert_value(fake: Server, name: str, value: str) -> int:
    plain, _ = _which(name)
    line = f"{plain}: {value}"
    return _edit(fake, "add", f"{line}\r\n", draft.beside(line, plain, after=False))


def _assign_value(fake: Server, name: str, value: str) -> int:
    header = _chosen(fake, name)
    if header is None:
        return _append_value(fake, name, value)
    return _edit(fake, "change", header.name, draft.change(header, value))


def _remove_value(fake: Server, name: str) -> int:
    header = _chosen(fake, name)
    if header is not None:
        remove_header(fake, header)
    return 1


def _values(header: Header) -> list[str]:
    return [part.strip() for part in header.body.split(",")]


def _value_exists(fake: Server, name: str, value: str) -> int:
    return 1 if any(value in _values(header) for header in _headers(fake, name)) else -1


def _include_value(fake: Server, name: str, value: str) -> int:
    if _value_exists(fake, name, value) > 0:
        return 1
    found = _headers(fake, name)
    if not found:
        return _append_value(fake, name, value)
    return _edit(fake, "change", name, draft.change(found[0], ",".join([*_values(found[0]), value])))


def _exclude_value(fake: Server, name: str, value: str) -> int:
    for header in _headers(fake, name):
        if value in _values(header):
            kept = [each for each in _values(header) if each != value]
            edit = draft.change(header, ",".join(kept)) if kept else draft.remove(header)
            _edit(fake, "change", header.name, edit)
    return 1


_NEVER_REMOVED = frozenset(
    {
        *("via", "from", "to", "call-id", "cseq", "contact", "route", "record-route", "max-forwards"),
        *("content-type", "content-length"),
    }
)


def _keep_matching(fake: Server, pattern: str) -> int:
    """Others go, but for those that SIP needs; it gives -1 in any case."""
    for header in fake.state.message.headers:
        if canonical(header.name) not in _NEVER_REMOVED and not regex.search(pattern, header.name):
            remove_header(fake, header)
    return -1


def _remove_at(fake: Server, name: str, place: int) -> int:
    found = _headers(fake, name)
    if not -len(found) <= place < len(found):
        return -1
    remove_header(fake, found[place])
    return 1


def _fnmatch(_fake: Server, text: str, pattern: str, _flags: str = "") -> int:
    return _MATCHES if fnmatch.fnmatchcase(text, pattern) else _DIFFERS


# --- walking ----------------------------------------------------------------------------------------------------------


def _walk_headers(fake: Server, name: str) -> int:
    items = [(header.name, header.body) for header in fake.state.message.headers]
    fake.state.memory.iterators[f"hf {name}"] = Iterator(items)
    return 1


def _walk_lines(fake: Server, name: str) -> int:
    lines = fake.state.message.body.splitlines(keepends=True)
    fake.state.memory.iterators[f"bl {name}"] = Iterator([("", line) for line in lines])
    return 1


def _move(kind: str, step: int) -> Callable[[Server, str], int]:
    def move(fake: Server, name: str) -> int:
        found = fake.state.memory.iterators.get(f"{kind} {name}")
        return 1 if found and found.move(step) else -1

    return move


def _stop(kind: str) -> Callable[[Server, str], int]:
    return lambda fake, name: 1 if fake.state.memory.iterators.pop(f"{kind} {name}", None) else -1


def _here(kind: str, place: int) -> Callable[[Server, str], str | None]:
    def give(fake: Server, name: str) -> str | None:
        found = fake.state.memory.iterators.get(f"{kind} {name}")
        return found.item[place] if found and found.item else None

    return give


# --- replacing --------------------------------------------------------------------------------------------------------


def _subst_body(fake: Server, expression: str) -> int:
    return _new_body(fake, regex.substitute(expression, fake.state.message.body))


def _new_body(fake: Server, made: str | None) -> int:
    if made is None or made == fake.state.message.body:
        return -1
    return _edit(fake, "body", made, draft.body(made))


def _subst(fake: Server, expression: str) -> int:
    """In the whole message: line by line of its headers, and in the body."""
    done = [_subst_header(fake, header, expression) for header in fake.state.message.headers]
    return 1 if any(done) or _subst_body(fake, expression) > 0 else -1


def _subst_header(fake: Server, header: Header, expression: str) -> bool:
    made = regex.substitute(expression, header.body)
    if made is None or made == header.body:
        return False
    _edit(fake, "change", header.name, draft.change(header, made))
    return True


def _subst_headers(fake: Server, name: str, expression: str, which: str) -> int:
    found = _headers(fake, name)
    chosen = {"f": found[:1], "l": found[-1:]}.get(which[:1].lower(), found)
    done = [_subst_header(fake, header, expression) for header in chosen]
    return 1 if any(done) else -1


def _replace(fake: Server, pattern: str, text: str) -> int:
    return _subst(fake, f"\x01{pattern}\x01{text}\x01")


def _replace_body(fake: Server, pattern: str, text: str) -> int:
    return _subst_body(fake, f"\x01{pattern}\x01{text}\x01")


def _replace_body_all(fake: Server, pattern: str, text: str) -> int:
    return _subst_body(fake, f"\x01{pattern}\x01{text}\x01g")


def _subst_uri(fake: Server, expression: str) -> int:
    made = regex.substitute(expression, fake.state.request_uri)
    if made is None or made == fake.state.request_uri:
        return -1
    fake.state.new_uri = made
    return 1


def _subst_user(fake: Server, expression: str) -> int:
    parsed = fake.state.parsed_uri()
    made = regex.substitute(expression, parsed.user or "") if parsed else None
    if parsed is None or made is None or made == parsed.user:
        return -1
    fake.state.new_uri = str(parsed._replace(user=made))
    return 1


def _remove_body(fake: Server) -> int:
    return _edit(fake, "body", "", draft.body(""))


# --- URIs -------------------------------------------------------------------------------------------------------------


def _add_uri_param(fake: Server, text: str) -> int:
    parsed = fake.state.parsed_uri()
    if parsed is None:
        return -1
    fake.state.new_uri = str(parsed._replace(params=f"{parsed.params};{text}"))
    return 1


def _remove_uri_param(fake: Server, name: str) -> int:
    parsed = fake.state.parsed_uri()
    if parsed is None or parsed.param(name) is None:
        return -1
    kept = [part for part in parsed.params.split(";") if part and part.partition("=")[0].lower() != name.lower()]
    fake.state.new_uri = str(parsed._replace(params="".join(f";{part}" for part in kept)))
    return 1


def _is_gruu(fake: Server) -> int:
    """1 for a temporary one, 2 for a public one."""
    parsed = fake.state.parsed_uri()
    value = parsed.param("gr") if parsed else None
    return -1 if value is None else 2 if value else 1


def _cmp_uri(_fake: Server, left: str, right: str) -> int:
    first, second = uri.parse(left), uri.parse(right)
    if first is None or second is None:
        return -2
    same = (first.user, first.host.lower(), first.port) == (second.user, second.host.lower(), second.port)
    return 1 if same and uri.params_of(first.params) == uri.params_of(second.params) else -1


# --- SDP --------------------------------------------------------------------------------------------------------------


def _sdp(fake: Server) -> str | None:
    kind = (fake.state.message.first("Content-Type") or "").partition(";")[0].strip().lower()
    return fake.state.message.body if kind == "application/sdp" and fake.state.message.body else None


def _media(fake: Server) -> list[list[str]]:
    """The fields of each line m=."""
    return [line[2:].split() for line in (_sdp(fake) or "").splitlines() if line.startswith("m=")]


def _with(found: Callable[[list[str], str], bool], none: int = -1) -> Callable[[Server, str], int]:
    """Is there a line m= of which it holds?"""
    return lambda fake, text: 1 if any(found(fields, text) for fields in _media(fake)) else none


_PAYLOADS = {"pcmu": "0", "gsm": "3", "g723": "4", "pcma": "8", "g722": "9", "g729": "18"}


def _with_codecs(fake: Server, text: str) -> int:
    """By names; each of them must be there in a medium."""
    body = (_sdp(fake) or "").lower()
    named = {name: number for number, name in re.findall(r"a=rtpmap:(\d+) ([\w.-]+)/", body)}
    wanted = [named.get(name, _PAYLOADS.get(name)) for name in text.lower().split(",")]
    return 1 if any(all(number in fields[3:] for number in wanted) for fields in _media(fake)) else -1


def _on_hold(fake: Server) -> int:
    body = _sdp(fake) or ""
    return 1 if re.search(r"^a=(sendonly|inactive)", body, re.MULTILINE) or "c=IN IP4 0.0.0.0" in body else -1


COVERED: dict[str, Callable[..., Any]] = {
    "textopsx.msg_apply_changes": _apply,
    "textopsx.append_hf_value": _append_value,
    "textopsx.insert_hf_value": _insert_value,
    "textopsx.assign_hf_value": _assign_value,
    "textopsx.remove_hf_value": _remove_value,
    "textopsx.hf_value_exists": _value_exists,
    "textopsx.include_hf_value": _include_value,
    "textopsx.exclude_hf_value": _exclude_value,
    "textopsx.keep_hf_re": _keep_matching,
    "textopsx.keep_hf": lambda fake: _keep_matching(fake, "^$"),
    "textops.set_body_multipart_mode": lambda _: 1,
    "textopsx.fnmatch": _fnmatch,
    "textopsx.fnmatch_ex": _fnmatch,
    "textopsx.remove_body": _remove_body,
    "textopsx.hf_iterator_start": _walk_headers,
    "textopsx.hf_iterator_next": _move("hf", 1),
    "textopsx.hf_iterator_prev": _move("hf", -1),
    "textopsx.hf_iterator_end": _stop("hf"),
    "textopsx.hf_iterator_hname": _here("hf", 0),
    "textopsx.hf_iterator_hbody": _here("hf", 1),
    "textopsx.bl_iterator_start": _walk_lines,
    "textopsx.bl_iterator_next": _move("bl", 1),
    "textopsx.bl_iterator_end": _stop("bl"),
    "textopsx.bl_iterator_value": _here("bl", 1),
    "textops.remove_hf_idx": _remove_at,
    "textops.subst": _subst,
    "textops.subst_body": _subst_body,
    "textops.subst_hf": _subst_headers,
    "textops.subst_uri": _subst_uri,
    "textops.subst_user": _subst_user,
    "textops.replace": _replace,
    "textops.replace_body": _replace_body,
    "textops.replace_body_all": _replace_body_all,
    "textops.replace_body_atonce": _replace_body_all,
    "textops.is_audio_on_hold": _on_hold,
    "siputils.add_uri_param": _add_uri_param,
    "siputils.uri_param_rm": _remove_uri_param,
    "siputils.cmp_uri": _cmp_uri,
    "siputils.is_gruu": _is_gruu,
    "siputils.is_user": lambda _fake, _name: -1,
    "sdpops.sdp_content": lambda fake: 1 if _sdp(fake) else -1,
    "sdpops.sdp_with_media": _with(lambda fields, text: fields[0] == text, 0),
    "sdpops.sdp_with_transport": _with(lambda fields, text: fields[2] == text),
    "sdpops.sdp_with_transport_like": _with(lambda fields, text: text in fields[2]),
    "sdpops.sdp_with_codecs_by_id": _with(lambda fields, text: set(text.split(",")) <= set(fields[3:])),
    "sdpops.sdp_with_codecs_by_name": _with_codecs,
    "sdpops.sdp_with_ice": lambda fake: 1 if "a=candidate:" in (_sdp(fake) or "") else -1,
}
