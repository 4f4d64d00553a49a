# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.nathelper, KSR.path: who is behind NAT, and how he is reached."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kemi.testing import draft, uri
from kemi.testing.functions.modules.addresses import is_private
from kemi.testing.functions.modules.kx import PROTOS
from kemi.testing.functions.plain import noted
from kemi.testing.message import Header, canonical
from kemi.testing.state import Change, Server

_NONE = 2  # no alias there
_SDP_ADDRESS = re.compile(r"^c=IN IP4 (\S+)", re.MULTILINE)


def _contact(fake: Server) -> tuple[Header, uri.Uri] | None:
    for header in fake.state.message.headers:
        parsed = uri.parse(uri.address(header.body).uri) if canonical(header.name) == "contact" else None
        if parsed:
            return header, parsed
    return None


def _via(fake: Server) -> tuple[str, int]:
    """Host and port of the first Via."""
    sent = (fake.state.message.first("Via") or "").split(";")[0].split(",")[0].split()
    host, _, port = (sent[-1] if sent else "").partition(":")
    return host, int(port or 5060)


def _contact_is_private(fake: Server) -> bool:
    found = _contact(fake)
    return found is not None and is_private(found[1].host)


def _came_from_elsewhere(fake: Server) -> bool:
    return _via(fake)[0] != fake.state.message.source[0]


def _sdp_is_private(fake: Server) -> bool:
    found = _SDP_ADDRESS.search(fake.state.message.body)
    return found is not None and is_private(found[1])


def _port_differs(fake: Server) -> bool:
    return _via(fake)[1] != fake.state.message.source[1]


def _contact_differs(fake: Server) -> bool:
    found = _contact(fake)
    return found is not None and (found[1].host, int(found[1].port or 5060)) != fake.state.message.source


_TESTS: dict[int, Callable[[Server], bool]] = {
    1: _contact_is_private,
    2: _came_from_elsewhere,
    4: lambda fake: is_private(_via(fake)[0]),
    8: _sdp_is_private,
    16: _port_differs,
    32: lambda fake: is_private(fake.state.message.source[0]),
    64: lambda fake: fake.state.message.proto in ("ws", "wss"),
    128: _contact_differs,
}


def _nat_uac_test(fake: Server, tests: int) -> int:
    return 1 if any(tests & bit and test(fake) for bit, test in _TESTS.items()) else -1


def _alias(fake: Server) -> str:
    host, port = fake.state.message.source
    return f";alias={host}~{port}~{PROTOS.get(fake.state.message.proto, 1)}"


def _change_contact(fake: Server, change: Callable[[uri.Uri], uri.Uri]) -> int:
    found = _contact(fake)
    if found is None:
        return 1
    header, parsed = found
    old = uri.address(header.body).uri
    body = header.body.replace(old, str(change(parsed)), 1)
    fake.state.changes.append(Change("change", header.name))
    fake.state.edits.append(draft.change(header, body))
    return 1


def _add_alias(fake: Server) -> int:
    return _set_alias(fake) if _contact_differs(fake) else _NONE


def _set_alias(fake: Server) -> int:
    """With no look at whether it is needed."""
    return _change_contact(fake, lambda parsed: parsed._replace(params=parsed.params + _alias(fake)))


def _mend_contact(fake: Server) -> int:
    host, port = fake.state.message.source
    return _change_contact(fake, lambda parsed: parsed._replace(host=host, port=str(port)))


def _handle_alias(fake: Server, _mode: int = 0) -> int:
    """From the request's URI into the destination."""
    parsed = fake.state.parsed_uri()
    alias = parsed.param("alias") if parsed else None
    parts = (alias or "").split("~")
    if parsed is None or len(parts) != 3:  # noqa: PLR2004 host, port, protocol
        return _NONE
    kept = re.sub(r";alias=[^;]*", "", parsed.params, flags=re.IGNORECASE)
    fake.state.new_uri = str(parsed._replace(params=kept))
    proto = next((name for name, number in PROTOS.items() if str(number) == parts[2]), "udp")
    transport = "" if proto == "udp" else f";transport={proto}"
    fake.state.destination = f"sip:{parts[0]}:{parts[1]}{transport}"
    return 1


def _mend_register(fake: Server) -> int:
    """The source goes into the AVP that both nathelper and registrar have as received_avp: $avp(RECEIVED)."""
    host, port = fake.state.message.source
    fake.state.avps["RECEIVED"] = [f"sip:{host}:{port}", *fake.state.avps.get("RECEIVED", [])]
    return 1


COVERED: dict[str, Callable[..., Any]] = {
    "nathelper.nat_uac_test": _nat_uac_test,
    "nathelper.add_contact_alias": _add_alias,
    "nathelper.set_contact_alias": _set_alias,
    "nathelper.set_contact_alias_trim": _set_alias,
    "nathelper.handle_ruri_alias": _handle_alias,
    "nathelper.handle_ruri_alias_mode": _handle_alias,
    "nathelper.fix_nated_contact": _mend_contact,
    "nathelper.fix_nated_register": _mend_register,
    "nathelper.add_rcv_param": noted("received parameter"),
    "nathelper.fix_nated_sdp": noted("sdp"),
    "nathelper.fix_nated_sdp_ip": noted("sdp"),
    **{
        f"path.{name}": noted("path")
        for name in (
            *("add_path", "add_path_user", "add_path_user_params"),
            *("add_path_received", "add_path_received_user", "add_path_received_user_params"),
        )
    },
}
