"""RPC and what may be in an item: large, strange, hostile. It is answered as it is, or it stays where it is."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.harness import Reachable
from tests.server.transports import Answer, Binrpc, Http, Json, ask, request

if TYPE_CHECKING:
    from tests.server.harness import Servers

MIB = 1 << 20


def left(server: Reachable) -> list[tuple[str, str]]:
    """Take all that is in the queue out of it, by the script's own functions."""
    taken: list[tuple[str, str]] = server.run(
        "return [(mq.mqk_get('q'), mq.mqv_get('q')) for _ in range(1000) if mq.mq_fetch('q') == 1]"
    )
    return taken


def fetch(server: Reachable, way: Json | Binrpc, value: str) -> bool:
    """Add an item and fetch it: it is answered, or refused with a word on its size and still there."""
    server.run(f"assert mq.mq_add('q', 'key', {value}) == 1")
    wanted = eval(value)  # noqa: S307 an expression of this file
    answer = ask(way, "mqueue.fetch", "q") if not isinstance(way, Binrpc) else way.ask("mqueue.fetch", "q")
    rest = left(server)
    if answer.code:
        assert (answer.code, answer.result, answer.message[:9]) == (500, None, "Too large"), answer
        assert rest == [("key", wanted)], "the item is lost"
        return False
    if isinstance(way, Binrpc):
        assert answer.result == [{"key": b"key", "val": wanted.encode()}]
    else:
        assert answer.result == {"key": "key", "val": wanted}
    assert rest == []
    return True


# --- size


def test_large_values(servers: Servers) -> None:
    """8 KiB and 1 MiB over each transport: the answer, or a refusal before the item is taken."""
    server = servers.start(Reachable())
    with Binrpc(server.control) as ctl:
        ways: list[Json | Binrpc] = [*server.json, ctl]
        answered = {size: [fetch(server, way, f"'v' * {size}") for way in ways] for size in (0, 8000, 8192, 65535, MIB)}
    assert answered == {
        0: [True, True, True, True],
        8000: [True, True, True, True],
        8192: [True, True, True, False],
        65535: [True, False, True, False],
        MIB: [True, False, True, False],
    }


@pytest.mark.parametrize(
    ("filler", "wide"),
    [("'v'", 1), ("'\"'", 2), ("'\\x01'", 6), ("'\\u20ac'", 1)],
    ids=["plain", "short escapes", "long escapes", "UTF-8"],
)
def test_around_each_limit(servers: Servers, filler: str, wide: int) -> None:
    """Nothing is lost just below, at, or just above what a transport takes, whatever the text becomes in JSON."""
    server = servers.start(Reachable())
    remote = Http(server.tcp_port, "127.0.0.2")
    size = wide * len(eval(filler).encode())  # noqa: S307 an expression of this file
    limits: list[tuple[Json, int]] = [(server.datagram, 65_000), (remote, 64_000), (server.http, 1_200_000)]
    for way, limit in limits:
        steps = (-1200, -560, -550, -540, -100, 0, 500, 2000)
        answered = [fetch(server, way, f"{filler} * {(limit + step) // size}") for step in steps]
        assert answered[0]
        assert not answered[-1]
        assert answered == sorted(answered, reverse=True)
    with Binrpc(server.control) as ctl:
        answered = [fetch(server, ctl, f"'v' * {size}") for size in range(8140, 8200, 3)]
    assert answered[0]
    assert not answered[-1]
    assert answered == sorted(answered, reverse=True)


def private_memory_used(servers: Servers) -> int:
    """Return the MiB of private memory that a process of this Kamailio needs for itself."""
    server = servers.start(Reachable())
    used = re.findall(r"real_used: (\d+)", server.kamcmd("pkg.stats"))
    server.stop()
    return -(-max(map(int, used)) // MIB)


@pytest.mark.parametrize("room", [1, 4])
def test_a_small_private_memory(servers: Servers, room: int) -> None:
    """What Kamailio could not copy into its private memory (-M) is refused, and the server goes on."""
    mib = private_memory_used(servers) + room
    server = servers.start(Reachable(options=["-M", str(mib)]))
    answered = [fetch(server, server.http, f"'v' * {size}") for size in range(100_000, 1_000_001, 100_000)]
    assert answered[0]
    assert answered == sorted(answered, reverse=True)
    assert answered[-1] == (room == 4)
    assert fetch(server, server.fifo, "'v' * (4 << 20)"), "a FIFO needs none of it"
    assert not server.process.log_lines("could not allocate")


NATIVE = """
request_route {
    if ($rm == "INFO") { python_exec("ksr_request_route"); exit; }
    sl_send_reply("200", "OK");
}
event_route[xhttp:request] {
    jsonrpc_dispatch();
}
"""


class Native(Reachable):
    """Routes in Kamailio's own language."""

    def write_config(self) -> None:
        """Replace the engine."""
        text = self.config().read_text("utf-8")
        for line in ('cfgengine "python"', 'modparam("xhttp", "event_callback", "ksr_xhttp")'):
            assert line in text
            text = text.replace(line, "")
        self.config().write_text(text + NATIVE, "utf-8")


def test_http_in_a_native_configuration(servers: Servers) -> None:
    """Where the request came from is known without a script, and decides what it takes."""
    server = Native()
    server.write_config()
    servers.start(server)
    assert fetch(server, server.http, "'v' * 200_000")
    assert not fetch(server, Http(server.tcp_port, "127.0.0.2"), "'v' * 200_000")


def test_a_script_that_asks_gets_everything(servers: Servers) -> None:
    """KSR.jsonrpcs.exec in a script has no transport, and no limit but memory."""
    server = servers.start(Reachable())
    document = request("mqueue.fetch", ["q"]).decode()
    body = server.run(f"""
        mq.mq_add('q', 'k', 'v' * {MIB})
        KSR.jsonrpcs.exec({document!r})
        return KSR.pv.get("$jsonrpl(body)")
    """)
    assert json.loads(body)["result"] == {"key": "k", "val": "v" * MIB}
    assert left(server) == []


# --- content

BYTES = [b"caf\xe9", b"\xff", b"a\0b", b"\0", b"\xed\xa0\x80", bytes(range(256))]


@pytest.mark.parametrize("value", BYTES, ids=repr)
def test_what_is_no_text(servers: Servers, value: bytes) -> None:
    """JSON cannot carry it: it is refused, and still there for kamcmd, which gets every byte."""
    server = servers.start(Reachable())
    server.run(f"assert mq.mq_add('q', 'k', {value!r}) == 1 == mq.mq_add('q', {value!r}, 'v')")
    for way in server.json:
        for method in ("mqueue.fetch", "mqueue.peek"):
            answer = ask(way, method, "q")
            assert (answer.code, answer.message) == (500, "No text, and cannot be given in JSON: val; use kamcmd")
    with Binrpc(server.control) as ctl:
        assert ctl.ask("mqueue.fetch", "q") == Answer([{"key": b"k", "val": value}])
        assert ask(server.http, "mqueue.fetch", "q").message == "No text, and cannot be given in JSON: key; use kamcmd"
        assert ctl.ask("mqueue.fetch", "q") == Answer([{"key": value, "val": b"v"}])
        assert ctl.ask("mqueue.fetch", "q") == Answer(code=404, message="Empty queue\0".rstrip("\0"))


def test_an_empty_value_is_answered(servers: Servers) -> None:
    """The C module answers 500, and the item is lost; ours gives what is there."""
    theirs, ours = (servers.start(Reachable(theirs=theirs)) for theirs in (True, False))
    for way, reference in zip(ours.json, theirs.json):
        for key, value in (("k", ""), ("", "v"), ("", "")):
            ours.add_item("q", key, value)
            assert ask(way, "mqueue.fetch", "q") == Answer({"key": key, "val": value})
        theirs.add_item("q", "k", "")
        assert ask(reference, "mqueue.fetch", "q").code == 500
        assert ask(reference, "mqueue.get_size", "q") == Answer({"name": "q", "size": 0})
    ours.add_item("q", "", "")
    assert ours.clients[0].run("mqueue.fetch", "q").out == b"{\n\tkey: \n\tval: \n}\n"


NAMES = ["a b", "a.b", "../x", "a/b", "%41", "a~b", "$var(x)", "\u00fc\u20ac\U0001f4de", "A", "a", "-", "{", "'"]


def test_odd_names(servers: Servers) -> None:
    """Whatever a queue is called, it is found by exactly that name."""
    server = servers.start(Reachable([f"name={name}" for name in NAMES]))
    for number, name in enumerate(NAMES):
        way = server.json[number % 3]
        assert ask(way, "mqueue.add", name, name, name) == Answer({"name": name, "size": 1})
    with Binrpc(server.control) as ctl:
        for name in NAMES:
            assert ctl.ask("mqueue.get_size", name) == Answer([{"name": name.encode(), "size": 1}])
            assert ctl.ask("mqueue.fetch", name) == Answer([{"key": name.encode(), "val": name.encode()}])
    assert [one["name"] for one in ask(server.http, "mqueue.get_sizes").result] == NAMES[::-1]


@pytest.mark.parametrize("count", [100, 400])
def test_many_queues(servers: Servers, count: int) -> None:
    """All of them come in one answer over every transport, and every part of Kamailio goes on beside them."""
    names = [f"queue-{number}" for number in range(count)]
    server = servers.start(Reachable([f"name={name}" for name in names]))
    for way in server.json:
        assert [one["name"] for one in ask(way, "mqueue.get_sizes").result] == names[::-1]
    with Binrpc(server.control) as ctl:
        assert [one["name"].decode() for one in ctl.ask("mqueue.get_sizes").result] == names[::-1]
        if count == 100:
            assert [one["name"].decode() for one in ctl.ask("mqueue.stats").result] == names[::-1]
    assert server.clients[0].run("mqueue.get_sizes").out.count(b"name: ") == count
    answers = [ask(way, "mqueue.stats") for way in server.json]
    for answer in answers:
        assert answer.message.startswith("Too large") or [one["name"] for one in answer.result] == names[::-1]
    assert [bool(answer.result) for answer in answers] == [True, count == 100, True]


def test_queues_of_a_reload(servers: Servers) -> None:
    """Who answers RPC runs no script, and still knows a queue as soon as a worker has made it."""
    server = servers.start(Reachable(["name=old"]))
    server.write_script(["name=old", "name=n.e~w"])
    server.reload()
    assert server.run("return mq.mq_add('n.e~w', 'k', 'v')") == 1
    assert server.kamcmd("mqueue.get_size", "n.e~w") == "{\n\tname: n.e~w\n\tsize: 1\n}\n"
    assert [one["name"] for one in ask(server.datagram, "mqueue.get_sizes").result] == ["n.e~w", "old"]
    assert ask(server.fifo, "mqueue.stats", "n.e~w").result[0]["added"] == 1
    assert ask(server.fifo, "mqueue.stats", "nosuch") == Answer(code=404, message="No such queue")


# --- beyond the C module


def test_add(servers: Servers) -> None:
    """Key and value arrive as they were sent; a refused add says why."""
    server = servers.start(Reachable(["name=q", "name=small;maxbytes=64"]))
    texts = ["k", "", "\u00fc \u20ac \U0001f4de", 'quo"te\\ \n\t\r\x01', "007", "$var(x)"]
    for way in server.json:
        for text in texts:
            ask(way, "mqueue.add", "q", text, text)
    assert left(server) == [(text, text) for text in texts] * 3
    with Binrpc(server.control) as ctl:
        ctl.send("mqueue.add", "q", b"\xff\0", b"\0")
        refused = ctl.ask("mqueue.add", "small", "k", "v" * 60).message
        assert refused == "Not added: maxbytes of the queue is reached (maxbytes=64)"
        assert ctl.ask("mqueue.add", "q", "k", 7).message.startswith(
            "No key or value, or it is no text (kamcmd: s:123)"
        )
        assert ctl.ask("mqueue.add", "q", "k").code == 400
        assert ctl.ask("mqueue.add", "nosuch", "k", "v") == Answer(code=404, message="No such queue")
    assert left(server) == [("\udcff\0", "\0")]
    assert server.kamcmd("mqueue.add", "q", "s:007", "s:0") == "{\n\tname: q\n\tsize: 1\n}\n"
    assert left(server) == [("007", "0")]


def test_peek(servers: Servers) -> None:
    """The oldest items with their age; they stay. The count is 1 to 100."""
    server = servers.start(Reachable(["name=q", "name=empty"]))
    server.run("for n in range(120): mq.mq_add('q', str(n), 'v' * n)")
    with Binrpc(server.control) as ctl:
        for count in (1, 2, 100):
            wanted = [{"key": str(n), "val": "v" * n, "age": 0} for n in range(count)]
            for way in server.json:
                result = ask(way, "mqueue.peek", "q", count).result
                assert [{**one, "age": 0 if one["age"] < 5 else one["age"]} for one in result] == wanted
            assert [one["key"] for one in ctl.ask("mqueue.peek", "q", count).result] == [
                str(n).encode() for n in range(count)
            ]
        assert len(ctl.ask("mqueue.peek", "q").result) == 1
        wrong: list[Any] = [0, 101, (1 << 31) + 1, "x", "", "2", 1.5]
        for number in wrong:
            assert ctl.ask("mqueue.peek", "q", number).code == 400, number
        wrong = [0, -1, 101, "x", "", "2", None, [], {}, [2], 1e20, -1e20]
        for number in wrong:
            assert ask(server.http, "mqueue.peek", "q", number).code == 400, number
    assert ask(server.http, "mqueue.peek", "empty", 3) == Answer([])
    assert len(left(server)) == 120


def test_many_large_items_are_peeked(servers: Servers) -> None:
    """More than a transport takes is refused as a whole, at once."""
    server = servers.start(Reachable())
    server.run("for n in range(100): mq.mq_add('q', 'k', 'v' * 8000)")
    assert len(ask(server.fifo, "mqueue.peek", "q", 100).result) == 100
    assert len(ask(server.http, "mqueue.peek", "q", 100).result) == 100
    assert ask(server.datagram, "mqueue.peek", "q", 100).message.startswith("Too large for this transport")
    assert len(ask(server.datagram, "mqueue.peek", "q", 7).result) == 7
    with Binrpc(server.control) as ctl:
        assert ctl.ask("mqueue.peek", "q", 100).message.startswith("Too large for this transport")
        assert len(ctl.ask("mqueue.peek", "q", 7).result) == 7


def test_stats(servers: Servers) -> None:
    """The counters of one queue, or of all."""
    server = servers.start(Reachable(["name=q;size=3", "name=other;addmode=2;maxbytes=5000000000"]))
    server.run("for n in range(5): mq.mq_add('q', 'k', 'v')")
    server.run("mq.mq_fetch('q')")
    for way in server.json:
        (stats,) = ask(way, "mqueue.stats", "q").result
        assert stats.pop("oldest_age") < 60
        assert stats.pop("bytes") == 2 * 32
        assert stats.pop("memory") > 0
        assert stats.pop("high_water") == 3
        assert stats == {
            "name": "q", "size": 2, "added": 5, "fetched": 1, "dropped": 2, "replaced": 0, "refused": 0, "recovered": 0,
            "size_limit": 3, "byte_limit": 0, "addmode": 0, "reserved": 0, "dead_lettered": 0, "exhausted": 0,
            "max_deliveries": 0, "due": 0, "expired": 0, "unmoved": 0, "maxage": 0, "refused_no_memory": 0,
            "refused_too_large": 0, "refused_full": 0, "refused_closed": 0,
        }  # fmt: skip
        both = ask(way, "mqueue.stats").result
        assert [one["name"] for one in both] == ["other", "q"]
        assert both[0]["byte_limit"] == 5_000_000_000
    assert "byte_limit: 5000000000\n" in server.kamcmd("mqueue.stats", "other")
    assert ask(server.http, "mqueue.stats", "nosuch") == Answer(code=404, message="No such queue")


def test_help(servers: Servers) -> None:
    """The commands are listed, and each has a text; those of the C module have its own."""
    theirs, ours = (servers.start(Reachable(theirs=theirs)) for theirs in (True, False))
    listed = [
        [name for name in ask(one.http, "system.listMethods").result if "mqueue" in name] for one in (theirs, ours)
    ]
    assert sorted(listed[1]) == sorted([*listed[0], "mqueue.add", "mqueue.peek", "mqueue.questions", "mqueue.stats"])
    for name in listed[0]:
        assert ask(ours.http, "system.methodHelp", name) == ask(theirs.http, "system.methodHelp", name)
    for name in set(listed[1]) - set(listed[0]):
        text = ask(ours.http, "system.methodHelp", name).result
        assert ("Parameters: name" in text) != (name == "mqueue.questions")


# --- hostile

WITHOUT_NAME = ["mqueue.get_sizes", "mqueue.questions"]
METHODS = [*WITHOUT_NAME, "mqueue.get_size", "mqueue.fetch", "mqueue.add", "mqueue.peek", "mqueue.stats"]
WRONG: list[object] = [
    [5], [1.5], [None], [True], [[]], [{}], [["q"]], [[["q"]]], [{"name": "q"}], ["nosuch"], ["q\0"], [""], [" q"],
    ["x" * 6000], ["x"] * 300, [None, "q"], ["q", None], ["q", [], {}], ["q", {"a": [1, {"b": None}]}, 7],
    {"name": "nosuch"}, {"a": {"b": 1}}, {},
]  # fmt: skip


def test_hostile_documents(servers: Servers) -> None:
    """An error or an empty answer, and nothing else: no item goes, no process ends, no line of a failure in Python."""
    server = servers.start(Reachable())
    server.add_item("q", "k", "v")
    processes = server.process.pids()
    for way in server.json:
        for params in WRONG:
            for method in METHODS:
                document = json.loads(way.send(request(method, params)))
                if "error" in document:
                    assert document["error"]["code"] in (400, 404, 500), (method, params)
                else:
                    first = params[0] if isinstance(params, list) and params else None
                    named = first in ("q", "q\0")  # C texts end there
                    assert named or method in (*WITHOUT_NAME, "mqueue.stats"), (method, params, document)
                if method == "mqueue.fetch" and "result" in document:
                    server.add_item("q", "k", "v")
    assert left(server) == [("k", "v")]
    assert server.process.pids() == processes
    assert not server.process.log_lines("Error:", "mqueue_kemi")
    assert not server.process.log_lines("Traceback")


def test_hostile_packets(servers: Servers) -> None:
    """The same with BINRPC, where texts may be any bytes and numbers come as numbers."""
    server = servers.start(Reachable())
    server.add_item("q", "k", "v")
    wrong: list[list[Any]] = [
        [5], [1.5], [b"\xff\xfe"], [b"q\0"], [b"\0"], [b""], [b"x" * 30_000], [b"x"] * 500, [5, b"q"], [b"nosuch", 1.5],
    ]  # fmt: skip
    with Binrpc(server.control) as ctl:
        for params in wrong:
            for method in METHODS:
                answer = ctl.ask(method, *params)
                told = method in WITHOUT_NAME or (method == "mqueue.stats" and not isinstance(params[0], bytes))
                assert answer.code in (400, 404, 500) or told, (method, params)
    assert left(server) == [("k", "v")]
    assert not server.process.log_lines("mqueue_kemi", "rror")


def test_an_answer_that_nobody_waits_for(servers: Servers) -> None:
    """A caller that went away delays nobody: the next one is answered."""
    server = servers.start(Reachable())
    for _ in range(5):
        with Binrpc(server.control) as ctl:
            ctl.sock.sendall(b"\xa1\x0f\x00\x00")  # half a request
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(request("mqueue.get_size", ["q"]), str(server.datagram.path))  # from no address
        with socket.create_connection(("127.0.0.1", server.tcp_port)) as sock:
            sock.sendall(b"POST /RPC HTTP/1.1\r\nContent-Length: 500\r\n\r\n{")
    for way in server.json:
        assert ask(way, "mqueue.get_size", "q") == Answer({"name": "q", "size": 0})
    with Binrpc(server.control) as ctl:
        assert ctl.ask("mqueue.get_size", "q").result
