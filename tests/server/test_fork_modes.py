"""However many processes Kamailio has for requests: all in one (-D), one worker, and eight at one socket."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.processes.sound import faults
from tests.server import sip
from tests.server.harness import Kamailio
from tests.support.clients import attach, inner

if TYPE_CHECKING:
    from tests.server.harness import Servers

HANDLER = """
    def request(self, msg):
        import os
        mqueue_kemi.mq_add("q", KSR.pv.gete("$rU"), str(os.getpid()))
        KSR.sl.send_reply(202, "Queued")
        return 1
"""
REQUESTS = 400


class InOne(Kamailio):
    """A server whose main process serves requests, at its first socket: `-D`, or `fork=no`."""

    def argv(self) -> list[str]:
        return ["-D" if option == "-DD" else option for option in super().argv()]

    @property
    def main_pid(self) -> int:  # it writes no file with it
        assert self.process.child is not None
        return self.process.child.pid

    def answers(self) -> bool:
        try:
            return self.ping(0)
        except sip.NoReplyError:
            return False

    def _is_whole(self) -> bool:
        return self.main_pid in self.process.pids()


def test_the_main_process_serves(servers: Servers) -> None:
    server = servers.start(InOne(handler=HANDLER))
    for number in range(20):
        assert server.request("MESSAGE", to=b"%d" % number).status == 202
    with attach("q", server.instance) as queue:
        items = queue.fetch_many(99)
        assert [item.key for item in items] == [str(number) for number in range(20)]
        assert {item.value for item in items} == {str(server.main_pid)}
        assert queue.add("in", "side")
    assert server.run("return mq.mq_fetch('q'), mq.mqk_get('q'), mq.mq_size('q')") == (1, "in", -1)
    os.kill(server.main_pid, signal.SIGTERM)
    server.process.wait_gone()
    assert server.segments() == []


@pytest.mark.parametrize("children", [1, 8])
def test_workers_at_one_socket(servers: Servers, children: int) -> None:
    server = servers.start(Kamailio(cfg=f"children={children}\n", handler=HANDLER))
    with ThreadPoolExecutor(8) as pool:
        sent = pool.map(lambda number: server.request("MESSAGE", to=b"%d" % number).status, range(REQUESTS))
        assert set(sent) == {202}
    with attach("q", server.instance) as queue:
        items = queue.fetch_many(REQUESTS + 1)
        assert sorted(int(item.key) for item in items) == list(range(REQUESTS))
        assert len({item.value for item in items}) <= children
        assert faults(inner(queue)) == []
    server.stop()
    assert server.segments() == []
