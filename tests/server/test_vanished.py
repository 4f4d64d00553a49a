"""Files that vanish under a living server: it works on, ends as ever, and no second one starts beside it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mqueue_kemi
from tests.server.harness import CHECKOUT, SHM, Kamailio

if TYPE_CHECKING:
    from mqueue_kemi import QueueClient
    from tests.server.harness import Servers

DEFINITIONS = [
    "name=goes",
    "name=stays;recover=2;size=50;maxbytes=1M;max_deliveries=2;dead_letter=letters",
    "name=keyed;recover=2;addmode=2",
    "name=saved;dbmode=1",
    "name=letters;recover=2",
]
NAMES = ["goes", "stays", "keyed", "saved"]
REMOVED = "something removed its files from /dev/shm"

FAIL = """
    for _ in range(2):
        try:
            with __import__('kemi.instance').instance.queues['stays'].reserve() as item:
                raise RuntimeError(item.key)
        except RuntimeError:
            pass
    return mq.mq_size('letters'), mq.mq_size('stays')
"""


def vanish(server: Kamailio, *names: str) -> None:
    """Remove files of a server; all of them where none is named."""
    for path in server.segments():
        if not names or path.name.rpartition(".")[2] in names:
            path.unlink()


@pytest.fixture
def url(tmp_path: Path) -> tuple[str, str]:
    return ("db_url", f"sqlite:///{tmp_path}/m.db")


def rows(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path / "m.db")) as database:
        return [key for (key,) in database.execute("SELECT key FROM saved ORDER BY id")]


def begin(servers: Servers, url: tuple[str, str], *, user: str = "", daemon: bool = False) -> Kamailio:
    server = servers.start(Kamailio(DEFINITIONS, params=[url], workers=2, user=user, daemon=daemon))
    code = f"return [mq.mq_add(name, key, 'v') for name in {NAMES} for key in ('a', 'b', 'c')]"
    assert set(server.run(code)) == {1}
    return server


@pytest.mark.parametrize("names", [(), ("stays", "keyed"), ("instance",)], ids=["all", "queues", "instance"])
def test_it_works_on_and_ends_as_ever(
    servers: Servers, url: tuple[str, str], tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Dead letters, saving, and what is kept."""
    server = begin(servers, url)
    client = mqueue_kemi.attach("goes", server.instance)
    vanish(server, *(server.instance if name == "instance" else name for name in names))
    assert server.run(FAIL) == (1, 2)
    assert client.add("from outside", "v")
    assert server.call("mq_size", "goes", worker=1) == 4
    item = client.fetch()
    assert item is not None
    assert item.key == "a"
    second = servers.add(Kamailio(DEFINITIONS, params=[url], instance=server.instance))
    log = second.refused()
    assert any(f"pid {pid}" in log for pid in server.process.pids())  # the lowest comes first
    assert (REMOVED in log) == (names != ("stays", "keyed"))
    server.stop()
    client.close()
    told = server.told()
    assert len([line for line in told if "something removed" in line]) == 1, told
    assert not [line for line in told if "cannot be kept" in line], told
    assert [line for line in told if "3 items discarded at this stop" in line], told
    for name, items in (("stays", 2), ("keyed", 3), ("letters", 1)):
        assert [line for line in told if f"'{name}': its {items} items stay in /dev/shm/" in line], told
    assert {path.name.rpartition(".")[2] for path in server.segments()} >= {"stays", "keyed", "letters"}
    assert rows(tmp_path) == ["a", "b", "c"]
    drained = command(server.instance, "drain", "letters")
    assert json.loads(drained.stdout)["key"] == "a", drained
    again = servers.start(Kamailio(DEFINITIONS, params=[url], instance=server.instance))
    assert again.run(f"return [mq.mq_size(name) for name in {NAMES}]") == [-1, 2, 3, 3]
    assert again.call("mq_fetch", "stays") == 1
    again.run("[mq.mq_fetch(name) for name in ('stays', 'keyed') for _ in range(3)]")
    again.stop()
    assert again.segments() == []


def command(instance: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "mqueue_kemi", "--instance", instance, *arguments]
    return subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)


def test_who_looks_for_it_is_told(servers: Servers, url: tuple[str, str]) -> None:
    """The command line and an attaching process say what happened and what helps, while it lives and not later."""
    server = begin(servers, url)
    vanish(server)
    done = command(server.instance, "peek", "goes")
    assert done.returncode != 0
    assert REMOVED in done.stderr
    assert f"pid {server.main_pid}" in done.stderr
    with pytest.raises(mqueue_kemi.UnknownQueue, match=REMOVED):
        mqueue_kemi.attach("goes", server.instance)
    server.process.kill()
    assert REMOVED not in command(server.instance, "peek", "goes").stderr
    with pytest.raises(mqueue_kemi.UnknownQueue, match="is its server running"):
        mqueue_kemi.attach("goes", server.instance)
    again = servers.start(Kamailio(["name=goes"], instance=server.instance))
    again.stop()


@pytest.mark.parametrize("second", ["", "kamailio"])
@pytest.mark.parametrize("first", ["", "kamailio"])
def test_whatever_user_they_run_as(servers: Servers, first: str, second: str) -> None:
    """Root's start beside the server of user kamailio, and the other way round."""
    server = servers.start(Kamailio(["name=q"], user=first, daemon=True))
    vanish(server)
    log = servers.add(Kamailio(["name=q"], user=second, instance=server.instance)).refused()
    assert REMOVED in log
    assert any(f"pid {pid}" in log for pid in server.process.pids())  # the lowest comes first
    server.stop()
    servers.start(Kamailio(["name=q"], user=second, instance=server.instance))


STRANGER = 65533  # a user of nobody's


def put(path: Path, what: str, whose: int) -> None:
    """Put something else where a segment's file is."""
    copied = path.read_bytes()
    path.unlink()
    if what == "copy":
        path.write_bytes(copied)
    elif what == "file":
        path.write_text("not a segment", "ascii")
    elif what == "link":
        path.symlink_to("/etc/passwd")
    elif what == "folder":
        path.mkdir()
        (path / "something").write_text("in it", "ascii")
    elif what == "pipe":
        os.mkfifo(path)
    os.chown(path, whose, whose, follow_symlinks=False)


def dies(queue: QueueClient, key: str) -> None:
    """Fail twice with the item of that key, which makes it a dead letter."""
    for _ in range(2):
        with contextlib.suppress(RuntimeError), queue.reserve(30) as item:
            assert item is not None
            assert item.key == key
            raise RuntimeError


def looked(command: str) -> str:
    argv = [sys.executable, "-m", "mqueue_kemi", command]
    return subprocess.run(
        argv, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


def shown_where_one_looks(kept: list[Path]) -> None:
    assert len(kept) == 3
    instances, doctor = looked("instances"), looked("doctor")
    assert all(f"{path} was kept at a stop" in instances for path in kept)
    assert all(path.name in doctor for path in kept)


def take_away(path: Path) -> None:
    # Where the system protects links (fs.protected_symlinks), a stranger's is not even looked through.
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)


KINDS = ("copy", "file", "link", "folder", "pipe")
CHOSEN = {
    ("copy", "ours", ""),
    ("link", "stranger", ""),
    ("pipe", "ours", ""),
    ("file", "stranger", "kamailio"),
    ("folder", "ours", "kamailio"),
}
TAKEN = [
    pytest.param(*case, marks=() if case in CHOSEN else pytest.mark.stress, id="-".join(filter(None, case)))
    for case in itertools.product(KINDS, ("ours", "stranger"), ("", "kamailio"))
]


@pytest.mark.parametrize(("what", "whose", "user"), TAKEN)
def test_another_file_has_the_name(servers: Servers, open_folder: Path, what: str, whose: str, user: str) -> None:
    """The server works from what it has mapped; nothing is lost, and nobody else's file is touched.

    What is of the server's user is moved aside, so that the next start finds all. Somebody else's is left, and named;
    the next start takes over when it is gone.
    """
    url = ("db_url", f"sqlite:///{open_folder}/m.db")
    server = begin(servers, url, user=user)
    owner = STRANGER if whose == "stranger" else server.segments()[0].stat().st_uid
    names = [path for path in server.segments() if path.name.rpartition(".")[2] != "goes"]
    outside = mqueue_kemi.attach("stays", server.instance, owner=user or None)
    dies(outside, "a")
    for path in names:
        put(path, what, owner)
    dies(outside, "b")
    assert server.call("mq_size", "letters") == 2
    outside.close()
    assert server.call("mq_add", "stays", "d", "v") == 1
    assert server.run(FAIL) == (3, 1)
    assert server.call("mq_add", "saved", "d", "v", worker=1) == 1
    server.stop()
    told = server.told()
    (removed,) = [line for line in told if REMOVED in line]
    assert all(str(path) in removed for path in names)
    assert not [line for line in told if "cannot be kept" in line], told
    assert rows(open_folder) == ["a", "b", "c", "d"]
    moved = sorted(SHM.glob(f"replaced.mqk.{server.instance}.*"))
    try:
        if whose == "ours":
            assert len(moved) == len(names)
            assert all(str(path) in removed for path in moved)
        else:
            assert not moved
            for _ in range(2):  # a start that is refused loses nothing either
                log = servers.add(Kamailio(DEFINITIONS, params=[url], instance=server.instance, user=user)).refused()
                assert str(names[0]) in log
            assert all(path.lstat().st_uid == owner for path in names)
            shown_where_one_looks(sorted(SHM.glob(f"mqk.{server.instance}.*~kept.*")))
    finally:
        for path in moved or names:
            take_away(path)
    again = servers.start(Kamailio(DEFINITIONS, params=[url], instance=server.instance, user=user))
    assert again.run("return [mq.mq_size(name) for name in ('stays', 'keyed', 'letters', 'saved')]") == [1, 3, 3, 4]
    again.run("[mq.mq_fetch(name) for name in ('stays', 'keyed', 'letters') for _ in range(3)]")
    again.stop()
    assert again.segments() == []
