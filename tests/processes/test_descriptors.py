"""Descriptors: too few of them, closed by others, and whatever else the system may refuse."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest

import mqueue_kemi
from kemi import app, host
from kemi.errors import ConfigError, MqueueError, SegmentError
from kemi.instance import queues
from kemi.queue.log.core import ADDED
from kemi.queue.shm import descriptor
from kemi.queue.shm.naming import SHM_DIR, path_of, segment_name
from tests.processes import own_shm
from tests.processes.sound import faults
from tests.support.clients import attach, inner
from tests.unit.children import fork

if TYPE_CHECKING:
    from kemi.queue.queue import Queue
    from tests.processes.children import Children
    from tests.processes.serve import Serve

LARGE = "v" * 300_000  # more than a chunk: an add of it needs memory
NOBODY = 65534


def close_all() -> None:
    """Do what a library does that makes a daemon of a process."""
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def occupy(numbers: list[int]) -> dict[int, tuple[int, int]]:
    """Let other files have these numbers; which ones."""
    for number in numbers:
        fd = os.open("/etc/passwd", os.O_RDONLY)
        if fd != number:
            os.dup2(fd, number)
            os.close(fd)
    return {number: (os.fstat(number).st_dev, os.fstat(number).st_ino) for number in numbers}


# --- closed by others -------------------------------------------------------------------------------------------------


def in_process(action: Callable[[], None]) -> None:
    """Run the action in a forked process that has nothing but its standard streams; its end says how it went."""
    assert os.waitstatus_to_exitcode(os.waitpid(fork(action), 0)[1]) == 0


@pytest.mark.parametrize("occupied", [False, True])
@pytest.mark.parametrize("addmode", [0, 2])
def test_a_queue_outlives_its_descriptor(serve: Serve, occupied: bool, addmode: int) -> None:
    """It grows and shrinks as before, and closing it closes nobody else's file, of the server's and of a client."""
    queue = serve(f"name=q;addmode={addmode}")
    client = attach("q", serve.instance)

    def act() -> None:
        numbers = [queue.segment.fd, inner(client).segment.fd]
        close_all()
        others = occupy(numbers) if occupied else {}
        for number in range(9):
            assert queue.add(f"a{number}", LARGE) == ADDED
            assert client.add(f"b{number}", LARGE) == ADDED
        assert [len(client.fetch().value) for _ in range(18)] == [len(LARGE)] * 18  # type: ignore[union-attr]
        assert faults(queue) == []
        client.close()
        queue.close()
        for number, file in others.items():
            assert (os.fstat(number).st_dev, os.fstat(number).st_ino) == file

    in_process(act)
    assert queue.add("k", LARGE) == ADDED  # this process has its own
    client.close()


def fill(queue: Queue) -> None:
    for _ in range(9):
        queue.add("k", LARGE)


def test_the_name_is_gone_too(serve: Serve) -> None:
    """Then it cannot be opened again: what is there can be taken, an add that needs memory says why it is refused."""
    serve("name=q").add("k", LARGE)
    client = attach("q", serve.instance)
    hidden = Path(path_of(segment_name(serve.instance, "q")))

    def act() -> None:
        close_all()
        away = hidden.with_name(f"{hidden.name}~away")
        hidden.rename(away)
        try:
            for file in (None, b"another file"):
                if file is not None:
                    hidden.write_bytes(file)
                with pytest.raises(SegmentError, match=f"{hidden}: something in this process closed its descriptor"):
                    fill(inner(client))
            hidden.unlink()
            assert inner(client).fetch().key == "k"  # type: ignore[union-attr]
            inner(client).close()
        finally:
            away.rename(hidden)

    in_process(act)
    assert client.stats().size == 0
    client.close()


# --- too few ----------------------------------------------------------------------------------------------------------


def test_none_is_left(serve: Serve, children: Children) -> None:
    """attach, start and a look are refused with the file and the limit to raise; a queue in use goes on."""
    queue = serve("name=q")
    instance = serve.instance

    def act() -> list[str]:
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        said = []
        actions: tuple[Callable[[], object], ...] = (
            lambda: attach("q", instance),
            lambda: host.find(instance),
            lambda: host.find_queue(instance, "q"),
            lambda: another_start(f"{instance}-other"),
        )
        for action in actions:
            try:
                action()
                said.append("done")
            except MqueueError as error:
                said.append(str(error))
        said += [str(queue.add("k", LARGE)), str(queue.fetch() is not None)]
        queue.close()
        for fd in taken:
            os.close(fd)
        return said

    *refused, added, fetched = children.fork(act).result()
    for text in refused:
        assert SHM_DIR in text or "queues need" in text
        assert "LimitNOFILE=" in text
    assert (added, fetched) == ("1", "True")


def another_start(instance: str) -> None:
    app._running = None
    queues.clear()
    for name, value in {"instance": instance, "mqueue": "name=q"}.items():
        mqueue_kemi.modparam("mqueue", name, value)
    mqueue_kemi.mod_init(object())


def many(serve: Serve, count: int) -> None:
    for number in range(count):
        mqueue_kemi.modparam("mqueue", "mqueue_name", f"q{number}")
    serve("name=last", max_memory="2G")


@pytest.mark.parametrize("user", [0, NOBODY])
def test_more_queues_than_the_soft_limit(serve: Serve, children: Children, user: int) -> None:
    """The start raises it, and the server still has what it had for itself; who forks from it too."""

    def act() -> list[int]:
        own_shm.enter(1 << 30)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
        if user:
            os.setresuid(user, user, user)
        many(serve, 1100)
        assert queues["q1099"].add("k", "v") == ADDED
        free = [os.dup(0) for _ in range(900)]
        return [len(queues), resource.getrlimit(resource.RLIMIT_NOFILE)[0], len(free)]

    found, limit, _ = children.fork(act).result()
    assert found == 1101
    assert 2124 <= limit <= 4096


def test_more_queues_than_the_hard_limit(serve: Serve, children: Children) -> None:
    """Root raises that as well; who may not is told what to raise, and nothing is left."""

    def act(user: int) -> str:
        own_shm.enter(1 << 30)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
        if user:
            os.setresuid(user, user, user)
        try:
            many(serve, 1100)
        except ConfigError as error:
            assert not list(Path(SHM_DIR).iterdir())
            return str(error)
        return "started"

    text = children.fork(lambda: act(NOBODY)).result()
    assert "1102 queues need" in text
    assert "this process may have 1024" in text
    assert "LimitNOFILE=" in text
    assert (children.fork(lambda: act(0)).result() == "started") == may_raise_limits()


def may_raise_limits() -> bool:
    """Return whether root may have more than the hard limit here: in a container it may not (CAP_SYS_RESOURCE)."""
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> 24 & 1)


def test_a_low_limit_is_enough_for_few_queues(serve: Serve, children: Children) -> None:
    """Nothing is refused that works."""

    def act() -> int:
        limit = len(os.listdir("/proc/self/fd")) + 12
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        return int(serve("name=q").add("k", "v"))

    assert children.fork(act).result() == ADDED
    for path in Path(SHM_DIR).glob(f"mqk.{serve.instance}*"):
        path.unlink()


def test_few_queues_change_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an administrator has set stays, unless it is too little."""
    monkeypatch.setattr(resource, "setrlimit", lambda *_: pytest.fail("there is no need"))
    descriptor.make_room(3)


# --- whatever else the system refuses ---------------------------------------------------------------------------------

CODES = [
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOENT,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EACCES,
    errno.ELOOP,
    errno.ENXIO,
    errno.EROFS,
    errno.ENOSPC,
    errno.EIO,
    errno.ENOMEM,
    errno.EBUSY,
    errno.ENODEV,
]
CALLS = ["open", "link", "unlink", "rename", "fchown", "fchmod", "listdir", "posix_fallocate", "ftruncate", "lstat"]


@pytest.mark.parametrize("call", CALLS)
def test_no_bare_error(serve: Serve, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """attach, start, look, drop and close: an error of ours that names the folder, or none."""
    for code in CODES:
        if (call, code) != ("lstat", errno.ENOENT):  # a file that is open and has no name is made anew by somebody
            all_refused(serve, monkeypatch, call, code)
            serve.stop()


def all_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    queue = serve("name=q")
    queue.add("k", "v")
    real: Any = getattr(os, call)

    def refuse(first: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(first, str) and not first.startswith(SHM_DIR):
            return real(first, *arguments, **named)
        raise OSError(code, os.strerror(code), first if isinstance(first, str) else None)

    client = attach("q", serve.instance)
    actions: list[Callable[[], object]] = [
        lambda: attach("q", serve.instance).close(),
        lambda: host.find(serve.instance),
        lambda: host.drop(serve.instance),
        lambda: another(serve),
        lambda: client.add("k", LARGE),
        client.fetch,
        client.stats,
        client.close,
    ]
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        texts = [text_of_error(action) for action in actions]
    gone = "no instance" if (call, code) == ("open", errno.ENOENT) else SHM_DIR  # taken away after it was seen
    assert [text for text in texts if text and SHM_DIR not in text and not text.startswith(gone)] == []
    for path in Path(SHM_DIR).glob(f"mqk.{serve.instance}-other*"):
        path.unlink()


def text_of_error(action: Callable[[], object]) -> str:
    try:
        action()
    except MqueueError as error:
        return str(error)
    return ""


def another(serve: Serve) -> None:
    """Start and stop another server."""
    from kemi.instance import Instance
    from kemi.spec import QueueSpec, Settings

    before = dict(queues)
    queues.clear()
    try:
        other = Instance.open(Settings(instance=f"{serve.instance}-other", queues={"q": QueueSpec("q")}))
        other.define(QueueSpec("q"))
        other.close()
    finally:
        queues.clear()
        queues.update(before)
