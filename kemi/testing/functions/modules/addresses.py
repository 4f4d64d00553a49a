# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.ipops, KSR.permissions and KSR.pike: IP addresses, and who may."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Union

from kemi.testing import assign, names
from kemi.testing.functions.plain import minus_one, one
from kemi.testing.state import Server

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
_IP4, _IP6, _REFERENCE = 1, 2, 3


def _parse(text: str) -> tuple[Address | None, int]:
    """The address, and how it is written; a reference is an IPv6 address in brackets."""
    inner, kind = text, 0
    if text.startswith("[") and text.endswith("]"):
        inner, kind = text[1:-1], _REFERENCE
    try:
        found = ipaddress.ip_address(inner)
    except ValueError:
        return None, 0
    if kind == _REFERENCE:
        return (found, kind) if found.version == 6 else (None, 0)  # noqa: PLR2004 IPv6
    return found, _IP4 if found.version == 4 else _IP6  # noqa: PLR2004 IPv4


def _is_kind(*kinds: int) -> Callable[[Server, str], int]:
    return lambda _fake, text: 1 if _parse(text)[1] in kinds else -1


def _ip_type(_fake: Server, text: str) -> int:
    return _parse(text)[1] or -1


_PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_OTHER = tuple(map(ipaddress.ip_network, ("100.64.0.0/10",)))


def is_private(text: str) -> bool:
    """Return True for an address of RFC 1918."""
    found = _parse(text)[0]
    return found is not None and any(found in network for network in _PRIVATE)


def _is_rfc1918(_fake: Server, text: str) -> int:
    return 1 if is_private(text) else -1


def _in_subnets(text: str, subnets: str) -> int:
    """One subnet, or several with commas."""
    found = _parse(text)[0]
    if found is None:
        return -1
    for subnet in subnets.split(","):
        try:
            if found in ipaddress.ip_network(subnet.strip().replace("[", "").replace("]", ""), strict=False):
                return 1
        except ValueError:
            return -1
    return -1


def _compare(*kinds: int) -> Callable[[Server, str, str], int]:
    def compare(_fake: Server, left: str, right: str) -> int:
        (first, one), (second, two) = _parse(left), _parse(right)
        return 1 if one in kinds and two in kinds and first == second else -1

    return compare


def _detailed(text: str) -> str | None:
    found = _parse(text)[0]
    if found is None:
        return None
    if is_private(text):
        return "PRIVATE"
    for name, is_it in (
        ("LOOPBACK", found.is_loopback),
        ("LINK-LOCAL", found.is_link_local),
        ("MULTICAST", found.is_multicast),
        ("SHARED", any(found in network for network in _OTHER if network.version == found.version)),
        ("RESERVED", found.is_reserved or found.is_unspecified),
    ):
        if is_it:
            return name
    return "PUBLIC"


def _detailed_type(fake: Server, text: str, variable: str) -> int:
    kind = _detailed(text)
    if kind is None:
        return -1
    found, _ = names.find(variable)
    assign.put(fake.state, found, kind)
    return 1


COVERED: dict[str, Callable[..., Any]] = {
    "ipops.is_ip": _is_kind(_IP4, _IP6, _REFERENCE),
    "ipops.is_pure_ip": _is_kind(_IP4, _IP6),
    "ipops.is_ip4": _is_kind(_IP4),
    "ipops.is_ip6": _is_kind(_IP6),
    "ipops.is_ip6_reference": _is_kind(_REFERENCE),
    "ipops.ip_type": _ip_type,
    "ipops.is_ip_rfc1918": _is_rfc1918,
    "ipops.is_in_subnet": lambda _fake, text, subnets: _in_subnets(text, subnets),
    "ipops.ip_is_in_subnet": lambda _fake, text, subnets: _in_subnets(text, subnets),
    "ipops.compare_ips": _compare(_IP4, _IP6, _REFERENCE),
    "ipops.compare_pure_ips": _compare(_IP4, _IP6),
    "ipops.detailed_ip_type": _detailed_type,
    "ipops.detailed_ipv4_type": _detailed_type,
    "ipops.detailed_ipv6_type": _detailed_type,
    "nathelper.is_rfc1918": _is_rfc1918,
    # There is no table of addresses: a test says who is in it.
    "permissions.allow_address": minus_one,
    "permissions.allow_address_group": minus_one,
    "permissions.allow_source_address": minus_one,
    "permissions.allow_source_address_group": minus_one,
    "permissions.allow_trusted": minus_one,
    "pike.pike_check_req": one,
    "pike.pike_check_ip": one,
}
