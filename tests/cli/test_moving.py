"""add, fetch, consume, drain, fill: what goes in comes out, once, and nothing is lost on the way."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.asleep import asleep
from tests.cli.command import pairs
from tests.processes.children import PATIENCE
from tests.processes.serve import items
from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command
    from tests.processes.serve import Serve

ANY_BYTES = bytes(range(1, 256))


def test_add_and_fetch(serve: Serve, command: Command) -> None:
    queue = serve("name=a")
    for arguments in (["k", "v"], ["", ""], ["ü", "a b"]):
        done = command("add", "a", *arguments)
        assert (done.code, done.out, done.err) == (0, "", "")
    assert command("fetch", "a").out == "k\tv\n"
    assert command("fetch", "a").out == "\t\n"
    assert pairs(command("fetch", "a", "--json").lines()) == [("ü", "a b")]
    assert len(queue) == 0


def test_arguments_are_bytes(serve: Serve, command: Command) -> None:
    """What the shell passes is what lies in the queue."""
    queue = serve("name=a")
    argv = [*map(os.fsencode, command.argv("add", "a", "--")), b"\xff\xfe", b"--\n"]
    subprocess.run(argv, cwd=command.cwd, env=command.env(), check=True, timeout=30)
    item = queue.fetch()
    assert item is not None
    assert (item.key_bytes, item.value_bytes) == (b"\xff\xfe", b"--\n")


def test_fetch_of_nothing(serve: Serve, command: Command) -> None:
    serve("name=a")
    done = command("fetch", "a")
    assert (done.code, done.out, done.err) == (1, "", "")
    began = time.monotonic()
    assert command("fetch", "a", "--timeout", "1.2").code == 1
    assert time.monotonic() - began >= 1.2


def test_fetch_waits(serve: Serve, command: Command) -> None:
    queue = serve("name=a")
    process = command.start("fetch", "a", "--timeout", "30")
    until(lambda: asleep(process.pid), "it waits")
    queue.add("k", "v")
    done = command.end(process)
    assert (done.code, done.out) == (0, "k\tv\n")


def test_an_item_that_is_refused(serve: Serve, command: Command) -> None:
    queue = serve("name=a;maxbytes=100")
    queue.add("k", "v" * 60)
    assert "not added: maxbytes of the queue is reached" in command("add", "a", "k", "v" * 60).failed(5)
    assert len(queue) == 1


# --- consume ----------------------------------------------------------------------------------------------------------


def test_consume_takes_what_is_there(serve: Serve, command: Command) -> None:
    queue = serve("name=a")
    for number in range(5):
        queue.add(str(number), "v")
    assert command("consume", "a", "-n", "2").out == "0\tv\n1\tv\n"
    assert pairs(command("consume", "a", "--json").lines()) == [(str(n), "v") for n in (2, 3, 4)]
    assert command("consume", "a").code == 1


def test_consume_follows(serve: Serve, command: Command) -> None:
    """Each item is there at once, also in a pipe."""
    queue = serve("name=a")
    process = command.start("consume", "a", "--follow", "-n", "3")
    assert process.stdout is not None
    for number in range(3):
        until(lambda: asleep(process.pid), "it waits")
        queue.add(str(number), "v")
        assert process.stdout.readline() == b"%d\tv\n" % number
    assert command.end(process).code == 0


def test_consume_ends_when_none_comes(serve: Serve, command: Command) -> None:
    queue = serve("name=a")
    queue.add("k", "v")
    began = time.monotonic()
    done = command("consume", "a", "--timeout", "0.5")
    assert (done.code, done.out) == (0, "k\tv\n")
    assert time.monotonic() - began >= 0.5


def test_consume_costs_nothing_while_it_waits(serve: Serve, command: Command) -> None:
    queue = serve("name=a")
    process = command.start("consume", "a", "--follow", "-n", "1")
    until(lambda: asleep(process.pid), "it waits")

    def used() -> int:
        with open(f"/proc/{process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])  # ticks of 10 ms

    before = used()
    time.sleep(3)
    assert used() - before <= 10  # of 300
    queue.add("k", "v")
    assert command.end(process).code == 0


def test_exec(serve: Serve, command: Command, tmp_path: Path) -> None:
    """The value on stdin, the key and the queue in the environment, and nothing of them is run."""
    queue = serve("name=a")
    queue.add("$(touch oops); `id`", ANY_BYTES)
    queue.add("two", "")
    text = f'printf "%s|%s\\n" "$MQUEUE_QUEUE" "$MQUEUE_KEY"; cat > {tmp_path}/"${{#MQUEUE_KEY}}"'
    done = command("consume", "a", "--exec", text)
    assert (done.code, done.out, done.err) == (0, "a|$(touch oops); `id`\na|two\n", "")
    assert (tmp_path / "19").read_bytes() == ANY_BYTES
    assert (tmp_path / "3").read_bytes() == b""
    assert len(queue) == 0


def test_exec_with_json(serve: Serve, command: Command) -> None:
    queue = serve("name=a")
    queue.add("nul\0", "v")
    done = command("consume", "a", "--json", "--exec", 'cat; echo "$MQUEUE_KEY"')
    line, key = done.out.splitlines()
    assert (json.loads(line)["key"], key) == ("nul\0", "nul\\x00")


@pytest.mark.parametrize(
    ("text", "how"),
    [("exit 3", "ended with 3"), ("kill -9 $$", "was ended by signal 9"), ("no-such-program", "ended with 127")],
)
def test_a_command_that_fails(serve: Serve, command: Command, text: str, how: str) -> None:
    """Its item is put back, and consume ends."""
    queue = serve("name=a")
    queue.add("k", b"v\xff")
    done = command("consume", "a", "--follow", "--exec", text)
    assert done.code == 8
    assert f"{how}; its item is put back" in done.err.splitlines()[-1]
    assert items(queue) == [("k", "v\udcff")]


def test_with_reserve_it_is_at_the_head_again(serve: Serve, command: Command, tmp_path: Path) -> None:
    """After a command that failed, and after `kill -9` while it ran; its delivery is counted."""
    queue = serve("name=a")
    queue.add("1", "v")
    queue.add("2", "v")
    assert command("consume", "a", "--reserve", "--exec", "exit 1").code == 8
    go_on = tmp_path / "go on"
    text = f"echo started; until [ -e '{go_on}' ]; do sleep 0.01; done"
    process = command.start("consume", "a", "--reserve", "--exec", text)
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    assert queue.stats().reserved == 1
    process.kill()
    process.wait(PATIENCE)
    go_on.touch()
    with queue.reserve(PATIENCE) as item:
        assert item is not None
        assert (item.key, item.deliveries) == ("1", 3)
    assert command("drain", "a", "--reserve").lines()[0]["key"] == "2"
    assert queue.stats().reserved == len(queue) == 0


def test_a_key_too_long_for_a_command(serve: Serve, command: Command) -> None:
    queue = serve("name=a")
    queue.add("k" * 200_000, "v")
    assert "cannot be started: Argument list too long" in command("consume", "a", "--exec", "cat").failed(8)
    assert len(queue) == 1


def test_going_on_after_a_failure(serve: Serve, command: Command, tmp_path: Path) -> None:
    queue = serve("name=a")
    queue.add("bad", "v")
    queue.add("good", "v")
    text = f'[ "$MQUEUE_KEY" = good ] || {{ [ -e {tmp_path}/tried ] || {{ touch {tmp_path}/tried; exit 1; }}; }}'
    done = command("consume", "a", "--keep-going", "--exec", text)
    assert done.code == 0
    assert done.err.count("put back, going on\n") == 1
    assert len(queue) == 0


# --- drain and fill ---------------------------------------------------------------------------------------------------


def test_drain_and_fill_lose_nothing(serve: Serve, command: Command) -> None:
    """Every byte and every str comes back as it was, with the same flags."""
    queue = serve("name=a", "name=b")
    queue.add(ANY_BYTES + b"\0", b"\xed\xa0\x80")
    queue.add("\ud800\udfff", "\0")
    queue.add("", "")
    queue.add("ü\u2028", "\U0001f4de" * 70_000)
    for number in range(1000):
        queue.add(str(number), "v")
    before = queue.peek(2000)
    drained = command("drain", "a")
    assert drained.code == 0
    assert drained.out.isascii()
    assert len(drained.lines()) == 1004
    assert len(queue) == 0
    done = command("fill", "a", stdin=drained.out.encode())
    assert (done.code, done.out, done.err) == (0, "", "")
    after = queue.peek(2000)
    assert after == before
    assert [(one.key, one.value) for one in after] == [(one.key, one.value) for one in before]


def test_json_for_other_programs(serve: Serve, command: Command) -> None:
    """No line holds half a surrogate pair unless the text itself does: other readers of JSON refuse it."""
    queue = serve("name=a")
    queue.add(b"a\xff", "v")
    (line,) = command("drain", "a").lines()
    assert line["key_base64"] == "Yf8="
    assert "key" not in line
    assert line["value"] == "v"
    assert abs(line["added"] - time.time()) < 60


def test_drain_of_nothing(serve: Serve, command: Command) -> None:
    serve("name=a")
    done = command("drain", "a")
    assert (done.code, done.out, done.err) == (1, "", "")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "no JSON"),
        (b"[]", "not an object"),
        (b'{"key": "k"}', 'exactly one of "value" and "value_base64"'),
        (b'{"key": "k", "key_base64": "aw==", "value": "v"}', 'exactly one of "key" and "key_base64"'),
        (b'{"key": 1, "value": "v"}', '"key" must be text'),
        (b'{"key": "k", "value_base64": "???"}', '"value_base64" is no Base64'),
        (b'{"key": "k", "value": "v", "id": 1}', "unknown field 'id'"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_line_that_is_no_item(serve: Serve, command: Command, line: bytes, why: str) -> None:
    """It is named; what stands before it is in the queue, what stands behind it is not."""
    queue = serve("name=a")
    good = b'{"key": "k", "value": "v"}\n'
    message = command("fill", "a", stdin=good + b"\n" + good + line + b"\n" + good).failed(5)
    assert message.startswith("mqueue-kemi: line 4: ")
    assert why in message
    assert message.endswith("; 2 items were added before\n")
    assert len(queue) == 2


def test_fill_of_a_full_queue(serve: Serve, command: Command) -> None:
    queue = serve("name=a;maxbytes=64")
    message = command("fill", "a", stdin=b'{"key": "k", "value": "v"}\n' * 3).failed(5)
    assert "line 3: not added: maxbytes of the queue is reached (maxbytes=64); 2 items were added before" in message
    assert len(queue) == 2


def test_fill_does_not_wait_for_more(serve: Serve, command: Command) -> None:
    """A line is added as soon as it is there; the last one needs no line end."""
    queue = serve("name=a")
    process = command.start("fill", "a")
    assert process.stdin is not None
    process.stdin.write(b'{"key": "1", "value": "v"}\n{"key": "2", ')
    process.stdin.flush()
    until(lambda: len(queue) == 1, "the first item")
    process.stdin.write(b'"value": "v"}')
    assert command.end(process).code == 0
    assert items(queue) == [("1", "v"), ("2", "v")]
