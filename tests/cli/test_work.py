"""`mqueue-kemi work`: what is wrong is named; what dies, hangs or is stopped loses nothing; logs, metrics, systemd."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes.children import PATIENCE
from tests.processes.serve import Serve
from tests.support.ports import free_port
from tests.support.waits import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from kemi.queue.queue import Queue
    from tests.cli.command import Command

# What a worker's module begins with, so that `lines` reads what its functions did.
OUT = """
import os

def out(item, what=""):
    fd = os.open(os.environ["OUT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{item.key} {item.deliveries} {os.getpid()} {what}\\n".encode())
    os.close(fd)
"""

MODULE = """
import asyncio, os, re, signal, sys, time
from kemi.worker.board import BEGUN
from mqueue_kemi import Reject, Retry, worker

@worker("q", processes=2)
def write(item):
    out(item)

@worker("q")
def die(item):
    out(item)
    if item.value == "die" and item.deliveries == 1:
        os.kill(os.getpid(), signal.SIGKILL)

@worker("q", timeout=0.5, pause=(0.01, 0.01))
def hang(item):
    out(item)
    if item.value == "hang" and item.deliveries == 1:
        time.sleep(600)

def overdue(seconds):
    # The call that runs was begun so much earlier: an hour's limit is over now, and no other call is near its own.
    lane = sys._getframe(2).f_locals["self"]._lane
    lane._words[lane._at + BEGUN] -= int(seconds * 1e9)

@worker("q", timeout=3600, retries=0, concurrency=2)
def pair(item):
    out(item)
    again = os.environ["OUT"] + ".again"
    if item.value == "hang":
        while not os.path.exists(again):
            time.sleep(0.01)
        overdue(3600)
        time.sleep(600)
    elif not os.path.exists(again):
        open(again, "w").close()
        time.sleep(600)

@worker("q", timeout=3600, retries=0)
def held(item):
    out(item)
    if item.value == "held":
        sys.setswitchinterval(600)        # nothing in this process can end it first
        overdue(7200)
        re.match("(a+)+b", "a" * 64)      # in C, with the GIL, for years

@worker("q", retries=0)
def slow(item):
    out(item, "begun")
    while not os.path.exists(os.environ["OUT"] + ".go"):
        time.sleep(0.01)
    out(item, "ended")

@worker("q", concurrency=50)
async def tasks(item):
    out(item, "begun")
    while not os.path.exists(os.environ["OUT"] + ".go"):
        await asyncio.sleep(0.01)
    out(item, "ended")

@worker("q", retries=0)
def fail(item):
    raise {"reject": Reject("no"), "retry": Retry(after=99), "bug": ValueError("a\\nb")}[item.value]

@worker("nosuch")
def nowhere(item):
    pass

@worker("q", resource=lambda: 3)
def bad_resource(item, resource):
    pass

def plain(item):
    pass

number = 3
"""
SICK = {
    "syntax.py": "def f(:\n",
    "raises.py": "import os\n1 / 0\n",
    "needs.py": "import nosuchpackage.part\n",
    "wrong.py": "from mqueue_kemi import worker\n@worker('q', processes=0)\ndef f(item): pass\n",
}


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the file to which the functions write; their module is found."""
    (tmp_path / "calls.py").write_text(OUT + MODULE, "utf-8")
    for name, text in SICK.items():
        (tmp_path / name).write_text(text, "utf-8")
    path = tmp_path / "out"
    path.touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OUT", str(path))
    return path


@pytest.fixture
def notify(out: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Give what systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = str(out.parent / "notify")
        listener.bind(path)
        listener.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield listener


def lines(out: Path) -> list[list[str]]:
    return [line.split(" ") for line in out.read_text("utf-8").splitlines()]


def keys(out: Path) -> list[str]:
    return sorted(key for key, *_ in lines(out))


def is_empty(queue: Queue) -> bool:
    stats = queue.stats()
    return not (stats.size or stats.reserved or stats.due)


def ended(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> tuple[int, str]:
    """Send a signal, and return exit code and log."""
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err.decode()


def said(process: subprocess.Popen[bytes], text: str) -> None:
    """Return when a line of its log has this."""
    assert process.stderr is not None
    before = b""
    while text.encode() not in before:
        line = process.stderr.readline()
        assert line, f"it ended, and did not say {text!r}: {before.decode()}"
        before += line


# --- what is wrong ----------------------------------------------------------------------------------------------------

WRONG = {
    "no colon": ("calls", 2, "'calls' is no MODULE:FUNCTION.*its workers: calls:bad_resource, calls:die"),
    "no function": ("calls:", 2, "is no MODULE:FUNCTION"),
    "no module": ("nosuch:f", 2, "there is no module 'nosuch' in .* set PYTHONPATH"),
    "no part of a module": ("calls.nosuch:f", 2, "no module 'calls.nosuch'|cannot be imported"),
    "no such function": ("calls:nosuch", 2, "has no 'nosuch'; its workers: calls:bad_resource"),
    "no worker": ("calls:plain", 2, 'calls:plain is no worker: write @worker\\("QUEUE"\\) above that function'),
    "a number": ("calls:number", 2, "is no worker but int; its workers"),
    "no file": ("some/calls.py:write", 2, "there is no file 'some/calls.py'; write where it is"),
    "a file alone": ("some/calls.py", 2, "is no MODULE:FUNCTION"),
    "a slash": ("some/calls:write", 2, "no module 'some/calls'"),
    "a file without workers": ("conf/demo_report.py:x", 2, "has no 'x'; it has no worker"),
    "syntax": ("syntax:f", 2, r"cannot be imported at .*syntax.py:1: SyntaxError"),
    "raises": ("raises:f", 2, r"cannot be imported at .*raises.py:2: ZeroDivisionError"),
    "a package": ("needs:f", 7, "needs 'nosuchpackage', which is not installed for "),
    "an option": ("wrong:f", 2, "wrong:f: processes=0: write a whole number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(command: Command, out: Path, name: str) -> None:  # noqa: ARG001
    argument, code, text = WRONG[name]
    assert re.search(text, command("work", argument).failed(code))


@pytest.mark.parametrize("arguments", [["--grace", "-1"], ["--log-format", "xml"], ["--metrics", "9131"], []])
def test_wrong_options(command: Command, out: Path, arguments: list[str]) -> None:  # noqa: ARG001
    done = command("work", *arguments, *(["calls:write"] if arguments else []))
    assert done.code == 2
    assert "usage: mqueue-kemi work" in done.err


def test_a_resource_that_is_no_context(serve: Serve, command: Command, out: Path) -> None:  # noqa: ARG001
    serve("name=q")
    done = command("work", "calls:bad_resource")
    assert done.code == 2
    assert "calls:bad_resource: resource= must give a context" in done.err


def test_a_queue_that_a_living_server_does_not_have(serve: Serve, command: Command, out: Path) -> None:  # noqa: ARG001
    serve("name=q")
    done = command("work", "calls:nowhere")
    assert done.code == 3
    assert "has no queue 'nosuch'" in done.err


def test_a_port_that_is_taken(command: Command, out: Path) -> None:  # noqa: ARG001
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "cannot listen on" in command("work", "calls:write", "--metrics", f"127.0.0.1:{port}").failed(6)


# --- work -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_works_in_processes_until_a_signal(serve: Serve, command: Command, out: Path, number: int) -> None:
    queue = serve("name=q")
    process = command.start("work", "calls:write", "calls:tasks")
    (out.parent / "out.go").touch()
    until(lambda: len(running(process.pid)) == 3, "its processes")
    queue.add_many([(str(key), "v") for key in range(300)])
    until(lambda: is_empty(queue), "all is done")
    code, log = ended(process, number)
    assert (code, "Traceback" in log) == (0, False), log
    assert set(keys(out)) == {str(key) for key in range(300)}
    assert not running(process.pid)


EARLY = """
import os
from mqueue_kemi import worker

os.kill(os.getpid(), int(os.environ["EARLY"]))

@worker("q")
def work(item):
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_it_starts(
    serve: Serve, command: Command, out: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whoever stops it at once stops it."""
    serve("name=q")
    (out.parent / "early.py").write_text(EARLY, "utf-8")
    monkeypatch.setenv("EARLY", str(int(number)))
    process = command.start("work", "early:work")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err.decode()


def running(pid: int) -> list[int]:
    """Return the children of a process."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(number) for number in file.read().split()]
    except FileNotFoundError:
        return []


def test_it_waits_for_the_server_and_for_the_next_one(serve: Serve, command: Command, out: Path) -> None:
    process = command.start("work", "calls:write")
    said(process, "waits for queue 'q'")
    for key in ("1", "2"):
        serve("name=q").add(key, "v")
        until(lambda: key in keys(out), "its item")  # noqa: B023 it is called at once
        serve.stop()
    assert ended(process)[0] == 0


def test_who_is_killed_is_started_again(serve: Serve, command: Command, out: Path) -> None:
    """Its item is delivered again, and counted; the others are not."""
    queue = serve("name=q")
    queue.add_many([("1", "v"), ("2", "die"), ("3", "v")])
    process = command.start("work", "calls:die")
    until(lambda: is_empty(queue), "all is done")
    code, log = ended(process)
    assert [(key, count) for key, count, *_ in lines(out)] == [("1", "1"), ("2", "1"), ("2", "2"), ("3", "1")]
    assert (code, "a process was ended by signal 9" in log) == (0, True)


def test_a_time_limit_ends_the_process(serve: Serve, command: Command, out: Path) -> None:
    """The delivery counts, and the item comes again. On a busy machine the other one may be too slow, too."""
    queue = serve("name=q;max_deliveries=1000;dead_letter=dead", "name=dead")
    queue.add_many([("1", "hang"), ("2", "v")])
    process = command.start("work", "calls:hang")
    until(lambda: is_empty(queue), "all is done")
    code, log = ended(process)
    assert (code, "TimeLimit: calls:hang did not end within timeout=0.5 s" in log) == (0, True)
    assert [count for key, count, *_ in lines(out) if key == "1"][:2] == ["1", "2"]
    assert keys(out)[-1] == "2"
    assert queue.stats().dead_lettered == 0


def test_a_time_limit_counts_for_its_own_item_only(serve: Serve, command: Command, out: Path) -> None:
    """The item in the other thread of that process is given back uncounted: with retries=0 it is done all the same."""
    queue = serve("name=q;max_deliveries=5;dead_letter=dead", "name=dead")
    queue.add_many([("1", "hang"), ("2", "slow")])
    process = command.start("work", "calls:pair")
    until(lambda: is_empty(queue), "all is done")
    assert ended(process)[0] == 0
    assert keys(out) == ["1", "2", "2"]
    assert {count for _, count, *_ in lines(out)} == {"1"}
    assert queue.stats().dead_lettered == 1


def test_a_call_that_holds_the_gil_is_killed(serve: Serve, command: Command, out: Path) -> None:
    """By its supervisor: nothing in that process can run. The delivery counts, and was the last one."""
    queue = serve("name=q;max_deliveries=5;dead_letter=dead", "name=dead")
    queue.add_many([("1", "held"), ("2", "v")])
    process = command.start("work", "calls:held")
    until(lambda: is_empty(queue), "all is done")
    code, log = ended(process)
    assert (code, "did not end at its time limit and is killed" in log) == (0, True)
    assert keys(out) == ["1", "2"]
    assert queue.stats().dead_lettered == 1


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["slow", "tasks"])
def test_what_is_in_hand_is_finished(serve: Serve, command: Command, out: Path, function: str) -> None:
    queue = serve("name=q")
    queue.add("1", "v")
    process = command.start("work", f"calls:{function}", "--grace", "60")
    until(lambda: len(lines(out)) == 1, "it has begun")
    process.send_signal(signal.SIGTERM)
    said(process, f"calls:{function}: stops: 1 item in hand, up to 60 s")
    queue.add("2", "v")
    (out.parent / "out.go").touch()
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, [(line[0], line[3]) for line in lines(out)]) == (0, [("1", "begun"), ("1", "ended")])
    assert (queue.stats().reserved, len(queue)) == (0, 1), err


@pytest.mark.parametrize("function", ["slow", "tasks"])
@pytest.mark.parametrize("way", ["grace", "again", "again at once"])
def test_what_is_not_finished_is_given_back(
    serve: Serve, command: Command, out: Path, notify: socket.socket, function: str, way: str
) -> None:
    """At the end of the grace period, or at a second signal; uncounted."""
    queue = serve("name=q")
    queue.add("1", "v")
    process = command.start("work", f"calls:{function}", "--grace", "0.2" if way == "grace" else "600")
    until(lambda: len(lines(out)) == 1, "it has begun")
    worker = int(lines(out)[0][2])
    if way == "again at once":
        os.kill(worker, signal.SIGSTOP)  # both are passed on before it can take one
    process.send_signal(signal.SIGTERM)
    if way != "grace":
        # Two signals at one time are one: the first has come when no process works on.
        until(lambda: b"finishes" in notify.recv(4096), "it has heeded the first one")
        process.send_signal(signal.SIGTERM)
        until(lambda: b"gives back" in notify.recv(4096), "it has heeded the second one")
    if way == "again at once":
        os.kill(worker, signal.SIGCONT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    with queue.reserve(timeout=0) as item:
        assert item is not None
        assert (item.key, item.deliveries) == ("1", 1)


def test_the_processes_end_with_their_supervisor(serve: Serve, command: Command, out: Path) -> None:
    """Killed, it can tell them nothing."""
    queue = serve("name=q")
    process = command.start("work", "calls:write", "calls:tasks")
    until(lambda: len(running(process.pid)) == 3, "its processes")
    children = running(process.pid)
    queue.add("1", "v")
    until(lambda: lines(out), "it works")
    process.kill()
    (out.parent / "out.go").touch()
    until(lambda: not any(map(lives, children)), "they end")


def lives(pid: int) -> bool:
    """Return True if a process runs; one that has ended and is nobody's child does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


# --- what it says -----------------------------------------------------------------------------------------------------


def test_logs_as_json(serve: Serve, command: Command, out: Path) -> None:  # noqa: ARG001
    """Each line is an object, with what became of an item; no key and no value is in it."""
    queue = serve("name=q;max_deliveries=5;dead_letter=dead", "name=dead")
    queue.add_many([("secret", "reject"), ("secret", "retry"), ("secret", "bug")])
    process = command.start("work", "calls:fail", "--log-format", "json")
    until(lambda: queue.stats().dead_lettered == 2 and not queue.stats().reserved, "all is told")
    _, log = ended(process)
    found = [json.loads(line) for line in log.splitlines()]
    told = {line["action"]: line for line in found if "action" in line}
    assert set(told) == {"reject", "retry", "dead letter"}
    assert told["retry"]["after"] == 99
    assert told["dead letter"]["worker"] == "calls:fail"
    assert "ValueError: a\\nb" in told["dead letter"]["message"]
    assert "in fail" in told["dead letter"]["traceback"]
    assert all({"time", "level", "logger", "message", "pid"} <= line.keys() for line in found)
    assert "secret" not in log


def test_metrics(serve: Serve, command: Command, out: Path) -> None:
    queue = serve("name=q")
    port = free_port()
    process = command.start("work", "calls:write", "--metrics", f"127.0.0.1:{port}")

    def ask() -> dict[str, float]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if not line.startswith("#")
        }

    label = '{worker="calls:write",queue="q"'
    until(lambda: ask().get(f"mqueue_kemi_worker_processes{label}}}") == 2, "both processes")
    queue.add_many([(str(key), "v") for key in range(30)])
    until(lambda: ask().get(f'mqueue_kemi_worker_items_total{label},outcome="done"}}') == 30, "all is done")
    found = ask()
    for name in ("run_seconds", "queue_seconds"):
        assert found[f"mqueue_kemi_worker_{name}_count{label}}}"] == 30
        assert found[f'mqueue_kemi_worker_{name}_bucket{label},le="+Inf"}}'] == 30
    os.kill(int(lines(out)[0][2]), signal.SIGKILL)
    until(lambda: ask().get(f"mqueue_kemi_worker_deaths_total{label}}}") == 1, "the death")
    assert found[f'mqueue_kemi_worker_items_total{label},outcome="done"}}'] == 30  # no kill takes it away
    assert ended(process)[0] == 0


def test_systemd_is_told(
    serve: Serve, command: Command, notify: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY without a server, WATCHDOG again and again, STOPPING."""
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    process = command.start("work", "calls:write")
    assert notify.recv(4096).decode().splitlines()[0] == "READY=1"
    serve("name=q")
    signs = 0
    while signs < 3:  # on a busy machine one may be late, which is told too
        signs += notify.recv(4096) == b"WATCHDOG=1"
    process.send_signal(signal.SIGTERM)
    said: Any = b""
    while not said.startswith(b"STOPPING=1"):
        said = notify.recv(4096)
    assert process.wait(PATIENCE) == 0


def test_a_process_without_a_sign_of_life_stops_the_watchdog(
    serve: Serve, command: Command, notify: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("name=q")
    monkeypatch.setenv("WATCHDOG_USEC", "500000")
    process = command.start("work", "calls:write")
    until(lambda: len(running(process.pid)) == 2, "its processes")
    child = running(process.pid)[0]
    os.kill(child, signal.SIGSTOP)
    said = b""
    while b"gives no sign of life: calls:write" not in said:
        said = notify.recv(4096)
    os.kill(child, signal.SIGCONT)
    while said != b"WATCHDOG=1":
        said = notify.recv(4096)
    assert ended(process)[0] == 0
