"""acc_json, Kamailio's own module for accounting, writes its records to our queues: documentation of acc_json, 3.9."""

from __future__ import annotations

import json
import signal
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.conftest import HANG
from tests.server import harness
from tests.server.calls import OUTPUTS, Accounting, Calls, parameters
from tests.server.process import wait_until
from tests.server.sip import HOST
from tests.server.test_native import Native
from tests.support.clients import attach
from tests.support.ports import free_port

if TYPE_CHECKING:
    from tests.server.harness import Servers

LOST = "WILL BE LOST"
ENDS = "WILL END THE SERVER"

# Calls the core as a C module does: gives what the function for C modules returned for three `str`, None for a null.
ASK = textwrap.dedent("""
    import ctypes
    library = ctypes.PyDLL(None)
    find = library.find_export
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    class Str(ctypes.Structure):
        _fields_ = [("s", ctypes.c_char_p), ("len", ctypes.c_int)]
    api = ctypes.c_void_p()
    bind = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(find(b"bind_mq", 1, 0))
    assert bind(None) == -1
    assert bind(ctypes.addressof(api)) == 0
    call = ctypes.PYFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 3)(api.value)
    def add(*texts):
        strs = [None if text is None else Str(text, len(text)) for text in texts]
        return call(*(None if text is None else ctypes.addressof(text) for text in strs))
""")


def test_calls_become_records(servers: Servers) -> None:
    """Each call gives one record of its INVITE and one of the whole call; nothing is said, and the stop is clean."""
    server = servers.start(Accounting())
    server.calls(5)
    records, calls = server.records("acc", 5), server.records("cdr", 5)
    assert {(record["method"], record["sip_code"], record["sip_reason"]) for record in records} == {
        ("INVITE", "200", "OK")
    }
    assert len({record["callid"] for record in records}) == 5
    assert all(float(call["end_time"]) >= float(call["start_time"]) > 0 for call in calls)
    assert not server.told()
    server.stop()
    assert server.segments() == []
    assert not server.process.log_lines("signal 11")


def test_several_workers_at_once(servers: Servers) -> None:
    """Records of calls that three workers serve at once: each one once."""
    server = servers.start(Accounting(workers=3))
    server.calls(20)
    assert len({record["callid"] for record in server.records("acc", 60)}) == 60
    server.records("cdr", 60)
    assert not server.told()


# Else the route would meet the exception.
NO_ONSEND = 'kemi.onsend_route_callback="none"'


def test_a_script_without_a_route_for_replies(servers: Servers) -> None:
    """Kamailio 5.6 may leave an exception behind at each reply, just before the record is written: it is written."""
    server = servers.start(Accounting(more="del ksr_reply_route, ksr_onsend_route", cfg=NO_ONSEND))
    with server.called():
        caller = server.caller(pause=120_000)
        try:
            with attach("acc", server.instance) as queue:
                item = queue.fetch(timeout=60)
        finally:
            caller.kill()
            caller.communicate()
    assert item is not None
    assert json.loads(item.value)["sip_code"] == "200"
    told = server.told()
    assert told == server.process.log_lines("mqueue_kemi: Kamailio left an exception behind", "ksr_reply_route")
    assert len(told) <= (1 if harness.LEAVES_EXCEPTIONS else 0)


def test_a_record_by_a_timer(servers: Servers) -> None:
    """A call that is never ended is accounted by the timer process of the dialog module, which runs no script."""
    more = 'modparam("acc", "cdr_expired_dlg_enable", 1)\nmodparam("dialog", "default_timeout", 1)'
    server = servers.start(Accounting(outputs={"cdr_output_mqueue": "cdr", "cdr_expired_dlg_enable": 1}, cfg=more))
    with server.called():
        caller = server.caller(pause=120_000)
        try:
            server.records("cdr", 1)
        finally:
            caller.kill()
            caller.communicate()
    assert not server.told()


def test_a_queue_that_is_not_defined(servers: Servers) -> None:
    """One line at the start and one for each record; calls go on, and the other queue gets its records."""
    server = servers.start(Accounting(["name=cdr"], outputs={**OUTPUTS, "acc_output_mqueue": "nosuch"}))
    (line,) = server.told()
    assert f"acc_output_mqueue=nosuch: there is no such queue, and ITS RECORDS {LOST}" in line
    server.calls(2)
    server.records("cdr", 2)
    assert len(server.process.log_lines("mq_add('nosuch'): mqueue not found; defined are: cdr")) == 2


def test_queues_that_are_full(servers: Servers) -> None:
    """The oldest record goes where `size` says so; one that does not fit is refused with a line, and calls go on."""
    server = servers.start(Accounting(["name=acc;size=2", "name=cdr;maxbytes=60"]))
    server.calls(5)
    refused = "from kemi.instance import queues; return queues['cdr'].stats().refused"
    wait_until(lambda: server.run(refused) >= 4, "the others are refused")
    (line,) = server.process.log_lines("mq_add('cdr'): not added: ")  # once a minute
    assert "maxbytes=60" in line
    assert len(server.records("acc", 2)) == 2
    assert server.run("return mq.mq_size('cdr')") in (-1, 1)


def test_bytes_of_every_kind(servers: Servers) -> None:
    """Keys and values with NULs, that are no text, and empty ones arrive as they are; null pointers are refused."""
    server = servers.start(Accounting())
    found = server.run(
        ASK
        + """
texts = [b"", b"\\0", b"a\\0b", b"\\xff\\xfe", "\\u20ac".encode(), b"x" * 100000]
codes = [add(b"acc", text, text[::-1]) for text in texts]
items = []
while mq.mq_fetch("acc") == 1:
    items.append((mq.mqk_get("acc"), mq.mqv_get("acc")))
back = [tuple(part.encode("utf-8", "surrogateescape") for part in item) for item in items]
return codes, back == [(text, text[::-1]) for text in texts], add(b"no\\0such\\xff", b"k", b"v"), add(b"", b"", b"")
"""
    )
    assert found == ([0] * 6, True, -1, -1)
    assert server.run(ASK + "return add(None, None, None), add(b'acc', None, None), mq.mq_size('acc')") == (-1, 0, 1)


def test_reloads(servers: Servers) -> None:
    """Records arrive after reloads too, also in a queue that a reload has brought."""
    server = servers.start(Accounting(["name=cdr"]))
    assert len(server.told()) == 1
    for _ in range(3):
        server.write_script(["name=cdr", "name=acc"])
        server.reload()
        wait_until(lambda: server.run("return mq.mq_size('acc')") != -2, "the worker reloads")
    server.calls(3)
    server.records("acc", 3)
    server.records("cdr", 3)
    assert server.run(ASK + "return add(b'acc', b'k', b'v')") == 0


def test_another_user(servers: Servers) -> None:
    """A server that root starts for another user: its workers add."""
    server = servers.start(Accounting(user="kamailio"))
    server.calls(2)
    server.records("acc", 2)
    server.records("cdr", 2)


def test_beside_the_c_module(servers: Servers) -> None:
    """Its bind_mq stays, and the records are in its queue."""
    theirs = 'modparam("mqueue", "mqueue", "name=acc")\nmodparam("mqueue", "mqueue", "name=cdr")\n'
    server = servers.start(Accounting(cfg='loadmodule "mqueue.so"\n' + theirs))
    server.calls(2)
    wait_until(lambda: server.run("return KSR.mqueue.mq_size('cdr')") == 2, "the records")
    assert server.run("return KSR.mqueue.mq_size('acc'), mq.mq_size('acc'), mq.mq_size('cdr')") == (2, -1, -1)
    (line,) = server.told()
    assert "the C module mqueue is loaded" in line


class NativeAccounting(Calls, Native):
    """A proxy with a native kamailio.cfg, whose queues are in a definitions file."""

    modules = ("tm", "rr", "dialog", "acc")
    after = (
        'loadmodule "acc_json.so"',
        *parameters("dialog", dlg_match_mode=2),
        *parameters("acc", cdr_enable=1, cdr_log_enable=0),
        *parameters("acc_json", acc_flag=1, cdr_enable=1, **OUTPUTS),
    )

    def route(self) -> str:
        self.called_port = free_port()
        return f"""
            request_route {{
                if ($rm == "OPTIONS") {{
                    sl_send_reply("200", "Alive");
                    exit;
                }}
                if ($rm == "INVITE") {{
                    setflag(1);
                    record_route();
                }}
                dlg_manage();
                $du = "sip:{HOST}:{self.called_port}";
                t_relay();
            }}
        """


def test_a_native_configuration(servers: Servers) -> None:
    """The same with routes in Kamailio's own language."""
    queues = "".join(f'modparam("mqueue", "mqueue", "name={name}")\n' for name in ("acc", "cdr"))
    server = servers.start(NativeAccounting(f'modparam("mqueue", "instance", "INSTANCE")\n{queues}'))
    server.calls(2)
    for name in ("acc", "cdr"):
        with attach(name, server.instance) as queue:
            items = [queue.fetch(HANG) for _ in range(2)]
        assert [json.loads(item.value) is not None and item.key for item in items if item] == [name] * 2
    assert not server.told()
    server.stop()
    assert server.segments() == []


def test_loaded_too_early(servers: Servers) -> None:
    """acc_json before app_python3: it has dropped one output, and the other does not end the server."""
    server = servers.start(Accounting(early=True))
    (line,) = server.told()
    assert (
        f"acc_json comes before {harness.EMBEDDER} in kamailio.cfg: if its acc_output_mqueue is set, ITS RECORDS {LOST}"
        in line
    )
    assert f'write loadmodule "{harness.EMBEDDER}.so" before loadmodule "acc_json.so"' in line
    server.calls(3)
    server.records("cdr", 3)
    assert server.run("return mq.mq_size('acc')") == -1


NO_HOOK = "from kemi.server import embedder; embedder._EXPORT_POINTERS = 8"
OTHER_LIST = "from kemi.server import embedder; embedder._COMMANDS = 5"
OTHER_MODULE = "from kemi.server.structs import KsrCommand as K; K.module = K.function"
NOT_FOUND = "from kemi.server import bind; bind._is_found = lambda command, find: command.name != b'bind_mq'"


@pytest.mark.parametrize(
    ("prelude", "why"),
    [
        (NO_HOOK, "there is no hook at the server's stop"),
        (OTHER_LIST, "is not what the module exports"),
        (OTHER_MODULE, "is not what the module exports"),
        (NOT_FOUND, "the core does not find bind_mq where they were put"),
    ],
)
def test_what_cannot_be_offered(servers: Servers, prelude: str, why: str) -> None:
    """A check that fails is told loudly, with what will happen; nothing is left changed, and the rest works."""
    server = servers.start(Accounting(prelude=prelude))
    (line,) = server.process.log_lines("acc_json (acc_output_mqueue=acc and cdr_output_mqueue=cdr) ", ENDS)
    assert why in line
    find = "import ctypes; f = ctypes.PyDLL(None).find_export; f.restype = ctypes.c_void_p\n"
    assert server.run(find + "return bool(f(b'bind_mq', 1, 0)), bool(f(b'python_exec', 1, 0))") == (False, True)
    assert server.run("return mq.mq_add('acc', 'k', 'v')") == 1
    server.stop()
    for path in server.segments():
        assert prelude == NO_HOOK
        path.unlink()


@pytest.mark.parametrize(
    "prelude",
    [
        "mqueue_kemi.modparam('mqueue', 'core', 0)",
        "from kemi.server import core; core._NEWEST = (5, 5)",
    ],
)
def test_where_the_core_must_not_be_touched(servers: Servers, prelude: str) -> None:
    """Records are lost there without a word of acc_json's: ours is loud."""
    server = servers.start(Accounting(outputs={"acc_output_mqueue": "acc"}, prelude=prelude))
    (line,) = server.process.log_lines("mqueue_kemi: acc_json does not reach the queues")
    assert LOST in line
    assert ENDS in line
    server.calls(1)
    assert server.run("return mq.mq_size('acc')") == -1
    server.stop()
    for path in server.segments():
        path.unlink()


def test_without_outputs_nothing_is_touched(servers: Servers) -> None:
    """acc_json without queues: no bind_mq, and no word."""
    server = servers.start(Accounting(outputs={}))
    assert not server.told()
    find = "import ctypes; f = ctypes.PyDLL(None).find_export; f.restype = ctypes.c_void_p\n"
    assert server.run(find + "return f(b'bind_mq', 1, 0)") is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_stop(servers: Servers, number: int) -> None:
    """The core's list is what it was before the modules are destroyed, and what comes later is refused."""
    prelude = """
        import ctypes
        from kemi import lifecycle
        from kemi.server import bind, embedder
        stop = lifecycle.stop
        found = ctypes.PyDLL(None).find_export
        found.restype = ctypes.c_void_p
        before = embedder.Embedder().commands()[0].value
        def watched(*arguments):
            pointer, commands = embedder.Embedder().commands()
            KSR.info("AT STOP %s %s %s\\n" % (pointer.value == before, found(b"bind_mq", 1, 0), len(commands)))
            stop(*arguments)
            KSR.info("AFTER STOP %s\\n" % [mqueue_kemi.mq_add("acc", "k", "v") for _ in "x"])
        lifecycle.stop = watched
    """
    server = servers.start(Accounting(prelude=prelude))
    server.calls(1)
    main = server.process.child
    assert main is not None
    main.send_signal(number)
    server.process.wait_gone()
    assert server.process.log_lines("AT STOP True None 2")
    assert server.process.log_lines("AFTER STOP [-1]")
    assert main.returncode == 0
    assert server.segments() == []
