"""What starts with the command line: only what the command needs, and that is most of the time of its start."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import mqueue_kemi
from kemi.cli.usage.commands import parser
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
    found = loaded("--instance", serve.instance, *arguments)
    assert found.isdisjoint(FOR_QUEUES)
    # `instances` also looks at whatever else lies on this host.
    assert arguments == ["instances"] or found.isdisjoint(("ctypes", "hashlib", "typing"))


def test_the_version_imports_nothing_of_a_queue() -> None:
    assert loaded("--version").isdisjoint((*FOR_QUEUES, "ctypes", "hashlib", "threading", "typing"))


def test_only_the_parser_of_the_command_is_made() -> None:
    whole = parser()
    (found,) = (action for action in whole._actions if action.dest == "command")
    assert found.choices is not None
    all_of_them: dict[str, argparse.ArgumentParser] = dict(found.choices)
    whole.parse_args(["peek", "a"])
    assert [name for name, one in all_of_them.items() if "_actions" in vars(one)] == ["peek"]


_AT_EXIT = """
import atexit, os, sys
atexit.register(os.write, 1, b"taken apart")
from kemi.cli.main import start
start()
"""


@pytest.mark.parametrize(
    ("arguments", "code", "last"),
    [
        (["--help"], 0, False),
        (["no-such-command"], 2, False),
        (["sizes"], 0, False),
        (["add", "a", "k", "v"], 0, False),
        (["fetch", "a"], 1, False),
        (["peek", "none"], 3, False),
        (["check", "--live"], 0, True),
        (["fill", "a"], 0, True),
    ],
    ids=str,
)
def test_a_simple_command_ends_at_once(serve: Serve, arguments: list[str], code: int, last: bool) -> None:
    """All that it says is out, and Python does not tidy up what the system gives back anyway."""
    serve("name=a")
    argv = [sys.executable, "-S", "-bb", "-W", "error", "-B", "-c", _AT_EXIT, "--instance", serve.instance, *arguments]
    done = subprocess.run(argv, cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    assert (b"taken apart" in done.stdout) is last
    said = done.stdout.replace(b"taken apart", b"") + done.stderr
    assert bool(said) is (arguments[0] not in ("add", "fetch", "fill"))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["consume", "--help"]], ids=str)
def test_a_help_that_cannot_be_written(command: Command, arguments: list[str]) -> None:
    """PYTHONUNBUFFERED=1 would have argparse drop the error."""
    argv = [sys.executable, "-S", "-bb", "-W", "error", "-B", "-m", "mqueue_kemi", *arguments]
    env = {**command.env(), "PYTHONUNBUFFERED": ""}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            argv, cwd=CHECKOUT, env=env, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60, text=True
        )
    assert (done.returncode, done.stderr) == (6, "mqueue-kemi: cannot read or write: No space left on device\n")


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
