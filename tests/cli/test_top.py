"""top and the progress bars, as a person sees them: in a real terminal, with rich and without."""

from __future__ import annotations

import re
import shlex
import time
from typing import TYPE_CHECKING, Callable

import pytest

from kemi.cli.progress import bar_text
from kemi.cli.top import HEADINGS, Board, Frame, fitting
from tests.cli.tmux import Terminal
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_mock import MockerFixture

    from tests.cli.command import Command
    from tests.processes.serve import Serve

BOTH = pytest.mark.parametrize("bare", [True, False], ids=["plain", "rich"])
Open = Callable[..., Terminal]


@pytest.fixture
def terminal(tmp_path: Path, command: Command) -> Iterator[Open]:
    """Return what runs a command in a terminal."""
    opened: list[Terminal] = []

    def run(*arguments: str, bare: bool, width: int = 100, height: int = 20) -> Terminal:
        one = Terminal(tmp_path, width, height)
        opened.append(one)
        one.run(command.argv(*arguments, bare=bare, strict=bare), command.cwd)
        return one

    yield run
    for one in opened:
        one.end()


def row(screen: str, queue: str) -> dict[str, str]:
    """Return a queue's row by the headings, whatever frame is drawn around it; empty while it is not there."""
    for line in screen.splitlines():
        found = re.sub(r"[│┃|]", " ", line).split()
        if found and found[0] == queue:
            return dict(zip(HEADINGS, found))
    return {}


@BOTH
def test_what_is_on_the_screen(serve: Serve, terminal: Open, bare: bool) -> None:
    """Sizes, rates, drops and ages change while it runs; q ends it, and the terminal is as before."""
    first = serve("name=first;size=5", "name=second")
    screen = terminal("top", "-d", "0.3", bare=bare)
    shown = screen.shows("first", "second", *HEADINGS, f"{serve.instance}: server", "alive")
    assert row(shown, "first")["SIZE"] == "0"
    assert screen.flag("alternate_on") == "1"

    def moves() -> bool:
        first.add("k", "v")
        seen = row(screen.screen(), "first")
        rate, dropped = seen.get("IN/s", "-"), seen.get("DROPPED", "0")
        return seen.get("SIZE") == "5" and rate.isdigit() and int(rate) > 0 and int(dropped) > 0

    until(moves, "items that come and go are on the screen")
    with first.reserve():
        until(lambda: row(screen.screen(), "first").get("RESERVED") == "1", "what a consumer has in hand")
    until(lambda: row(screen.screen(), "second").get("SIZE") == "0", "the other one")
    first.fetch()
    first.add("k", "v")
    screen.press("q")
    assert screen.code() == 0
    assert screen.shows("ended")
    assert (screen.flag("alternate_on"), screen.flag("cursor_flag")) == ("0", "1")


@BOTH
def test_ctrl_c(serve: Serve, terminal: Open, bare: bool) -> None:
    serve("name=a")
    screen = terminal("top", "-d", "30", bare=bare)
    screen.shows("alive")
    screen.press("C-c")
    assert screen.code() == 130
    assert "Traceback" not in screen.shows("ended")
    assert (screen.flag("alternate_on"), screen.flag("cursor_flag")) == ("0", "1")


@BOTH
def test_a_server_that_goes_and_comes(serve: Serve, terminal: Open, bare: bool) -> None:
    serve("name=a")
    screen = terminal("top", "-d", "0.2", bare=bare)
    screen.shows("alive")
    serve.stop()
    screen.shows("no server", f"no instance '{serve.instance}'")
    serve("name=a").add("k", "v")
    until(lambda: row(screen.shows("alive"), "a").get("SIZE") == "1", "the new server's item")


@BOTH
def test_a_small_screen(serve: Serve, terminal: Open, bare: bool) -> None:
    """The largest queues are there, what is not is counted; nothing is broken over two lines."""
    serve(*(f"name=q{number}" for number in range(30)))
    screen = terminal("top", "-d", "0.2", bare=bare, width=70, height=12)
    shown = screen.shows("q0", "smaller queues")
    assert len(shown.rstrip("\n").splitlines()) <= 12
    screen.resize(90, 50)
    screen.shows("q29", "q15")


@BOTH
def test_names_are_no_markup(serve: Serve, terminal: Open, bare: bool) -> None:
    """Neither a terminal's sequences nor rich's."""
    serve("name=[red]x[/red]", "name=a\x1b[2Jb")
    terminal("top", "-d", "0.2", bare=bare).shows("[red]x[/red]", "a\\x1b[2Jb")


def test_pages(serve: Serve, command: Command) -> None:
    """Into a pipe: one table after the other, without a terminal's sequences."""
    serve("name=a").add("k", "v")
    done = command("top", "-n", "2", "-d", "0.2")
    assert done.code == 0
    assert done.out.count("QUEUE") == 2
    assert "\x1b" not in done.out
    assert row(done.out, "a")["SIZE"] == "1"


def test_all_instances(dead: Serve, command: Command) -> None:
    done = command("top", "-n", "1", "--all")
    assert row(done.out, f"{dead.instance}/q")["SIZE"] == "3"
    assert "dead" in done.out.splitlines()[0]


def test_rates(serve: Serve, mocker: MockerFixture) -> None:
    """Of what came and went between two looks; a queue that was made anew begins anew."""
    clock = mocker.patch("kemi.cli.top.time", wraps=time)
    clock.monotonic.return_value = 50.0
    queue = serve("name=a")
    board = Board(serve.instance)
    assert board.look().rows[0][2:4] == ["-", "-"]
    for _ in range(100):
        queue.add("k", "v")
    for _ in range(40):
        queue.fetch()
    clock.monotonic.return_value += 2.0
    assert board.look().rows[0][2:4] == [50, 20]
    serve.stop()
    serve("name=a")
    assert board.look().rows[0][2:4] == ["-", "-"]


def test_what_fits() -> None:
    rows: list[list[object]] = [[f"q{number}", number] for number in range(10)]
    assert fitting(Frame("", [], rows, []), 13) == (rows, [])
    some, notes = fitting(Frame("", [], rows, ["note"]), 9)
    assert [cell[0] for cell in some] == ["q9", "q8", "q7", "q6"]
    assert notes == ["note", "and 6 smaller queues"]


# --- progress ---------------------------------------------------------------------------------------------------------


@BOTH
def test_progress(serve: Serve, command: Command, tmp_path: Path, bare: bool) -> None:
    """A person sees how far it is while the lines go into a file; where both are one terminal there is no bar."""
    queue = serve("name=a")
    for number in range(2000):
        queue.add(str(number), "v")
    path = tmp_path / "items"
    argv = command.argv("drain", "a", bare=bare, strict=bare)
    screen = Terminal(tmp_path)
    try:
        screen.run(
            ["sh", "-c", f"{shlex.join(argv)} > {path} && {shlex.join([*argv[:-2], 'fill', 'a'])} < {path}"],
            command.cwd,
        )
        assert screen.code() == 0
        shown = screen.shows("ended")
    finally:
        screen.end()
    assert re.search(r"drain .*100%", shown)
    assert re.search(r"fill .*100%", shown)
    assert len(path.read_bytes().splitlines()) == len(queue) == 2000


def test_no_bar_between_the_lines(serve: Serve, terminal: Open) -> None:
    serve("name=a").add("k", "v")
    screen = terminal("drain", "a", bare=True)
    assert "drain" not in screen.shows("ended", '"key": "k"')


def test_bar() -> None:
    assert bar_text("drain", 1, 4) == "drain [#######                       ]  25%"
    assert bar_text("drain", 9, 4) == "drain [##############################] 100%"
    assert bar_text("fill", 3, 0) == "fill 3"
