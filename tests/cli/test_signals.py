"""Ctrl-C, SIGTERM, a reader that goes away, a full disk: no item is lost, no lock is held, and the code says it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from kemi.cli import signals
from tests.asleep import asleep, has_run, in_poll
from tests.cli.command import pairs
from tests.processes.children import PATIENCE
from tests.processes.serve import items, sleepers
from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command
    from tests.processes.serve import Serve

BIG = 300_000  # bytes of a value; more than a pipe holds


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGHUP, -1)])
@pytest.mark.parametrize("arguments", [["consume", "a", "--follow"], ["fetch", "a", "--timeout", "99"]])
def test_a_signal_ends_a_wait_at_once(
    serve: Serve, command: Command, number: int, code: int, arguments: list[str]
) -> None:
    queue = serve("name=a")

    def seconds() -> float:
        process = command.start(*arguments)
        until(lambda: asleep(process.pid), "it waits")
        began = time.monotonic()
        process.send_signal(number)
        until(lambda: not sleepers(queue), "it waits no longer")  # what comes then is Python's end
        took = time.monotonic() - began
        done = command.end(process)
        assert (done.code, done.out, done.err) == (code, "", "")
        return took

    # Noticed at its next look, a second after it fell asleep, none of them would be so quick.
    assert any(seconds() < 0.7 for _ in range(10))
    queue.add("k", "v")
    assert queue.fetch() is not None


@pytest.mark.parametrize("arguments", [["fill", "a"], ["top", "-d", "99"]])
def test_a_signal_ends_what_reads_or_sleeps(serve: Serve, command: Command, arguments: list[str]) -> None:
    queue = serve("name=a")
    process = command.start(*arguments)
    if arguments[0] == "fill":
        assert process.stdin is not None
        process.stdin.write(b'{"key": "k", "value": "v"}\n')
        process.stdin.flush()
        until(lambda: len(queue) == 1, "the first line is read")
    else:
        assert process.stdout is not None
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    expected = b"mqueue-kemi: interrupted; 1 items were added before\n" if arguments[0] == "fill" else b""
    assert process.stderr is not None
    assert process.stderr.read() == expected


def test_a_reader_that_goes_away(serve: Serve, command: Command) -> None:
    """`consume | head -1`: silent, ended by SIGPIPE, and what was not read is in the queue."""
    queue = serve("name=a")
    for number in range(5):
        queue.add(str(number), "v" * BIG)
    process = command.start("consume", "a")
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    process.stdout = None
    assert process.wait(PATIENCE) == -signal.SIGPIPE
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert sorted(key for key, _ in items(queue)) == ["0", "1", "2", "3", "4"]


def test_a_reader_that_stops_reading(serve: Serve, command: Command) -> None:
    """Ctrl-C ends a consumer whose output nobody takes; its item is put back."""
    queue = serve("name=a")
    queue.add("k", "v" * BIG)
    process = command.start("consume", "a", "--follow")
    until(lambda: in_poll(process.pid) and not len(queue), "its pipe is full")
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert [key for key, _ in items(queue)] == ["k"]


@pytest.mark.parametrize("arguments", [["consume", "a"], ["fetch", "a"], ["drain", "a"]])
def test_a_full_disk(serve: Serve, command: Command, arguments: list[str]) -> None:
    queue = serve("name=a")
    for number in range(3):
        queue.add(str(number), "v")
    with open("/dev/full", "wb") as full:
        process = command.start(*arguments, stdout=full)
        done = command.end(process)
    assert done.code == 6
    assert "No space left on device" in done.err
    assert sorted(key for key, _ in items(queue)) == ["0", "1", "2"]


def test_drain_puts_back_what_is_not_out(serve: Serve, command: Command) -> None:
    """Of a batch, the lines that were read as a whole are gone, the others are in the queue."""
    queue = serve("name=a")
    for number in range(50):
        queue.add(str(number), "v" * 10_000)
    process = command.start("drain", "a")
    assert process.stdout is not None
    read = b"".join(process.stdout.readline() for _ in range(5))
    until(lambda: in_poll(process.pid), "its pipe is full")
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    rest = process.stdout.read()
    whole = (read + rest).rpartition(b"\n")[0].count(b"\n") + 1
    assert 5 <= whole < 50
    assert [key for key, _ in items(queue)] == [str(number) for number in range(whole, 50)]


def test_ctrl_c_while_a_command_runs(serve: Serve, command: Command) -> None:
    """At a terminal it reaches the command too; its item is put back."""
    queue = serve("name=a")
    queue.add("k", "v")
    process = command.start("consume", "a", "--follow", "--exec", "echo started; exec sleep 60", start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    os.killpg(process.pid, signal.SIGINT)
    assert command.end(process).code == 130
    assert items(queue) == [("k", "v")]


def test_sigterm_lets_a_command_end(serve: Serve, command: Command, tmp_path: Path) -> None:
    """A stop of the service: what is under way is finished, and no more is begun."""
    queue = serve("name=a")
    queue.add("1", "v")
    queue.add("2", "v")
    go_on = tmp_path / "go on"
    text = f"echo started; until [ -e '{go_on}' ]; do sleep 0.01; done; echo ended"
    process = command.start("consume", "a", "--follow", "--exec", text)
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    process.send_signal(signal.SIGTERM)
    go_on.touch()
    done = command.end(process)
    assert (done.code, done.out) == (-15, "ended\n")
    assert items(queue) == [("2", "v")]


def test_the_server_is_started_again(serve: Serve, command: Command) -> None:
    """The consumer waits for it, and Ctrl-C ends it also while there is none."""
    queue = serve("name=a")
    process = command.start("consume", "a", "--follow", "-n", "2")
    queue.add("1", "v")
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\tv\n"
    serve.stop()
    until(has_run(process.pid), "it has noticed")
    serve("name=a").add("2", "v")
    assert process.stdout.readline() == b"2\tv\n"
    assert process.wait(PATIENCE) == 0
    process = command.start("consume", "a", "--follow")
    until(lambda: asleep(process.pid), "it waits")
    serve.stop()
    until(has_run(process.pid), "it has noticed")
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130


def test_a_signal_between_two_items_is_only_noted() -> None:
    """Where an item is in hand nothing is raised; `check` raises, and nothing is left for the next one."""
    with signals.noted():
        os.kill(os.getpid(), signal.SIGINT)
        in_hand = True
        with pytest.raises(signals.Interrupted):
            signals.check()
    assert in_hand
    with signals.noted():
        signals.check()  # nothing is left from before


def test_help_into_a_closed_pipe(command: Command) -> None:
    process = command.start("--help")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    process.wait(PATIENCE)
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_ignored_signals_stay_ignored(serve: Serve, command: Command) -> None:
    """`nohup mqueue-kemi consume ... &` outlives its terminal."""
    queue = serve("name=a")
    argv = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command.argv("consume", "a", "--follow", "-n", "1", bare=True)]
    process = subprocess.Popen(argv, cwd=command.cwd, env=command.env(), stdout=subprocess.PIPE)
    command.started.append(process)
    until(lambda: asleep(process.pid), "it waits")
    process.send_signal(signal.SIGHUP)
    queue.add("k", "v")
    assert command.end(process).out == "k\tv\n"


def test_every_item_is_printed_once_or_left(serve: Serve, command: Command) -> None:
    """Consumers that are interrupted at random moments, under load: the sum of all is what was added, in order."""
    queue = serve("name=a")
    chance = random.Random(5)  # noqa: S311 moments, no secrets
    printed: list[tuple[str, str]] = []
    for round_number in range(15):
        for number in range(400):
            queue.add(f"{round_number}-{number}", "v")
        process = command.start("consume", "a", "--follow", "--json")
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(chance.random() * 0.01)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()  # not communicate, which knows nothing of what readline has buffered
        assert process.wait(PATIENCE) == 130
        printed += pairs([json.loads(line) for line in (first + rest).splitlines()])
    printed += items(queue)
    assert printed == [(f"{r}-{n}", "v") for r in range(15) for n in range(400)]
