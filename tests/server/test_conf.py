"""The files of conf/, as they are: SIP requests go through both servers, and the demo says that nothing was lost."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.server.harness import CHECKOUT, Example
from tests.server.process import ServerProcess, wait_until
from tests.support.clients import attach

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.harness import Servers

SENDERS = ("alice", "carol", "dave")
REQUESTS = 40  # of each sender
CONSUMED = re.compile(r"consumer (?P<consumer>[ab]): (?P<number>\d+) - call from (?P<sender>\w+)")
BOTH = pytest.mark.parametrize("config", ["kamailio.cfg", "kamailio-native.cfg"])


def consumed(server: Example) -> list[tuple[str, str, int]]:
    """Return consumer, sender and number of each item in the log."""
    found = CONSUMED.finditer(server.process.log())
    return [(match["consumer"], match["sender"], int(match["number"])) for match in found]


@BOTH
def test_requests_go_through(servers: Servers, config: str) -> None:
    """INVITE and MESSAGE of three senders at once are answered, queued and consumed once each, in order."""
    server = servers.start(Example(config))

    def talk(sender: str) -> set[int]:
        method = "INVITE" if sender == "dave" else "MESSAGE"
        numbers = range(REQUESTS)
        return {server.request(method, to=b"%d" % n, sender=sender.encode()).status for n in numbers}

    with ThreadPoolExecutor() as pool:
        answers = dict(zip(SENDERS, pool.map(talk, SENDERS)))
    assert answers == {"alice": {202}, "carol": {202}, "dave": {480}}

    expected = {(sender, number) for sender in SENDERS for number in range(REQUESTS)}
    wait_until(lambda: len(consumed(server)) >= len(expected), "everything is consumed")
    items = consumed(server)
    assert len(items) == len(expected)
    assert {(sender, number) for _, sender, number in items} == expected
    for consumer in "ab":
        for sender in SENDERS:
            numbers = [number for *who, number in items if who == [consumer, sender]]
            assert numbers == sorted(numbers)
    server.stop()
    assert server.segments() == []


@BOTH
def test_other_requests_are_answered(servers: Servers, config: str) -> None:
    """OPTIONS, a stray BYE and a method that is not served get their answer and no item."""
    server = servers.start(Example(config))
    assert server.request("OPTIONS").status == 200
    assert server.request("BYE").status == 481
    assert server.request("SUBSCRIBE").status == 405
    assert server.request("MESSAGE", to=b"1").status == 202
    wait_until(lambda: consumed(server), "the message is consumed")
    assert len(consumed(server)) == 1
    assert not server.process.log_lines("ERROR")
    assert not server.process.log_lines("Traceback")


@BOTH
def test_no_item_stops_a_consumer(servers: Servers, config: str) -> None:
    """Keys and values that are no line of text, from a caller or from a process outside."""
    server = servers.start(Example(config))
    with attach("myq", server.instance) as queue:
        queue.add("nul\0", "call from \0")
        queue.add(b"bytes\xff", b"call from \x80\xff")
        queue.add("two\nlines", "call from $(rU)\r\n")
        queue.add("\u00fc\u4e2d", "call from \U0001f600")
        queue.add("", "")
    assert server.request("MESSAGE", to=b"1").status == 202
    wait_until(lambda: consumed(server), "the message is consumed")
    wait_until(lambda: len(re.findall(r"consumer [ab]: ", server.process.log())) == 6, "each has its line in the log")
    assert len(server.process.log_lines(": \u00fc\u4e2d - call from \U0001f600")) == 1
    assert not server.process.log_lines("ERROR")
    if config == "kamailio.cfg":
        assert len(server.process.log_lines(r": nul\x00 - call from \x00")) == 1
        assert len(server.process.log_lines(r": bytes\udcff - call from \udc80\udcff")) == 1
        assert len(server.process.log_lines(r": two\nlines - call from $(rU)\r\n")) == 1


@BOTH
def test_kamailio_accepts_the_file(servers: Servers, config: str) -> None:
    """`kamailio -c` is content with it."""
    done = servers.add(Example(config)).check()
    assert done.returncode == 0, done.stderr


def test_the_workers_configuration(servers: Servers) -> None:
    """kamailio-cdr.cfg: a call is queued once however often it is sent, and every request gets its answer."""
    server = servers.start(Example("kamailio-cdr.cfg"))
    assert server.request("INVITE", to=b"7", sender=b"alice").status == 480
    with attach("cdr", server.instance) as queue:
        (item,) = queue.peek(2)
    assert {"caller": "alice", "callee": "7"}.items() <= json.loads(item.value).items()
    assert server.request("BYE").status == 481
    assert server.request("MESSAGE", to=b"1").status == 405
    assert not server.process.log_lines("ERROR")
    assert server.check().returncode == 0


def test_the_demo_of_the_worker(tmp_path: Path) -> None:
    """`sh conf/demo.sh --worker`: killed twice, and every call is in the table once."""
    demo = ServerProcess(["sh", str(CHECKOUT / "conf/demo.sh"), "--worker"], tmp_path / "log")
    try:
        code = demo.spawn().wait(120)
        assert code == 0, demo.log()
        assert demo.log().count("kill -9 of the worker") == 2
        assert "sent 600 / rows 600 / missing 0 / twice 0" in demo.log()
        assert demo.pids() == []
    finally:
        demo.kill()


@pytest.mark.parametrize("option", [[], ["--native"]], ids=["kamailio.cfg", "native"])
def test_the_demo_succeeds(tmp_path: Path, option: list[str]) -> None:
    """`sh conf/demo.sh` ends with 0, says that nothing was lost, and leaves no process behind."""
    demo = ServerProcess(["sh", str(CHECKOUT / "conf/demo.sh"), *option], tmp_path / "log")
    try:
        code = demo.spawn().wait(120)
        assert code == 0, demo.log()
        assert re.search(r"\blost\b\D*\b0\b", demo.log()), demo.log()
        assert demo.pids() == []
    finally:
        demo.kill()
