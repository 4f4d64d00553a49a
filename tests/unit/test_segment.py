"""Named shared memory: creation, attaching, growing, and the resource tracker that never starts."""

from __future__ import annotations

import contextlib
import errno
import gc
import mmap
import os
import resource
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

from kemi.errors import ConfigError, NoMemory, NotAllowed, SegmentError, SegmentMissing
from kemi.queue.format.layout import CHUNK
from kemi.queue.shm import descriptor
from kemi.queue.shm import segment as segments
from kemi.queue.shm.naming import is_left_draft, path_of, segment_name
from kemi.queue.shm.segment import PRIVATE, Access, Segment
from kemi.queue.sync.openfile import OpenFile
from tests.conftest import SHM
from tests.unit.children import child, python

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

SIZE = 8192


def fill(segment: Segment) -> None:
    """Write something into a new segment."""
    segment.bytes[:4] = b"mine"


def create(name: str, access: Access = PRIVATE) -> Segment:
    """Make a segment of two pages that may grow to four chunks."""
    return Segment.create(name, SIZE, 4 * CHUNK, fill, access)


def attach(name: str) -> Segment:
    """Attach whatever there is."""
    return Segment.attach(name, lambda _descriptor, _name: 4 * CHUNK)


@pytest.fixture
def name(instance: str) -> str:
    """Return a name that no other test has."""
    return segment_name(instance, "q")


@pytest.fixture
def path(name: str) -> Path:
    """Return the file of that name."""
    return SHM / name


# --- descriptors ------------------------------------------------------------------------------------------------------


def descriptors() -> set[int]:
    """Return the numbers of this process's open files."""
    return {int(number) for number in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{number}")}


@pytest.mark.usefixtures("swept")
def test_one_descriptor_out_of_the_way(name: str) -> None:
    """A segment has one open file, with a high number: low ones are left to the server."""
    before = descriptors()
    segment = create(name)
    other = attach(name)
    assert descriptors() - before == {segment.fd, other.fd}
    assert min(segment.fd, other.fd) >= min(1000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
    assert not os.get_inheritable(segment.fd)
    other.close()
    other.close()
    assert descriptors() - before == {segment.fd}
    del segment
    assert descriptors() == before


def test_no_high_number_is_left(name: str, mocker: MockerFixture) -> None:
    """Then any number will do."""
    mocker.patch("fcntl.fcntl", side_effect=OSError(errno.EMFILE, "none"))
    segment = create(name)
    assert segment.size() == SIZE
    segment.close()


@pytest.mark.parametrize("limit", [64, resource.RLIM_INFINITY])
def test_few_or_any_number_of_descriptors(name: str, mocker: MockerFixture, limit: int) -> None:
    """A low limit leaves half of the numbers to the server."""
    none = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    mocker.patch(
        "resource.getrlimit", side_effect=lambda which: (limit, limit) if which == resource.RLIMIT_NOFILE else none
    )
    with contextlib.closing(create(name)) as segment:
        assert 32 <= segment.fd < 1000 if limit == 64 else segment.fd >= 1000


# --- create -----------------------------------------------------------------------------------------------------------


def test_a_segment_appears_whole(name: str, path: Path) -> None:
    """While it is filled there is no file of its name; then it has all its bytes, and no draft is left."""

    def fill_and_look(segment: Segment) -> None:
        segment.bytes[SIZE - 4 : SIZE] = b"last"
        assert not path.exists()
        (draft,) = SHM.glob(f"{name}*")
        assert draft.name.startswith(f"{name}~{os.getpid()}.")
        assert not is_left_draft(draft.name)  # nobody takes it away meanwhile

    segment = Segment.create(name, SIZE, 4 * CHUNK, fill_and_look)
    assert segment.name == name
    assert path.read_bytes() == bytes(SIZE - 4) + b"last"
    assert list(SHM.glob(f"{name}*")) == [path]
    assert repr(segment) == f"<Segment {name} window={4 * CHUNK}>"


@pytest.mark.parametrize("error", [KeyboardInterrupt, NoMemory, OSError])
def test_a_segment_that_cannot_be_filled(name: str, error: type[BaseException]) -> None:
    """Nothing is left of it, and the next one can be made."""

    def fail(_: Segment) -> None:
        raise error

    with pytest.raises(error):
        Segment.create(name, SIZE, 4 * CHUNK, fail)
    assert not list(SHM.glob(f"{name}*"))
    create(name)


def test_a_name_that_is_taken(name: str, path: Path) -> None:
    """Who was first stays, as it was."""
    path.write_bytes(b"foreign")
    with pytest.raises(FileExistsError):
        create(name)
    assert path.read_bytes() == b"foreign"
    assert list(SHM.glob(f"{name}*")) == [path]


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _file(path: Path) -> None:
    path.write_bytes(b"precious")
    os.chown(path, 4711, 4711)


@pytest.mark.parametrize("plant", [_folder, _pipe, _link, _file])
def test_something_lies_under_the_drafts_name(
    name: str, path: Path, mocker: MockerFixture, plant: Callable[[Path], None]
) -> None:
    """Whoever guessed it: another name is taken, and what lies there stays as it was."""
    guessed = SHM / f"{name}~1.2.3.deadbeef"
    names = [guessed.name, guessed.name, f"{name}~1.2.3.00000000"]
    mocker.patch("kemi.queue.shm.segment.draft_name", side_effect=names)
    plant(guessed)
    before = guessed.lstat()
    try:
        create(name)
        assert guessed.lstat() == before
        assert path.read_bytes() == b"mine" + bytes(SIZE - 4)
    finally:
        guessed.rmdir() if plant is _folder else guessed.unlink()


@pytest.mark.parametrize("length", [231, 245, 255])
def test_the_longest_names(instance: str, length: int) -> None:
    """A name that is just short enough can be made and found, although a draft's name is longer."""
    name = segment_name(instance, "q").ljust(length, "q")
    create(name)
    assert attach(name).bytes[:4] == b"mine"
    assert [path.name for path in SHM.glob(f"mqk.{instance}*")] == [name]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, 0o666])
def test_who_may_use_it(name: str, path: Path, mode: int) -> None:
    """Mode, user and group are as asked for, whatever the umask, from the moment when there is a name."""
    before = os.umask(0o077)
    try:
        create(name, Access(mode, os.getuid(), os.getgid()))
    finally:
        os.umask(before)
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (mode, os.getuid(), os.getgid())


def test_it_is_given_to_the_servers_user(name: str, mocker: MockerFixture) -> None:
    """User and group are asked of the system before the segment has its name."""
    chown = mocker.patch("os.fchown", side_effect=lambda *_: SHM.joinpath(name).exists() and pytest.fail("too late"))
    create(name, Access(0o660, 4711, 4712))
    chown.assert_called_once_with(mocker.ANY, 4711, 4712)


def test_a_group_that_is_root_s_is_a_group(name: str, mocker: MockerFixture) -> None:
    """Its number is 0; below that nothing was asked for."""
    mocker.patch("os.getegid", return_value=4713)
    chown = mocker.patch("os.fchown")
    create(name, Access(0o660, 0, 0))
    chown.assert_called_once_with(mocker.ANY, 0, 0)


def test_where_no_group_was_asked_for_it_is_the_servers_own(name: str, path: Path, mocker: MockerFixture) -> None:
    """And not the folder's; but where the file is another user's, that one's group stays."""
    mocker.patch("os.getegid", return_value=4713)
    chown = mocker.patch("os.fchown")
    create(name, Access(0o660))
    chown.assert_called_once_with(mocker.ANY, -1, 4713)
    mocker.patch("os.geteuid", return_value=os.geteuid() + 1)
    attach_as_owner = Segment.attach(name, lambda *_: SIZE, frozenset({path.stat().st_uid}))
    attach_as_owner.give(Access(0o660))
    assert chown.call_args_list[-1].args[1:] == (-1, -1)


def test_it_cannot_be_given_away(name: str, mocker: MockerFixture) -> None:
    """Who may not do that is told so, and nothing is left."""
    mocker.patch("os.fchown", side_effect=PermissionError)
    with pytest.raises(ConfigError, match=f"{path_of(name)}.*may not give it to user 4711"):
        create(name, Access(uid=4711))
    assert not list(SHM.glob(f"{name}*"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EFBIG])
def test_no_room(name: str, mocker: MockerFixture, code: int) -> None:
    """A full file system is NoMemory with the file's name, and nothing is left; then there is room, and it works."""
    mocker.patch("os.posix_fallocate", side_effect=OSError(code, os.strerror(code)))
    with pytest.raises(NoMemory, match=f"{path_of(name)}: no memory left for {SIZE} bytes"):
        create(name)
    assert not list(SHM.glob(f"{name}*"))
    mocker.stopall()
    create(name)


# --- attach -----------------------------------------------------------------------------------------------------------


def test_two_views_of_the_same_memory(name: str) -> None:
    """What one stores as bytes or as a number, the other sees as both."""
    one, other = create(name), attach(name)
    one.words[1] = 0x1122334455667788
    assert other.halves[2:4].tolist() == [0x55667788, 0x11223344]
    other.bytes[8:10] = b"\xff\xff"
    assert one.words[1] == 0x112233445566FFFF


def test_there_is_none(name: str) -> None:
    """The error names the file."""
    with pytest.raises(SegmentMissing, match=path_of(name)):
        attach(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_who_may_not(name: str) -> None:
    """Another user is refused, and told how a server can allow a group."""
    create(name)

    def as_nobody() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        with pytest.raises(SegmentError, match=r'not allowed for user 65534.*"mode"/"group"'):
            attach(name)

    with child(as_nobody):
        pass


@pytest.mark.parametrize("kind", ["empty", "directory", "link", "dangling", "pipe", "huge"])
def test_what_is_no_shared_memory(name: str, path: Path, kind: str) -> None:
    """It is a clear error that names the file, which stays."""
    if kind == "directory":
        path.mkdir()
    elif kind in ("link", "dangling"):
        path.symlink_to("/etc/passwd" if kind == "link" else "/nonexistent")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.touch()
        os.truncate(path, 1 << 62 if kind == "huge" else 0)
    before = path.lstat()
    try:
        with pytest.raises(SegmentError, match=path_of(name)):
            attach(name)
        assert path.lstat() == before
    finally:
        path.rmdir() if kind == "directory" else path.unlink()


def test_what_is_there_is_looked_at_before_it_is_mapped(name: str, path: Path) -> None:
    """The check gets the open file, and its refusal is final."""
    path.write_bytes(b"x" * 5000)
    looks: list[tuple[bytes, str]] = []

    def refuse(descriptor: int, found: str) -> int:
        looks.append((os.pread(descriptor, 9999, 0), found))
        raise SegmentError("refused")

    with pytest.raises(SegmentError, match="refused"):
        Segment.attach(name, refuse)
    assert looks == [(b"x" * 5000, name)]


def test_it_shrinks_while_it_is_opened(name: str, path: Path, mocker: MockerFixture) -> None:
    """Another process gives memory back between two steps of the opening: it is opened again."""
    segment = create(name)
    segment.reserve(CHUNK, CHUNK)
    look = os.fstat
    descriptor = segment.fd

    def shrinks_behind_the_look(looked_at: int) -> os.stat_result:
        status = look(looked_at)
        os.ftruncate(descriptor, SIZE)
        return status

    mocker.patch("os.fstat", shrinks_behind_the_look)
    attached = attach(name)
    mocker.stopall()
    assert (attached.bytes[:4], attached.size(), path.stat().st_size) == (b"mine", SIZE, SIZE)


# --- grow and shrink --------------------------------------------------------------------------------------------------


def test_memory_comes_and_goes(name: str, path: Path) -> None:
    """What is reserved takes memory, what is released takes none, and reads as zeros when it is back."""
    segment = create(name)
    base = path.stat().st_blocks
    segment.reserve(CHUNK, 2 * CHUNK)
    assert (segment.size(), (path.stat().st_blocks - base) * 512) == (3 * CHUNK, 2 * CHUNK)
    segment.bytes[CHUNK : CHUNK + 4] = segment.bytes[2 * CHUNK : 2 * CHUNK + 4] = b"full"
    segment.release(CHUNK, CHUNK)
    assert (segment.size(), (path.stat().st_blocks - base) * 512) == (3 * CHUNK, CHUNK)
    segment.release(2 * CHUNK, CHUNK)
    assert (segment.size(), path.stat().st_blocks) == (3 * CHUNK, base)
    segment.reserve(CHUNK, 2 * CHUNK)
    assert segment.bytes[CHUNK : 3 * CHUNK] == bytes(2 * CHUNK)


def test_memory_that_is_reserved_is_there_at_the_first_touch(name: str, mocker: MockerFixture) -> None:
    """The system gives all pages at once, not each by a fault of its own; and where it cannot, it is no error."""
    pages = CHUNK // mmap.PAGESIZE
    segment = create(name)
    try:
        segment.bytes.madvise(segments._POPULATE_WRITE, 0, mmap.PAGESIZE)
    except OSError:
        pytest.skip("this system cannot do it")

    def touched(offset: int) -> int:
        segment.reserve(offset, CHUNK)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for at in range(offset, offset + CHUNK, mmap.PAGESIZE):
            segment.bytes[at] = 1
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    assert touched(CHUNK) < pages // 4
    mocker.patch.object(segments, "_POPULATE_WRITE", 1 << 20)  # no advice that a system knows
    assert touched(2 * CHUNK) >= pages // 2


def test_memory_is_released_in_the_first_way_that_works(name: str, mocker: MockerFixture) -> None:
    """A hole in the file where one can be made, else by the mapping, and neither where the system has none."""
    segment = create(name)
    there = segment.bytes
    hole = mocker.patch.object(segments._libc, "fallocate", return_value=0)
    segment.bytes = mocker.Mock()
    segment.release(0, SIZE)
    hole.assert_called_once_with(segment.fd, mocker.ANY, 0, SIZE)
    segment.bytes.madvise.assert_not_called()
    hole.return_value = -1
    segment.release(0, SIZE)
    segment.bytes.madvise.assert_called_once_with(mmap.MADV_REMOVE, 0, SIZE)
    segment.bytes.madvise.side_effect = OSError(errno.ENOTSUP, "no such thing")
    segment.release(0, SIZE)
    segment.bytes = there
    assert segment.bytes[:4] == b"mine"


def test_no_room_to_grow(name: str, path: Path, mocker: MockerFixture) -> None:
    """It is NoMemory, the length is as it was, and it can grow later."""
    segment = create(name)
    mocker.patch("os.posix_fallocate", side_effect=OSError(errno.ENOSPC, "full"))
    with pytest.raises(NoMemory):
        segment.reserve(CHUNK, CHUNK)
    assert path.stat().st_size == SIZE
    mocker.stopall()
    segment.reserve(CHUNK, CHUNK)


# --- names come and go ------------------------------------------------------------------------------------------------


def test_unlink_takes_only_its_own_name(name: str, path: Path) -> None:
    """When another segment has the name by now, that one stays."""
    old = create(name)
    assert old.is_current()
    path.unlink()
    assert not old.is_current()
    create(name)
    assert not old.is_current()
    old.unlink()
    assert path.exists()
    attach(name).unlink()
    assert not path.exists()


def test_rename_replaces(name: str, path: Path) -> None:
    """A segment takes a name over from another one, which stays usable for those who have it."""
    old, new = create(name), create(f"{name}~draft")
    new.bytes[:4] = b"next"
    new.rename(name)
    assert new.is_current()
    assert not old.is_current()
    assert path.read_bytes()[:4] == b"next"
    assert old.bytes[:4] == b"mine"


def test_a_name_that_is_gone_cannot_be_changed(name: str, path: Path, mocker: MockerFixture) -> None:
    """It is missing; any other reason is told as it is."""
    segment = create(name)
    mocker.patch("os.rename", side_effect=PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(NotAllowed):
        segment.rename(f"{name}2")
    mocker.stopall()
    path.unlink()
    for change in (segment.rename, segment.take_free):
        with pytest.raises(SegmentMissing, match=f"there is no {path}"):
            change(f"{name}2")


@pytest.mark.usefixtures("swept")
def test_close_lets_go_of_the_file(name: str) -> None:
    """No descriptor stays open; the memory can still be read by who has it."""
    before = len(os.listdir("/proc/self/fd"))
    segment = create(name)
    segment.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert segment.bytes[:4] == b"mine"


# --- the resource tracker ---------------------------------------------------------------------------------------------

USE = """
import sys
from multiprocessing import resource_tracker
from kemi.errors import SegmentError
from kemi.queue.queue import Queue
from kemi.queue.shm.naming import path_of, segment_name
instance = sys.argv[1]
queue = Queue.create(instance, "q", window=1 << 20)
queue.add("k", "v")
other = Queue.attach(instance, "q")
assert other.fetch().key == "k"
other.close()
for size in (0, 100, 1 << 62):
    open(path_of(segment_name(instance, "foreign")), "wb").truncate(size)
    try:
        Queue.attach(instance, "foreign")
    except SegmentError:
        pass
try:
    Queue.create(instance, "q", window=1 << 20)
except FileExistsError:
    pass
queue.remove()
queue.close()
del queue, other
assert resource_tracker._resource_tracker._pid is None
"""
OTHERS = """
from multiprocessing.shared_memory import SharedMemory
theirs = SharedMemory(create=True, size=100)
assert resource_tracker._resource_tracker._pid is not None
theirs.close()
theirs.unlink()
"""


def test_the_tracker_never_starts(instance: str) -> None:
    """Not by making, attaching, failing to attach, or closing a queue."""
    assert python(USE, instance) == ""


def test_other_shared_memory_is_tracked(instance: str) -> None:
    """A script's own SharedMemory goes to the tracker, after queues were used."""
    assert python(USE + OTHERS, instance) == ""


def _is_open(fd: int) -> bool:
    return Path(f"/proc/self/fd/{fd}").exists()


def test_a_descriptor_that_was_broken_off_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler raises while it is made: nobody has it, so nobody else could close it."""

    def strike(_: object) -> int:
        raise InterruptedError

    monkeypatch.setattr(OpenFile, "out_of_the_way", strike)
    before = descriptors()
    with contextlib.suppress(InterruptedError):
        descriptor.Descriptor(OpenFile.open("/dev/null", os.O_RDONLY))
    assert descriptors() == before


@pytest.fixture
def file_path(tmp_path: Path) -> Path:
    (path := tmp_path / "file").touch()
    return path


def test_a_descriptor_is_closed_with_its_object(monkeypatch: pytest.MonkeyPatch, file_path: Path) -> None:
    """Also in garbage; without a word when others closed it; and never one that is another file's now."""
    unraisable: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", unraisable.append)
    for kept in (False, True):
        file = OpenFile.open(str(file_path), os.O_RDONLY)
        number = file.number
        if kept:
            file.keep()
        garbage: list[object] = [file]
        garbage.append(garbage)
        del file, garbage
        gc.collect()
        assert not _is_open(number)
    file = OpenFile.open(str(file_path), os.O_RDONLY)
    number = file.number
    file.keep()
    os.close(number)
    del file
    file = OpenFile.open(str(file_path), os.O_RDONLY)
    assert file.number == number
    file.keep()
    other = os.open("/", os.O_RDONLY)
    os.dup2(other, number)
    os.close(other)
    file.close()
    del file
    assert _is_open(number)
    os.close(number)
    assert unraisable == []


def test_a_number_that_is_used_again_is_not_closed_twice(file_path: Path) -> None:
    """Not even by who had the same file under it before."""
    first = OpenFile.open(str(file_path), os.O_RDONLY)
    first.keep()
    first.close()
    second = OpenFile.open(str(file_path), os.O_RDONLY)
    assert second.number == first.number
    first.close()
    del first
    assert _is_open(second.number)
