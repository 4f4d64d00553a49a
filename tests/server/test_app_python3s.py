"""app_python3s, the other module of Kamailio 6 that runs scripts: it calls functions, and passes no message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server import harness
from tests.server.harness import CHECKOUT, Kamailio, Server, has_module
from tests.server.process import wait_until
from tests.server.sip import HOST
from tests.server.test_acc_json import (  # noqa: F401 they run here too
    test_calls_become_records,
    test_loaded_too_early,
    test_reloads,
    test_several_workers_at_once,
)
from tests.server.test_life import (  # noqa: F401
    test_a_killed_worker_ends_the_server,
    test_a_reload_keeps_the_items_and_takes_a_larger_size,
    test_a_server_starts_after_a_crash,
    test_a_stop_in_the_middle_of_adds,
    test_a_stop_leaves_nothing,
    test_many_reloads_under_load_lose_nothing,
    test_segments_belong_to_the_servers_user,
    test_what_is_fetched_survives_a_reload,
)
from tests.server.test_pvars import test_a_story_told_by_both, test_all_bytes  # noqa: F401
from tests.server.test_rpc import test_a_program_sees_no_difference, test_ctl_carries_the_same_bytes  # noqa: F401
from tests.server.test_stop import (  # noqa: F401
    test_a_hook_that_fails_stops_nothing,
    test_a_start_that_fails_late,
    test_after_reloads,
    test_any_signal_that_ends_it,
    test_it_runs_once_in_the_main_process,
)
from tests.server.test_traffic import test_workers_add_and_timers_consume  # noqa: F401

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.harness import Servers

pytestmark = pytest.mark.skipif(not has_module("app_python3s"), reason="this Kamailio has no app_python3s")


@pytest.fixture(autouse=True)
def _single(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "EMBEDDER", "app_python3s")


def test_threads_of_the_script_may_run(servers: Servers) -> None:
    """With threads_mode=1 Kamailio gives Python's lock back between two calls: queue, variables and RPC work so too."""
    server = servers.start(Kamailio(workers=2, timers=1, cfg='modparam("app_python3s", "threads_mode", 1)'))
    for number in range(20):
        assert server.call("mq_add", "q", str(number), "v", worker=number % 2) == 1
    wait_until(lambda: sum(map(len, server.taken())) == 20, "the timer takes all")
    assert server.run("mq.mq_add('q', 'k', 'v'); return KSR.pv.get('$mq_size(q)')") in (0, 1)
    server.kamcmd("mqueue.get_sizes")
    server.stop()
    assert server.segments() == []


# As in docs/howto/app-python3s.md.
QUEUES = """
import mqueue_kemi

def script_init():
    global handler
    handler = mqueue_kemi.mod_init()          # reads mqueue_kemi.cfg

def mq_add(queue): return handler.mq_add(None, queue)
def mq_fetch(queue): return handler.mq_fetch(None, queue)
def mq_pv_free(queue): return handler.mq_pv_free(None, queue)
def mq_size(queue): return handler.mq_size(None, queue)
"""

ROUTE = """
request_route {
    if ($rm == "MESSAGE") {
        $vn(mqk_q) = $rU;
        $vn(mqv_q) = $fU;
        app_python3s_exec("mq_add", "q");
        app_python3s_exec("mq_size", "q");
        app_python3s_exec("mq_fetch", "q");
        xlog("L_NOTICE", "SAID $rc $vn(mq_size_q) $vn(mqk_q) $vn(mqv_q)\\n");
        app_python3s_exec("mq_fetch", "q");
        xlog("L_NOTICE", "SAID $rc $vn(mqk_q)\\n");
    }
    sl_send_reply("200", "OK");
}
"""


class Native(Server):
    """A server with routes in Kamailio's own language."""

    def __init__(self) -> None:
        super().__init__()
        (self.home / "queues.py").write_text(f"import sys\nsys.path.append({str(CHECKOUT)!r})\n{QUEUES}", "utf-8")
        definitions = f'modparam("mqueue", "instance", "{self.instance}")\nmodparam("mqueue", "mqueue", "name=q")\n'
        (self.home / "mqueue_kemi.cfg").write_text(definitions, "utf-8")
        lines = [
            "#!KAMAILIO",
            "debug=2",
            "children=1",
            "disable_tcp=yes",
            f"listen=udp:{HOST}:{self.ports[0]}",
            *(f'loadmodule "{name}.so"' for name in ("ctl", "kex", "pv", "xlog", "sl", "app_python3s")),
            f'modparam("app_python3s", "load", "{self.home}/queues.py")',
            'modparam("app_python3s", "script_init", "script_init")',
            ROUTE,
        ]
        self.config().write_text("\n".join(lines), "utf-8")

    def config(self) -> Path:
        return self.home / "kamailio.cfg"


def test_a_native_configuration(servers: Servers) -> None:
    """A script of a few lines gives kamailio.cfg the functions."""
    server = servers.start(Native())
    assert server.request("MESSAGE", to=b"bob", sender=b"alice").status == 200
    said = [line.partition("SAID ")[2] for line in server.process.log_lines("SAID ")]
    assert said == ["1 1 bob alice", "-2 <null>"]
    assert server.kamcmd("mqueue.get_size", "q") == "{\n\tname: q\n\tsize: 0\n}\n"
    server.stop()
    assert server.segments() == []
