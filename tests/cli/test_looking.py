"""sizes, get_size, peek, stats, instances: what they print, and that they need no right to write."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import mqueue_kemi
from kemi import host
from kemi.queue.catalog import view
from tests.cli.command import CHECKOUT, NOBODY, pairs
from tests.conftest import SHM
from tests.locked import locked

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from tests.cli.command import Command
    from tests.processes.children import Children
    from tests.processes.serve import Serve


def test_sizes(serve: Serve, command: Command) -> None:
    serve("name=a", "name=b;size=3").add("k", "v")
    done = command("sizes")
    assert (done.code, done.out, done.err) == (0, "a\t1\nb\t0\n", "")


def test_get_size(serve: Serve, command: Command) -> None:
    queue = serve("name=a")
    assert command("get_size", "a").out == "0\n"
    for number in range(12):
        queue.add(str(number), "v")
    done = command("get_size", "a")
    assert (done.code, done.out) == (0, "12\n")


def test_peek_leaves_the_items(serve: Serve, command: Command) -> None:
    queue = serve("name=a")
    for number in range(12):
        queue.add(f"k{number}", f"v{number}")
    assert command("peek", "a", "-n", "2").out == "k0\tv0\nk1\tv1\n"
    assert pairs(command("peek", "a", "--json").lines()) == [(f"k{n}", f"v{n}") for n in range(10)]
    assert len(queue) == 12


def test_peek_of_nothing(serve: Serve, command: Command) -> None:
    serve("name=a")
    done = command("peek", "a")
    assert (done.code, done.out, done.err) == (1, "", "")


def test_text_has_one_meaning_and_no_power_over_a_terminal(serve: Serve, command: Command) -> None:
    """What a caller sent cannot move the cursor, end a line or a field, or look like an escaped byte."""
    queue = serve("name=a")
    queue.add(b"tab\tend\nback\\r\r", b"\x1b[2J\x00\xff caf\xc3\xa9")
    queue.add("\x85\u202e\ud800", "\U000e0001")
    assert command("peek", "a").out == (
        "tab\\tend\\nback\\\\r\\r\t\\x1b[2J\\x00\\xff café\n\\u0085\\u202e\\ud800\t\\U000e0001\n"
    )


def test_stats(serve: Serve, command: Command) -> None:
    queue = serve("name=a;size=3;", "name=b")
    for _ in range(5):
        queue.add("k", "v")
    queue.fetch()
    text = command("stats", "a").out
    assert text.splitlines()[0] == "a:"
    assert {"added": "5", "dropped": "2", "fetched": "1", "size limit": "3", "byte limit": "none"}.items() <= {
        line[2:18].strip(): line[18:] for line in text.splitlines()[1:]
    }.items()
    found = command("stats", "--json").json()
    assert [one["queue"] for one in found] == ["a", "b"]
    assert command("stats", "--json", "a").json() == found[0]
    assert {"instance": serve.instance, "size": 2, "added": 5}.items() <= found[0].items()


def test_a_view_is_what_the_queue_itself_says(serve: Serve) -> None:
    """Of each kind of queue, also where records were replaced and lie over many chunks."""
    serve("name=plain", "name=last;addmode=2", "name=first;addmode=1")
    for name in ("plain", "last", "first"):
        with mqueue_kemi.attach(name, serve.instance) as queue:
            for number in range(900):
                queue.add(f"key{number % 300}", "v" * 1500)
            for _ in range(5):
                queue.fetch()
            seen = host.find_queue(serve.instance, name).stats
            assert replace(seen, memory=0) == replace(queue.stats(), memory=0)
            assert seen.oldest is not None
            assert seen.memory >= seen.bytes
            while queue.fetch():
                pass
            assert replace(host.find_queue(serve.instance, name).stats, memory=0) == replace(queue.stats(), memory=0)


def test_a_view_of_what_is_reserved(serve: Serve) -> None:
    """Reserved items count by themselves; one that was given back is the oldest again."""
    queue = serve("name=a")
    for number in range(4):
        queue.add(str(number), "v" * number)

    def same() -> None:
        view = host.find_queue(serve.instance, "a").stats
        assert replace(view, memory=0) == replace(queue.stats(), memory=0)

    with contextlib.suppress(ZeroDivisionError), queue.reserve() as first, queue.reserve():
        same()
        assert host.find_queue(serve.instance, "a").stats.reserved == 2
        raise ZeroDivisionError
    same()
    assert first is not None
    assert host.find_queue(serve.instance, "a").stats.oldest == first.added


@pytest.mark.parametrize("length", [1, 300_000, 1_000_000])
def test_a_view_passes_over_what_was_replaced(serve: Serve, length: int) -> None:
    """The oldest item stands behind a dead record, which may go on over several chunks."""
    queue = serve("name=a;addmode=2")
    for key, size in (("first", 1), ("dead", length), ("oldest", 1)):
        queue.add(key, "v" * size)
        time.sleep(0.01)
    queue.add("dead", "again")
    queue.fetch()
    assert queue.peek()[0].key == "oldest"
    assert host.find_queue(serve.instance, "a").stats.oldest == queue.peek()[0].added


def test_a_file_that_shrinks_while_it_is_read(serve: Serve, mocker: MockerFixture) -> None:
    """What was whole when it was checked: one queue that cannot be read, and the others can."""
    serve("name=a", "name=b")
    check = view._check_queue

    def check_and_truncate(fd: int, name: str) -> int:
        size = check(fd, name)
        if name.endswith(".a"):
            os.truncate(SHM / name, 100)
        return size

    mocker.patch.object(view, "_check_queue", check_and_truncate)
    found = host.find(serve.instance).queues
    assert "was truncated while it was read" in str(found["a"])
    assert isinstance(found["b"], view.QueueView)
    (SHM / f"mqk.{serve.instance}.a").unlink()


def test_watching_stands_in_nobodys_way(serve: Serve, command: Command) -> None:
    """It needs no lock: a process that was stopped with it hides nothing."""
    queue = serve("name=a", lock_timeout="0.2")
    queue.add("k", "v")
    with locked(queue._mutex):
        assert host.find_queue(serve.instance, "a").stats.size == 1
        assert command("sizes").out == "a\t1\n"
        assert "lock not had" in command("peek", "a").failed(6)


def test_reading_is_enough(serve: Serve, command: Command, children: Children) -> None:
    """Who may only read sees everything that is no item."""
    serve("name=a", mode="0640", group=str(NOBODY)).add("k", "v")
    assert command.as_nobody(children, "sizes").out == "a\t1\n"
    assert command.as_nobody(children, "stats", "--json", "a").json()["size"] == 1
    assert f"not allowed for user {NOBODY}" in command.as_nobody(children, "peek", "a").failed(4)


def test_instances(serve: Serve, command: Command) -> None:
    queue = serve("name=a", "name=b")
    queue.add("k", "v")
    row = next(line for line in command("instances").out.splitlines() if serve.instance in line).split()
    assert row[:3] == [serve.instance, "alive", str(os.getpid())]
    assert row[4:6] == ["2", "1"]
    found = next(one for one in command("instances", "--json").json() if one["instance"] == serve.instance)
    assert (found["server"], found["pid"], found["errors"]) == ("alive", os.getpid(), [])
    assert (found["queues"]["a"]["items"], found["queues"]["b"]["items"]) == (1, 0)


def test_instances_of_the_dead(dead: Serve, command: Command) -> None:
    row = next(line for line in command("instances").out.splitlines() if dead.instance in line).split()
    assert (row[1], row[5]) == ("dead", "3")
    assert command("sizes").out == "empty\t0\nq\t3\n"  # what it left can be read


def test_instances_that_cannot_be_read(serve: Serve, command: Command, children: Children) -> None:
    serve("name=a")
    done = command.as_nobody(children, "instances")
    assert done.code == 0
    row = next(line for line in done.out.splitlines() if serve.instance in line).split()
    assert row[1:3] == ["unknown", "-"]
    whose = "it is of user 0 (root), group 0 (root), mode 0600"
    assert f"mqk.{serve.instance}: not allowed for user {NOBODY} (nobody), {whose}" in done.err


def test_names_are_text(serve: Serve, command: Command) -> None:
    """Names that look like a path, an option, a number or bytes."""
    for name in ("../x y", "a.b~c", "%41", "ü\udcff"):
        with_queue = serve(f"name={name}")
        with_queue.add("k", "v")
        assert command("get_size", name).out == "1\n", name
        assert name in host.find(serve.instance).queues
        assert json.loads(command("stats", "--json", name).out)["queue"] == name
        serve.stop()


def test_the_instance_is_said_anywhere(serve: Serve, command: Command) -> None:
    serve("name=a").add("k", "v")
    argv = command.argv(bare=True)
    base = argv[: argv.index("--instance")]
    variable = {"MQUEUE_KEMI_INSTANCE": serve.instance}
    for rest, more in ((["get_size", "a", "--instance", serve.instance], {}), (["get_size", "a"], variable)):
        env = {**command.env(), **more}
        done = subprocess.run([*base, *rest], env=env, cwd=CHECKOUT, capture_output=True, check=True, timeout=30)
        assert done.stdout == b"1\n"
