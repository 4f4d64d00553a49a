"""`mqueue-kemi work` and functions that do to their process what they should not: nothing is lost, and it goes on."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_work import OUT, ended, is_empty, keys, lines, said
from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command
    from tests.processes.serve import Serve

MODULE = """
import asyncio, contextlib, os, signal, sys, time
from mqueue_kemi import worker

def first(item):
    out(item)
    return item.deliveries == 1

def code(item):
    # A C library's exit, with the codes that mean something else when our own code ends.
    if first(item):
        os._exit(int(item.value))

def descriptors(item):
    if first(item):
        os.closerange(3, 4096)
        time.sleep(600 if item.value == "stay" else 0)

def fork(item):
    out(item)
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)

def leave(item):
    out(item)
    sys.exit(2)

def deaf(item):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    out(item)

WORKERS = {"code": code, "descriptors": descriptors, "fork": fork, "leave": leave}
for name, function in WORKERS.items():
    def plain(item, function=function):
        function(item)

    async def task(item, function=function):
        await asyncio.sleep(0)
        function(item)
        await asyncio.sleep(0)

    plain.__qualname__, task.__qualname__ = name, f"{name}_task"
    globals()[name] = worker("q", pause=(0.01, 0.01), retries=0 if name == "leave" else None)(plain)
    globals()[f"{name}_task"] = worker("q", pause=(0.01, 0.01), retries=0 if name == "leave" else None)(task)

@worker("q")
async def deaf_task(item):
    deaf(item)

@worker("q", concurrency=3)
async def stubborn(item):
    out(item)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(600)

@contextlib.contextmanager
def hangs():
    try:
        yield 1
    finally:
        if not os.path.exists(os.environ["OUT"] + ".hung"):
            open(os.environ["OUT"] + ".hung", "w").close()
            time.sleep(600)

@worker("q", resource=hangs, timeout=2, pause=(0.01, 0.01))
def away(item, _):
    out(item)
    if not os.path.exists(os.environ["OUT"] + ".hung"):
        raise ConnectionError("away")

@worker("q", resource=hangs)
def last(item, _):
    out(item)
"""
BOTH = pytest.mark.parametrize("kind", ["", "_task"], ids=["plain", "async"])


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the file to which the functions write; their module is found."""
    (tmp_path / "bad.py").write_text(OUT + MODULE, "utf-8")
    path = tmp_path / "out"
    path.touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OUT", str(path))
    return path


@BOTH
def test_an_exit_code_of_a_function_is_a_death(serve: Serve, command: Command, out: Path, kind: str) -> None:
    """Also where it is one with which our own code says that a new start would be in vain, or a time limit."""
    queue = serve("name=q")
    queue.add_many([(str(code), str(code)) for code in (0, 2, 3, 4, 6, 75)])
    process = command.start("work", f"bad:code{kind}")
    until(lambda: is_empty(queue), "all is done")
    code, log = ended(process)
    assert (code, log.count("a process ended with")) == (0, 6)
    assert [count for _, count, *_ in sorted(lines(out))] == ["1", "2"] * 6


@BOTH
def test_closed_descriptors(serve: Serve, command: Command, out: Path, kind: str) -> None:
    """It may go on, or die and be started again: every item is done."""
    queue = serve("name=q")
    queue.add_many([("1", "v"), ("2", "v"), ("3", "v")])
    process = command.start("work", f"bad:descriptors{kind}")
    until(lambda: is_empty(queue), "all is done")
    assert ended(process)[0] == 0
    assert set(keys(out)) == {"1", "2", "3"}


@BOTH
def test_a_fork_that_comes_back(serve: Serve, command: Command, out: Path, kind: str) -> None:
    """The child is ended: one process goes on, and settles."""
    queue = serve("name=q")
    queue.add_many([(str(number), "v") for number in range(5)])
    process = command.start("work", f"bad:fork{kind}")
    until(lambda: is_empty(queue), "all is done")
    code, log = ended(process)
    assert (code, log.count("a process that it forked came back from it")) == (0, 5)
    assert keys(out) == ["0", "1", "2", "3", "4"]
    assert len({pid for _, _, pid, *_ in lines(out)}) == 1


@BOTH
def test_sys_exit_ends_no_process(serve: Serve, command: Command, out: Path, kind: str) -> None:
    queue = serve("name=q;max_deliveries=5;dead_letter=dead", "name=dead")
    queue.add_many([(str(number), "v") for number in range(3)])
    process = command.start("work", f"bad:leave{kind}")
    until(lambda: is_empty(queue), "all is done")
    assert ended(process)[0] == 0
    assert (len({pid for _, _, pid, *_ in lines(out)}), queue.stats().dead_lettered) == (1, 3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_handlers_of_a_function_keep_no_stop(serve: Serve, command: Command, out: Path, number: int) -> None:
    """The stop reaches the process all the same, and it ends by itself."""
    queue = serve("name=q")
    queue.add("1", "v")
    process = command.start("work", "bad:deaf_task", "--grace", "600")
    until(lambda: is_empty(queue), "it is done")
    code, log = ended(process, number)
    assert (code, "stops: nothing in hand" in log) == (0, True)
    assert keys(out) == ["1"]


def test_tasks_that_do_not_end(serve: Serve, command: Command, out: Path) -> None:
    """What is in their hands is given back uncounted within the grace period, and the process ended."""
    queue = serve("name=q")
    queue.add_many([("1", "v"), ("2", "v")])
    process = command.start("work", "bad:stubborn", "--grace", "0.1")
    until(lambda: keys(out) == ["1", "2"], "both are begun")
    process.send_signal(signal.SIGTERM)
    said(process, "stops: 2 items in hand")
    process.communicate(timeout=60)
    with queue.reserve_many(2, timeout=0) as batch:
        assert [(one.key, one.deliveries) for one in batch] == [("1", 1), ("2", 1)]
        batch.done()


def test_a_resource_that_hangs_at_its_end(serve: Serve, command: Command, out: Path) -> None:
    """Its time limit is the function's; the item is not to blame, and comes again."""
    queue = serve("name=q;max_deliveries=1000")
    queue.add("1", "v")
    process = command.start("work", "bad:away")
    until(lambda: is_empty(queue), "it is done")
    code, log = ended(process)
    assert (code, bool(re.search("its resource was not entered or left within timeout=2 s", log))) == (0, True)
    assert keys(out)[:2] == ["1", "1"]


def test_a_resource_that_hangs_at_the_stop(serve: Serve, command: Command, out: Path) -> None:
    queue = serve("name=q")
    queue.add("1", "v")
    process = command.start("work", "bad:last", "--grace", "0.1")
    until(lambda: is_empty(queue), "it is done")
    assert ended(process)[0] == 0
    assert keys(out) == ["1"]
