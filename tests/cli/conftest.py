"""What the tests of the command line get: an instance in this process, and commands for it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from kemi.cli import signals
from tests.cli.command import Command
from tests.conftest import SHM
from tests.processes import conftest
from tests.processes.serve import Serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes.children import Children

children = conftest.children


@pytest.fixture(autouse=True)
def _no_signal_is_ignored() -> Iterator[None]:
    """As in a terminal, also when the tests run in the background of a plain shell, or under nohup."""
    before = {number: signal.getsignal(number) for number in signals.HEEDED}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def serve(_no_segment_is_left: None) -> Iterator[Serve]:
    """Return the maker of this test's queues; what a test's dead server left is removed."""
    server = Serve()
    yield server
    server.stop()
    for path in SHM.glob(f"mqk.{server.instance}*"):
        path.unlink()


@pytest.fixture
def command(serve: Serve) -> Iterator[Command]:
    """Return what runs commands for this test's instance."""
    commands = Command(serve.instance)
    yield commands
    commands.clean()


@pytest.fixture
def dead(serve: Serve, children: Children) -> Serve:
    """Return an instance whose server was killed: queue q with three items, queue empty with none."""

    def live_and_die() -> None:
        queue = serve("name=q", "name=empty")
        for number in range(3):
            queue.add(str(number), "v")

    children.fork(live_and_die).result()  # it ends without a stop
    return serve
