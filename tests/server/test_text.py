"""Whatever bytes a key or value holds, they come out of another process as they went in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server.harness import Kamailio
from tests.server.process import wait_until
from tests.server.sip import NoReplyError, send

if TYPE_CHECKING:
    from tests.server.harness import Servers

MIB = 1 << 20
TEXTS = {
    "empty": "",
    "NUL": "a\0b\0",
    "accents": "Gr\u00fc\u00dfe, \u0645\u0631\u062d\u0628\u0627, \U0001f600",
    "lone surrogate": "\ud800",
    "not UTF-8": "\udcff\udc80",
    "line ends": "a\r\n\r\nb\n",
    "format": "%s $fU {0} \\x00",
}


@pytest.fixture
def server(servers: Servers) -> Kamailio:
    """Return a server with two workers."""
    return servers.start(Kamailio(workers=2))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_any_text_crosses(server: Kamailio, text: str) -> None:
    """Every str comes back as it was, as key and as value."""
    assert server.call("mq_add", "q", text, text + "v", worker=0) == 1
    got = server.run("return mq.mq_fetch('q'), mq.mqk_get('q'), mq.mqv_get('q')", worker=1)
    assert got == (1, text, text + "v")


def test_any_bytes_cross(server: Kamailio) -> None:
    """All 256 byte values are taken as bytes, and come back in the str that stands for them."""
    data = bytes(range(256))
    assert server.call("mq_add", "q", data, data[::-1], worker=0) == 1
    code, key, value = server.run("return mq.mq_fetch('q'), mq.mqk_get('q'), mq.mqv_get('q')", worker=1)
    assert code == 1
    assert key.encode("utf-8", "surrogateescape") == data
    assert value.encode("utf-8", "surrogateescape") == data[::-1]


@pytest.mark.parametrize("unit", ["x", "\u00e9", "\udcff"], ids=["ascii", "two bytes", "not UTF-8"])
def test_sixteen_mebibytes_cross(server: Kamailio, unit: str) -> None:
    """A value of 16 MiB goes through the queue whole, more than once."""
    make = f"text = {unit!a} * ({16 * MIB} // len({unit!a}.encode('utf-8', 'surrogateescape')))\n"
    for _ in range(3):
        assert server.run(make + "return mq.mq_add('q', 'k', text)", worker=0) == 1
        assert server.run(make + "return mq.mq_fetch('q') == 1 and mq.mqv_get('q') == text", worker=1) is True
        assert server.run("return mq.mq_pv_free('q'), mq.mqv_get('q')", worker=1) == (1, None)


def test_sip_bytes_that_are_not_utf8_stop_nothing(servers: Servers) -> None:
    """A request whose user is not UTF-8 raises in KSR itself; that worker goes on, and its queue too."""
    handler = """
        def request(self, msg):
            mqueue_kemi.mq_add("q", KSR.pv.gete("$rU"), KSR.pv.gete("$fU"))
            KSR.sl.send_reply(202, "Queued")
            return 1
    """
    server = servers.start(Kamailio(handler=handler))
    pid = server.worker_pid()
    assert server.request("MESSAGE", sender="Andr\u00e9".encode()).status == 202
    with pytest.raises(NoReplyError):
        send(server.ports[0], "MESSAGE", sender=b"Andr\xe9").result(timeout=0.5)
    wait_until(lambda: server.process.log_lines("UnicodeDecodeError"), "the worker has come to it")
    assert server.request("MESSAGE", sender=b"carol").status == 202
    assert server.run("return [mq.mqv_get('q') for _ in range(9) if mq.mq_fetch('q') == 1]") == ["Andr\u00e9", "carol"]
    assert server.worker_pid() == pid
