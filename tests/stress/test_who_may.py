"""Who may: nobody but the server's user and root, and a group where it is allowed; whatever was put there before.

(What members of a group may do to one another's locks, and modes in detail: tests/processes/test_access.py.)
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest

from kemi import app
from kemi.errors import ConfigError, InstanceInUse, MqueueError, SegmentError, UnknownQueue
from kemi.instance import queues
from kemi.owner import this_process
from kemi.queue.catalog import keeping
from kemi.queue.catalog.keeping import LOADED, Crossing
from kemi.queue.catalog.registry import Registry
from kemi.queue.format import layout
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from kemi.queue.shm.naming import SHM_DIR, path_of, segment_name
from tests.processes.children import CHECKOUT
from tests.processes.serve import items
from tests.server.harness import Kamailio
from tests.support.clients import attach, inner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes.children import Children
    from tests.processes.serve import Serve
    from tests.server.harness import Servers

NOBODY = 65534
GROUP = 54321  # numbers need no entry in any file
SETPRIV = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}"]
USE = """
import json, sys
from mqueue_kemi import attach, MqueueError
outcomes = {}
for what in ("add", "fetch", "peek", "stats"):
    try:
        with attach("q", sys.argv[1]) as queue:
            result = queue.add("from", "outside") if what == "add" else getattr(queue, what)()
            outcomes[what] = repr(result)[:60]
    except MqueueError as error:
        outcomes[what] = type(error).__name__
print(json.dumps(outcomes))
"""


def as_user(folder: Path, instance: str, *groups: int) -> Any:
    """Use the queue in an interpreter of another user; return what came of each call."""
    allowed = [f"--groups={','.join(map(str, groups))}"] if groups else ["--clear-groups"]
    argv = [*SETPRIV, *allowed, "/usr/bin/python3", "-B", "-c", USE, instance]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=True, env={})
    return json.loads(done.stdout)


# --- users and groups -------------------------------------------------------------------------------------------------


def test_another_user_can_do_nothing(servers: Servers, readable: Path) -> None:
    """A real server's queue, and an unrelated program of another user."""
    server = servers.start(Kamailio())
    assert server.call("mq_add", "q", "k", "v") == 1
    found = as_user(readable, server.instance)
    assert set(found.values()) == {"NotAllowed"}, found
    assert as_user(readable, server.instance, GROUP) == found
    assert server.run("return mq.mq_size('q'), mq.mq_fetch('q'), mq.mqv_get('q')") == (1, 1, "v")


def test_a_member_of_the_group_may(servers: Servers, readable: Path) -> None:
    """With mode 0660 and the group; not one who is no member."""
    server = servers.start(Kamailio(params=[("mode", "0660"), ("group", str(GROUP))]))
    assert server.call("mq_add", "q", "k", "v") == 1
    assert set(as_user(readable, server.instance).values()) == {"NotAllowed"}
    found = as_user(readable, server.instance, GROUP)
    assert found["add"] == repr(ADDED)
    assert "'k'" in found["fetch"]
    assert found["peek"].startswith("[Item(key='from', value='outside'")
    assert found["stats"].startswith("Stats(size=1, ")
    assert server.run("return mq.mq_size('q'), mq.mq_fetch('q'), mq.mqv_get('q')") == (1, 1, "outside")


# --- what was there before --------------------------------------------------------------------------------------------


def _symlink(path: Path, aside: Path) -> None:
    path.symlink_to(aside)


def _dangling(path: Path, aside: Path) -> None:
    path.symlink_to(aside.with_suffix(".not-there"))


def _hard_link(path: Path, _aside: Path) -> None:
    other = path.with_name(f"mqk-aside-{os.getpid()}")
    other.write_bytes(b"precious" * 1000)
    other.rename(path)


def _folder(path: Path, _aside: Path) -> None:
    path.mkdir()


def _pipe(path: Path, _aside: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path, _aside: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def _empty(path: Path, _aside: Path) -> None:
    path.touch()


PLANTED = (_symlink, _dangling, _hard_link, _folder, _pipe, _socket, _empty)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["", "q"])
@pytest.mark.parametrize("plant", PLANTED)
def test_what_is_no_segment_is_refused(
    serve: Serve, tmp_path: Path, name: str, plant: Callable[[Path, Path], None]
) -> None:
    """The server does not start and says which file; what lies there is as it was; a client refuses too."""
    aside = tmp_path / "aside"
    aside.write_bytes(b"precious" * 10_000)
    path = Path(path_of(segment_name(serve.instance, name) if name else segment_name(serve.instance)))
    plant(path, aside)
    try:
        before = path.lstat()
        with pytest.raises((SegmentError, ConfigError), match=str(path)):
            serve("name=q")
        serve.running = False
        with pytest.raises(MqueueError):
            attach("q", serve.instance)
        after = path.lstat()
        assert (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)
        assert aside.read_bytes() == b"precious" * 10_000
        assert not aside.with_suffix(".not-there").exists()
    finally:
        remove(path)
    assert list(Path(SHM_DIR).glob(f"mqk.{serve.instance}*")) == []


def plant_segment(children: Children, action: Callable[[], object], *, as_nobody: bool = True) -> None:
    """Let another user make a segment."""

    def act() -> None:
        if as_nobody:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        action()

    children.fork(act).result()


@pytest.mark.parametrize("name", ["", "q"])
def test_a_strangers_segment_is_refused(serve: Serve, children: Children, name: str) -> None:
    """It is sound, its owner is dead, and it has items: nothing of it is taken."""

    def plant() -> None:
        if name:
            Queue.create(serve.instance, name, window=layout.CHUNK).add("evil", "item")
        else:
            Registry.create(serve.instance, this_process(), 1 << 30)

    plant_segment(children, plant)
    path = path_of(segment_name(serve.instance, name) if name else segment_name(serve.instance))
    before = Path(path).read_bytes()
    with pytest.raises(SegmentError, match=f"{path} belongs to user {NOBODY}"):
        serve("name=q")
    serve.running = False
    assert Path(path).read_bytes() == before
    Path(path).unlink()


def test_a_strangers_draft_is_not_used(
    serve: Serve, children: Children, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A draft that claims to hold loaded rows neither takes the queue's place nor stops the start; a line names it."""
    url = f"sqlite:///{tmp_path / 'm.db'}"

    def crash() -> None:
        serve("name=q;dbmode=1", db_url=url)
        queues["q"].add("mine", "v")

    def plant() -> None:
        draft = Queue.create(serve.instance, "q", window=layout.CHUNK, draft=True)
        draft.add("evil", "item")
        keeping.set_crossing(draft.segment.words, Crossing(LOADED, 1, 1))
        draft.segment.rename(segment_name(serve.instance, "q") + "~loaded")

    children.fork(crash).result()
    plant_segment(children, plant)
    path = Path(path_of(segment_name(serve.instance, "q")) + "~loaded")
    before = path.read_bytes()
    try:
        assert items(serve("name=q;dbmode=1", db_url=url)) == [("mine", "v")]
        assert f"{path} is no file of this server's user, so it is not used" in caplog.text
        serve.stop()  # saves the item; the next start loads its row, through a draft of another name
        assert items(serve("name=q;dbmode=1", db_url=url)) == [("mine", "v")]
        assert path.read_bytes() == before
        queues["q"].clear()
    finally:
        path.unlink(missing_ok=True)


def test_a_strangers_queue_is_not_saved(serve: Serve, children: Children, tmp_path: Path) -> None:
    """A segment that claims to be one more queue of this server does not get into its database at the stop."""
    database = tmp_path / "m.db"
    serve("name=q;dbmode=1", db_url=f"sqlite:///{database}")
    owner = queues["q"].owner()

    def plant() -> None:
        queue = Queue.create(serve.instance, "evil", window=layout.CHUNK, owner=owner)
        queue.add("evil", "item")
        keeping.set_policy(queue.segment.words, 1, 1)

    plant_segment(children, plant)
    path = Path(path_of(segment_name(serve.instance, "evil")))
    before = path.read_bytes()
    try:
        serve.running = False
        app.stop_now()
        assert path.read_bytes() == before
        assert b"evil" not in database.read_bytes()
    finally:
        path.unlink(missing_ok=True)
        Path(path_of(segment_name(serve.instance))).unlink(missing_ok=True)


def test_a_draft_of_a_stranger_at_this_name(serve: Serve, children: Children) -> None:
    """Somebody guesses under which name a segment is made: a link there leads nowhere, and the start goes on."""
    victim = Path(SHM_DIR, f"victim-{os.getpid()}")
    victim.write_bytes(b"precious")
    draft = Path(path_of(f"{segment_name(serve.instance, 'q')}~{os.getpid()}"))
    plant_segment(children, lambda: draft.symlink_to(victim))
    try:
        serve("name=q").add("k", "v")
        assert victim.read_bytes() == b"precious"
        assert not draft.is_symlink()
    finally:
        victim.unlink()


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = [
    "../x",
    "..",
    ".",
    "/",
    "a/b",
    "/etc/passwd",
    "../../tmp/x",
    "a\0b",
    "\0",
    "~1",
    "q~loaded",
    "*",
    "[a]",
    "%2e%2e%2fx",
    "%",
    "a.b",
    "\n",
    "é" * 12,
    "\udc80\ud800",
    " ",
    "$(id)",
    "q;rm",
]
LONG = ["x" * 300, "é" * 60, "/" * 90, "x" * 250]


@pytest.fixture
def everywhere() -> Iterator[None]:
    """Fail when a file appears in /dev/shm under a name that is not one of the queues', or beside it."""

    def names() -> set[str]:
        found = {str(path) for path in Path(SHM_DIR).rglob("*") if not path.name.startswith("mqk.")}
        return found | {str(path) for path in Path(SHM_DIR).parent.iterdir()}

    before = names()
    yield
    assert {name for name in names() - before if "mqk" in name or "x" in Path(name).name} == set()


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", NAMES)
def test_names_stay_in_their_folder(serve: Serve, name: str) -> None:
    """Any queue and any instance: a file in /dev/shm, a queue that works, and nothing left of it."""
    for instance, queue in (
        (serve.instance, name),
        (f"{serve.instance}-{name}", "q"),
        (f"{serve.instance}{name}", name),
    ):
        serve.instance, before = instance, serve.instance
        try:
            app.modparam("mqueue", "mqueue_name", queue)
            made = serve(instance=instance)
            assert made.add("k", "v") == ADDED
            with attach(queue, instance) as other:
                assert items(inner(other)) == [("k", "v")]
            path = Path(path_of(made.segment.name))
            assert path.parent == Path(SHM_DIR)
            assert path.is_file()
            assert path.name.startswith("mqk.")
            assert not set("/\0") & set(path.name)
        finally:
            serve.stop()
            serve.instance = before
        assert not path.exists()


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", LONG)
def test_names_that_are_too_long(serve: Serve, name: str) -> None:
    """Refused with the name and what would be possible, by server and client."""
    app.modparam("mqueue", "mqueue_name", name)
    with pytest.raises(ConfigError, match="too long"):
        serve()
    serve.running = False
    with pytest.raises((ConfigError, UnknownQueue)):
        attach(name, serve.instance)
    with pytest.raises(ConfigError, match="too long"):
        attach("q", name * 2)


@pytest.mark.parametrize("name", ["../x", "a/b", "*", "~1", "$(id)"])
def test_the_command_line_finds_no_other_files(serve: Serve, name: str) -> None:
    """It asks for what the name says, and says that there is none."""
    serve("name=q")
    for arguments in (("stats", "--instance", serve.instance, "--", name), ("stats", "--instance", name, "--", "q")):
        argv = [sys.executable, "-m", "mqueue_kemi", *arguments]
        done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode not in (0, 1) or "no " in done.stderr, done
        assert "Traceback" not in done.stderr, done.stderr


def test_two_servers_cannot_have_one_name(servers: Servers) -> None:
    """The second one is refused with the first one's pid, whoever it runs as."""
    first = servers.start(Kamailio())
    second = servers.add(Kamailio(instance=first.instance, user="kamailio"))
    assert f"pid {first.main_pid}" in second.refused()
    assert InstanceInUse.__name__ in second.process.log()
