# SPDX-License-Identifier: GPL-2.0-or-later
"""What KSR.textops and KSR.siputils say about texts and URIs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kemi.testing import regex, uri
from kemi.testing.message import canonical
from kemi.testing.state import Server

_URNS = (
    re.compile(r"urn:(?:nena:)?service(?::[^;?]*)?", re.IGNORECASE),
    re.compile(r"urn:[^:;?]+(?::[^:;?]*)?", re.IGNORECASE),
)
_DEFAULT_PORT = "5060"  # cmp_aor does not care for sips


def _order(left: str, right: str) -> int:
    """1 equal; -1 greater; -2 less."""
    return 1 if left == right else -1 if left.encode() > right.encode() else -2


def _starts_with(_fake: Server, text: str, start: str) -> int:
    return -1 if len(text.encode()) < len(start.encode()) else _order(text[: len(start)], start)


def _ends_with(_fake: Server, text: str, end: str) -> int:
    return -1 if len(text.encode()) < len(end.encode()) else _order(text[len(text) - len(end) :], end)


def _place(text: str, part: str) -> int:
    """From 1, in bytes; -1 for none."""
    found = text.encode().find(part.encode()) if text or not part else -1
    return found + 1 if found >= 0 else -1


def _str_find(_fake: Server, text: str, part: str) -> int:
    return _place(text, part)


def _str_ifind(_fake: Server, text: str, part: str) -> int:
    return _place(text.lower(), part.lower())


def _search_str(_fake: Server, text: str, pattern: str) -> int:
    if not pattern:
        return 2
    found = regex.search(pattern, text) if text else None
    return -2 if found is None else 1 if found else -1


def _elements(text: str, separator: str) -> list[str]:
    return [part.strip(" \t\r\n") for part in text.split(separator[0])] if text and separator else []


def _in_list(_fake: Server, wanted: str, text: str, separator: str) -> int:
    return 1 if wanted and wanted in _elements(text, separator) else -1


def _in_list_prefix(_fake: Server, wanted: str, text: str, separator: str) -> int:
    return 1 if any(part and wanted.startswith(part) for part in _elements(text, separator)) else -1


def _all_in(alphabet: str, text: str) -> bool:
    return all(letter in alphabet for letter in text)


_DIGITS = "0123456789"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _is_numeric(_fake: Server, text: str) -> int:
    return 1 if text and _all_in(_DIGITS, text) else -2


def _is_alphanumex(_fake: Server, text: str, others: str = "") -> int:
    if not text:
        return -2
    return 1 if _all_in(_DIGITS + _LETTERS + others, text) else -3


def _is_tel_number(_fake: Server, text: str) -> int:
    return _is_numeric(_fake, text.removeprefix("+"))


def _is_uri(fake: Server, text: str) -> int:
    """Of urn: 5.6 takes any with one part or two, 6.0 those of emergency services."""
    if text[:4].lower() == "urn:":
        return 1 if _URNS[fake.release == "5.6"].fullmatch(text) else -1
    return 1 if uri.parse(text) else -1


def _cmp_aor(_fake: Server, left: str, right: str) -> int:
    first, second = uri.parse(left), uri.parse(right)
    if first is None or second is None:
        return -2
    return 1 if _aor(first) == _aor(second) else -1


def _aor(parsed: uri.Uri) -> tuple[str | None, str, str]:
    return parsed.user, parsed.host.lower(), parsed.port or _DEFAULT_PORT


def _cmp_hdr_name(_fake: Server, left: str, right: str) -> int:
    return 1 if canonical(left) == canonical(right) else -2


# --- the message ------------------------------------------------------------------------------------------------------


def _has_totag(fake: Server) -> int:
    found = fake.state.message.address("To")
    return 1 if found and found.params.get("tag") else -1


def _is_first_hop(fake: Server) -> int:
    message = fake.state.message
    return 1 if message.is_request and len(", ".join(message.all("Via")).split(",")) == 1 else -1


def _ruri_param(fake: Server, name: str) -> str | None:
    parsed = fake.state.parsed_uri()
    return parsed.param(name) if parsed else None


COVERED: dict[str, Callable[..., Any]] = {
    "textops.cmp_str": lambda _, left, right: _order(left, right),
    "textops.cmp_istr": lambda _, left, right: _order(left.lower(), right.lower()),
    "textops.starts_with": _starts_with,
    "textops.ends_with": _ends_with,
    "textops.str_find": _str_find,
    "textops.str_ifind": _str_ifind,
    "textops.search_str": _search_str,
    "textops.in_list": _in_list,
    "textops.in_list_prefix": _in_list_prefix,
    "siputils.is_numeric": _is_numeric,
    "siputils.is_alphanum": _is_alphanumex,
    "siputils.is_alphanumex": _is_alphanumex,
    "siputils.is_tel_number": _is_tel_number,
    "siputils.is_uri": _is_uri,
    "siputils.cmp_aor": _cmp_aor,
    "siputils.cmp_hdr_name": _cmp_hdr_name,
    "siputils.has_totag": _has_totag,
    "siputils.is_request": lambda fake: 1 if fake.state.message.is_request else -1,
    "siputils.is_reply": lambda fake: -1 if fake.state.message.is_request else 1,
    "siputils.is_first_hop": _is_first_hop,
    "siputils.uri_param": lambda fake, name: 1 if _ruri_param(fake, name) == "" else -1,
    "siputils.uri_param_any": lambda fake, name: -1 if _ruri_param(fake, name) is None else 1,
    "siputils.uri_param_value": lambda fake, name, value: 1 if _ruri_param(fake, name) == value else -1,
}
