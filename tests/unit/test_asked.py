"""The note of who asks a process to end: from others it counts, from the process itself it does not."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Callable

import pytest

from kemi.server import asked, core
from tests.conftest import HANG
from tests.unit.children import fork

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


def in_child(act: Callable[[], object]) -> None:
    """Run it in a process of its own, whose signal handlers and stack may change."""
    pid = fork(act)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def within(condition: Callable[[], object]) -> bool:
    end = time.monotonic() + HANG
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_from_another_process(number: signal.Signals) -> None:
    """Its handler runs as ever, on the other stack; any other signal leaves no note."""

    def act() -> None:
        came: list[int] = []
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(each, lambda number, _: came.append(number))
        recorder, me = asked.Recorder(), os.getpid()
        assert not recorder.look()
        for sent in (signal.SIGUSR1, number):
            pid = fork(lambda: os.kill(me, sent))  # noqa: B023 called at once
            os.waitpid(pid, 0)
            assert within(lambda: sent in came)  # noqa: B023
            assert recorder.look() == (sent is number)

    in_child(act)


def test_from_the_process_itself() -> None:
    """As the main process of a daemon gets what it sends to its group; a later request of others still counts."""

    def act() -> None:
        signal.signal(signal.SIGTERM, lambda *_: None)
        recorder, me = asked.Recorder(), os.getpid()
        os.kill(me, signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert not recorder.look()
        pid = fork(lambda: os.kill(me, signal.SIGTERM))
        os.waitpid(pid, 0)
        assert within(recorder.look)

    in_child(act)


def test_where_it_cannot_be_measured() -> None:
    """The stack is as it was, and what it is for is not available."""

    def act() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
        with pytest.raises(core.Unavailable, match="was not found"):
            asked.Recorder()

    in_child(act)


@pytest.mark.parametrize(
    ("last", "noted", "by_itself"),
    [
        (None, False, False),
        (signal.SIGTERM, False, False),
        (signal.SIGINT, False, False),
        (signal.SIGCHLD, False, True),
        (signal.SIGCHLD, True, False),
        (0, False, True),
        (0, True, False),
    ],
)
def test_what_counts(mocker: MockerFixture, last: int | None, noted: bool, by_itself: bool) -> None:
    """What the core knows, then the note; a request that comes late is waited for, only where a process has ended."""
    mocker.patch("kemi.server.core.last_signal", return_value=last)
    recorder = mocker.MagicMock()
    recorder.look.return_value = noted
    mocker.patch("kemi.server.asked._recorders", [recorder])
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        time.sleep(seconds)

    assert asked.ended_by_itself(0.02, nap) is by_itself
    assert bool(naps) == (last == signal.SIGCHLD and not noted)


def test_a_request_that_comes_last(mocker: MockerFixture) -> None:
    mocker.patch("kemi.server.core.last_signal", return_value=signal.SIGCHLD)
    recorder = mocker.MagicMock()
    recorder.look.side_effect = [False, False, True]
    mocker.patch("kemi.server.asked._recorders", [recorder])
    assert asked.ended_by_itself(HANG, lambda _: None) is False
