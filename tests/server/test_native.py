"""A native kamailio.cfg: python_exec gives the documented codes and fills the variables."""

from __future__ import annotations

import hashlib
import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.server.harness import CHECKOUT, LEAVES_EXCEPTIONS, Server
from tests.server.sip import HOST

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.harness import Servers

# A line for each call: its code and the variables after it.
ROUTE = """
request_route {
    if ($rm == "OPTIONS") {
        sl_send_reply("200", "Alive");
        exit;
    }
    if ($rm == "PUBLISH") {
        $vn(mqk_q) = "body";
        $vn(mqv_q) = $rb;
        python_exec("mq_add", "q");
        xlog("L_NOTICE", "SAID add $rc\\n");
        python_exec("mq_fetch", "q");
        xlog("L_NOTICE", "SAID fetch $rc $(vn(mqv_q){s.len}) $(vn(mqv_q){s.md5})\\n");
        sl_send_reply("200", "OK");
        exit;
    }
    $vn(mqk_q) = $rU;
    $vn(mqv_q) = $fU;
    python_exec("mq_add", "q");
    xlog("L_NOTICE", "SAID add $rc\\n");
    python_exec("mq_size", "q");
    xlog("L_NOTICE", "SAID size $rc $vn(mq_size_q)\\n");
    $vn(mqk_q) = "old";
    python_exec("mq_fetch", "q");
    xlog("L_NOTICE", "SAID fetch $rc $vn(mqk_q) $vn(mqv_q)\\n");
    python_exec("mq_pv_free", "q");
    xlog("L_NOTICE", "SAID free $rc $vn(mqk_q) $vn(mqv_q)\\n");
    python_exec("mq_fetch", "q");
    xlog("L_NOTICE", "SAID empty $rc $vn(mqk_q)\\n");
    python_exec("mq_size", "q");
    xlog("L_NOTICE", "SAID none $rc $vn(mq_size_q)\\n");
    python_exec("mq_fetch", "nosuch");
    xlog("L_NOTICE", "SAID unknown $rc\\n");
    python_exec("mq_size", "nosuch");
    xlog("L_NOTICE", "SAID unknown size $rc $vn(mq_size_nosuch)\\n");
    sl_send_reply("200", "OK");
}
"""


class Native(Server):
    """A server whose routing is in Kamailio's own language; app_python3 loads the module itself."""

    modules: tuple[str, ...] = ()  # that are loaded as well, before app_python3
    after: tuple[str, ...] = ()  # lines after all modules

    def __init__(self, definitions: str, *, beside: bool = False) -> None:
        self._beside = beside
        super().__init__()
        self.definitions.write_text(definitions.replace("INSTANCE", self.instance), "utf-8")
        names = ("ctl", "kex", "pv", "xlog", "sl", *self.modules, "app_python3")
        lines = [
            "#!KAMAILIO",
            "debug=2",
            "children=1",
            "disable_tcp=yes",
            "auto_aliases=no",
            "#!ifdef KAMAILIO_6",
            "msg_recv_max_size=65535",  # it takes half of that otherwise
            "#!endif",
            f"listen=udp:{HOST}:{self.ports[0]}",
            *(f'loadmodule "{name}.so"' for name in names),
            f'modparam("app_python3", "load", "{CHECKOUT}/mqueue_kemi.py")',
            *self.after,
            self.route(),
        ]
        self.config().write_text("\n".join(lines), "utf-8")

    def route(self) -> str:
        """Return the routes."""
        return ROUTE

    def config(self) -> Path:
        return self.home / "kamailio.cfg"

    @property
    def definitions(self) -> Path:
        """The definitions file: beside kamailio.cfg, or one that the environment names."""
        return self.home / ("mqueue_kemi.cfg" if self._beside else "definitions.cfg")

    def env(self) -> dict[str, str]:
        return {} if self._beside else {"MQUEUE_KEMI_CFG": str(self.definitions)}

    def said(self) -> list[str]:
        """Return what the route has logged."""
        return re.findall(r"SAID (.*)", self.process.log())


DEFINITIONS = """
# a comment, and a line as in kamailio.cfg
modparam("mqueue", "instance", "INSTANCE")
modparam("mqueue", "mqueue", "name=q;size=20;")
"""


SAID = (
    "size 1 1",
    "fetch 1 bob alice",
    "free 1 <null> <null>",
    "empty -2 <null>",
    "none -1 0",
    "unknown -1",
    "unknown size -2 <null>",
)
# What stands in the definitions file, and what the line must say.
BAD_FILES = {
    "bad attribute": (DEFINITIONS + 'modparam("mqueue", "mqueue", "name=r;size=many")', ["line 5", "size", "many"]),
    "a name twice": (DEFINITIONS + 'modparam("mqueue", "mqueue", "name=q")', ["line 5", "redefined", '"q"']),
    "no modparam": (DEFINITIONS + "loadmodule mqueue", ["line 5", "loadmodule mqueue"]),
    "not closed": (DEFINITIONS + 'modparam("mqueue", "mqueue", "name=r', ["line 5", "name=r"]),
}


@pytest.mark.parametrize("beside", [False, True], ids=["named by the environment", "beside kamailio.cfg"])
def test_each_call_gives_its_code_and_fills_its_variables(servers: Servers, beside: bool) -> None:
    """Add, size, fetch, free, and what they say of an empty and of an unknown queue."""
    server = servers.start(Native(DEFINITIONS, beside=beside))
    assert server.request("MESSAGE", to=b"bob", sender=b"alice").status == 200
    assert server.said() == ["add 1", *SAID]
    assert len(server.process.log_lines("ERROR", "nosuch")) == 2


def test_bytes_that_are_not_utf8_pass_through_the_variables(servers: Servers) -> None:
    """What a pseudo-variable of Kamailio can hold comes out of the queue as it went in."""
    server = servers.start(Native(DEFINITIONS))
    assert server.request("MESSAGE", to=b"bob", sender=b"Andr\xe9").status == 200
    assert server.said()[0] == "add 1"
    assert b"SAID fetch 1 bob Andr\xe9\n" in server.process.log_path.read_bytes()


@pytest.mark.parametrize("unit", [b"x", b"\xff", b"\0", b"a\xe9\0"], ids=["text", "no UTF-8", "NUL", "all of it"])
def test_a_large_body_passes_through_the_variables(servers: Servers, unit: bytes) -> None:
    """Some thousand bytes of any kind come out as they went in."""
    server = servers.start(Native(DEFINITIONS))
    body = unit * 9000
    assert server.request("PUBLISH", body=body).status == 200
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert server.said() == ["add 1", f"fetch 1 {len(body)} {digest}"]


def test_a_body_that_no_variable_can_hand_over_is_refused(servers: Servers) -> None:
    """Too many bytes that are no text: -1 and one line, nothing is added, and the next request is served."""
    server = servers.start(Native(DEFINITIONS))
    assert server.request("PUBLISH", body=b"\xff" * 50000).status == 200
    assert server.said()[0] == "add -1"
    assert server.said()[1].startswith("fetch -2 ")
    (line,) = server.told()  # the core has a line of its own
    assert "ERROR" in line
    assert "mq_add('q'): $vn(mqv_q)" in line
    assert server.request("PUBLISH", body=b"x" * 50000).status == 200
    assert server.said()[-2:] == ["add 1", f"fetch 1 50000 {hashlib.md5(b'x' * 50000).hexdigest()}"]  # noqa: S324


@pytest.mark.parametrize(("text", "words"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_definitions_file_is_refused(servers: Servers, text: str, words: list[str]) -> None:
    """Kamailio does not start, and one line names the file, the line and what is wrong in it."""
    server = servers.add(Native(text))
    server.refused()
    assert len(server.process.log_lines("kemi.errors.ConfigError: ", "definitions.cfg", *words)) == 1
    assert server.segments() == []


def test_a_missing_definitions_file_is_refused(servers: Servers) -> None:
    """The line names the file and the variable that leads to it."""
    server = servers.add(Native(DEFINITIONS))
    server.definitions.unlink()
    server.refused()
    assert len(server.process.log_lines("kemi.errors.ConfigError: ", "definitions.cfg", "MQUEUE_KEMI_CFG")) == 1


def test_a_method_that_does_not_exist_spoils_no_call_after_it(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kamailio 5.6 leaves an exception behind after it: each call gives what it gives without, and it is told once."""
    after_a_missing_one = ROUTE.replace('python_exec("mq_', 'python_exec("no_such_method");\n    python_exec("mq_')
    monkeypatch.setattr(sys.modules[__name__], "ROUTE", after_a_missing_one)
    server = servers.start(Native(DEFINITIONS))
    assert server.request("MESSAGE", to=b"bob", sender=b"alice").status == 200
    assert server.said() == ["add 1", *SAID]
    assert len(server.process.log_lines("no_such_method not found")) == ROUTE.count('python_exec("mq_') - 2
    told = server.process.log_lines("Kamailio left an exception behind", "no_such_method")
    assert len(told) == (1 if LEAVES_EXCEPTIONS else 0)
