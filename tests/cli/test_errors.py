"""What goes wrong, with the code and the one line that it must give."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kemi.cli.usage import codes
from kemi.cli.usage.commands import parser
from tests.conftest import SHM

if TYPE_CHECKING:
    from tests.cli.command import Command
    from tests.processes.children import Children
    from tests.processes.serve import Serve

OF_A_QUEUE = {
    "get_size": [],
    "peek": [],
    "stats": [],
    "add": ["k", "v"],
    "fetch": [],
    "consume": [],
    "drain": [],
    "fill": [],
    "drop": ["--yes"],
}
OF_AN_INSTANCE: dict[str, list[str]] = {"sizes": [], "stats": [], "top": [], "drop": ["--yes"]}
# What reads headers only is allowed to who may read; all others need to write.
READERS = ("get_size", "stats")


@pytest.mark.parametrize("name", OF_A_QUEUE)
def test_no_such_queue(serve: Serve, command: Command, name: str) -> None:
    """The message has the queues that there are."""
    serve("name=a", "name=b")
    text = command(name, "nope", *OF_A_QUEUE[name]).failed(3)
    assert text == f"mqueue-kemi: instance {serve.instance!r} has no queue 'nope'; there are: a, b\n"


@pytest.mark.parametrize("name", OF_A_QUEUE)
def test_no_such_instance(serve: Serve, command: Command, name: str) -> None:
    """The message has the instances that there are."""
    serve("name=a")
    command.instance = "nope"
    text = command(name, "a", *OF_A_QUEUE[name]).failed(3)
    assert text.startswith("mqueue-kemi: no instance 'nope' on this host; there are: ")
    assert repr(serve.instance) in text


@pytest.mark.parametrize("name", OF_AN_INSTANCE)
def test_no_such_instance_at_all(command: Command, name: str) -> None:
    assert "no instance" in command(name, *OF_AN_INSTANCE[name]).failed(3)


@pytest.mark.parametrize("name", OF_A_QUEUE)
def test_not_allowed(serve: Serve, command: Command, children: Children, name: str) -> None:
    """The message has who asked, whose it is, and its mode."""
    serve("name=a").add("k", "v")
    text = command.as_nobody(children, name, "a", *OF_A_QUEUE[name]).failed(4)
    whose = "it is of user 0 (root), group 0 (root), mode 0600"
    assert f"not allowed for user 65534 (nobody), {whose}; go on as its user or as root" in text


@pytest.mark.parametrize("name", [name for name in OF_A_QUEUE if name != "drop"])
def test_a_segment_that_is_damaged(serve: Serve, command: Command, name: str) -> None:
    serve("name=a")
    path = SHM / f"mqk.{serve.instance}.a"
    with path.open("r+b") as file:
        file.write(b"not ours")
    assert "is no queue of this version: it begins with b'not ours'" in command(name, "a", *OF_A_QUEUE[name]).failed(6)


def test_what_is_no_segment(command: Command) -> None:
    """A folder, a pipe, an empty file: told, never waited for."""
    paths = [SHM / f"mqk.{command.instance}.{name}" for name in ("folder", "pipe", "empty")]
    paths[0].mkdir()
    os.mkfifo(paths[1])
    paths[2].touch()
    try:
        for path in paths:
            assert path.name in command("get_size", path.name.rpartition(".")[2]).failed(6)
        done = command("instances")
        assert done.code == 0, done.err
    finally:
        paths[0].rmdir()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nope"],
        ["get_size"],
        ["add", "a", "k"],
        ["peek", "a", "-n", "0"],
        ["peek", "a", "-n", "x"],
        ["fetch", "a", "--timeout", "-1"],
        ["fetch", "a", "--timeout", "nan"],
        ["top", "--delay", "inf"],
        ["stats", "--json", "--prometheus"],
        ["serve-metrics"],
        ["serve-metrics", "--listen", "9130"],
        ["serve-metrics", "--listen", "localhost:65536"],
        ["consume", "a", "--fol"],  # half an option may become another one
    ],
)
def test_a_wrong_command_line(command: Command, arguments: list[str]) -> None:
    done = command(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("usage: mqueue-kemi")
    assert "Traceback" not in done.err


EVERY_COMMAND: dict[str, list[str]] = {
    **{name: ["a", *more] for name, more in OF_A_QUEUE.items()},
    "instances": [],
    "sizes": [],
    "top": ["-n", "1"],
    "save": ["a", "--db-url", "sqlite:////nonexistent/x.db"],
    "load": ["a", "--db-url", "sqlite:////nonexistent/x.db"],
    "serve-metrics": ["--listen", "127.0.0.1:0"],
    "check": ["README.md"],
    "doctor": [],
    "work": ["calls:write"],
    "relay": ["a", "redis://127.0.0.1:1"],
}


def test_every_command_is_tried() -> None:
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    assert set(commands or ()) == set(EVERY_COMMAND)


@pytest.mark.parametrize("name", EVERY_COMMAND)
def test_a_user_that_there_is_not(serve: Serve, command: Command, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the command does with it, before or after its name, or named by the environment."""
    serve("name=a")
    for before, after in ((["--owner", "nosuchuser"], []), ([], ["--owner=nosuchuser"])):
        text = command(*before, name, *after, *EVERY_COMMAND[name]).failed(2)
        assert text == "mqueue-kemi: owner: there is no user 'nosuchuser' on this host\n"
    monkeypatch.setenv("MQUEUE_KEMI_OWNER", "nosuchuser")
    text = command(name, *EVERY_COMMAND[name]).failed(2)
    assert text == "mqueue-kemi: $MQUEUE_KEMI_OWNER: there is no user 'nosuchuser' on this host\n"


def test_output_goes_with_prometheus(serve: Serve, command: Command) -> None:
    serve("name=a")
    assert "--output goes with --prometheus" in command("stats", "--output", "x").failed(2)


def test_help_has_examples_and_codes(command: Command) -> None:
    """Of the whole, and of each command; every code is there."""
    done = command("--help")
    assert done.code == 0
    assert "examples:" in done.out
    numbers = {getattr(codes, name) for name in dir(codes) if name.isupper() and isinstance(getattr(codes, name), int)}
    for name in ["", *OF_A_QUEUE, "instances", "sizes", "top", "serve-metrics"]:
        text = command(*([name] if name else []), "--help").out if name in ("", "consume") else _help_of(name)
        for number in numbers:
            assert f"\n  {number:>3}  " in text, (name, number)


def _help_of(name: str) -> str:
    (commands,) = (action for action in parser()._actions if action.dest == "command")
    assert commands.choices is not None
    return str(dict(commands.choices)[name].format_help())


def test_it_never_runs_inside_a_server() -> None:
    """app_python3 imports the module under its own name: nothing but `__main__` starts the command line."""
    source = Path(__file__).parents[2] / "mqueue_kemi.py"
    namespace = {"__name__": "mqueue_kemi", "__file__": str(source)}
    exec(compile(source.read_text("utf-8"), str(source), "exec"), namespace)  # noqa: S102 - as an import does
    assert "kemi.cli.main" not in namespace
