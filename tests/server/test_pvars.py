"""$mqk, $mqv and $mq_size wherever a script meets pseudo-variables, beside those of the C module."""

from __future__ import annotations

import re
import socket
import textwrap
from typing import TYPE_CHECKING, Any

from tests.conftest import HANG
from tests.server import sip
from tests.server.harness import Kamailio, Reachable
from tests.server.process import wait_until
from tests.server.transports import Binrpc

if TYPE_CHECKING:
    from tests.server.harness import Servers

DEFINITIONS = ["name=q", "name=w", "name=caf\u00e9", "name=123", "name=empty"]
MARK = "SEEN "

# What is read at each moment of the story below.
READ = """
    get, gete, getw = KSR.pv.get, KSR.pv.gete, KSR.pv.getw
    KSR.pv.sets("$var(q)", "q")
    KSR.pv.seti("$var(n)", 123)
    names = ["q", "w", "caf\\u00e9", "123", "empty", "$var(q)", "$var(n)", "$(var(q))"]
    texts = [f"${kind}({name})" for kind in ("mqk", "mqv", "mq_size") for name in names]
    texts += ["$(mqv(q){s.len})", "$(mqk(q){s.toupper})", "$(mqv(q){s.substr,1,2})", "$(mqv($var(q)){s.md5})"]
    story.append([(text, get(text), gete(text), getw(text)) for text in texts])
    KSR.xlog.xinfo("SEEN $mqk(q)=$mqv(q) $mqk($var(q)) $mqk(w)/$(mqv(w){s.len}) $mq_size(q) $mq_size(123) $mqk(123)\\n")
"""
STORY = [
    "pass",
    "for n in range(3): m.mq_add('q', f'key{n}', f'value {n}')",
    "m.mq_fetch('q')",
    "m.mq_fetch('q'); m.mq_add('w', '\\u00fc\\u20ac', 'a\\tb\"c\\\\d$rU%')",
    "m.mq_fetch('w'); m.mq_add('123', '1', '2'); m.mq_fetch('123')",
    "m.mq_pv_free('q')",
    "m.mq_fetch('q')",
    "m.mq_fetch('q')",
    "m.mq_fetch('empty'); m.mq_add('caf\\u00e9', 'k', 'v' * 9000); m.mq_fetch('caf\\u00e9')",
    "m.mq_pv_free('nosuch')",
]


def seen(server: Kamailio) -> list[str]:
    """Return what was written to the log by KSR.xlog."""
    return [line.partition(MARK)[2] for line in server.process.log_lines(MARK)]


def test_a_story_told_by_both(servers: Servers) -> None:
    """At every moment the same variables have the same values, in KSR.pv and in KSR.xlog."""
    steps = "\n".join(f"{step}\n{textwrap.dedent(READ)}" for step in STORY)
    code = f"m, story = KSR.mqueue, []\n{steps}\nreturn story"
    both = [servers.start(Reachable(DEFINITIONS, theirs=theirs)) for theirs in (True, False)]
    theirs, ours = ([{one[0]: one[1:] for one in moment} for moment in server.run(code)] for server in both)
    for number, (wanted, found) in enumerate(zip(theirs, ours)):
        assert found == wanted, STORY[number]
    assert seen(both[1]) == seen(both[0])
    assert ours[0]["$mqk(q)"] == ours[5]["$mqv(q)"] == ours[7]["$mqv(q)"] == (None, "", "<null>")
    assert ours[2]["$mqv($var(q))"] == ("value 0",) * 3
    assert ours[2]["$mq_size(q)"] == (2, 2, 2)
    assert ours[3]["$(mqk(q){s.toupper})"] == ("KEY1",) * 3
    assert ours[4]["$mqk($var(n))"] == ("1",) * 3


def test_an_empty_text_is_no_null(servers: Servers) -> None:
    """The documented difference: the C module gives null for an empty key or value."""
    code = """
        m = KSR.mqueue
        m.mq_add("q", "", "")
        m.mq_fetch("q")
        KSR.xlog.xinfo("SEEN [$mqk(q)][$(mqv(q){s.len})]\\n")
        return [KSR.pv.get("$mqk(q)"), KSR.pv.getw("$mqv(q)"), m.mqk_get("q")]
    """
    theirs, ours = (servers.start(Reachable(theirs=theirs)) for theirs in (True, False))
    assert (ours.run(code), seen(ours)) == (["", "", ""], ["[][0]"])
    assert theirs.run(code)[:2] == [None, "<null>"]


def test_unknown_queues(servers: Servers) -> None:
    """Null, and one line in the log that names what was asked for."""
    theirs, ours = (servers.start(Reachable(theirs=theirs)) for theirs in (True, False))
    texts = ["$mqk(nosuch)", "$mqv(nosuch)", "$mq_size(nosuch)", "$mqk($var(none))", "$mq_size($fU)"]
    code = f"return [(KSR.pv.get(text), KSR.pv.gete(text)) for text in {texts}]"
    assert ours.run(code) == theirs.run(code)
    for text in texts:
        assert len(ours.process.log_lines("mqueue_kemi: " + text, "not found")) == 2, "one for each read"
    assert ours.process.log_lines("$mq_size($fU) (queue 'alice')")
    assert ours.run("return KSR.pv.get('$mqk()'), KSR.pv.get('$mqk(')") == (None, None)
    for server in (theirs, ours):
        server.run("KSR.xlog.xinfo('SEEN [$mqk(nosuch)]\\n')")
    assert (seen(theirs), seen(ours)) == (["[]"], ["[<null>]"]), "the C module's function fails, ours gives null"
    assert not ours.process.log_lines("Error: ")


def test_names_in_what_is_no_variable(servers: Servers) -> None:
    """Null, and one line for each read that says which one cannot be read; the next good one works."""
    server = servers.start(Kamailio(["name=q"]))
    for kind in ("mqk", "mqv", "mq_size"):
        for name in ("$nosuch", "$var(q)x", "$", "$mqk()"):
            assert server.run(f"return [KSR.pv.get('${kind}({name})') for _ in range(3)]") == [None] * 3
            assert len(server.process.log_lines(f"${kind}: {name} is no variable that can be read")) == 3
    code = "mq.mq_add('q', 'k', 'v'); mq.mq_fetch('q'); KSR.pv.sets('$var(q)', 'q'); return KSR.pv.get('$mqv($var(q))')"
    assert server.run(code) == "v"
    assert not server.process.log_lines("Error: ")


# --- where


def test_in_a_reply(servers: Servers) -> None:
    """What the request's route fetched, the reply's route reads in the same process."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind((sip.HOST, 0))
        phone.settimeout(HANG)
        handler = f"""
            def request(self, msg):
                KSR.mqueue.mq_fetch("q")
                KSR.pv.sets("$du", "sip:{sip.HOST}:{phone.getsockname()[1]}")
                KSR.tm.t_on_reply("ksr_later")
                KSR.tm.t_relay()
                return 1
            def ksr_reply_route(self, msg):
                KSR.xlog.xinfo("SEEN reply $rs $mqk(q) $mqv(q) $mq_size(q) " + KSR.pv.gete("$mqk(q)") + "\\n")
                return 1
            def ksr_later(self, msg, name=""):
                KSR.xlog.xinfo("SEEN later $rs $mqk(q) " + str(KSR.pv.get("$mqv($var(q))")) + "\\n")
                return 1
        """
        server = Kamailio(handler=handler)
        server.ping = lambda worker: server.submit("return True", worker).result(server._ping_within)  # type: ignore[method-assign]
        servers.start(server)
        server.run("KSR.pv.sets('$var(q)', 'q'); [mq.mq_add('q', f'k{n}', f'v{n}') for n in range(2)]")
        call = sip.send(server.ports[0], "MESSAGE")
        request, sender = phone.recvfrom(65535)
        head = [line for line in request.split(b"\r\n") if re.match(rb"(?i)(via|from|to|call-id|cseq):", line)]
        phone.sendto(b"\r\n".join([b"SIP/2.0 202 Accepted", *head, b"Content-Length: 0", b"", b""]), sender)
        assert call.result().status == 202
    assert seen(server)[0] == "reply 202 k0 v0 1 k0"
    assert seen(server)[1] == "later 202 k0 v0"


def test_in_a_timer_and_before_any_message(servers: Servers) -> None:
    """A timer's process fetches and reads; child_init reads too. There is no message in either."""
    handler = """
        def child_init(self, rank):
            KSR.info(f"SEEN {rank}: {KSR.pv.get('$mq_size(q)')} {KSR.pv.getw('$mqk(q)')}\\\\n")
            return 0
        def ksr_consume(self, msg, event):
            while KSR.mqueue.mq_fetch("q") > 0:
                KSR.pv.sets("$var(q)", "q")
                KSR.xlog.xinfo("SEEN timer $mqk(q) $mqv($var(q)) $(mqv(q){s.len})\\\\n")
            return 1
    """
    server = servers.start(Kamailio(handler=handler.replace("\\\\n", "\\n"), timers=1))
    assert {"0: 0 <null>", "1: 0 <null>"} <= set(seen(server))
    for number in range(5):
        server.call("mq_add", "q", f"k{number}", "v" * number)
    wanted = [f"timer k{number} {'v' * number} {number}" for number in range(5)]
    wait_until(lambda: len([line for line in seen(server) if line.startswith("timer")]) == 5, "the timer takes all")
    assert [line for line in seen(server) if line.startswith("timer")] == wanted
    assert server.run("return KSR.pv.get('$mqk(q)')") is None, "each process has fetched for itself"


# --- what


def test_all_bytes(servers: Servers) -> None:
    """Bytes that are no text, NULs and 1 MiB reach the transformations as they are."""
    server = servers.start(Kamailio())
    for value in (b"caf\xe9", b"a\0b", b"\0", b"\xff" * 300, bytes(range(256)), b"\xc3\xbc" * 2000):
        hexa, length = server.run(f"""
            assert mq.mq_add("q", {value!r}, {value!r}) == mq.mq_fetch("q") == 1
            return KSR.pv.get("$(mqv(q){{s.encode.hexa}})"), KSR.pv.get("$(mqk(q){{s.len}})")
        """)
        assert (bytes.fromhex(hexa), length) == (value, len(value))
    for size in (65_535, 1 << 20):
        found = server.run(f"""
            mq.mq_add("q", "k", "v" * {size})
            mq.mq_fetch("q")
            return KSR.pv.get("$mqv(q)") == mq.mqv_get("q") == "v" * {size}, KSR.pv.get("$(mqv(q){{s.len}})")
        """)
        assert found == (True, size)
    assert server.run("mq.mq_add('q', 'k', b'a\\0b'); mq.mq_fetch('q'); return KSR.pv.get('$mqv(q)')") == "a\0b"
    name, message = server.run("""
        mq.mq_add("q", "k", b"caf\\xe9")
        mq.mq_fetch("q")
        try:
            return KSR.pv.get("$mqv(q)")
        except UnicodeDecodeError as error:
            return type(error).__name__, mq.mqv_get("q")
    """)
    assert (name, message) == ("UnicodeDecodeError", "caf\udce9")
    assert server.run("mq.mq_fetch('q'); return KSR.pv.get('$mqv(q)')") is None


def test_what_was_given_is_not_touched(servers: Servers) -> None:
    """A text that Kamailio holds in a variable of its own stays when the next item is fetched."""
    server = servers.start(Kamailio(["name=q", "name=w"]))
    found = server.run("""
        for queue in "qw":
            for n in range(200):
                mq.mq_add(queue, f"{queue}{n}", queue * n)
        kept = []
        for n in range(200):
            mq.mq_fetch("q")
            KSR.pvx.evalx("$var(k)", "$mqk(q)+$(mqv(q){s.len})+$mqk(w)")
            mq.mq_fetch("w")
            kept.append((KSR.pv.get("$var(k)"), KSR.pv.get("$mqk(q)"), KSR.pv.get("$mqv(w)")))
            mq.mq_pv_free("q")
        return kept
    """)
    for n, (mixed, key, value) in enumerate(found):
        before = f"w{n - 1}" if n else "<null>"
        assert (mixed, key, value) == (f"q{n}+{n}+{before}", f"q{n}", "w" * n)


def test_many_variables(servers: Servers) -> None:
    """More than are remembered: queues, names in variables, sizes; each read has what it asks for."""
    names = [f"q{number}" for number in range(150)]
    server = servers.start(Kamailio([f"name={name}" for name in names]))
    found = server.run("""
        names = [f"q{number}" for number in range(150)]
        for name in names:
            mq.mq_add(name, "key of " + name, "v")
            mq.mq_fetch(name)
        wrong = []
        for turn in range(3):
            for name in names:
                KSR.pv.sets("$var(q)", name)
                KSR.pvx.evalx("$var(k)", f"$mqk({name})+$mqk($var(q))")
                texts = [KSR.pv.get(f"$mqk({name})"), KSR.pv.get("$mqk($var(q))"), KSR.pv.get("$var(k)")]
                if texts != ["key of " + name, "key of " + name, f"key of {name}+key of {name}"]:
                    wrong.append([name, texts])
        for size in range(1, 1300):
            mq.mq_add("q0", "k", "v")
            texts = [KSR.pv.get("$mq_size(q0)"), KSR.pv.get("$(mq_size(q0){s.len})"), KSR.pv.get("$mq_size(q1)")]
            if texts != [size, len(str(size)), 0]:
                wrong.append([size, texts])
        return wrong
    """)
    assert found == []


def test_a_name_in_a_variable_in_a_name(servers: Servers) -> None:
    """A key that names a queue, as deep as one likes; and one that does not, any more."""
    server = servers.start(Kamailio(["name=a", "name=b", "name=c"]))
    found = server.run("""
        KSR.pv.sets("$var(q)", "a")
        for queue, key in (("a", "b"), ("b", "c"), ("c", "end"), ("a", "nosuch")):
            mq.mq_add(queue, key, "v")
        for queue in "abc":
            mq.mq_fetch(queue)
        texts = ["$mqk($var(q))", "$mqk($mqk($var(q)))", "$mqk($mqk($mqk($var(q))))", "$mq_size($mqk(b))"]
        before = [[KSR.pv.get(text) for text in texts] for _ in range(3)]
        mq.mq_fetch("a")
        after = [KSR.pv.get(text) for text in texts]
        mq.mq_pv_free("a")
        return before, after, [KSR.pv.get(text) for text in texts]
    """)
    assert found == ([["b", "c", "end", 0]] * 3, ["nosuch", None, None, 0], [None, None, None, 0])
    assert server.process.log_lines("$mqk($mqk($var(q))) (queue 'nosuch'): mqueue not found")
    assert server.process.log_lines("$mqk($mqk($var(q))) (queue ''): mqueue not found")
    assert not server.process.log_lines("Error: ")


# --- life


def test_after_a_reload(servers: Servers) -> None:
    """They go on, and nothing is registered a second time."""
    server = servers.start(Reachable(["name=q"]))
    for turn in range(3):
        server.write_script(["name=q", *(f"name=new{number}" for number in range(turn + 1))])
        server.reload()
        code = f"mq.mq_add('new{turn}', 'k', 'v'); mq.mq_fetch('new{turn}'); return KSR.pv.get('$mqv(new{turn})')"
        assert server.run(code) == "v"
        assert server.run("return KSR.pv.get('$mq_size(q)')") == 0
        assert server.clients[0].run("mqueue.get_size", "q").out == b"{\n\tname: q\n\tsize: 0\n}\n"
    for words in ("already exists", "duplicate", "not available"):
        assert not server.process.log_lines(words)


MEASURE = """
    import gc, os, sys
    gc.collect()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return [sys.getallocatedblocks(), len(gc.get_objects()), pages * 4096]
"""
READS = """
    m, get = KSR.mqueue, KSR.pv.get
    KSR.pv.sets("$var(q)", "q")
    texts = ["$mqk(q)", "$mqv(q)", "$mq_size(q)", "$mqk($var(q))", "$(mqv(q){s.len})"]
    for number in range(%d):
        m.mq_add("q", f"key {number}", "v" * (number %% 3000))
        m.mq_fetch("q")
        for text in texts:
            get(text)
    for number in range(20):
        get("$mqk(nosuch)")
    m.mq_fetch("q")
    for text in texts:
        get(text)
"""
RPCS = """
    import json
    for number in range(%d):
        for method, *params in (["get_size", "q"], ["add", "q", "k", "v" * (number %% 3000)], ["peek", "q"],
                                ["stats"], ["fetch", "q"], ["fetch", "q"], ["get_size", "nosuch"], ["peek", "q", "x"]):
            document = {"jsonrpc": "2.0", "id": number, "method": "mqueue." + method, "params": params}
            KSR.jsonrpcs.exec(json.dumps(document))
            KSR.pv.get("$jsonrpl(body)")
"""


def private_memory(server: Reachable, pid: int) -> int:
    """Return the bytes of Kamailio's private memory that the process uses."""
    text = server.kamcmd("pkg.stats", "pid", str(pid))
    return int(re.findall(r"used: (\d+)", text)[0])


def test_memory_stays_flat(servers: Servers, stress: bool) -> None:
    """Tens of thousands of reads and thousands of commands leave no block, no object and no page behind."""
    reads, commands = (20_000, 1250) if stress else (4_000, 250)  # 5 and 8 each
    server = servers.start(Reachable())
    pid = server.worker_pid()
    work: list[Any] = [READS % 500, RPCS % 50]
    for code in work * 2:  # what is made once
        server.run(code)
    with Binrpc(server.control) as ctl:
        before, private = server.run(MEASURE), private_memory(server, pid)
        server.run(READS % reads)
        server.run(RPCS % commands)
        for _ in range(commands):
            assert ctl.ask("mqueue.get_size", "q").result
            ctl.ask("mqueue.fetch", "q")
    after = server.run(MEASURE)
    blocks, objects, pages = (new - old for new, old in zip(after, before))
    assert blocks < 300, before
    assert objects < 100, before
    assert pages < 1 << 20, before
    assert private_memory(server, pid) - private < 10_000
