"""Limits that are not /dev/shm's own, as the system has them: nobody is killed, and nothing is lost."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest

import mqueue_kemi
from kemi.errors import NoMemory, SegmentError
from kemi.instance import queues
from kemi.queue.shm import segment
from kemi.queue.shm.naming import SHM_DIR
from kemi.server import refused
from tests.processes import own_shm
from tests.processes.logged import Logged
from tests.processes.serve import Serve, items
from tests.processes.sound import faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes.children import Children

MB = 1 << 20
VALUE = "v" * 4000
MCL_CURRENT, MCL_FUTURE = 1, 2
MODES = pytest.mark.parametrize("addmode", [0, 1, 2])
_libc = ctypes.CDLL(None, use_errno=True)

Part = Callable[[Serve], object]
InChild = Callable[[Part], None]


@pytest.fixture
def in_child(children: Children, monkeypatch: pytest.MonkeyPatch) -> InChild:
    """Return what runs a part of a test in a process of its own, with an instance of its own."""
    monkeypatch.setattr(refused, "SECONDS", 0)

    def run(part: Part) -> None:
        def act() -> None:
            serve = Serve()
            try:
                part(serve)
            finally:
                serve.stop()

        children.fork(act).result()

    return run


def status(name: str) -> int:
    """Return a number of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) << 10


def fill(most: int = 100_000) -> tuple[int, str]:
    """Add items until one is refused; return how many were added, and the line that says why."""
    logged = Logged()
    for number in range(most):
        if mqueue_kemi.mq_add("q", str(number), VALUE) != 1:
            return number, logged.take()[0]
    return most, ""


def take_all() -> list[int]:
    found = []
    while mqueue_kemi.mq_fetch("q") == 1:
        found.append(int(str(mqueue_kemi.mqk_get("q"))))
    return found


# --- locked pages, and memory that is not given back ------------------------------------------------------------------


def lock_all() -> None:
    """As Kamailio's mlock_pages=yes does in its main process."""
    assert _libc.mlockall(MCL_CURRENT | MCL_FUTURE) == 0


def nothing_is_given_back(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """As in a sandbox that has neither a hole in a file nor MADV_REMOVE."""

    class Without:
        def __getattr__(self, name: str) -> Any:
            return (lambda *_: -1) if name == "fallocate" else getattr(ctypes.CDLL(None), name)

    class Mapped(mmap.mmap):
        def madvise(self, *_: int) -> None:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(segment, "_libc", Without())
    monkeypatch.setattr(mmap, "mmap", Mapped)


@MODES
def test_locked_pages(in_child: InChild, addmode: int) -> None:
    """The window is not filled with pages, a burst is given back, and what a dead server left is taken over."""

    def part(serve: Serve) -> None:
        lock_all()
        before = status("VmRSS")
        serve(f"name=q;addmode={addmode}", max_memory="128M")
        assert status("VmRSS") - before < 64 * MB
        count = 5000
        assert fill(count)[0] == count
        held = os.fstat(queues["q"].segment.fd).st_blocks * 512
        assert held > 20_000_000
        assert take_all() == list(range(count))
        assert os.fstat(queues["q"].segment.fd).st_blocks * 512 < held // 4
        assert fill(count)[0] == count
        assert faults(queues["q"]) == []

    in_child(part)


@MODES
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.EPERM])
def test_nothing_can_be_given_back(in_child: InChild, monkeypatch: pytest.MonkeyPatch, addmode: int, code: int) -> None:
    """It is no error and no loss: bursts come and go, in one process and after a repair."""

    def part(serve: Serve) -> None:
        nothing_is_given_back(monkeypatch, code)
        queue = serve(f"name=q;addmode={addmode}", max_memory="100M")
        for _ in range(3):
            assert fill(2000)[0] == 2000
            assert take_all() == list(range(2000))
        assert fill(2000)[0] == 2000
        queue.handle.work(queue.handle.repair)
        assert [key for key, _ in items(queue)] == list(map(str, range(2000)))
        assert faults(queue) == []

    in_child(part)


def test_a_window_costs_address_space_alone(in_child: InChild) -> None:
    """It counts for nothing where memory is promised once only (vm.overcommit_memory=2), and is not locked."""

    def part(serve: Serve) -> None:
        serve("name=q", max_memory="1G")
        flags = [set(flag) for name, flag in mappings() if name.startswith(f"{SHM_DIR}/mqk.{serve_instance()}")]
        assert len(flags) == 2
        assert all({"rd", "wr", "sh"} <= found for found in flags)
        assert not {"ac", "lo"} & set().union(*flags)

    in_child(part)


def mappings() -> Iterator[tuple[str, list[str]]]:
    """Yield each mapping of this process: what of, and the kernel's flags."""
    name = ""
    for line in Path("/proc/self/smaps").read_text("utf-8").splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            name = words[5] if len(words) > 5 else ""
        elif words[0] == "VmFlags:":
            yield name, words[1:]


# --- no memory of its own ---------------------------------------------------------------------------------------------

LARGE = 12 << 20  # bytes


@contextlib.contextmanager
def no_memory() -> Iterator[None]:
    """For the time of a block this process gets no such memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + LARGE // 2, before[1]))
    kept = []
    try:
        with contextlib.suppress(MemoryError):
            while True:  # what the C library has from before
                kept.append(bytearray(LARGE))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@MODES
@pytest.mark.parametrize("timeout", [0.0, 5.0])
@pytest.mark.parametrize("reserved", [False, True])
def test_an_item_in_a_batch_that_is_too_large(in_child: InChild, addmode: int, timeout: float, reserved: bool) -> None:
    """What was taken before is there, and the next call raises; the item stays."""

    def part(serve: Serve) -> None:
        queue = serve(f"name=q;addmode={addmode}", max_memory="200M")
        with contextlib.ExitStack() as stack:
            if reserved:  # then it is looked for what comes back
                queue.add("reserved", "v")
                stack.enter_context(queue.reserve())
            queue.add("small", "v")
            queue.add("large", "v" * LARGE)
            with no_memory():
                assert [item.key for item in queue.fetch_many(9, timeout)] == ["small"]
                with pytest.raises(MemoryError):
                    queue.fetch_many(9, timeout)
        assert [key for key, _ in items(queue)] == ["large"]
        assert faults(queue) == []

    in_child(part)


@MODES
def test_an_item_of_a_batch_that_is_too_large_to_be_added(in_child: InChild, addmode: int) -> None:
    """Either nothing was added, and that is raised; or it is told what was."""

    def part(serve: Serve) -> None:
        queue = serve(f"name=q;addmode={addmode}", max_memory="200M")
        large = "v" * LARGE
        outcomes: list[Any] = []
        with no_memory(), contextlib.suppress(MemoryError):
            outcomes = list(queue.add_many([("small", "v"), ("large", large)]))
        assert [key for key, _ in items(queue)] == ["small"] * sum(map(bool, outcomes))
        assert faults(queue) == []

    in_child(part)


# --- other limits -----------------------------------------------------------------------------------------------------


def test_shm_larger_than_all_memory(in_child: InChild) -> None:
    """Its size is a promise that nobody keeps; the server starts, with what there is."""

    def part(serve: Serve) -> None:
        own_shm.enter(1 << 42)
        serve("name=q", "name=r", "name=k;addmode=1", max_memory="0")
        assert fill(100)[0] == 100
        with contextlib.closing(mqueue_kemi.attach("q", serve_instance())) as client:
            assert client.fetch() is not None

    in_child(part)


def serve_instance() -> str:
    (name,) = {queue.segment.name.split(".")[1] for queue in queues.values()}
    return name


@pytest.mark.parametrize("queue_count", [1, 12])
def test_address_space(in_child: InChild, queue_count: int) -> None:
    """`ulimit -v`: the queues are as large as they can be; a window that was asked for and cannot be is refused."""

    def part(serve: Serve) -> None:
        used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 400 * MB, resource.RLIM_INFINITY))
        serve("name=q", *(f"name=q{number}" for number in range(1, queue_count)), max_memory="4G")
        count, line = fill()
        assert count > 100
        assert "no memory" in line
        assert take_all() == list(range(count))

    in_child(part)


def test_files_may_not_be_large(in_child: InChild) -> None:
    """RLIMIT_FSIZE with SIGXFSZ at its default, which would end the process."""

    def part(serve: Serve) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        serve("name=q", max_memory="0")
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MB, resource.RLIM_INFINITY))
        count, line = fill()
        assert 500 < count < 1100
        assert "files of this process may have 4194304 bytes at most" in line
        assert take_all() == list(range(count))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert fill(3000)[0] == 3000

    in_child(part)


@pytest.mark.parametrize(
    ("bytes_", "said"), [(600_000, "files of this process may have"), (None, "max_memory is reached")]
)
def test_a_start_says_which_limit_it_met(in_child: InChild, bytes_: int | None, said: str) -> None:
    """Of a queue whose first bytes cannot be had."""

    def part(serve: Serve) -> None:
        if bytes_:
            resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, resource.RLIM_INFINITY))
        with pytest.raises(NoMemory, match=rf"\.r: no memory for the first .*{said}"):
            serve("name=q", "name=r;addmode=1", max_memory="0" if bytes_ else "600k")

    in_child(part)


def test_no_shm(in_child: InChild) -> None:
    """Without the folder the start, the command line and an attaching process say so."""

    def part(serve: Serve) -> None:
        own_shm.enter(MB)
        _libc.mount(b"none", b"/dev", b"tmpfs", 0, None)
        assert not os.path.exists(SHM_DIR)
        with pytest.raises(SegmentError, match="there is no /dev/shm"):
            serve("name=q")
        with pytest.raises(mqueue_kemi.UnknownQueue, match="there is no /dev/shm"):
            mqueue_kemi.attach("q", "none")

    in_child(part)


@MODES
def test_huge_pages(in_child: InChild, addmode: int) -> None:
    """A file system that takes 2 MB for each piece: it is full sooner, and works on."""

    def part(serve: Serve) -> None:
        own_shm.enter(24 * MB)
        if _libc.mount(b"tmpfs", SHM_DIR.encode(), b"tmpfs", 0, b"size=24M,huge=always"):
            pytest.fail("tmpfs knows no huge pages here")
        serve(f"name=q;addmode={addmode}", max_memory="1G")
        for _ in range(2):
            count, line = fill()
            assert count > 1000
            assert "/dev/shm is full (24 MB" in line
            assert [key for key, _ in items(queues["q"])] == list(map(str, range(count)))
            assert take_all() == list(range(count))

    in_child(part)


# --- control groups ---------------------------------------------------------------------------------------------------

GROUPS = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def group() -> Iterator[Path]:
    """Give a memory control group of the test's own, in another one."""
    if not (GROUPS / "memory.limit_in_bytes").exists():
        pytest.skip("no memory control groups of version 1 can be made here")
    outer = GROUPS / f"mqk-{os.getpid()}"
    inner = outer / "inner"
    inner.mkdir(parents=True)
    yield inner
    for folder in (inner, outer):
        for pid in (folder / "cgroup.procs").read_text("ascii").split():
            (GROUPS / "cgroup.procs").write_text(pid, "ascii")
        folder.rmdir()


@pytest.mark.parametrize("limited", ["inner", "outer"])
@pytest.mark.parametrize("max_memory", ["0", "2G"])
def test_a_control_group(in_child: InChild, group: Path, limited: str, max_memory: str) -> None:
    """A full queue is a refusal, never a killed process, whatever max_memory is and in whichever group the limit."""
    folder = group if limited == "inner" else group.parent
    (folder / "memory.limit_in_bytes").write_text(str(128 * MB), "ascii")

    def part(serve: Serve) -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()), "ascii")
        serve("name=q", max_memory=max_memory)
        count, line = fill()
        assert count > 2000
        if max_memory == "0":
            assert "max_memory is reached" in line
        else:
            assert f"the control group's limit is reached ({folder}/memory.limit_in_bytes)" in line
        for _ in range(50):
            assert mqueue_kemi.mq_add("q", "refused", VALUE * 50) == -1
        assert take_all() == list(range(count))
        with contextlib.suppress(NoMemory):
            serve("name=q", "name=another", max_memory=max_memory)
        assert fill(1000)[0] == 1000

    in_child(part)
    (folder / "memory.limit_in_bytes").write_text("-1", "ascii")
