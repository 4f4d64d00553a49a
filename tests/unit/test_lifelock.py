"""Life locks: who is found alive, after a kill, a fork, an exec, and a library that closes all descriptors."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import SegmentError
from kemi.owner import Owner, this_process
from kemi.queue.sync import lifelock
from kemi.queue.sync.lifelock import MAX_NUMBER, LifeLock, Lives, folder_number, is_number_locked
from kemi.queue.sync.openfile import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "file"
    file.touch(0o600)
    return str(file)


class Child:
    """A process that does something, says what came of it, and lives until it is killed."""

    def __init__(self, work: Callable[[], Any], *, fork: Callable[[], int] = os.fork) -> None:
        self._said, says = os.pipe()
        self.pid = fork()
        if not self.pid:
            try:
                os.write(says, repr(work()).encode())
                signal.pause()
            except BaseException as error:  # noqa: BLE001 - the test reads it
                os.write(says, repr(error).encode())
            finally:
                os._exit(0)
        os.close(says)

    def answer(self) -> str:
        return os.read(self._said, 1000).decode()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._said)


def c_fork() -> int:
    """Fork as C code does: no hook of Python's runs."""
    return int(ctypes.PyDLL(None).fork())


@pytest.fixture
def lives(path: str) -> Iterator[Lives]:
    looking = Lives(path)
    yield looking
    looking.close()


@pytest.mark.parametrize("number", [0, 1, 12345, 1 << 61, MAX_NUMBER])
def test_a_holder_lives_until_it_is_killed(path: str, lives: Lives, number: int) -> None:
    assert not lives.is_locked(number)
    kept: list[LifeLock] = []
    child = Child(lambda: kept.append(LifeLock(path, number)))
    assert child.answer() == "None"
    assert lives.is_locked(number)
    assert not lives.is_dead(number)
    assert not lives.is_locked(number ^ 1)
    child.kill()
    assert lives.is_dead(number)


def test_a_holder_in_this_process_lives(path: str, lives: Lives) -> None:
    lock = LifeLock(path, 5)
    assert lock.is_mine()
    assert lives.is_locked(5)
    lock.close()
    assert not lives.is_locked(5)
    assert not lock.is_mine()
    lock.close()


def test_a_number_is_had_once(path: str) -> None:
    lock = LifeLock(path, 5)
    with pytest.raises(SegmentError, match="another process has the life lock 5"):
        LifeLock(path, 5)
    other = LifeLock(path, 6)
    other.close()
    lock.close()


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("number", [-1, MAX_NUMBER + 1])
def test_a_number_that_is_none_is_refused(path: str, number: int) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(ValueError, match=f"number={number}"):
        LifeLock(path, number)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_child_finds_its_parent_alive(path: str, lives: Lives) -> None:
    """Through the object that it inherited, whose descriptor is the parent's."""
    lock = LifeLock(path, 5)
    child = Child(lambda: (lives.is_locked(5), lock.is_mine()))
    assert child.answer() == "(True, False)"
    child.kill()
    assert lock.is_mine()
    lock.close()


@pytest.mark.parametrize("fork", [os.fork, c_fork])
def test_a_look_through_the_holders_own_opening_would_be_wrong(path: str, fork: Callable[[], int]) -> None:
    """This is why each process opens the file anew."""
    lock = LifeLock(path, 5, inherit=True)
    request = lifelock._request(fcntl.F_WRLCK, 5)
    found = lifelock._FLOCK.unpack
    child = Child(lambda: found(fcntl.fcntl(lock._opening.fd, lifelock._GETLK, request))[0] != fcntl.F_UNLCK, fork=fork)
    assert child.answer() == "False"
    child.kill()
    lock.close()


def test_a_forked_child_that_outlives_the_holder_does_not_keep_it_alive(path: str, lives: Lives) -> None:
    grandchild: list[Child] = []
    kept: list[LifeLock] = []

    def work() -> int:
        kept.append(lock := LifeLock(path, 5))
        grandchild.append(Child(lock.is_mine))
        assert grandchild[0].answer() == "False"
        return grandchild[0].pid

    child = Child(work)
    left = int(child.answer())
    assert lives.is_locked(5)
    child.kill()
    assert lives.is_dead(5)
    os.kill(left, signal.SIGKILL)


def test_a_child_forked_by_c_code_keeps_the_lock_and_the_pid_tells(path: str, lives: Lives) -> None:
    kept: list[LifeLock] = []

    def work() -> tuple[int, Owner]:
        kept.append(lock := LifeLock(path, 5))
        forked = Child(lambda: lock.number, fork=c_fork)
        assert forked.answer() == "5"
        return forked.pid, this_process()

    child = Child(work)
    left, owner = eval(child.answer())  # noqa: S307 - a pair of this test's own
    child.kill()
    assert lives.is_locked(5)
    assert not lives.is_dead(5)
    assert lives.is_dead(5, owner)
    assert not lives.is_dead(5, this_process())
    assert not lives.is_dead(5, owner._replace(namespace=1)), "a pid of another namespace proves nothing"
    os.kill(left, signal.SIGKILL)


def test_an_inherited_lock_lives_while_any_process_has_it(path: str, lives: Lives) -> None:
    kept: list[LifeLock] = []

    def work() -> tuple[bool, int]:
        kept.append(lock := LifeLock(path, 5, inherit=True))
        worker = Child(lock.is_mine)
        return worker.answer() == "True", worker.pid

    child = Child(work)
    is_mine, worker = eval(child.answer())  # noqa: S307
    assert is_mine
    child.kill()
    assert not lives.is_dead(5)
    os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + 60  # it is no child of this process, which so cannot wait for its end
    while lives.is_locked(5) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert lives.is_dead(5)


def test_exec_frees_the_lock(path: str, lives: Lives) -> None:
    code = (
        f"import os, sys; sys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from kemi.queue.sync.lifelock import LifeLock\n"
        f"lock = LifeLock({path!r}, 5)\n"
        "print('had', flush=True); os.read(0, 3)\n"
        "os.execv('/bin/cat', ['cat'])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == b"had\n"
    assert lives.is_locked(5)
    process.stdin.write(b"go\nthrough cat\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"through cat\n", "the same process, another program"
    assert lives.is_dead(5)
    process.communicate()


def test_a_library_that_closes_all_descriptors_is_noticed(path: str) -> None:
    lock = LifeLock(path, 5)
    looking = Lives(path)
    fd, theirs = lock._opening.fd, looking._opening.fd
    os.closerange(fd, fd + 1)
    os.closerange(theirs, theirs + 1)
    assert not lock.is_mine()
    assert not looking.is_locked(5), "the lock is free, and a new opening finds that"
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, fd)
    os.close(null)
    assert not lock.is_mine()
    lock.close()
    assert os.readlink(f"/proc/self/fd/{fd}") == "/dev/null", "another file was closed"
    os.close(fd)
    looking.close()


def test_a_file_that_was_made_anew_is_another_file(path: str) -> None:
    lock = LifeLock(path, 5)
    os.rename(path, path + "~")
    Path(path).touch()
    with pytest.raises(SegmentError, match="another file than the one in use"):
        Lives(path, lock.file)
    looking = Lives(path + "~", lock.file)
    assert looking.is_locked(5)
    looking.close()
    lock.close()


def test_a_server_whose_files_were_removed_is_found_by_the_folder(tmp_path: Path) -> None:
    folder, mine = str(tmp_path), folder_number(1000, "a")
    assert not is_number_locked(folder, mine)
    kept: list[LifeLock] = []

    def work() -> None:
        kept.append(LifeLock(folder, mine, inherit=True, shared=True))
        kept.append(LifeLock(folder, mine, inherit=True, shared=True))  # a shared lock is no obstacle to its like

    child = Child(work)
    assert child.answer() == "None"
    assert is_number_locked(folder, mine)
    assert not is_number_locked(folder, folder_number(1000, "b"))
    assert not is_number_locked(folder, folder_number(1001, "a"))
    child.kill()
    assert not is_number_locked(folder, mine)


def test_a_reader_cannot_pretend_to_live(path: str, lives: Lives) -> None:
    """Who can only read the file gets no exclusive lock on it."""
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        fcntl.fcntl(fd, lifelock._SETLK, lifelock._request(fcntl.F_WRLCK, 5))
    os.close(fd)
    assert not lives.is_locked(5)


@pytest.mark.parametrize("kind", [os.mkfifo, lambda path: os.symlink("/etc/passwd", path)])
def test_what_is_no_file_is_refused_and_nothing_hangs(tmp_path: Path, kind: Callable[[str], None]) -> None:
    path = str(tmp_path / "other")
    kind(path)
    with pytest.raises((OSError, SegmentError)):
        LifeLock(path, 5)


def test_the_file_is_opened_once_in_each_process(lives: Lives) -> None:
    first = lives._opening
    assert not lives.is_locked(5)
    assert lives._opening is first
    child = Child(lambda: (lives.is_locked(5), lives._opening is first))
    assert child.answer() == "(False, False)"
    child.kill()


@pytest.mark.parametrize(("number", "found"), [(0, False), (1, True), (MAX_NUMBER, True)])
def test_any_holder_is_found_but_number_0(path: str, lives: Lives, number: int, found: bool) -> None:
    assert not lives.is_any_locked()
    lock = LifeLock(path, number)
    assert lives.is_any_locked() is found
    lock.close()


def test_an_owner_that_ends_in_order_gives_up_all_its_numbers(path: str, lives: Lives) -> None:
    """Also for processes that have the same opening."""
    lock = LifeLock(path, 0, inherit=True)
    lock.take_also(5)
    child = Child(lock.is_mine)
    assert child.answer() == "True"
    assert lives.is_locked(0)
    assert lives.is_locked(5)
    lock.free()
    assert not lives.is_locked(0)
    assert not lives.is_locked(5)
    child.kill()
    lock.close()


def test_a_file_that_was_removed_is_found_by_its_descriptor(path: str) -> None:
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    file = identity(os.fstat(fd))
    lock = LifeLock(f"/proc/self/fd/{fd}", 5, file=file)
    looking = Lives(f"/proc/self/fd/{fd}", file)
    assert looking.is_locked(5)
    looking.close()
    lock.close()
    os.close(fd)


def test_a_link_is_followed_only_in_proc_and_to_the_file_that_is_meant(path: str, tmp_path: Path) -> None:
    file = identity(os.stat(path))
    os.symlink(path, tmp_path / "link")
    fd = os.open(path, os.O_RDWR)
    for link, expected in ((str(tmp_path / "link"), file), (f"/proc/self/fd/{fd}", None)):
        with pytest.raises(OSError, match="symbolic links"):
            LifeLock(link, 5, file=expected)
    os.close(fd)


def test_the_number_on_the_folder_is_the_same_in_all_versions() -> None:
    """A server of another one would not be found."""
    assert folder_number(1000, "mq") == 4028972535320719092


N = 1000


@pytest.mark.parametrize(
    ("locked", "told", "expected"),
    [
        ([], [], False),
        ([(N, 1)], [(7, 7)], True),  # the byte itself: nothing else is looked at
        ([(N - 5, 11)], [(N - 5, N + 5)], False),  # who locks more than one byte is no server
        ([(N, 2)], [(N, N + 1)], False),
        ([(N - 5, 11)], [(N - 5, N + 5), (N, N)], True),  # a server behind it
        ([(N - 5, 11)], [], True),  # where the system does not tell, it may be one
    ],
)
def test_who_locks_more_than_a_servers_byte_is_none(
    tmp_path: Path,
    mocker: MockerFixture,
    locked: list[tuple[int, int]],
    told: list[tuple[int, int]],
    expected: bool,
) -> None:
    mocker.patch.object(lifelock, "locked_spans", return_value=told)
    fds = [os.open(tmp_path, os.O_RDONLY) for _ in locked]
    for fd, (start, length) in zip(fds, locked):
        fcntl.fcntl(fd, lifelock._SETLK, lifelock._FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, start, length, 0))
    assert lifelock.is_number_locked(str(tmp_path), N) is expected
    for fd in fds:
        os.close(fd)


def test_the_systems_table_of_locks_is_read(mocker: MockerFixture) -> None:
    table = (
        "1: OFDLCK ADVISORY  READ -1 00:1f:77 5 5\n"
        "2: POSIX  ADVISORY  WRITE 123 00:1f:77 100 EOF\n"
        "3: OFDLCK ADVISORY  READ -1 00:1f:78 1 2\n"
        "4: OFDLCK ADVISORY  READ -1 01:1f:77 3 4\n"
    )
    opened = mocker.patch.object(lifelock, "open", mocker.mock_open(read_data=table), create=True)
    assert lifelock.locked_spans((os.makedev(0, 0x1F), 77)) == [(5, 5), (100, inf)]
    opened.side_effect = PermissionError
    assert lifelock.locked_spans((os.makedev(0, 0x1F), 77)) == []
