"""What starts with the command line: only what the command needs, and that is most of the time of its start."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import mqueue_kemi
from kemi.cli.parser import parser
from kemi.queue.kernel import choice
from tests.cli.command import CHECKOUT

if TYPE_CHECKING:
    from tests.cli.command import Command
    from tests.processes.serve import Serve

_RUN = """
import sys
from kemi.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(*sorted(sys.modules), file=sys.stderr)
raise SystemExit(code)
"""
# What a server needs, and what takes long to import.
FOR_QUEUES = (
    "kemi.instance",
    "kemi.queue.queue",
    "kemi.queue.catalog.registry",
    "kemi.spec",
    "kemi.store",
    "dataclasses",
    "platform",
    "secrets",
)
HEAVY = ("ctypes", "multiprocessing", "json", "typing", "shutil", "kemi.host", "kemi.queue", *FOR_QUEUES)


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (action for action in parser()._actions if action.dest == "command")
    assert found.choices is not None
    return dict(found.choices)


def loaded(*arguments: str) -> set[str]:
    """Run a command in a Python without installed packages; return the modules that are there at its end."""
    argv = [sys.executable, "-S", "-bb", "-W", "error", "-B", "-c", _RUN, *arguments]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, check=True, timeout=60, text=True)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["consume", "--help"]])
def test_help_imports_nothing_of_shared_memory(arguments: list[str]) -> None:
    assert loaded(*arguments).isdisjoint(HEAVY)


@pytest.mark.parametrize("arguments", [["sizes"], ["instances"], ["stats"]])
def test_looking_imports_nothing_that_changes_a_queue(serve: Serve, arguments: list[str]) -> None:
    serve("name=a")
    assert loaded("--instance", serve.instance, *arguments).isdisjoint(FOR_QUEUES)


@pytest.mark.parametrize("arguments", [["add", "a", "k", "v"], ["fetch", "a"], ["drain", "a"], ["fill", "a"]])
def test_moving_imports_nothing_of_a_server(serve: Serve, arguments: list[str]) -> None:
    serve("name=a").add("k", "v")
    heavy = ("asyncio", "dataclasses", "kemi.instance", "kemi.spec", "kemi.store", "multiprocessing", "platform")
    assert loaded("--instance", serve.instance, *arguments).isdisjoint([*heavy, "secrets", "subprocess"])


@pytest.mark.parametrize("name", commands())
def test_every_command_is_there(name: str) -> None:
    """Each names a function by text, which is looked up only when it is run."""
    module, _, function = commands()[name].get_default("run").partition(":")
    assert callable(getattr(importlib.import_module(f"kemi.cli.{module}"), function))


def test_version(command: Command) -> None:
    done = command("--version")
    assert (done.code, done.out, done.err) == (
        0,
        f"mqueue-kemi {mqueue_kemi.__version__} (kernel: {choice.description()})\n",
        "",
    )


@pytest.mark.parametrize(("columns", "widest"), [("60", 58), ("0", 78), ("x", 78)])
def test_help_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: str, widest: int) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = commands()["consume"].format_help().partition("CMD gets")[0].splitlines()
    assert widest - 20 < max(map(len, lines)) <= widest
