"""Who holds an item, and is he gone? Told by life locks, whatever becomes of pids, namespaces and descriptors."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kemi import timens
from kemi.owner import Owner, this_process
from kemi.queue.delivery import holders
from kemi.queue.queue import Queue
from kemi.queue.shm.naming import path_of
from kemi.queue.store.inflight import Holder
from tests.conftest import HANG
from tests.locked import reserve_for_good
from tests.unit.children import CHECKOUT, child, killed_after

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture


# What a forked child does whose parent is killed: it lives for some time, and keeps no pipe open.
UNSHARE = shutil.which("unshare") or "unshare"
LIVE_ON = f"os.close(0); os.close(1); signal.alarm({int(HANG)}); signal.pause()"


@pytest.fixture
def queue(instance: str) -> Iterator[Queue]:
    """Give a queue with three items."""
    made = Queue.create(instance, "q", window=16 << 20)
    for number in range(3):
        made.add(str(number), "v")
    yield made
    if not made.closed:
        made.remove()


def taken(queue: Queue) -> str | None:
    """Take an item, and return its key."""
    item = queue.fetch()
    return item.key if item else None


def lives_of(queue: Queue) -> list[int]:
    """The life locks that entries name."""
    return [holder.life for holder in queue._log.core.in_flight.holders()]


class Script:
    """A program that attaches to the queue, in namespaces of its own; it says "ready", and does what it is told."""

    def __init__(self, queue: Queue, code: str, *unshare: str) -> None:
        lines = [
            "import os, signal, sys, ctypes, time",
            "from kemi.queue.queue import Queue",
            f"q = Queue.of_segment({queue.segment.name!r})",
            code,
            "print('ready', flush=True)",
            "sys.stdin.readline()",
        ]
        argv = [*([UNSHARE, *unshare] if unshare else []), sys.executable, "-c", "\n".join(lines)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()

    def __enter__(self) -> Script:
        assert self.said == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_life_lock_is_in_the_entry(queue: Queue) -> None:
    """One for the process and the queue, whichever object reserves; free when both let go."""
    other = Queue.of_segment(queue.segment.name)
    held = [queue.reserve().take(), other.reserve().take()]
    numbers = lives_of(queue)
    assert len(numbers) == 1
    assert numbers[0] > 1 << 32
    assert queue.has_workers()
    for item in held:
        assert item is not None
        assert item.done()
    other.close()
    assert queue.has_workers()
    queue.handle.holding.close()
    assert not queue.has_workers()


def test_a_life_lock_that_was_given_up_says_nothing_of_what_is_reserved_afterwards(queue: Queue) -> None:
    """Who begins to reserve may find it, still: he takes it again before, or others would take what he holds."""
    other = Queue.of_segment(queue.segment.name)
    queue.handle.holding.begin()
    life = queue.handle.holding._holders._life
    assert life is not None
    lock = life.state.lock
    assert lock is not None
    lock.close()
    held = other.reserve().take()
    assert held is not None
    (number,) = lives_of(queue)
    assert queue.handle.holding._holders._told(lambda lives: lives.is_locked(number))
    assert held.done()
    other.close()


def test_the_file_is_opened_once_to_look_at_its_locks(queue: Queue) -> None:
    """Until it is closed."""
    found = queue.handle.holding._holders
    lives = found._open_lives()
    assert lives is not None
    assert found._open_lives() is lives
    found.close()
    assert found._open_lives() is not lives


def test_who_never_reserved_tells_whether_a_pid_is_there(queue: Queue) -> None:
    """Of a holder without a life lock, in its own namespace."""
    found = queue.handle.holding._holders
    me = this_process()
    living = Holder(0, me.pid, me.start, me.namespace & 0xFFFFFFFF)
    assert not found.is_gone(living, closely=True)
    found.close()
    assert found.is_gone(living._replace(pid=(1 << 22) + 1), closely=False)
    assert found.is_gone(living._replace(start=me.start + 5), closely=True)
    assert not found.is_gone(living._replace(start=me.start + 5), closely=False)
    assert not found.is_gone(living._replace(pid=(1 << 22) + 1, namespace=5), closely=True)


def test_a_worker_is_who_tried_to_reserve(queue: Queue) -> None:
    """Not who fetches; not who is dead."""
    assert not queue.has_workers()
    while queue.fetch():
        pass
    assert not queue.has_workers()
    with child(lambda: queue.reserve().take()):
        assert queue.has_workers()
    assert not queue.has_workers()


def test_a_pid_that_is_used_again(queue: Queue, mocker: MockerFixture) -> None:
    """The holder's lock is free; that its pid lives means nothing."""

    def reserve_as_the_parent() -> None:
        me = queue.handle.holding._holders.me()._replace(pid=os.getppid(), start=this_process().start)
        mocker.patch.object(holders.Holders, "me", return_value=me)
        reserve_for_good(queue)

    killed_after(reserve_as_the_parent)
    assert taken(queue) == "0"


def test_without_locks_pid_and_start_have_to_do(queue: Queue, mocker: MockerFixture) -> None:
    """As on a system that has none: the number is 0."""
    mocker.patch.object(holders, "_first", return_value=None)
    killed_after(lambda: reserve_for_good(queue))
    assert lives_of(queue) == [0]
    assert taken(queue) == "0"
    with child(lambda: reserve_for_good(queue)):
        assert (taken(queue), taken(queue)) == ("2", None)
    me = queue.handle.holding._holders.me()
    mocker.patch.object(holders.Holders, "me", return_value=me._replace(pid=os.getppid(), start=me.start + 10**9))
    queue.add("3", "")
    reserve_for_good(queue)
    mocker.stopall()
    item = queue.fetch(HANG)
    assert item is not None


def test_exec_in_a_block_frees_the_item_at_once(queue: Queue) -> None:
    """Pid and start are the same afterwards, and the process lives on."""
    code = (
        "held = q.reserve().take(); assert held.key == '0'; sys.stdout.flush();"
        "os.execv(sys.executable, [sys.executable, '-c', 'import sys; print(\"ready\", flush=True); sys.stdin.read()'])"
    )
    with Script(queue, code):
        assert taken(queue) == "0"


@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"], ids=["Python", "C"])
def test_a_forked_child_that_never_used_the_queue_keeps_nobody_alive(queue: Queue, fork: str) -> None:
    """The holder is killed, the child lives. Python's fork has a hook that closes the lock; else the pid is dead."""
    code = f"held = q.reserve().take()\nif not {fork}(): {LIVE_ON}\n"
    with Script(queue, code) as script:
        script.process.kill()
        script.process.wait()
        assert taken(queue) == "0"


def test_a_forked_child_is_a_holder_of_its_own(queue: Queue) -> None:
    """Parent and child each hold an item; the child is killed, and the parent's stays."""
    mine = queue.reserve().take()
    killed_after(lambda: reserve_for_good(queue))
    assert taken(queue) == "1"
    assert (taken(queue), taken(queue)) == ("2", None)
    assert mine is not None
    assert mine.done()


def test_a_library_that_closes_every_descriptor(queue: Queue) -> None:
    """Before its next reservation the process takes its lock again: what it holds stays its own."""
    code = (
        "a = q.reserve().take()\n"
        "os.closerange(3, 4096)\n"
        "mine = [os.open('/dev/null', os.O_RDONLY) for _ in range(1100)]\n"
        "b = q.reserve().take()\n"
        "assert all(os.path.samestat(os.fstat(fd), os.stat('/dev/null')) for fd in mine)\n"
    )
    with Script(queue, code):
        assert (taken(queue), taken(queue)) == ("2", None)
        assert queue.stats().reserved == 2
    assert [taken(queue), taken(queue)] == ["0", "1"]


def test_a_queue_whose_file_was_removed(queue: Queue) -> None:
    """The lock is found by the open file."""
    os.unlink(path_of(queue.segment.name))
    with child(lambda: reserve_for_good(queue)):
        assert queue._log.core.in_flight.holders()
        assert taken(queue) == "1"
    assert taken(queue) == "0"


@pytest.fixture
def may_unshare() -> None:
    """Skip where this process may not have namespaces of its own."""
    if subprocess.run([UNSHARE, "--pid", "--fork", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces may be made here")


@pytest.mark.usefixtures("may_unshare")
def test_a_child_in_a_new_pid_namespace(queue: Queue) -> None:
    """It is pid 1 there, and has inherited the queue: alive while it lives, seen as dead at once when it is killed."""
    code = (
        "assert not ctypes.CDLL(None).unshare(0x20000000)\n"
        "r, w = os.pipe()\n"
        "inner = os.fork()\n"
        "if not inner:\n"
        "    held = q.reserve().take()\n"
        "    assert os.getpid() == 1 and held.key == '0'\n"
        "    os.write(w, b'x')\n"
        "    signal.pause()\n"
        "os.read(r, 1)\n"
    )
    with Script(queue, code) as script:
        for number in "12":
            assert taken(queue) == number
        time.sleep(0.3)  # longer than what is not looked at closely; nothing is decided by it
        assert taken(queue) is None
        assert queue.stats().reserved == 1
        inner = int(Path(f"/proc/{script.process.pid}/task/{script.process.pid}/children").read_text().split()[0])
        os.kill(inner, signal.SIGKILL)
        item = queue.fetch(HANG)
        assert item is not None
        assert item.key == "0"


@pytest.mark.usefixtures("may_unshare")
def test_a_holder_in_another_time_namespace(queue: Queue) -> None:
    """Its start is told in other ticks there; and what is due is due at the same moment everywhere."""
    if not Path("/proc/self/ns/time").exists():
        pytest.skip("this kernel has no time namespaces")
    shifted = ["--time", "--monotonic", "100000", "--boottime", "100000", "--fork", "--kill-child"]
    if subprocess.run([UNSHARE, *shifted, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no time namespaces may be made here")
    code = "a = q.reserve().take()\nb = q.reserve().take(); b.give_back(after=3600)\n"
    with Script(queue, code, *shifted):
        (holder,) = [each for each in queue._log.core.in_flight.holders() if each.life]
        assert not Owner(holder.pid, holder.start, holder.namespace).is_dead()
        assert (taken(queue), taken(queue)) == ("2", None)
        assert 3500 < queue.handle.work(lambda: queue.handle.holding.seconds_to_due(1e9)) <= 3600
        look = f"from kemi.owner import Owner; print(Owner{tuple(this_process())}.is_dead())"
        looked = subprocess.run(
            [UNSHARE, *shifted, sys.executable, "-c", look],
            capture_output=True, text=True, check=True, cwd=CHECKOUT,
        )  # fmt: skip
        assert looked.stdout == "False\n"
    assert taken(queue) == "0"


@pytest.mark.usefixtures("may_unshare")
def test_where_proc_hides_the_processes_of_others(queue: Queue) -> None:
    """hidepid=2: a living holder whom this user may not see in /proc is alive, a dead one dead."""
    if os.geteuid():
        pytest.skip("only root can be two users")
    hide = "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid 65534 --clear-groups "
    look = (
        f'{sys.executable} -c "from kemi.queue.sync.lifelock import Lives; import sys;'
        "lives = Lives(sys.argv[1]);"
        "from kemi.owner import Owner;"
        'print(lives.is_dead(int(sys.argv[2]), Owner(*map(int, sys.argv[3:]))))" '
    )
    path = path_of(queue.segment.name)
    os.chmod(path, 0o666)  # noqa: S103 - another user looks
    with child(lambda: reserve_for_good(queue)):
        (holder,) = queue._log.core.in_flight.holders()
        where = f"{path} {holder.life} {holder.pid} {holder.start} {holder.namespace}"
        argv = [UNSHARE, "--mount", "--propagation", "private", "sh", "-c", hide + look + where]
        found = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=CHECKOUT)
        assert (found.stdout, found.stderr) == ("False\n", "")
    found = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert (found.stdout, found.stderr) == ("True\n", "")


def test_a_start_is_compared_as_the_host_has_it(mocker: MockerFixture) -> None:
    """In a namespace in which the clock is ahead, the ticks of /proc are, too."""
    me = this_process()
    mocker.patch.object(timens, "_shifts", {"boottime": 5 * 10**9})
    ahead = this_process()
    assert ahead.start == me.start - 5 * os.sysconf("SC_CLK_TCK")
    assert not ahead.is_dead()
    assert Owner(me.pid, me.start, me.namespace).is_dead()
