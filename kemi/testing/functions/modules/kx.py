# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.kx and KSR.corex: what pseudo-variables give, as functions; and the core's extensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kemi.testing import pvars, uri
from kemi.testing.functions.plain import one
from kemi.testing.state import Change, Relayed, Server, Value


def _variable(name: str, null: Value = None) -> Callable[[Server], Value]:
    found, _ = pvars.find(name)

    def give(fake: Server) -> Value:
        value = fake.value(found)
        return null if value is None else value

    return give


# Function → the variable that is the same.
_SAME = {
    "au": "$au",
    "body": "$rb",
    "bodylen": "$bs",
    "callid": "$ci",
    "duri": "$du",
    "fhost": "$fd",
    "furi": "$fu",
    "fuser": "$fU",
    "method": "$rm",
    "msgbuf": "$mb",
    "msglen": "$ml",
    "msgtype": "$mt",
    "nhuri": "$nh(u)",
    "ouri": "$ou",
    "proto": "$pr",
    "rcvaddr_sock": "$Ras",
    "rcvadvip": "$RAi",
    "rcvadvport": "$RAp",
    "rcvip": "$Ri",
    "rcvport": "$Rp",
    "rhost": "$rd",
    "ruri": "$ru",
    "ruser": "$rU",
    "srcaddr_sock": "$sas",
    "srcip": "$si",
    "srcport": "$sp",
    "srcuri": "$su",
    "thost": "$td",
    "timestamp": "$Ts",
    "turi": "$tu",
    "tuser": "$tU",
    "ua": "$ua",
}
PROTOS = {"udp": 1, "tcp": 2, "tls": 3, "sctp": 4, "ws": 5, "wss": 6}
_NEVER_NULL = ("au", "body", "duri", "fhost", "fuser", "rhost", "ruser", "thost", "tuser", "ua")


def _contact(null: str | None) -> Callable[[Server], str | None]:
    def give(fake: Server) -> str | None:
        body = fake.state.message.first("Contact")
        return uri.address(body).uri if body is not None else null

    return give


def _status(fake: Server) -> int:
    return -1 if fake.state.message.is_request else fake.state.message.status


def _status_text(fake: Server) -> str | None:
    return None if fake.state.message.is_request else str(fake.state.message.status)


# --- corex ------------------------------------------------------------------------------------------------------------


def _has_ruri_user(fake: Server) -> int:
    parsed = fake.state.parsed_uri() if fake.state.message.is_request else None
    return 1 if parsed and parsed.user else -1


def _has_user_agent(fake: Server) -> int:
    return 1 if fake.state.message.first("User-Agent") else -1


def _append_branch(fake: Server, target: str = "", _q: str = "") -> int:
    """One more target, for t_relay."""
    fake.state.branches.append((target or fake.state.request_uri, fake.state.destination if not target else None))
    return 1


def _forward(fake: Server, target: str = "") -> int:
    """Without a transaction: to the destination, or to the URI."""
    state = fake.state
    state.relayed.append(Relayed(state.request_uri, target or state.destination, tuple(state.changes)))
    fake.on_forward()
    return 1


def _advertise(fake: Server, text: str) -> int:
    fake.state.changes.append(Change("advertise", text))
    return 1


def _to_proto(proto: str) -> Callable[[Server], bool]:
    def to(fake: Server) -> bool:
        parsed = uri.parse(fake.state.destination or fake.state.request_uri)
        return parsed is not None and (parsed.param("transport") or "udp").lower() == proto

    return to


def _to_ip(*, six: bool) -> Callable[[Server], bool]:
    """Only an address is of one kind; a name could be of any."""

    def to(fake: Server) -> bool:
        parsed = uri.parse(fake.state.destination or fake.state.request_uri)
        host = parsed.host if parsed else ""
        return host.startswith("[") if six else host.replace(".", "").isdigit()

    return to


COVERED: dict[str, Callable[..., Any]] = {
    **{f"kx.get_{name}": _variable(variable) for name, variable in _SAME.items()},
    **{f"kx.gete_{name}": _variable(_SAME[name], "") for name in _NEVER_NULL},
    **{f"kx.getw_{name}": _variable(_SAME[name], "<null>") for name in _NEVER_NULL},
    "kx.get_status": _status,
    "kx.gets_status": _status_text,
    "kx.get_cturi": _contact(None),
    "kx.gete_cturi": _contact(""),
    "kx.getw_cturi": _contact("<null>"),
    "kx.get_protoid": lambda fake: PROTOS.get(fake.state.message.proto, 0),
    **dict.fromkeys(("kx.get_rcv_sock_name", "kx.get_send_sock", "kx.get_send_sock_name"), lambda _: None),
    "kx.get_send_sock_port": lambda _: 0,
    "kx.get_def": lambda _fake, _name: "",
    "kx.get_defn": lambda _fake, _name: 0,
    "kx.ifdef": lambda _fake, _name: False,
    "kx.ifndef": lambda _fake, _name: True,
    "corex.has_ruri_user": _has_ruri_user,
    "corex.has_user_agent": _has_user_agent,
    "corex.append_branch": _append_branch,
    "corex.append_branch_uri": _append_branch,
    "corex.append_branch_uri_q": _append_branch,
    "corex.is_faked_msg": lambda fake: 1 if fake.state.route_kind == "event" else -1,
    **dict.fromkeys(
        (
            *("corex.set_send_socket", "corex.set_send_socket_name", "corex.set_recv_socket"),
            *("corex.set_recv_socket_name", "corex.set_source_address", "corex.via_add_srvid"),
            *("corex.via_add_xavp_params", "corex.via_use_xavp_fields", "corex.via_reply_add_xavp_params"),
        ),
        one,
    ),
    "forward": _forward,
    "forward_uri": _forward,
    "set_advertised_address": _advertise,
    "set_advertised_port": _advertise,
    "get_debug": lambda _: 2,
    "add_tcp_alias": one,
    "add_tcp_alias_via": one,
    **dict.fromkeys(("set_reply_no_connect", "set_forward_no_connect", "set_forward_close"), lambda _: True),
    **{f"to_{proto.upper()}": _to_proto(proto) for proto in ("udp", "tcp", "tls", "sctp", "ws", "wss")},
    "to_WSX": lambda fake: _to_proto("ws")(fake) or _to_proto("wss")(fake),
    "to_IPv4": _to_ip(six=False),
    "to_IPv6": _to_ip(six=True),
}
