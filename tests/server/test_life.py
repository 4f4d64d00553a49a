"""Start, reload and the end of a server: who owns the segments, what stays and what goes."""

from __future__ import annotations

import os
import pwd
import signal
import stat
from typing import TYPE_CHECKING

import pytest

from tests.server.harness import Kamailio
from tests.server.process import wait_until

if TYPE_CHECKING:
    from tests.server.harness import Servers

ANY_MODE = pytest.mark.parametrize("daemon", [False, True], ids=["-DD", "daemon"])
ENDLESS = """
    for number in range(10**9):
        mq.mq_add('q', 'k', 'v' * (number % 300))
"""


# --- stop


@ANY_MODE
def test_a_stop_leaves_nothing(servers: Servers, daemon: bool) -> None:
    """SIGTERM ends all processes without delay and unlinks the segments, with items in the queue."""
    server = servers.start(Kamailio(workers=2, timers=1, daemon=daemon, definitions=["name=q", "name=full"]))
    assert server.run("return [mq.mq_add('full', 'k', 'v' * 1000) for _ in range(2000)] == [1] * 2000")
    names = {path.name for path in server.segments()}
    assert names == {f"mqk.{server.instance}{queue}" for queue in ("", ".q", ".full")}
    assert server.process.programs() == {"kamailio"}, "something else was started: a resource tracker?"
    server.stop()
    assert server.segments() == []


@ANY_MODE
@pytest.mark.parametrize("definition", ["name=q;size=50", "name=q;maxbytes=100000;addmode=2"])
def test_a_stop_in_the_middle_of_adds(servers: Servers, daemon: bool, definition: str) -> None:
    """Workers that add without end are killed by the stop wherever they are, and delay nothing."""
    server = servers.start(Kamailio([definition], workers=3, timers=2, daemon=daemon))
    jobs = [server.submit(ENDLESS, worker) for worker in range(3)]
    wait_until(lambda: any(server.taken()), "the timers take what is added")
    server.stop()
    assert server.segments() == []
    for job in jobs:
        job.transaction.sock.close()


@ANY_MODE
def test_a_killed_worker_ends_the_server(servers: Servers, daemon: bool) -> None:
    """Kamailio stops by itself when a worker is killed; no process hangs, even if that one held the lock."""
    server = servers.start(Kamailio(workers=2, daemon=daemon))
    victim = server.worker_pid(0)
    with server.submit(ENDLESS.replace("* (number % 300)", ""), worker=0).transaction.sock:
        wait_until(lambda: server.call("mq_size", "q", worker=1) > 1000, "the worker adds")
        os.kill(victim, signal.SIGKILL)
        server.process.wait_gone()
    assert server.process.log_lines("terminating due to SIGCHLD")
    assert server.segments() != []  # what was in the queue
    again = servers.start(Kamailio(instance=server.instance))
    assert again.call("mq_size", "q") > 1000


def test_a_server_starts_after_a_crash(servers: Servers) -> None:
    """After `kill -9` of every process the same instance starts again, with the items that were there."""
    first = servers.start(Kamailio(workers=2))
    assert first.call("mq_add", "q", "k", "v") == 1
    first.process.kill()
    second = servers.start(Kamailio(workers=2, instance=first.instance))
    assert second.call("mq_add", "q", "again", "v", worker=0) == 1
    keys = second.run("return [mq.mqk_get('q') for _ in range(5) if mq.mq_fetch('q') == 1]", worker=1)
    assert keys == ["k", "again"]
    assert second.process.log_lines("1 items of the last server taken over")


# --- start


def test_segments_belong_to_the_servers_user(servers: Servers) -> None:
    """Started by root with -u and -g, the segments are that user's from the start, and nobody else's to read."""
    user = pwd.getpwnam("kamailio")
    # What the main process sees before the change of user, when mod_init has just run.
    handler = """
        def child_init(self, rank):
            if rank == 0:
                import glob, os
                for path in glob.glob("/dev/shm/mqk." + INSTANCE + "*"):
                    seen = os.stat(path)
                    KSR.info(f"segment {seen.st_uid} {seen.st_gid} {seen.st_mode:o}\\n")
            return 0
    """
    server = Kamailio(["name=q", "name=full"], user="kamailio", handler=handler, workers=2)
    script = server.home / "script.py"
    script.write_text(f"INSTANCE = {server.instance!r}\n" + script.read_text("utf-8"), "utf-8")
    servers.start(server)
    assert len(server.process.log_lines(f"segment {user.pw_uid} {user.pw_gid} 100600")) == 3
    for path in server.segments():
        status = path.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (user.pw_uid, user.pw_gid, 0o600)
    assert server.run("import os; return os.getuid(), mq.mq_add('q', 'k', 'v')", worker=0) == (user.pw_uid, 1)
    assert server.call("mq_fetch", "q", worker=1) == 1
    assert server.run("return mq.mq_add('full', 'k', 'v' * (8 << 20))") == 1, "it cannot grow as that user"
    server.stop()
    assert server.segments() == []


def test_mode_and_group_are_given(servers: Servers) -> None:
    """The parameters `mode` and `group` decide who may use the queues."""
    group = pwd.getpwnam("kamailio").pw_gid
    server = servers.start(Kamailio(params=[("mode", "0660"), ("group", "kamailio")]))
    for path in server.segments():
        assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (group, 0o660)


@ANY_MODE
def test_a_second_server_of_that_name_is_refused(servers: Servers, daemon: bool) -> None:
    """The second ends with a line that names the first's pid; the first goes on unharmed."""
    first = servers.start(Kamailio(workers=2, daemon=daemon))
    assert first.call("mq_add", "q", "k", "v") == 1
    before = [(path, path.stat().st_ino) for path in first.segments()]
    second = servers.add(Kamailio(["name=q;size=7", "name=other"], instance=first.instance))
    second.refused()
    assert len(second.process.log_lines("InstanceInUse", first.instance, f"{first.main_pid}")) == 1
    assert [(path, path.stat().st_ino) for path in first.segments()] == before
    assert first.run("return mq.mq_fetch('q'), mq.mqv_get('q')", worker=1) == (1, "v")


def test_two_servers_of_different_names(servers: Servers) -> None:
    """Two instances have queues of the same name and share nothing."""
    one, two = servers.start(Kamailio()), servers.start(Kamailio())
    assert one.call("mq_add", "q", "k", "one") == 1
    assert two.call("mq_size", "q") == -1
    two.stop()
    assert one.run("return mq.mq_fetch('q'), mq.mqv_get('q')") == (1, "one")


def test_a_configuration_check_touches_nothing(servers: Servers) -> None:
    """`kamailio -c` beside a running server is content and leaves segments and items alone."""
    server = servers.start(Kamailio(workers=2))
    assert server.call("mq_add", "q", "k", "v") == 1
    before = [(path, path.stat()) for path in server.segments()]
    done = server.check()
    assert done.returncode == 0, done.stderr
    assert "config file ok" in done.stderr
    assert [(path, path.stat()) for path in server.segments()] == before
    assert server.run("return mq.mq_fetch('q'), mq.mqv_get('q')", worker=1) == (1, "v")


# --- reload


def reload(server: Kamailio, definitions: list[str], workers: int) -> None:
    """Change the definitions in the script, reload, and let every worker run the new script.

    A call of Kamailio's passes by a reload while another process is in a call, so more than one may be needed.
    """
    pids = [server.worker_pid(worker) for worker in range(workers)]
    before = [len(reloads(server, pid)) for pid in pids]
    server.write_script(definitions)
    server.reload()
    for worker, pid in enumerate(pids):

        def has_reloaded(worker: int = worker, pid: int = pid) -> bool:
            return server.worker_pid(worker) == pid and len(reloads(server, pid)) > before[worker]

        wait_until(has_reloaded, f"worker {worker} reloads")


def reloads(server: Kamailio, pid: int) -> list[str]:
    """Return what the log has of a process's reloads."""
    return server.process.log_lines(f"({pid})", "Reloading script")


def values(server: Kamailio, worker: int = 0) -> list[str]:
    """Take all values out of the queue."""
    found: list[str] = server.run("return [mq.mqv_get('q') for _ in range(99) if mq.mq_fetch('q') == 1]", worker)
    return found


def test_a_reload_keeps_the_items_and_takes_a_larger_size(servers: Servers) -> None:
    """From 3 to 5: the three items stay, and two more find room in every worker."""
    server = servers.start(Kamailio(["name=q;size=3"], workers=2))
    segments = [(path, path.stat().st_ino) for path in server.segments()]
    for number in range(4):
        server.call("mq_add", "q", "k", str(number))
    reload(server, ["name=q;size=5"], workers=2)
    assert [(path, path.stat().st_ino) for path in server.segments()] == segments
    assert server.call("mq_size", "q", worker=1) == 3
    for number in range(4, 7):
        assert server.call("mq_add", "q", "k", str(number), worker=number % 2) == 1
    assert values(server, worker=1) == ["2", "3", "4", "5", "6"]


def test_a_reload_takes_a_smaller_size(servers: Servers) -> None:
    """From 5 to 2: no item goes by the reload itself, and the next add leaves the newest two."""
    server = servers.start(Kamailio(["name=q;size=5"], workers=2))
    for number in range(5):
        server.call("mq_add", "q", "k", str(number))
    reload(server, ["name=q;size=2"], workers=2)
    assert server.call("mq_size", "q", worker=1) == 5
    assert server.call("mq_add", "q", "k", "5", worker=1) == 1
    assert values(server) == ["4", "5"]


def test_what_is_fetched_survives_a_reload(servers: Servers) -> None:
    """A reload runs the script again, not the module: the fetched key and value are still there."""
    server = servers.start(Kamailio())
    server.call("mq_add", "q", "k", "v")
    server.call("mq_fetch", "q")
    reload(server, ["name=q"], workers=1)
    assert server.call("mqv_get", "q") == "v"


def test_many_reloads_under_load_lose_nothing(servers: Servers) -> None:
    """Workers add and timers take across ten reloads; every item arrives once; nothing piles up."""
    server = servers.start(Kamailio(workers=2, timers=2))
    descriptors = server.run("import os; return len(os.listdir('/proc/self/fd'))")
    total = 0
    for turn in range(10):
        jobs = [
            server.submit(
                f"return [mq.mq_add('q', '{worker}', str(n)) for n in range({turn * 50}, {turn * 50 + 50})]", worker
            )
            for worker in range(2)
        ]
        server.reload()
        total += sum(sum(job.result()) for job in jobs)
    assert total == 1000
    wait_until(lambda: sum(map(len, server.taken())) >= total, "everything is consumed")
    assert len({item for items in server.taken() for item in items}) == sum(map(len, server.taken())) == total
    assert server.run("import os; return len(os.listdir('/proc/self/fd'))") == descriptors
    server.stop()
    assert server.segments() == []


def test_a_reload_with_a_bad_definition_harms_nothing(servers: Servers) -> None:
    """Each process logs one line that names the text and runs the new script; the queue and its items stay."""
    server = servers.start(Kamailio(["name=q;size=5"], workers=2))
    assert server.call("mq_add", "q", "k", "v") == 1
    pids = server.process.pids()
    for _ in range(3):
        reload(server, ["name=q;size=9", "name=new", "name=bad;size=many"], workers=2)
        assert server.call("mq_size", "new") == -2
    assert len(server.process.log_lines("mqueue_kemi: reload: ", "size=many", "Every queue stays as it is")) == 6
    assert server.process.log_lines("Traceback") == []
    assert server.process.pids() == pids
    assert server.run("return [mq.mq_add('q', 'k', 'v') for _ in range(9)] and mq.mq_size('q')") == 5
    assert server.run("return [mq.mq_fetch('q') for _ in range(4)]") == [1] * 4
    reload(server, ["name=q"], workers=2)
    assert server.run("return mq.mq_fetch('q'), mq.mqv_get('q')", worker=1) == (1, "v")
