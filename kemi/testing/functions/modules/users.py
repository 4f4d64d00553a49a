# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.registrar, KSR.auth and KSR.auth_db: who is registered, and who proves who he is."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable
from typing import Any

from kemi.testing import uri
from kemi.testing.errors import NotCovered
from kemi.testing.memory import Contact
from kemi.testing.state import Change, Reply, Server

_EXPIRES = 3600  # seconds, where a request says nothing
_NO_CREDENTIALS, _WRONG_PASSWORD = -5, -2
_NO_REPLY = 2  # flag of save
_numbers = itertools.count(1)


# --- registrar: by user alone, as use_domain=0 has it -----------------------------------------------------------------


def _user(text: str) -> str:
    parsed = uri.parse(text)
    return (parsed.user or "").lower() if parsed else ""


def _contacts(fake: Server, table: str, text: str) -> list[Contact]:
    user = _user(text)
    return fake.state.memory.contacts.get(table, {}).get(user, []) if user else []


def _address_of_record(fake: Server) -> str:
    found = fake.state.message.address("To")
    return found.uri if found else ""


def _save(fake: Server, table: str, flags: int, whose: str | None = None) -> int:
    """Contacts of a REGISTER are kept, or taken away; the server answers 200, unless a flag says not to."""
    text = _address_of_record(fake) if whose is None else whose
    user = _user(text)
    if not user:
        return -1
    kept = {each.uri: each for each in _contacts(fake, table, text)}
    for body in fake.state.message.all("Contact"):
        for part in _split(body):
            if part.strip() == "*":
                kept.clear()
                continue
            made = _contact(fake, part)
            kept.pop(made.uri, None)
            if made.expires > 0:
                kept[made.uri] = made
    fake.state.memory.contacts.setdefault(table, {})[user] = list(kept.values())
    if not flags & _NO_REPLY:
        headers = [*fake.state.reply_headers, *(_shown(each) for each in kept.values())]
        fake.state.replies.append(Reply(200, "OK", tuple(headers), "", "sl"))
    return 1


def _send_reply(fake: Server) -> int:
    """The reply that save was told not to send."""
    fake.state.replies.append(Reply(200, "OK", tuple(fake.state.reply_headers), "", "sl"))
    return 1


def _split(body: str) -> list[str]:
    """The contacts of one header."""
    return re.findall(r'(?:"[^"]*"|<[^>]*>|[^,])+', body)


def _contact(fake: Server, text: str) -> Contact:
    address, state = uri.address(text), fake.state
    said = address.params.get("expires") or state.message.first("Expires") or str(_EXPIRES)
    received = state.avps.get("RECEIVED")
    quality = address.params.get("q") or "-1"
    return Contact(
        address.uri,
        float(quality) if re.fullmatch(r"-?[\d.]+", quality) else -1.0,
        int(said) if said.isdigit() else _EXPIRES,
        str(received[0]) if received else None,
        state.message.first("Path"),
        state.message.first("Call-ID") or "",
        f"uloc-fake-{next(_numbers)}",
        state.message.first("User-Agent") or "",
    )


def _shown(contact: Contact) -> str:
    return f"Contact: <{contact.uri}>;expires={contact.expires}\r\n"


def _lookup(fake: Server, table: str, text: str | None = None) -> int:
    """The best contact becomes the request's URI, the others are more branches. 1; -1 for nobody."""
    state = fake.state
    found = _contacts(fake, table, state.request_uri if text is None else text)
    if not found:
        return -1
    first, *others = sorted(found, key=lambda each: -each.q)
    state.new_uri = first.uri
    if first.received or first.path:
        state.destination = first.received or uri.address(first.path or "").uri
    state.branches += [(each.uri, each.received) for each in others]
    return 1


def _registered(fake: Server, table: str, text: str | None = None, *_flags: int) -> int:
    return 1 if _contacts(fake, table, fake.state.request_uri if text is None else text) else -1


def _registered_flags(fake: Server, table: str, text: str, *_flags: int) -> int:
    return _registered(fake, table, text or None)


def _unregister(fake: Server, table: str, text: str) -> int:
    users = fake.state.memory.contacts.get(table, {})
    return 1 if users.pop(_user(text), None) else -1


# --- auth -------------------------------------------------------------------------------------------------------------


def _credentials(fake: Server, realm: str | None) -> dict[str, str] | None:
    """The parts of Authorization or Proxy-Authorization for a realm."""
    for name in ("Authorization", "Proxy-Authorization"):
        for body in fake.state.message.all(name):
            parts = dict(re.findall(r'(\w+)="?([^",]*)"?', body.partition(" ")[2]))
            if realm is None or parts.get("realm") == realm:
                return parts
    return None


def _has_credentials(fake: Server, realm: str) -> int:
    return 1 if _credentials(fake, realm) else -1


def _md5(*parts: str) -> str:
    return hashlib.md5(":".join(parts).encode()).hexdigest()  # noqa: S324 what digest authentication has


def _proves(method: str, given: dict[str, str], password: str, *, hashed: bool) -> bool:
    first = password if hashed else _md5(given.get("username", ""), given.get("realm", ""), password)
    second = _md5(method, given.get("uri", ""))
    middle = [given.get("nonce", "")]
    if given.get("qop"):
        middle += [given.get("nc", ""), given.get("cnonce", ""), given["qop"]]
    return given.get("response") == _md5(first, *middle, second)


def _pv_auth_check(fake: Server, realm: str, password: str, flags: int, _checks: int) -> int:
    given = _credentials(fake, realm)
    if given is None:
        return _NO_CREDENTIALS
    proven = _proves(fake.state.message.method, given, password, hashed=bool(flags & 1))
    return 1 if proven else _WRONG_PASSWORD


def _auth_check(fake: Server, realm: str, _table: str, _flags: int) -> int:
    """Nobody proves anything without credentials; who is in the database, only the test knows."""
    if _credentials(fake, realm) is None:
        return _NO_CREDENTIALS
    raise NotCovered(
        "KSR.auth_db.auth_check of a request with credentials is not covered, the fake has no table of subscribers: "
        'say what it gives with ksr.stub("auth_db.auth_check", 1)'
    )


def _auth_challenge(fake: Server, realm: str, flags: int) -> int:
    """401 for a REGISTER, else 407."""
    challenge = _www_challenge if fake.state.message.method == "REGISTER" else _proxy_challenge
    return challenge(fake, realm, flags)


def _www_challenge(fake: Server, realm: str, _flags: int) -> int:
    return _challenge(fake, 401, "Unauthorized", f'WWW-Authenticate: Digest realm="{realm}", nonce="fake"\r\n')


def _proxy_challenge(fake: Server, realm: str, _flags: int) -> int:
    header = f'Proxy-Authenticate: Digest realm="{realm}", nonce="fake"\r\n'
    return _challenge(fake, 407, "Proxy Authentication Required", header)


def _challenge(fake: Server, code: int, reason: str, header: str) -> int:
    fake.state.replies.append(Reply(code, reason, (*fake.state.reply_headers, header), "", "sl"))
    return 1


def _consume(fake: Server) -> int:
    """The credentials are not sent on. -1 when none were checked."""
    if _credentials(fake, None) is None:
        return -1
    fake.state.changes.append(Change("remove", "Authorization"))
    return 1


COVERED: dict[str, Callable[..., Any]] = {
    "registrar.save": _save,
    "registrar.save_uri": _save,
    "registrar.lookup": _lookup,
    "registrar.lookup_uri": _lookup,
    "registrar.lookup_to_dset": _lookup,
    "registrar.lookup_branches": lambda _fake, _table: 1,
    "registrar.registered": _registered,
    "registrar.registered_uri": _registered,
    "registrar.registered_flags": _registered_flags,
    "registrar.registered_action": _registered_flags,
    "registrar.unregister": _unregister,
    "registrar.reg_send_reply": _send_reply,
    "auth.has_credentials": _has_credentials,
    "auth.pv_auth_check": _pv_auth_check,
    "auth.auth_challenge": _auth_challenge,
    "auth.www_challenge": _www_challenge,
    "auth.proxy_challenge": _proxy_challenge,
    "auth.consume_credentials": _consume,
    "auth_db.auth_check": _auth_check,
    "auth_db.is_subscriber": lambda *_: -1,
}
