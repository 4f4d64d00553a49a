# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.rr: Record-Route and Route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kemi.testing import regex, uri
from kemi.testing.errors import NotCovered
from kemi.testing.state import Change, Server

_WRONG_DIRECTION = -6
_PRELOADED = -3  # a Route before there is a dialog


def _routes(fake: Server) -> list[str]:
    """The URIs of all Route headers."""
    values = [part for body in fake.state.message.all("Route") for part in body.split(",")]
    return [uri.address(value).uri for value in values]


def _is_myself(fake: Server, text: str) -> bool:
    parsed = uri.parse(text)
    return parsed is not None and fake.state.is_myself(parsed.host, int(parsed.port or 0))


def _loose_route(fake: Server) -> int:
    routes = _routes(fake)
    if not routes:
        return -1
    own = _is_myself(fake, routes[0])
    tag = getattr(fake.state.message.address("To"), "params", {}).get("tag")
    loose = all((parsed := uri.parse(text)) is not None and parsed.param("lr") is not None for text in routes)
    if own and loose and not tag and len(routes) == 1:
        fake.state.changes.append(Change("remove", "Route"))
        return _PRELOADED
    if not tag or not loose or not own or _is_myself(fake, fake.state.request_uri):
        raise NotCovered(
            "KSR.rr.loose_route is covered for requests with a tag in To whose first Route is this server's own, "
            'all with ;lr: say what it gives with ksr.stub("rr.loose_route", 1)'
        )
    fake.state.changes.append(Change("remove", "Route"))
    if len(routes) > 1:
        fake.state.destination = routes[1]
    return 1


def _own_params(fake: Server) -> str:
    """The parameters that this server's Record-Route has come back with."""
    routes = _routes(fake)
    parsed = uri.parse(routes[0]) if routes and _is_myself(fake, routes[0]) else None
    return parsed.params if parsed else ""


def _check_route_param(fake: Server, pattern: str) -> int:
    params = _own_params(fake)
    return 1 if params and regex.search(pattern, params) else -1


def _is_direction(fake: Server, direction: str) -> int:
    """Downstream while the caller's tag is the one in From."""
    if direction.lower() not in ("downstream", "upstream"):
        return _WRONG_DIRECTION
    caller = uri.params_of(_own_params(fake)).get("ftag")
    sender = getattr(fake.state.message.address("From"), "params", {}).get("tag")
    downstream = caller is None or caller == sender
    return 1 if downstream == (direction.lower() == "downstream") else -1


def _record_route(fake: Server) -> int:
    if fake.state.record_routed:
        return -1
    fake.state.record_routed = True
    fake.state.changes.append(Change("add", "Record-Route"))
    return 1


def _add_rr_param(fake: Server, text: str) -> int:
    fake.state.changes.append(Change("record-route parameter", text))
    return 1


COVERED: dict[str, Callable[..., Any]] = {
    "rr.loose_route": _loose_route,
    "rr.loose_route_preloaded": lambda fake: 1 if _routes(fake) and _loose_route(fake) == _PRELOADED else -1,
    "rr.remove_record_route": lambda _: 1,
    "rr.check_route_param": _check_route_param,
    "rr.is_direction": _is_direction,
    "rr.record_route": _record_route,
    "rr.add_rr_param": _add_rr_param,
}
