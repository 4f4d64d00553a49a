"""The routes of one transaction, in the fake and in the real server.

Each has the same message and the same variables, and its calls the same results.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kemi.testing import FakeKSR, Script
from tests.server import conversation
from tests.testing.flows import FLOWS, Flow

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.harness import Servers


def faked(flow: Flow, mark: str, home: Path) -> list[list[str]]:
    """Let the flow happen in the fake, by what a test has for it."""
    ksr = FakeKSR()
    plan = {"routes": flow.routes, "callee": "sip:127.0.0.1:9"}
    (home / f"{mark}.in").write_text(json.dumps(plan), "ascii")
    text = flow.message.format(mark=mark, client=5062)
    more = f"X-Case: {mark}\nServer: callee/1"
    with Script(conversation.script(home), ksr) as script:
        script.request(text)
        canceled = False
        for code in (code for codes in flow.codes for code in codes):
            script.reply(code, more=more)
            if flow.cancel and not canceled:
                canceled = True
                script.request(conversation.request_in(text.encode().replace(b"\n", b"\r\n"), "CANCEL").decode())
    return conversation.rows(home / f"{mark}.out")


def by_route(rows: list[list[str]]) -> dict[str, list[tuple[str, str]]]:
    """Expressions and outcomes of each route, in order; how routes follow each other is told by the empty ones."""
    found: dict[str, list[tuple[str, str]]] = {}
    for route, expression, outcome in rows:
        if route not in ("ack", "cancel-request"):
            found.setdefault(route, []).append((expression, outcome))
    return found


@pytest.mark.parametrize("name", FLOWS)
def test_each_route_is_the_same(name: str, servers: Servers, tmp_path: Path) -> None:
    mark, flow = f"f{list(FLOWS).index(name)}", FLOWS[name]
    server = servers.start(conversation.Scripted())
    real = by_route(conversation.really(server, flow, mark))
    fake = by_route(faked(flow, mark, tmp_path))
    assert [(route, len(rows)) for route, rows in fake.items()] == [(route, len(rows)) for route, rows in real.items()]
    differences = [
        f"{route}: {expression}\n  server: {there}\n  fake:   {here}"
        for route in real
        for (expression, there), (_, here) in zip(real[route], fake[route], strict=True)
        if there != here
    ]
    assert not differences, "\n".join(differences)
