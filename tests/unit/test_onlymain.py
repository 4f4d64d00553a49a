"""Which threads may use queues."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from kemi.errors import WrongThread
from kemi.queue.lock import onlymain

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _allowed_again() -> Iterator[None]:
    yield
    onlymain.allow()


def error_in_thread(name: str) -> WrongThread | None:
    """Return what the check raises in a thread of that name, if anything."""
    errors: list[WrongThread] = []

    def check() -> None:
        try:
            onlymain.check()
        except WrongThread as error:
            errors.append(error)

    thread = threading.Thread(target=check, name=name)
    thread.start()
    thread.join()
    return errors[0] if errors else None


def test_every_thread_may_use_queues_as_long_as_nobody_refuses() -> None:
    onlymain.check()
    assert error_in_thread("worker") is None


def test_where_others_are_refused_the_main_thread_goes_on() -> None:
    """The error names the thread, and says what the process wanted to have said."""
    assert threading.current_thread() is threading.main_thread()
    onlymain.refuse("use the native kernel")
    onlymain.check()
    assert str(error_in_thread("worker 7")) == "called in thread 'worker 7': use the native kernel"
    onlymain.allow()
    assert error_in_thread("worker 7") is None
