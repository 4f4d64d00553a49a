"""--json of every command, and columns: what programs read, and what people read."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from kemi.cli.output import cells, table
from kemi.cli.top import HEADINGS
from tests.cli.test_start import commands

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command
    from tests.processes.serve import Serve


@pytest.mark.parametrize("name", sorted(commands().keys() - {"work"}))  # which has --log-format
def test_every_command_has_json(name: str) -> None:
    assert "--json" in commands()[name].format_usage()


def test_of_what_looks(serve: Serve, command: Command) -> None:
    serve("name=a", 'name=b"\udcff').add("k", "v")
    one = {"instance": serve.instance, "queue": "a", "items": 1}
    assert command("sizes", "--json").json() == [one, {**one, "queue": 'b"\udcff', "items": 0}]
    assert command("get_size", "a", "--json").json() == one


def test_sizes_of_the_others_when_one_cannot_be_read(serve: Serve, command: Command) -> None:
    queue = serve("name=a", "name=b")
    queue.segment.bytes[0:8] = b"damaged!"
    for arguments, shown in ((["sizes"], "b\t0\n"), (["sizes", "--json"], None)):
        done = command(*arguments)
        assert done.code == 6
        assert "mqk." in done.err
        assert done.out == shown or [one["queue"] for one in done.json()] == ["b"]
    queue.segment.bytes[0:8] = b"mqkemi-q"


def test_of_what_moves(serve: Serve, command: Command) -> None:
    queue = serve("name=a;addmode=1")
    of = {"instance": serve.instance, "queue": "a"}
    assert command("add", "a", "k", "v", "--json").json() == {**of, "result": "ADDED"}
    assert command("add", "a", "k", "w", "--json").json() == {**of, "result": "KEPT"}
    line = command("drain", "a", "--json").out.encode()
    done = command("fill", "a", "--json", stdin=line + line.replace(b'"k"', b'"l"'))
    assert (done.json(), done.err) == ({**of, "added": 2}, "")
    assert len(queue) == 2


def test_what_fails_prints_no_object(serve: Serve, command: Command) -> None:
    """A program looks at the exit code first; what went wrong is on stderr."""
    serve("name=a;maxbytes=10")
    assert "not added" in command("add", "a", "k", "v" * 100, "--json").failed(5)
    assert "has no queue" in command("get_size", "c", "--json").failed(3)


def test_of_what_takes_away(dead: Serve, command: Command, tmp_path: Path) -> None:
    of = {"instance": dead.instance, "queue": "q"}
    url = f"sqlite:////{tmp_path}/db"
    done = command("save", "q", "--db-url", url, "--json", bare=False)
    assert (done.json(), done.err) == ({**of, "items": 3}, "")
    assert command("load", "q", "--db-url", url, "--json", bare=False).json() == {**of, "items": 3}
    assert command("drop", "q", "--yes", "--json").json() == {**of, "items": 3}
    assert command("drop", "--yes", "--json").json() == {**of, "queue": None, "items": 0}


def test_of_top(serve: Serve, command: Command) -> None:
    queue = serve("name=a;size=2", "name=b")
    for _ in range(3):
        queue.add("k", "v")
    first, second = (json.loads(line) for line in command("top", "--json", "-n", "2", "-d", "0.05").out.splitlines())
    (instance,) = first["instances"]
    assert (instance["instance"], instance["server"]) == (serve.instance, "alive")
    assert [one["queue"] for one in instance["queues"]] == ["a", "b"]
    assert {"size": 2, "dropped": 1, "in_per_second": None}.items() <= instance["queues"][0].items()
    assert second["instances"][0]["queues"][0]["in_per_second"] == 0
    assert second["time"] > first["time"]


def test_of_serve_metrics(command: Command) -> None:
    process = command.start("serve-metrics", "--listen", "127.0.0.1:0", "--json", bare=False)
    assert process.stdout is not None
    found = json.loads(process.stdout.readline())
    assert found["instance"] == command.instance
    assert found["url"].startswith("http://127.0.0.1:")
    assert not found["url"].endswith(":0/metrics")
    process.send_signal(signal.SIGTERM)
    assert command.end(process).code == -signal.SIGTERM


# --- columns ----------------------------------------------------------------------------------------------------------

ROWS: list[list[object]] = [[*HEADINGS], ["long_name_of_a_queue", 5, 12, "-", 1, 0, 0, "3.5s", 123456789, "1.2M"]]


def ends(line: str) -> list[int]:
    """Return where the columns of a line end."""
    return [at + 1 for at, here in enumerate(line) if here != " " and line[at + 1 : at + 2] in (" ", "")]


def test_numbers_stand_below_their_headings() -> None:
    heading, numbers = table(ROWS)
    assert ends(heading)[1:] == ends(numbers)[1:]


@pytest.mark.parametrize("width", [80, 88])
def test_a_name_makes_room_for_the_columns(width: int) -> None:
    heading, numbers = table(ROWS, width)
    assert len(heading) == len(numbers) == width
    assert numbers.startswith("long_")
    assert "…" in numbers
    assert heading.split() == HEADINGS


def test_a_heading_is_never_shortened() -> None:
    heading, numbers = table(ROWS, 10)
    assert heading.split() == HEADINGS
    assert numbers.split()[0] == "long…"


@pytest.mark.parametrize(("name", "width"), [("caf\u00e9", 4), ("cafe\u0301", 4), ("\u961f\u5217", 4), ("q", 1)])
def test_columns_of_other_scripts(name: str, width: int) -> None:
    assert cells(name) == width
    lines = table([["QUEUE", "SIZE"], [name, 1], ["other", 2]])
    assert {cells(line) for line in lines} == {len("QUEUE  SIZE")}
