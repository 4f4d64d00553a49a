"""Work that no signal handler breaks off: they run when it is done."""

from __future__ import annotations

import signal
import threading

import pytest

from kemi.queue.sync.undisturbed import undisturbed
from tests.unit.test_section import Boom, _boom, handler


def test_handlers_wait_for_the_end() -> None:
    """Of signals that come meanwhile each is handled once, afterwards."""
    order: list[str] = []
    with handler(signal.SIGUSR1, lambda *_: order.append("one")), handler(signal.SIGUSR2, lambda *_: order.append("2")):

        def work() -> None:
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
                signal.raise_signal(number)
            order.append("work")

        undisturbed(work)
        assert order[0] == "work"
        assert sorted(order[1:]) == ["2", "one"]
        signal.raise_signal(signal.SIGUSR1)
        assert order.count("one") == 2


def test_what_a_handler_raises_comes_out_at_the_end() -> None:
    """So does what the work raises; and the handlers are back then."""
    done: list[int] = []

    def work() -> None:
        signal.raise_signal(signal.SIGUSR1)
        done.append(1)

    with handler(signal.SIGUSR1):
        with pytest.raises(Boom):
            undisturbed(work)
        assert done == [1]
        assert signal.getsignal(signal.SIGUSR1) is _boom
        with pytest.raises(ZeroDivisionError):
            undisturbed(lambda: 1 / 0)
        assert signal.getsignal(signal.SIGUSR1) is _boom


def test_two_handlers_that_raise_are_both_called() -> None:
    """No signal is lost because another one's handler raised first."""
    called: list[int] = []

    def note_and_raise(number: int, _: object) -> None:
        called.append(number)
        raise Boom

    def work() -> None:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)

    with handler(signal.SIGUSR1, note_and_raise), handler(signal.SIGUSR2, note_and_raise):
        with pytest.raises(Boom):
            undisturbed(work)
        assert sorted(called) == sorted([signal.SIGUSR1, signal.SIGUSR2])
        assert signal.getsignal(signal.SIGUSR1) is note_and_raise


def test_in_another_thread_there_is_nothing_to_put_off() -> None:
    """Python lets no other thread than the main one change handlers, and runs none there."""
    done: list[int] = []
    thread = threading.Thread(target=lambda: undisturbed(lambda: done.append(1)))
    thread.start()
    thread.join()
    assert done == [1]
