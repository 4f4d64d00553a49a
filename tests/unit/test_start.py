"""Start, reload and stop of a server, with KSR mocked; crash, take-over, and a second server."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kemi import app
from kemi.instance import queues, untouched
from kemi.owner import _start_time, this_process
from kemi.queue.catalog import header, keeping
from kemi.queue.format import layout
from kemi.queue.format.outcome import CLOSED
from kemi.queue.kernel import choice
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from kemi.replacing import Replacement
from kemi.slots import fetched
from mqueue_kemi import (
    ConfigError,
    InstanceInUse,
    NoMemory,
    SegmentError,
    mod_init,
    modparam,
    mq_add,
    mq_fetch,
    mq_size,
    mqk_get,
)
from tests.conftest import SHM
from tests.support.clients import attach, inner
from tests.unit.children import child, fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

HANDLER = object()


@pytest.fixture
def start(server: Any, instance: str) -> Callable[..., None]:
    """Return a start or reload with definitions, and other parameters by name."""

    def start(*definitions: str, **parameters: Any) -> None:
        server.notice.reset_mock()
        for name, value in {"instance": instance, **parameters}.items():
            modparam("mqueue", name, value)
        for definition in definitions:
            modparam("mqueue", "mqueue", definition)
        assert mod_init(HANDLER) is HANDLER

    return start


@pytest.fixture
def crashed(start: Callable[..., None]) -> Callable[..., None]:
    """Return how to leave queues as a server does that was killed: with the items 0, 1, 2, 1."""

    def crashed(*definitions: str, **parameters: Any) -> None:
        def serve() -> None:
            start(*definitions, **parameters)
            for name in queues:
                for number in (0, 1, 2, 1):
                    mq_add(name, str(number), "x")

        with child(serve):
            pass

    return crashed


def notices(server: Any) -> str:
    """Return all that was said."""
    return "".join(call.args[0] for call in server.notice.call_args_list)


def files(instance: str) -> list[str]:
    """Return the segments of an instance, without its name."""
    return sorted(path.name.replace(f"mqk.{instance}", "", 1) for path in SHM.glob(f"mqk.{instance}*"))


# --- start ------------------------------------------------------------------------------------------------------------


def test_what_a_start_makes(start: Callable[..., None], instance: str, server: Any) -> None:
    """One segment for each queue and one for the instance, with its mode and group; one line tells the queues."""
    start("name=a", "name=b.c/d", mode="0660", group=os.getgid())
    assert files(instance) == ["", ".a", ".b%2Ec%2Fd"]
    assert {path.stat().st_mode & 0o777 for path in SHM.glob(f"mqk.{instance}*")} == {0o660}
    assert (
        notices(server)
        == f"mqueue_kemi: instance {instance!r} is ready, with a, b.c/d; kernel: {choice.description()}\n"
    )


def test_without_queues(start: Callable[..., None], instance: str) -> None:
    """A server may define none, and get some at a reload."""
    start()
    assert files(instance) == [""]
    start("name=a")
    assert mq_size("a") == -1


def test_a_stop_takes_everything_away(start: Callable[..., None], instance: str) -> None:
    """In the process that started it; and it can be started again."""
    start("name=a")
    mq_add("a", "k", "v")
    app.stop_now()
    app.stop_now()
    assert files(instance) == []
    assert mq_size("a") == -2
    start("name=a")
    assert mq_size("a") == -1


def test_a_stop_in_another_process_takes_nothing_away(start: Callable[..., None], instance: str) -> None:
    """A forked worker that ends leaves all as it is."""
    start("name=a")
    os.waitpid(fork(app.stop_now), 0)
    assert files(instance) == ["", ".a"]
    assert mq_add("a", "k", "v") == 1


@pytest.mark.usefixtures("server")
def test_a_bad_definition_is_forgotten(instance: str) -> None:
    """After an error a script that is mended and loaded again begins anew."""
    modparam("mqueue", "mqueue", "name=a")
    with pytest.raises(ConfigError):
        modparam("mqueue", "mqueue", "name=a")
    modparam("mqueue", "instance", instance)
    modparam("mqueue", "mqueue", "name=a;size=5")
    mod_init(HANDLER)
    assert queues["a"].stats().size_limit == 5


@pytest.mark.parametrize("bad", ["q" * 250, "é" * 100])
def test_a_start_that_fails_leaves_nothing(start: Callable[..., None], instance: str, bad: str) -> None:
    """What was made before the error is taken away; then a start works."""
    with pytest.raises(ConfigError, match="too long"):
        start("name=a", f"name={bad}")
    assert files(instance) == []
    assert not queues
    start("name=a")
    assert mq_add("a", "k", "v") == 1


def test_a_start_without_memory(start: Callable[..., None], instance: str) -> None:
    """It is NoMemory, and nothing is left."""
    with pytest.raises(NoMemory, match="max_memory"):
        start("name=a", "name=b", max_memory=4096)
    assert files(instance) == []


def test_memory_is_shared(start: Callable[..., None], server: Any) -> None:
    """max_memory bounds all queues together; one line for each of them that refuses."""
    start("name=a", "name=b", max_memory="2M")
    codes = [mq_add(name, "k", "x" * 100_000) for _ in range(20) for name in "ab"]
    assert 10 < codes.count(1) < 21
    assert codes.count(-1) > server.err.call_count == 2
    assert sum(queue.stats().memory for queue in queues.values()) <= 2 << 20


@pytest.mark.parametrize("what", ["queue", "instance"])
@pytest.mark.parametrize("data", [b"", b"hello" * 2000])
def test_a_foreign_file(start: Callable[..., None], instance: str, what: str, data: bytes) -> None:
    """A start is refused, names the file, and leaves it as it is and nothing else behind."""
    path = SHM / (f"mqk.{instance}" + (".a" if what == "queue" else ""))
    path.write_bytes(data)
    with pytest.raises(SegmentError, match=str(path)):
        start("name=a")
    assert path.read_bytes() == data
    assert files(instance) == [".a" if what == "queue" else ""]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")
@pytest.mark.parametrize("name", ["", ".a"])
def test_a_segment_of_a_stranger(
    crashed: Callable[..., None], start: Callable[..., None], instance: str, name: str
) -> None:
    """Anyone may put a file in /dev/shm: what another user made is not taken over."""
    crashed("name=a")
    path = SHM / f"mqk.{instance}{name}"
    os.chown(path, 4711, 4711)
    with pytest.raises(SegmentError, match=f"{path} belongs to user 4711"):
        start("name=a")
    assert path.exists()


# --- another server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_second_server(start: Callable[..., None], instance: str, name: str) -> None:
    """While the first lives, also stopped, a second one is refused with its pid and changes nothing."""

    def serve() -> None:
        start("name=a")
        mq_add("a", "k", "v")

    with child(serve) as pid:
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(InstanceInUse, match=rf"in use by pid {pid}, .*\"instance\""):
            start(f"name={name}")
        assert files(instance) == ["", ".a"]
        with attach("a", instance) as queue:
            assert len(queue) == 1
    start("name=a")
    assert mq_size("a") == 1


def test_two_instances(start: Callable[..., None], instance: str) -> None:
    """Servers with different instances have different queues of the same name."""

    def serve() -> None:
        start("name=a", instance=f"{instance}-2")
        mq_add("a", "k", "v")

    with child(serve):
        start("name=a")
        assert mq_size("a") == -1
        with attach("a", f"{instance}-2") as queue:
            assert len(queue) == 1


def test_a_queue_of_a_living_server(crashed: Callable[..., None], start: Callable[..., None], instance: str) -> None:
    """A queue whose owner lives is refused, although the instance itself could be had."""
    crashed("name=a", "name=b")
    with child(lambda: None) as pid:
        with attach("b", instance) as queue:
            header.set_owner(inner(queue).segment, this_process()._replace(pid=pid, start=_start_time(pid) or 0))
        with pytest.raises(InstanceInUse, match=rf"queue 'b' in use by pid {pid}"):
            start("name=a", "name=b")
    start("name=a", "name=b")
    assert (mq_size("a"), mq_size("b")) == (4, 4)


# --- after a crash ----------------------------------------------------------------------------------------------------


def test_a_crash_loses_nothing(crashed: Callable[..., None], start: Callable[..., None], server: Any) -> None:
    """The next start has all items, takes its own limits, and says so."""
    crashed("name=a", "name=b;size=3")
    start("name=a;size=2", "name=b")
    assert (mq_size("a"), mq_size("b")) == (4, 3)
    assert "queue 'a': 4 items of the last server taken over" in notices(server)
    assert mq_add("a", "new", "") == 1
    assert mq_size("a") == 2
    assert queues["a"].owner().pid == os.getpid()


@pytest.fixture
def at_load(mocker: MockerFixture) -> Any:
    """Return what is called instead of loading rows, with definition and queue; there is no database."""
    mocker.patch("kemi.lifecycle._open_store")
    crossings = mocker.patch("kemi.lifecycle.Crossings").return_value
    crossings.settle.side_effect = untouched
    crossings.prepare.return_value = []
    crossings.load.return_value = {}
    return crossings.load


def test_nobody_adds_before_the_rows(start: Callable[..., None], instance: str, at_load: Any) -> None:
    """A queue is closed until its rows are in it: what another process adds at the start comes behind them."""
    outcomes = []

    def load(*_: Any) -> dict[str, int]:
        outcomes.append(attach("a", instance).add("k", "v"))
        return {}

    at_load.side_effect = load
    start("name=a;dbmode=1")
    assert outcomes == [CLOSED]
    assert attach("a", instance).add("k", "v") == ADDED


@pytest.mark.parametrize("was_closed", [False, True])
def test_what_was_closed_stays_closed_until_the_rows_are_loaded(
    start: Callable[..., None], instance: str, at_load: Any, was_closed: bool
) -> None:
    """A server died between its save and its end: the next one loads first. An open queue stays open all the time."""

    def serve() -> None:
        start("name=a;dbmode=1")
        if was_closed:
            queues["a"]._u64[layout.W_FLAGS] |= layout.ADD_CLOSED

    with child(serve):
        pass
    outcomes = []

    def load(*_: Any) -> dict[str, int]:
        outcomes.append(attach("a", instance).add("k", "v"))
        return {}

    at_load.side_effect = load
    start("name=a;dbmode=1")
    assert outcomes == [CLOSED if was_closed else ADDED]
    assert attach("a", instance).add("k", "v") == ADDED


@pytest.mark.parametrize(("before", "after", "keys"), [
    (0, 1, "012"), (0, 2, "021"), (0, 0, "0121"), (1, 0, "012"), (1, 2, "012"), (2, 0, "021"), (2, 1, "021"),
])  # fmt: skip
def test_another_addmode_after_a_crash(
    crashed: Callable[..., None], start: Callable[..., None], instance: str, before: int, after: int, keys: str
) -> None:
    """Items are brought into the new mode, in order, within the new limits; nothing else is left."""
    crashed(f"name=a;addmode={before}")
    start(f"name=a;addmode={after};size=9;maxbytes=1000")
    assert [item.key for item in queues["a"].peek(9)] == list(keys)
    assert files(instance) == ["", ".a"]
    stats = queues["a"].stats()
    assert (stats.addmode, stats.size_limit, stats.byte_limit) == (after, 9, 1000)
    assert app._running
    assert app._running.registry.memory() == stats.memory
    assert [mq_fetch("a") for _ in keys] == [1] * len(keys)
    assert mq_fetch("a") == -2


@pytest.mark.parametrize("length", [200, 225, 230])
def test_another_addmode_with_a_long_name(
    crashed: Callable[..., None], start: Callable[..., None], instance: str, length: int
) -> None:
    """A name as long as a file's name can be is no hindrance."""
    name = "q" * (length - len(f"mqk.{instance}."))
    name += "q" * (255 - 230) if length == 230 else ""
    crashed(f"name={name}")
    start(f"name={name};addmode=2")
    assert mq_size(name) == 3
    assert files(instance) == ["", f".{name}"]


def test_a_conversion_without_memory(crashed: Callable[..., None], start: Callable[..., None], instance: str) -> None:
    """The queue stays as it was, and the next start has it."""
    crashed("name=a")
    with pytest.raises(NoMemory):
        start("name=a;addmode=2", max_memory=600 * 1024)
    assert files(instance) == [".a"]
    start("name=a")
    assert mq_size("a") == 4


def test_a_conversion_without_memory_beside_a_load(
    crashed: Callable[..., None],
    start: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever can fail does so before the rows leave their table."""
    url = f"sqlite:///{tmp_path / 'm.db'}"

    def save() -> None:
        start("name=a;dbmode=1", db_url=url)
        assert mq_add("a", "row", "v") == ADDED
        app.stop_now()

    with child(save):
        pass
    crashed("name=b")

    copy = Replacement.copy

    def no_memory(replacement: Replacement) -> None:
        if replacement.draft.name == "b":
            raise NoMemory("none for b")
        copy(replacement)

    monkeypatch.setattr(Replacement, "copy", no_memory)
    with pytest.raises(NoMemory, match="none for b"):
        start("name=a;dbmode=3", "name=b;addmode=2", db_url=url)
    monkeypatch.undo()
    with contextlib.closing(sqlite3.connect(tmp_path / "m.db")) as database:
        assert database.execute("SELECT key FROM a").fetchall() == [("row",)]
    start("name=a;dbmode=3", "name=b;addmode=2", db_url=url)
    assert (mq_size("a"), mq_size("b")) == (1, 3)


def test_a_queue_that_is_not_defined_any_more(
    crashed: Callable[..., None], start: Callable[..., None], instance: str, server: Any
) -> None:
    """It is left, and said so; a later start that defines it has its items."""
    crashed("name=a", "name=b")
    start("name=a")
    assert f"/dev/shm/mqk.{instance}.b was left by a server that died" in notices(server)
    app.stop_now()
    assert files(instance) == [".b"]
    start("name=b")
    assert mq_size("b") == 4


def test_drafts_of_a_crash_are_removed(crashed: Callable[..., None], start: Callable[..., None], instance: str) -> None:
    """What a server was making when it was killed is taken away; others' names stay."""
    crashed("name=a")
    for name in ("~77", ".a~77", ".b~draft", ".b~draft~77"):
        (SHM / f"mqk.{instance}{name}").write_bytes(b"")
    other = SHM / f"mqk.{instance}-other~77"
    other.write_bytes(b"")
    start("name=a")
    assert files(instance) == ["", "-other~77", ".a"]


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _of_a_stranger(path: Path) -> None:
    path.write_bytes(b"precious" * 1000)
    os.chown(path, 4711, 4711)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")
@pytest.mark.parametrize("name", ["~{pid}", ".a~{pid}", ".a~{pid}~new", ".a~loaded", ".a~new~{pid}"])
@pytest.mark.parametrize("plant", [_folder, _pipe, _link, _of_a_stranger])
def test_what_lies_under_a_drafts_name_stops_no_start(
    crashed: Callable[..., None],
    start: Callable[..., None],
    instance: str,
    tmp_path: Path,
    name: str,
    plant: Callable[[Path], None],
) -> None:
    """Not even one that loads rows, which needs a draft that outlives it; nothing of it is read or followed."""
    url = f"sqlite:///{tmp_path / 'm.db'}"
    crashed("name=a;dbmode=1", db_url=url)
    path = SHM / f"mqk.{instance}{name.format(pid=os.getpid())}"
    plant(path)
    try:
        start("name=a;dbmode=1", db_url=url)
        assert mq_size("a") == 4
        app.stop_now()
        start("name=a;dbmode=1", db_url=url)  # which loads the rows that were saved
        assert mq_size("a") == 4
        assert Path("/etc/passwd").read_bytes().startswith(b"root")
    finally:
        if path.is_dir() and not path.is_symlink():
            (path / "file").unlink()
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


def test_a_damaged_queue_after_a_crash(crashed: Callable[..., None], start: Callable[..., None], instance: str) -> None:
    """The start is refused with the file's name; its items' bytes stay, and so do the other queues."""
    crashed("name=a", "name=b")
    path = SHM / f"mqk.{instance}.b"
    with attach("b", instance) as queue:
        inner(queue).segment.halves[inner(queue)._log.core.head() >> 2] = 8
    before = path.read_bytes()
    with pytest.raises(SegmentError, match=f"{path} is corrupted"):
        start("name=a", "name=b")
    assert path.read_bytes()[layout.CHUNK :] == before[layout.CHUNK :]
    assert files(instance) == [".a", ".b"]
    path.unlink()
    start("name=a", "name=b")
    assert (mq_size("a"), mq_size("b")) == (4, -1)


def test_a_server_that_died_with_the_lock(start: Callable[..., None]) -> None:
    """Whoever had the lock of a queue or of the instance: the next start has everything."""

    def serve() -> None:
        start("name=a")
        mq_add("a", "k", "v")
        assert app._running
        app._running.registry.lock.take()
        queues["a"]._mutex.take()

    with child(serve):
        pass
    start("name=a")
    assert mq_size("a") == 1


def test_a_consumer_goes_on(crashed: Callable[..., None], start: Callable[..., None], instance: str) -> None:
    """Who was attached before the crash takes what the next server adds."""
    crashed("name=a")
    with attach("a", instance) as queue:
        start("name=a")
        mq_add("a", "new", "")
        assert [item.key for item in iter(queue.fetch, None)] == ["0", "1", "2", "1", "new"]


# --- reload -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("addmode", [0, 2])
def test_a_process_that_attaches_again_and_again(start: Callable[..., None], instance: str, addmode: int) -> None:
    """What is closed is let go at once, files and mappings, not when Python looks for garbage."""
    start(f"name=a;addmode={addmode}")

    def held() -> tuple[int, int]:
        maps = Path("/proc/self/maps").read_text("utf-8")
        return len(os.listdir("/proc/self/fd")), maps.count(f"/mqk.{instance}")

    before = held()
    gc.disable()
    try:
        for _ in range(10):
            with attach("a", instance) as queue:
                queue.add("k", "v")
                queue.fetch(0.001)
                queue.peek()
            del queue
        assert held() == before
    finally:
        gc.enable()


def test_a_reload_keeps_every_item(start: Callable[..., None], server: Any) -> None:
    """Nothing is lost, what was fetched stays fetched, and nothing is said when nothing has changed."""
    start("name=a")
    mq_add("a", "first", "")
    mq_add("a", "second", "")
    mq_fetch("a")
    queue = queues["a"]
    start("name=a")
    assert queues["a"] is queue
    assert (mq_size("a"), mqk_get("a")) == (1, "first")
    assert not server.notice.call_count


def test_a_reload_takes_new_limits_and_queues(start: Callable[..., None], instance: str) -> None:
    """Sizes change at once, new queues are there, and the old handler's table knows them."""
    start("name=a;size=5")
    for number in range(5):
        mq_add("a", str(number), "")
    start("name=a;size=2;maxbytes=4096", "name=b;size=1", max_memory="10M")
    assert mq_size("a") == 5
    mq_add("a", "new", "")
    assert mq_size("a") == 2
    assert mq_add("b", "k", "v") == 1
    stats = queues["a"].stats()
    assert (stats.size_limit, stats.byte_limit) == (2, 4096)
    assert app._running
    assert app._running.registry.max_memory == 10 << 20
    assert files(instance) == ["", ".a", ".b"]


@pytest.mark.parametrize("kind", [keeping.SAVING, keeping.LOADED])
def test_a_reload_leaves_to_the_next_start_what_may_be_in_a_table(
    crashed: Callable[..., None], start: Callable[..., None], instance: str, server: Any, kind: int
) -> None:
    """A queue that a dead server left on its way: used by a reload, its items might come a second time."""
    crashed("name=a", "name=b")
    start("name=a")
    left = Queue.attach(instance, "b")
    keeping.set_crossing(left.segment.words, keeping.Crossing(kind, 1, 4))
    start("name=a", "name=b")
    assert mq_add("b", "k", "v") == -1
    assert mq_add("a", "k", "v") == 1
    assert any("after the next start" in call.args[0] for call in server.err.call_args_list)
    assert left.owner() != queues["a"].owner()
    keeping.set_crossing(left.segment.words, keeping.Crossing(keeping.NONE))
    start("name=a", "name=b")
    assert mq_size("b") == 4


def test_a_reload_takes_what_a_dead_server_left_in_another_addmode(
    crashed: Callable[..., None], start: Callable[..., None], instance: str
) -> None:
    """As a start does: in order, nothing else is left; and if there is no room, the items stay where they are."""
    crashed("name=a", "name=b")
    start("name=a", max_memory=600 * 1024)
    start("name=a", "name=b;addmode=2", max_memory=600 * 1024)
    assert "b" not in queues
    assert files(instance) == ["", ".a", ".b"]
    start("name=a", "name=b;addmode=2")
    assert [item.key for item in queues["b"].peek(9)] == list("021")
    assert queues["b"].stats().addmode == 2
    assert files(instance) == ["", ".a", ".b"]


def test_a_queue_that_is_dropped(start: Callable[..., None], instance: str, server: Any) -> None:
    """It stays with its items until the server is started again, and one line says so."""
    start("name=a", "name=b")
    mq_add("b", "k", "v")
    start("name=a")
    assert "queue 'b' is not defined any more; it stays" in notices(server)
    assert (mq_size("b"), mq_fetch("b")) == (1, 1)
    app.stop_now()
    assert files(instance) == []


@pytest.mark.parametrize(
    ("parameters", "word"),
    [({"mode": "0660"}, "mode"), ({"lock_timeout": 2}, "lock_timeout"), ({"group": os.getgid()}, "group")],
)
def test_what_a_reload_cannot_change(
    start: Callable[..., None], server: Any, parameters: dict[str, Any], word: str
) -> None:
    """One line says that it takes effect at the next start."""
    start("name=a")
    start("name=a", **parameters)
    assert server.notice.call_count == 1
    assert f"{word}: a change takes effect when the server is started again" in notices(server)


def test_a_reload_cannot_change_instance_and_addmode(start: Callable[..., None], instance: str, server: Any) -> None:
    """The queues stay where and how they are."""
    start("name=a")
    start("name=a;addmode=2", instance=f"{instance}-2")
    assert "instance: a change takes effect" in notices(server)
    assert "queue 'a': addmode stays 0" in notices(server)
    assert files(instance) == ["", ".a"]


def test_every_process_reloads(start: Callable[..., None], instance: str) -> None:
    """A worker makes a new queue that the main process joins later, and all have the same."""
    start("name=a")

    def reload_and_add() -> None:
        start("name=a;size=3", "name=b")
        assert mq_add("b", "k", "v") == 1

    with child(reload_and_add):
        assert mq_size("b") == -2
        start("name=a;size=3", "name=b")
        assert mq_size("b") == 1
    assert queues["b"].owner().pid == os.getpid()
    assert files(instance) == ["", ".a", ".b"]
    app.stop_now()
    assert files(instance) == []


def test_processes_reload_at_the_same_time(start: Callable[..., None], instance: str) -> None:
    """Whoever makes a new queue first, all get the same one."""
    start("name=a")

    def reload_and_add() -> None:
        start("name=a", *(f"name=new{number}" for number in range(5)))
        assert all(mq_add(f"new{number}", "k", "v") == 1 for number in range(5))

    pids = [fork(reload_and_add) for _ in range(6)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 6
    start("name=a", *(f"name=new{number}" for number in range(5)))
    assert [mq_size(f"new{number}") for number in range(5)] == [6] * 5
    assert len(files(instance)) == 7
    assert app._running
    assert app._running.registry.memory() == sum(queue.stats().memory for queue in queues.values())


BAD_RELOADS = {
    "a wrong size": (["name=a;size=9", "name=b;size=x"], {}, '"x" is no whole number'),
    "an unknown attribute": (["name=a;size=9;colour=red"], {}, 'unknown attribute "colour"'),
    "a queue twice": (["name=a;size=9", "name=a;size=8"], {}, "mqueue redefined"),
    "a wrong parameter": (["name=a;size=9"], {"mode": "rwx"}, '"mode"'),
    "a parameter that is none": (["name=a;size=9"], {"colour": "red"}, "no such parameter"),
    "no queue for dead letters": (["name=a;size=9;max_deliveries=1;dead_letter=b"], {}, "no such queue; define it too"),
    "two of them": (["name=a;size=9", "name=b;size=x", "name=c;size=y"], {}, '"y" is no whole number'),
}


@pytest.mark.parametrize(("definitions", "parameters", "why"), BAD_RELOADS.values(), ids=BAD_RELOADS.keys())
def test_a_bad_reload_changes_nothing(
    start: Callable[..., None], server: Any, definitions: list[str], parameters: dict[str, Any], why: str
) -> None:
    """Nothing is raised, which would end a process of the server: one line names what is wrong, the queues go on."""
    start("name=a;size=5")
    mq_add("a", "k", "v")
    start(*definitions, **parameters)
    assert len(server.err.call_args_list) == 1
    assert why in server.err.call_args.args[0]
    assert "Every queue stays as it is" in server.err.call_args.args[0]
    assert (mq_size("a"), list(queues), queues["a"].stats().size_limit) == (1, ["a"], 5)
    start("name=a;size=7")
    assert len(server.err.call_args_list) == 1
    assert queues["a"].stats().size_limit == 7


# --- the environment --------------------------------------------------------------------------------------------------


@pytest.fixture
def definitions(tmp_path: Path, instance: str, mocker: MockerFixture) -> Path:
    """Return a definitions file, which MQUEUE_KEMI_CFG names."""
    path = tmp_path / "queues.cfg"
    path.write_text(f'modparam("mqueue", "instance", "{instance}")\nmodparam("mqueue", "mqueue", "name=a;size=2")\n')
    mocker.patch.dict(os.environ, {"MQUEUE_KEMI_CFG": str(path)})
    return path


@pytest.mark.usefixtures("server")
def test_definitions_by_environment(definitions: Path, instance: str) -> None:
    """Without a handler queues come from the file, at a reload again."""
    assert hasattr(mod_init(), "mq_add")
    assert (files(instance), queues["a"].stats().size_limit) == (["", ".a"], 2)
    definitions.write_text(definitions.read_text().replace("size=2", "size=3"))
    mod_init()
    assert queues["a"].stats().size_limit == 3


@pytest.mark.usefixtures("server", "definitions")
def test_definitions_are_not_read_with_a_handler(instance: str) -> None:
    """A script with its own handler has its own modparam lines."""
    mod_init(HANDLER)
    assert files(instance) == [""]


@pytest.mark.usefixtures("server")
def test_definitions_beside_the_module(tmp_path: Path, mocker: MockerFixture, definitions: Path) -> None:
    """Without the variable, it is mqueue_kemi.cfg in the folder of the module."""
    mocker.patch.dict(os.environ)
    del os.environ["MQUEUE_KEMI_CFG"]
    shutil.copy(definitions, tmp_path / "mqueue_kemi.cfg")
    mocker.patch("mqueue_kemi.__file__", str(tmp_path / "mqueue_kemi.py"))
    mod_init()
    assert "a" in queues


@pytest.mark.usefixtures("server")
def test_no_definitions(tmp_path: Path, mocker: MockerFixture, instance: str) -> None:
    """The error says where they were looked for, and what may name them."""
    mocker.patch.dict(os.environ)
    os.environ.pop("MQUEUE_KEMI_CFG", None)
    mocker.patch("mqueue_kemi.__file__", str(tmp_path / "mqueue_kemi.py"))
    with pytest.raises(ConfigError, match=f"{tmp_path}.*MQUEUE_KEMI_CFG"):
        mod_init()
    assert files(instance) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give segments away")
def test_the_servers_user_gets_them(start: Callable[..., None], instance: str, mocker: MockerFixture) -> None:
    """Where the server will change its user, segments are that user's from the start."""
    mocker.patch("kemi.server.core.run_as", return_value=(4711, 4712))
    start("name=a", mode="0660")
    assert {(path.stat().st_uid, path.stat().st_gid) for path in SHM.glob(f"mqk.{instance}*")} == {(4711, 4712)}


def test_another_process_stopped_in_the_lock(start: Callable[..., None], server: Any) -> None:
    """A reload while a holder is stopped ends in time with a line in the log, and can be done again."""
    start("name=a", lock_timeout="0.1")
    with child(queues["a"]._mutex.take) as pid:
        os.kill(pid, signal.SIGSTOP)
        start("name=a;size=2", lock_timeout="0.1")
        assert "Every queue stays as it is" in server.err.call_args.args[0]
    start("name=a;size=2", lock_timeout="0.1")
    assert queues["a"].stats().size_limit == 2
    assert not fetched
