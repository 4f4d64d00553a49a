"""Trust is the file's owner: who maps whose queues, with real users, and a stranger before, during and after.

The numbers need no entry in any file. What the packages' user `kamailio` is, is K here.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import pytest

from kemi import host
from kemi.cli.main import main
from kemi.errors import ConfigError, InstanceInUse, MqueueError, NotAllowed, QueueClosed, SegmentError
from kemi.instance import Instance, queues
from kemi.names import OWNER_VARIABLE
from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.format import geometry, layout
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from kemi.queue.shm import trust
from kemi.queue.shm.naming import SHM_DIR, path_of, segment_name
from kemi.queue.shm.segment import Access
from kemi.queue.sync import lifelock
from kemi.server import core
from kemi.spec import QueueSpec, Settings
from tests.processes import own_shm
from tests.processes.children import CHECKOUT
from tests.support.clients import attach

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.processes.children import Children
    from tests.processes.serve import Serve

K, M, W, V = 45001, 45002, 45003, 45004  # the user kamailio, a stranger, a worker, another server's user
GROUP = 46000
OPEN = Access(0o666)
_CLONE_NEWUSER = 0x10000000
_PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None)


@pytest.fixture(autouse=True)
def _users(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid():
        pytest.fail("only root can become other users: run these tests as root")
    monkeypatch.setattr(trust, "server_user", lambda: K)
    monkeypatch.delenv(OWNER_VARIABLE, raising=False)


@pytest.fixture
def instance(serve: Serve) -> Iterator[str]:
    """Give the name of an instance; whatever any user left of it is removed."""
    yield serve.instance
    for path in Path(SHM_DIR).glob(f"mqk.{serve.instance}*"):
        path.unlink()


def become(user: int, groups: Sequence[int] = ()) -> None:
    if user:
        os.setgroups(groups)
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


class Users:
    """Runs actions in processes of other users."""

    def __init__(self, children: Children) -> None:
        self._children = children

    def run(self, action: Callable[[], object], user: int, groups: Sequence[int] = ()) -> Any:
        """Return what the action returns, or the name and text of the error of ours that it raised.

        A process that died of a signal fails the test.
        """

        def act() -> object:
            become(user, groups)
            try:
                return action()
            except MqueueError as error:
                return [type(error).__name__, str(error)]

        return self._children.fork(act).result()


@pytest.fixture
def users(children: Children) -> Users:
    """Return what runs actions as other users."""
    return Users(children)


# --- servers and strangers --------------------------------------------------------------------------------------------


def serve_as(instance: str, user: int, *, mode: int = 0o660, starter: int = 0, queue: str = "q") -> None:
    """Leave the queues of a server that was started by one user, ran as another, and was killed."""

    def live() -> None:
        become(starter)
        uid = -1 if starter == user else user
        settings = Settings(instance=instance, mode=mode, queues={queue: QueueSpec(queue)})
        settings.group = GROUP if not starter else -1
        served = Instance.open(settings, uid, -1)
        served.define(QueueSpec(queue)).add("mine", "v")

    _in_process(live)


def _in_process(action: Callable[[], object]) -> None:
    pid = os.fork()
    if not pid:
        code = 1
        try:
            queues.clear()
            action()
            code = 0
        except BaseException:  # noqa: BLE001 - it must not go on as the test
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def plant(instance: str, *, registry: bool = True, queue: str | None = "q", user: int = M) -> None:
    """Leave what a stranger made: sound, with a forged item, and whom he wants to catch may open it."""

    def act() -> None:
        become(user)
        if registry:
            Registry.create(instance, this_process(), 1 << 30, access=OPEN)
        if queue is not None:
            Queue.create(instance, queue, window=layout.CHUNK, access=OPEN).add("forged", "item")

    _in_process(act)


# --- who uses queues --------------------------------------------------------------------------------------------------


def by_command(instance: str, *arguments: str) -> Callable[[], Any]:
    """Run a command in this process; its exit code, user and group then, output and errors."""

    def act() -> Any:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            os.dup2(out.fileno(), 1)
            sys.stderr = err
            code = main(["--instance", instance, *arguments])
            err.flush()
            texts = [os.pread(file.fileno(), 1 << 16, 0).decode() for file in (out, err)]
        return [code, *os.getresuid(), *texts]

    return act


def by_worker(instance: str, owner: str | int | None = None) -> Callable[[], Any]:
    """Attach, add and fetch; what came."""

    def act() -> list[str]:
        with attach("q", instance, owner=owner) as queue:
            assert queue.add("from", "worker") == ADDED
            return [item.key for item in queue.fetch_many(9)]

    return act


class Row(NamedTuple):
    """A user of queues, and how the server that he belongs to is run."""

    server: int
    user: int
    groups: tuple[int, ...] = ()
    owner: int | None = None

    @property
    def starter(self) -> int:
        """Who starts that server: the user himself in his own tests, else root."""
        return W if self.server == W else 0


ROWS = {
    "a worker as kamailio": Row(K, K),
    "another user in the group": Row(K, W, (GROUP,)),
    "another user in the group, server of a named user": Row(V, W, (GROUP,), V),
    "root's worker, root's server": Row(0, 0),
    "root's worker, kamailio named": Row(K, 0, (), K),
    "a user's own test": Row(W, W),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_who_is_let_in(instance: str, users: Users, row: Row) -> None:
    """Add and fetch, in the server's own queue."""
    serve_as(instance, row.server, starter=row.starter)
    assert users.run(by_worker(instance, row.owner), row.user, row.groups) == ["mine", "from"]


@pytest.mark.parametrize("moment", ["before", "during", "after"])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_stranger(instance: str, users: Users, row: Row, moment: str) -> None:
    """His files are refused with his number and the way to allow him: alone, in the server's instance, and after it."""
    if moment == "before":
        plant(instance)
    elif moment == "during":
        serve_as(instance, row.server, queue="other", starter=row.starter)
        plant(instance, registry=False)
    else:
        serve_as(instance, row.server, starter=row.starter)
        _in_process(lambda: _remove_all(instance))
        plant(instance)
    kind, text = users.run(by_worker(instance, row.owner), row.user, row.groups)
    assert kind == NotAllowed.__name__
    assert f"user {M}" in text
    if moment == "during":
        assert "belong to the instance's user" in text
    else:
        assert f"owner={M}" in text
        assert f"{OWNER_VARIABLE}={M}" in text
    assert "item" not in text
    stats = host.find_queue(instance, "q").stats
    assert (stats.added, stats.size) == (1, 1)


def _remove_all(instance: str) -> None:
    for path in Path(SHM_DIR).glob(f"mqk.{instance}*"):
        path.unlink()


def test_who_is_named_is_let_in(instance: str, users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    """By number, by the variable, and by name; who is not there is a mistake."""
    serve_as(instance, V)
    assert users.run(by_worker(instance), W, [GROUP])[0] == NotAllowed.__name__
    assert users.run(by_worker(instance, V), W, [GROUP]) == ["mine", "from"]
    assert users.run(by_worker(instance, str(V)), W, [GROUP]) == ["from"]
    monkeypatch.setenv(OWNER_VARIABLE, str(V))
    assert users.run(by_worker(instance), W, [GROUP]) == ["from"]
    monkeypatch.setenv(OWNER_VARIABLE, "nobody")
    assert "(trusted: user 0 (root)" in users.run(by_worker(instance), W, [GROUP])[1]
    for wrong in ("no-such-user", "", "-1", "1.5", "4294967295", "a\0b", True, 1.5, b"root", -1):
        with pytest.raises(ConfigError, match="owner: "):
            attach("q", instance, owner=wrong)
    monkeypatch.setenv(OWNER_VARIABLE, "no-such-user")
    with pytest.raises(ConfigError, match=f"{OWNER_VARIABLE}: there is no user 'no-such-user'"):
        attach("q", instance)


def test_roots_worker_does_not_trust_kamailio(instance: str, users: Users) -> None:
    """Unless told to: who may write to a segment is trusted with all that its user may do."""
    serve_as(instance, K)
    kind, text = users.run(by_worker(instance), 0)
    assert (kind, f"belongs to user {K}" in text, f"owner={K}" in text) == (NotAllowed.__name__, True, True)


def test_what_everybody_may_write_is_refused(instance: str, users: Users) -> None:
    """Whoever it belongs to."""
    serve_as(instance, 0)
    os.chmod(path_of(segment_name(instance, "q")), 0o666)  # noqa: S103
    kind, text = users.run(by_worker(instance), 0)
    assert kind == NotAllowed.__name__
    assert "may be written by everybody (mode 0666)" in text


# --- namespaces, and what else hides who somebody is ------------------------------------------------------------------


@pytest.fixture
def may_have_users() -> None:
    """Skip where no user namespace may be made."""
    pid = os.fork()
    if not pid:
        os._exit(_libc.unshare(_CLONE_NEWUSER) != 0)
    if os.waitpid(pid, 0)[1]:
        pytest.skip("no user namespaces may be made here")


def in_user_namespace(action: Callable[[], object], known: str = "") -> Callable[[], object]:
    """Run an action in a user namespace that knows these users only (a line of uid_map; none by default)."""

    def act() -> object:
        assert not _libc.unshare(_CLONE_NEWUSER)
        if known:
            Path("/proc/self/uid_map").write_text(known, "ascii")
        return action()

    return act


@pytest.mark.usefixtures("may_have_users")
@pytest.mark.parametrize("known", ["", "0 0 1", "65534 0 1"], ids=["nobody", "root", "root as nobody"])
@pytest.mark.parametrize("owner", [None, 65534])
def test_a_user_namespace(instance: str, users: Users, known: str, owner: int | None) -> None:
    """There a stranger's files appear as those of the user nobody, whom this process may be, or name: refused."""
    plant(instance)
    for path in Path(SHM_DIR).glob(f"mqk.{instance}*"):
        path.chmod(0o660)
        os.chown(path, -1, 0)  # as with an access control list, by which he lets in whom he wants to catch
    kind, text = users.run(in_user_namespace(by_worker(instance, owner), known), 0)
    assert kind == NotAllowed.__name__
    assert "appears as user 65534" in text
    assert "known in this user namespace" in text
    assert "owner=65534" not in text
    assert host.find_queue(instance, "q").stats.size == 1


@pytest.mark.usefixtures("may_have_users")
@pytest.mark.parametrize("known", ["", "0 0 1", "65534 0 1"], ids=["nobody", "root", "root as nobody"])
def test_ones_own_files_in_a_user_namespace(instance: str, users: Users, known: str) -> None:
    """They are used there, whatever number they appear with: the kernel says that they are one's own."""
    serve_as(instance, 0)
    assert users.run(in_user_namespace(by_worker(instance), known), 0) == ["mine", "from"]


def test_a_folder_that_gives_its_group(instance: str, users: Users) -> None:
    """With the setgid bit on /dev/shm: `mode` is for the server's own group, where none is named."""

    def make() -> list[tuple[int, int]]:
        own_shm.enter(1 << 30)
        os.chown(SHM_DIR, 0, GROUP)
        os.chmod(SHM_DIR, 0o3777)  # noqa: S103
        become(K)
        served = Instance.open(Settings(instance=instance, mode=0o660, queues={"q": QueueSpec("q")}))
        served.define(QueueSpec("q"))
        return sorted((path.stat().st_gid, path.stat().st_mode & 0o777) for path in Path(SHM_DIR).iterdir())

    assert users.run(make, 0) == [[K, 0o660]] * 2


def test_a_link_to_a_sound_segment(instance: str, users: Users) -> None:
    """Under the name of a queue: it is not followed, whoever made it, and nothing happens to what it leads to."""
    serve_as(instance, 0, queue="other")
    target = path_of(segment_name(instance, "other"))
    os.symlink(target, path_of(segment_name(instance, "q")))
    kind, text = users.run(by_worker(instance), 0)
    assert kind == SegmentError.__name__
    assert "is a link" in text
    code, *_, err = users.run(by_command(instance, "drop", "--yes"), 0)
    assert (code, "link" in err) == (6, True)
    assert host.find_queue(instance, "other").stats.size == 1


@pytest.mark.parametrize("user", [0, W], ids=["root", "W"])
@pytest.mark.parametrize("whole", [True, False], ids=["all instances", "this instance"])
@pytest.mark.parametrize("serves", [True, False], ids=["a server", "no server"])
def test_a_strangers_lock_on_the_folder(instance: str, users: Users, user: int, *, whole: bool, serves: bool) -> None:
    """Anybody may lock /dev/shm as a server does whose files were removed: he is none, as far as it can be seen.

    Behind him the lock of a real one is found all the same.
    """

    def lock_as_a_stranger() -> None:
        become(M)
        number, length = (0, 0) if whole else (lifelock.folder_number(user, instance), 1)
        lock = lifelock._FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, number, length, 0)
        fcntl.fcntl(os.open(SHM_DIR, os.O_RDONLY), lifelock._SETLK, lock)
        _libc.prctl(_PR_SET_DUMPABLE, 0)  # then his folder in /proc is root's

    def serve_without_files() -> Instance:
        become(user)
        served = Instance.open(Settings(instance=instance))
        os.unlink(path_of(segment_name(instance)))
        return served

    def begin() -> list[Any]:
        own_shm.enter(1 << 30)  # no other server must meet that lock
        works = [serve_without_files, lock_as_a_stranger] if serves else [lock_as_a_stranger]
        kept = [Waiter(work) for work in (reversed(works) if whole else works)]
        become(user)
        try:
            Instance.open(Settings(instance=instance))
            said = ""
        except InstanceInUse as error:
            said = str(error)
        return [len(kept), said]

    _, said = users.run(begin, 0)
    if serves:
        assert "its server lives" in said
        assert user or "(pid " in said
    elif whole or not user:
        assert said == ""
    else:
        assert "in another pid namespace, or hidden" in said  # W may not look into the processes of M


class Waiter:
    """A forked process that does something, and then waits for its parent's end."""

    def __init__(self, action: Callable[[], object]) -> None:
        (done, tell), (gone, self._go) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                os.close(self._go)
                _kept = action()
                os.write(tell, b".")
                os.read(gone, 1)
            finally:
                os._exit(1)
        os.close(tell)
        assert os.read(done, 1) == b"."


# --- the queue in use -------------------------------------------------------------------------------------------------


def serve_again(instance: str, user: int) -> None:
    """End the queue of a server that ran as that user, as a stop does, and start it again."""

    def end() -> None:
        become(user)
        for name in ("q", "other"):
            with contextlib.suppress(MqueueError):
                Queue.attach(instance, name).remove()
        for path in Path(SHM_DIR).glob(f"mqk.{instance}*"):
            path.unlink()

    _in_process(end)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_worker_that_attaches_anew(instance: str, users: Users, row: Row) -> None:
    """After the server's end a stranger's queue is refused in every call; the server's next one is taken."""
    serve_as(instance, row.server, starter=row.starter)

    def work() -> list[Any]:
        become(row.user, row.groups)
        found: list[Any] = []
        with attach("q", instance, owner=row.owner) as queue:
            found.append([item.key for item in queue.fetch_many(9)])
            tell("fetched")
            heard("planted")
            calls: tuple[Callable[[], object], ...] = (
                lambda: queue.fetch(1),
                lambda: queue.add("secret", "v"),
                lambda: queue.fetch_many(1, 1),
                lambda: len(queue),
                lambda: queue.peek(None, reserved=True),
            )
            for call in calls:
                try:
                    found.append(call())
                except NotAllowed as error:
                    found.append(f"belongs to user {M}" in str(error) and f"owner={M}" in str(error))
            tell("tried")
            heard("served")
            item = queue.fetch(60)
            found.append(item and item.key)
        return found

    (pipe_in, pipe_out), (back_in, back_out) = os.pipe(), os.pipe()

    def tell(_what: str) -> None:
        os.write(pipe_out, b".")

    def heard(_what: str) -> None:
        os.read(back_in, 1)

    child = users._children.fork(work)
    os.close(pipe_out)  # so that its end is heard, too
    os.close(back_in)
    assert os.read(pipe_in, 1), child.result()
    serve_again(instance, row.server)
    plant(instance)
    os.write(back_out, b".")
    assert os.read(pipe_in, 1), child.result()
    _remove_all(instance)
    serve_as(instance, row.server, starter=row.starter)
    os.write(back_out, b".")
    assert child.result() == [["mine"], True, True, True, True, True, "mine"]
    os.close(pipe_in)
    os.close(back_out)


def test_only_the_same_user_is_taken_next(instance: str, users: Users) -> None:
    """A server of another user, though one who was trusted from the beginning, is another server."""
    serve_as(instance, 0)

    def work() -> str:
        with attach("q", instance, owner=K) as queue:
            queue.fetch()
            _in_process(lambda: serve_again(instance, 0))
            serve_as(instance, K)
            try:
                queue.fetch(1)
            except NotAllowed as error:
                return str(error)
        return ""

    assert "the queue in use until now belonged to another user" in users.run(work, 0)


def test_a_file_that_is_cut_off_kills_nobody(instance: str, users: Users) -> None:
    """A stranger truncates his file again and again while root's worker, root's command and a look try to use it."""
    plant(instance)
    path = path_of(segment_name(instance, "q"))
    stop = threading.Event()
    data = Path(path).read_bytes()

    def cut() -> None:
        while not stop.is_set():
            for length in (0, 100, 4096, len(data)):
                os.truncate(path, length)
            with open(path, "r+b") as file:
                file.write(data)

    def try_all() -> dict[str, int]:
        outcomes: dict[str, int] = {}
        rounds, end = 0, time.monotonic() + 1
        tries: tuple[Callable[[], object], ...] = (
            lambda: attach("q", instance).fetch(),
            lambda: host.find_queue(instance, "q"),
            lambda: host.drop(instance),
        )
        while rounds < 10 or time.monotonic() < end:
            rounds += 1
            for number, action in enumerate(tries):
                try:
                    action()
                    outcome = "done"
                except MqueueError as error:
                    outcome = type(error).__name__
                outcomes[f"{number} {outcome}"] = outcomes.get(f"{number} {outcome}", 0) + 1
        return outcomes

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        found = users.run(try_all, 0)
    finally:
        stop.set()
        thread.join()
    assert {key for key in found if key.startswith("0")} == {"0 NotAllowed"}
    assert not {"2 done"} & found.keys()


# --- root's commands --------------------------------------------------------------------------------------------------

MAPPING = (["add", "q", "k", "v"], ["fetch", "q"], ["peek", "q"], ["drain", "q"], ["fill", "q"], ["consume", "q"])


@pytest.mark.parametrize("arguments", MAPPING, ids=lambda arguments: arguments[0])
@pytest.mark.parametrize("user", [0, K])
def test_roots_command(instance: str, users: Users, user: int, arguments: list[str]) -> None:
    """It becomes the user whom the instance belongs to, for good, and does its work."""
    serve_as(instance, user)
    code, *found, _, err = users.run(by_command(instance, *arguments), 0)
    assert (code, found, err) == (0, [user, user, user], "")


def test_roots_command_runs_commands_as_the_owner(instance: str, users: Users) -> None:
    """What --exec starts has the same user, and no group of root's."""
    serve_as(instance, K)
    code, *_, out, err = users.run(by_command(instance, "consume", "q", "--exec", "id -u; id -g; id -G"), 0)
    assert (code, out.split(), err) == (0, [str(K), str(K), str(K)], "")


@pytest.mark.parametrize(("what", "owner"), [("drop", K), ("save", K), ("load", K), ("drop", V), ("save", V)])
def test_roots_command_that_takes_over(instance: str, users: Users, open_folder: Path, what: str, owner: int) -> None:
    """As the owner too: what is left then belongs to him. Root clears up after whoever it was."""
    pytest.importorskip("sqlalchemy")
    serve_as(instance, owner)
    url = ["--db-url", f"sqlite:///{open_folder}/m.db"]
    arguments = ["drop", "--yes"] if what == "drop" else [what, "q", *url]
    code, *found, _, err = users.run(by_command(instance, *arguments), 0)
    assert (code, found) == (0, [owner] * 3), err
    left = {(path.name, path.stat().st_uid) for path in Path(SHM_DIR).glob(f"mqk.{instance}*")}
    assert left == ({(f"mqk.{instance}", K), (f"mqk.{instance}.q", K)} if what == "load" else set())
    if what == "save":
        assert (open_folder / "m.db").stat().st_uid == owner


def test_root_clears_up_after_a_stranger(instance: str, users: Users) -> None:
    """As that user, and mapping nothing that everybody could have written to."""
    plant(instance)
    _damage_the_lock(instance)
    code, *found, out, err = users.run(by_command(instance, "drop", "--yes"), 0)
    assert (code, found, out) == (4, [M, M, M], "")
    assert "may be written by everybody" in err


@pytest.mark.parametrize("arguments", MAPPING, ids=lambda arguments: arguments[0])
def test_roots_command_and_a_stranger(instance: str, users: Users, arguments: list[str]) -> None:
    """It does not become him, maps nothing, and says who he is and how he could be allowed."""
    plant(instance)
    _damage_the_lock(instance)
    code, *found, out, err = users.run(by_command(instance, *arguments), 0)
    assert (code, found, out) == (4, [0, 0, 0], "")
    assert f"user {M}" in err
    assert f"--owner {M}" in err
    assert err.count("\n") == 1


def test_roots_command_and_a_user_who_is_named(instance: str, users: Users) -> None:
    """With --owner it becomes him, before the command and behind it."""
    serve_as(instance, V)
    assert users.run(by_command(instance, "--owner", str(V), "peek", "q"), 0)[:4] == [0, V, V, V]
    assert users.run(by_command(instance, "peek", "q", "--owner", str(V)), 0)[:4] == [0, V, V, V]
    code, *_, err = users.run(by_command(instance, "--owner", "no-such-user", "peek", "q"), 0)
    assert (code, "there is no user 'no-such-user'" in err) == (2, True)


@pytest.fixture(scope="module")
def for_root_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the code in a folder that nobody else may enter, as a home's ~/.pyenv or a checkout in /root."""
    folder = tmp_path_factory.mktemp("private")
    shutil.copytree(CHECKOUT / "kemi", folder / "kemi", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "mqueue_kemi.py", folder)
    folder.chmod(0o700)
    return folder


LATE = (
    *MAPPING,
    ["stats", "q"],
    ["get_size", "q"],
    ["drop", "--yes"],
    ["drop", "q", "--yes"],
    ["save", "q"],
    ["load", "q"],
)


@pytest.mark.parametrize("arguments", LATE, ids=" ".join)
def test_a_command_that_only_root_can_import(instance: str, for_root_alone: Path, arguments: list[str]) -> None:
    """What it needs after it became the owner is there by then."""
    serve_as(instance, V)
    with tempfile.TemporaryDirectory(prefix="mqk-") as folder:
        os.chown(folder, V, V)
        if arguments[0] in ("save", "load"):
            pytest.importorskip("sqlalchemy")
            arguments = [*arguments, "--db-url", f"sqlite:///{folder}/m.db"]
        done = subprocess.run(
            [sys.executable, "-m", "mqueue_kemi", "--owner", str(V), "--instance", instance, *arguments],
            cwd=for_root_alone,
            input=b'{"key":"k","value":"v"}\n',
            capture_output=True,
            timeout=120,
            check=False,
        )
    assert b"Error" not in done.stderr
    assert done.returncode == 0, done.stderr


def _damage_the_lock(instance: str) -> None:
    """Put pointers that lead nowhere into the locks: who maps this and unlocks dies of SIGSEGV."""
    for name in (segment_name(instance), segment_name(instance, "q")):
        with open(path_of(name), "r+b") as file:
            file.seek(layout.MUTEX_AT + 24)
            file.write((0x4141414141414141).to_bytes(8, sys.byteorder) * 2)
            file.seek(layout.MUTEX_AT)
            file.write((0x40000000 | 999_999).to_bytes(4, sys.byteorder))


# --- looks ------------------------------------------------------------------------------------------------------------


def _fifo(path: str) -> None:
    os.mkfifo(path, 0o666)


def _sparse(path: str) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 45)


def _folder(path: str) -> None:
    os.mkdir(path)


def _link(path: str) -> None:
    os.symlink("/proc/self/mem", path)


def _huge_window(path: str) -> None:
    """Write a header that claims a window of 64 TiB, with a chunk map of 256 MiB that is a hole."""
    made = Queue.create("", "", window=layout.CHUNK)
    data = bytearray(Path(path_of(made.segment.name)).read_bytes())
    made.remove()
    place = geometry.geometry((1 << 46) - (1 << 30), keyed=False)
    words = memoryview(data).cast("Q")
    geometry.write(words, place)
    words[layout.W_HEAD] = words[layout.W_TAIL] = place.data
    with open(path, "wb") as file:
        file.write(data[: layout.PAGE])
        file.truncate(1 << 46)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [_fifo, _sparse, _folder, _link, _huge_window])
def test_looks_never_fault_or_block(instance: str, users: Users, make: Callable[[str], None]) -> None:
    """Whatever a stranger puts under the names: an error that names the file, and little memory."""
    paths = [path_of(segment_name(instance)), path_of(segment_name(instance, "q"))]

    def put() -> None:
        for path in paths:
            make(path)
            if not os.path.islink(path):
                os.chmod(path, 0o755)  # noqa: S103

    users.run(put, M)

    def look() -> list[Any]:
        import resource

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        codes = []
        for arguments in (["instances"], ["sizes"], ["stats"], ["stats", "--prometheus"], ["get_size", "q"]):
            code, *_, err = by_command(instance, *arguments)()
            assert "Traceback" not in err
            codes.append(code)
        return [codes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]

    codes, grown = users.run(look, 0)
    assert codes == [0, 6, 6, 0, 6]
    assert grown < 30_000  # KiB
    for path in paths:
        os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def test_instances_names_the_user_of_each(instance: str, users: Users) -> None:
    """Also of a queue that does not belong to its instance's user."""
    serve_as(instance, K, queue="other")
    plant(instance, registry=False)
    code, *_, out, err = users.run(by_command(instance, "instances"), 0)
    assert code == 0
    assert f"queue 'q' belongs to user {M}, not to its instance's user" in err
    assert [line.split()[3] for line in out.splitlines() if instance in line] == [str(K)]


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left_by", "accepted"), [(0, True), (K, True), (M, False), (V, False)])
def test_what_a_server_with_another_user_takes_over(instance: str, users: Users, left_by: int, accepted: bool) -> None:
    """With -u K: what root or K left, which is K's then; nothing of anybody else."""
    serve_as(instance, left_by)

    def start() -> Any:
        settings = Settings(instance=instance, mode=0o660, group=GROUP, queues={"q": QueueSpec("q")})
        served = Instance.open(settings, K, GROUP)
        queue = served.define(QueueSpec("q"))
        return [queue.segment.user(), served.registry.segment.user(), len(queue)]

    found = users.run(start, 0)
    if accepted:
        assert found == [K, K, 1]
        assert users.run(by_worker(instance), W, [GROUP]) == ["mine", "from"]
    else:
        assert found[0] == NotAllowed.__name__
        assert f"belongs to user {left_by}" in found[1]
        assert f"-u {left_by}" in found[1]


def test_a_server_of_a_user_takes_over_nothing_of_roots(instance: str, users: Users) -> None:
    """It could not make it its own."""
    serve_as(instance, 0, mode=0o660)
    settings = Settings(instance=instance, queues={"q": QueueSpec("q")})
    owner = host.find(instance).owner()
    kind, text = users.run(lambda: bool(Instance.open(settings)), W, [GROUP])
    assert kind == NotAllowed.__name__
    assert f"{path_of(segment_name(instance))} belongs to user 0 (root), and only root can give it" in text
    assert host.find(instance).owner() == owner


def test_the_servers_user_is_asked_of_the_server(
    serve: Serve, users: Users, monkeypatch: pytest.MonkeyPatch, instance: str
) -> None:
    """A Kamailio with -u: its workers, and who attaches, use what root has made."""
    monkeypatch.setattr(core, "run_as", lambda: (K, GROUP))
    queue = serve("name=q")
    queue.add("mine", "v")
    assert users.run(by_worker(instance), K) == ["mine", "from"]
    assert users.run(lambda: [queue.add("k", "v"), queue.fetch().key], K) == [ADDED, "k"]  # type: ignore[union-attr]
    serve.stop()
    with pytest.raises((QueueClosed, MqueueError)):
        attach("q", instance, reattach=False)
