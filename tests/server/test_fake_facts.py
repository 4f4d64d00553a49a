"""What the fake calls a silent mistake is one in the real server: nothing is said where it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.testing import release
from tests.server import sip
from tests.server.harness import Kamailio
from tests.server.process import wait_until

if TYPE_CHECKING:
    from tests.server.harness import Servers

ANSWER = """
def request(self, msg):
    KSR.pv.get("$rm")
    KSR.sl.sl_send_reply(200, "OK")
    return None if KSR.is_MESSAGE() else 1
"""


def test_a_route_that_returns_none(servers: Servers) -> None:
    """In 5.6 the next request is not answered; the error may stay there for more of them. In 6.0 nothing is broken."""
    server = servers.start(Kamailio(handler=ANSWER))
    assert server.request("MESSAGE").status == 200
    if release.choose(release.installed()) != "5.6":
        assert server.request("INVITE").status == 200
        return
    with pytest.raises(sip.NoReplyError):
        sip.send(server.ports[0], "INVITE").result(1)
    wait_until(lambda: server.process.log_lines("ERROR: app_python3"), "the worker has come to it")


def test_what_is_set_but_cannot_be(servers: Servers) -> None:
    server = servers.start(Kamailio())
    assert server.run("return KSR.pv.sets('$ci', 'x'), KSR.pv.get('$ci') == 'x'") == (True, False)


def test_arguments_where_there_are_none(servers: Servers) -> None:
    server = servers.start(Kamailio())
    assert server.run("return KSR.is_INFO('INVITE')") is True


def test_names_that_are_none(servers: Servers) -> None:
    server = servers.start(Kamailio())
    assert server.run("return KSR.pv.get('rU'), KSR.pv.get('$rU '), KSR.xlog.xinfo('5$ \\n')") == (None, None, -1)
    assert "invalid pv" in server.process.log()
