"""A real Kamailio whose /dev/shm is full: it goes on serving, says so once for each refusal, and works again after."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

from kemi.queue.shm.naming import SHM_DIR
from tests.processes import own_shm
from tests.server.harness import Kamailio, Servers
from tests.server.process import adopt_orphans

if TYPE_CHECKING:
    from types import FrameType

    from tests.processes.children import Children

ADD = """
    added = 0
    while mq.mq_add('q', str(added), 'v' * 1000) == 1:
        added += 1
    return added, [mq.mq_add('q', 'refused', 'v' * 1000) for _ in range(9)]
"""
FETCH = """
    taken = []
    while mq.mq_fetch('q') == 1:
        taken.append(int(mq.mqk_get('q')))
    return taken
"""
REFUSED = "mq_add('q'): not added: no memory"

SECONDS = 200  # for what takes ten


def _too_late(_number: int, _frame: FrameType | None) -> None:
    msg = "the server did not come to an end"
    raise TimeoutError(msg)


def use_up_and_go_on() -> None:
    """Do it, in a process that has a /dev/shm of its own."""
    own_shm.enter(4 << 20)
    adopt_orphans()
    # The servers are ended here, before whoever waits for this process gives up and kills it.
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(SECONDS)
    with ExitStack() as stack:
        server = Servers(stack).start(Kamailio(workers=2, params=[("max_memory", "1G")]))
        pids = server.process.pids()
        added, refused = server.run(ADD, worker=0)
        assert added > 1000
        assert refused == [-1] * 9
        assert server.call("mq_add", "q", "refused", "v" * 1000, worker=1) == -1
        assert len(server.process.log_lines(REFUSED)) == 1  # of both workers, within a minute
        for worker in (0, 1):
            assert server.request("OPTIONS", worker).status == 200
        assert server.call("mq_size", "q", worker=1) == added
        assert server.run(FETCH, worker=1) == list(range(added))
        assert server.call("mq_add", "q", "k", "v" * 1000, worker=0) == 1

        own_shm.fill_up()
        assert server.run(ADD, worker=1)[1] == [-1] * 9
        own_shm.make_room()
        assert server.call("mq_add", "q", "k", "v" * 1000, worker=1) == 1
        assert server.request("OPTIONS").status == 200
        assert server.process.pids() == pids
        server.stop()


def save_where_there_is_no_room() -> None:
    """Stop a server whose database is on a full disk, make room, and start it again."""
    own_shm.enter(16 << 20)
    adopt_orphans()
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(SECONDS)
    database = [("db_url", f"sqlite:///{SHM_DIR}/m.db"), ("max_memory", "8M")]
    with ExitStack() as stack:
        servers = Servers(stack)
        first = servers.start(Kamailio(["name=q;dbmode=1;recover=0"], params=database))
        assert set(first.run("return [mq.mq_add('q', str(i), 'v' * 1000) for i in range(3000)]")) == {1}
        own_shm.fill_up()
        first.stop()
        assert first.process.log_lines("ERROR", "its 3000 items stay in", "make room")
        own_shm.make_room()
        second = servers.start(Kamailio(["name=q;dbmode=1;recover=0"], params=database, instance=first.instance))
        assert second.run(FETCH) == list(range(3000))
        assert second.call("mq_add", "q", "k", "v") == 1
        second.stop()
        third = servers.start(Kamailio(["name=q;dbmode=1"], params=database, instance=first.instance))
        assert third.call("mq_size", "q") == 1


def test_the_disk_of_the_database_is_full(children: Children) -> None:
    """The save fails as a whole, the items stay in memory, and are saved when there is room."""
    children.fork(save_where_there_is_no_room).result(timeout=SECONDS + 60)


def test_shared_memory_is_full(children: Children) -> None:
    """No process of the server ends; requests are answered; what was added comes out; there is room again."""
    children.fork(use_up_and_go_on).result(timeout=SECONDS + 60)
