"""Waiting for a mutex in slices: each is in the future, and at the deadline it ends."""

from __future__ import annotations

import errno
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from kemi.queue.lock import lockwait

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


def nobody() -> int:
    """No thread of this process."""
    return 0


def nothing() -> None:
    """A turn need not be asked for."""


@pytest.mark.skipif(lockwait._clocklock is None, reason="this C library waits by the wall clock only")
def test_each_slice_ends_soon_and_not_before_it_begins(mocker: MockerFixture) -> None:
    """What ended before it began would look at the lock again and again, and never wait for it."""
    begin = time.monotonic()
    ends: list[float] = []

    def wait(_mutex: Any, clock: int, moment: Any) -> int:
        assert clock == time.CLOCK_MONOTONIC
        ends.append(moment._obj.seconds + moment._obj.nanoseconds / 1e9)
        return errno.ETIMEDOUT if len(ends) < 3 else 0

    mocker.patch.object(lockwait, "_clocklock", wait)
    deadline = begin + 3600
    assert lockwait.lock_until(None, nobody, deadline, nothing) == 0
    assert len(ends) == 3
    assert all(begin <= end <= time.monotonic() + 0.001 for end in ends)


@pytest.mark.parametrize("has_clock", [True, False])
def test_it_ends_at_the_deadline(mocker: MockerFixture, has_clock: bool) -> None:
    """With one look at least, and whatever the C library can do."""
    look = mocker.Mock(return_value=errno.ETIMEDOUT if has_clock else errno.EBUSY)
    mocker.patch.object(lockwait, "_clocklock", look if has_clock else None)
    mocker.patch.object(lockwait, "_trylock", look)
    deadline = time.monotonic() + 0.02
    assert lockwait.lock_until(None, nobody, deadline, nothing) == errno.ETIMEDOUT
    assert time.monotonic() >= deadline
    looked = look.call_count
    assert lockwait.lock_until(None, nobody, deadline, nothing) == errno.ETIMEDOUT
    assert look.call_count == looked + 1


@pytest.mark.parametrize("code", [0, errno.EOWNERDEAD, errno.EDEADLK, errno.ENOTRECOVERABLE])
def test_what_the_mutex_says_is_returned_at_once(mocker: MockerFixture, code: int) -> None:
    look = mocker.Mock(side_effect=[errno.ETIMEDOUT, code])
    mocker.patch.object(lockwait, "_clocklock", look)
    assert lockwait.lock_until(None, nobody, time.monotonic() + 3600, nothing) == code


@pytest.mark.skipif(lockwait._clocklock is None, reason="this C library waits by the wall clock only")
def test_the_gil_is_not_kept_from_its_holder(mocker: MockerFixture) -> None:
    """A thread of this process that holds the mutex gets on at once, and is asked for a turn before."""
    wait = mocker.patch.object(lockwait, "_clocklock", return_value=errno.ETIMEDOUT)
    mocker.patch.object(lockwait, "_trylock", mocker.Mock(side_effect=[errno.EBUSY, errno.EBUSY, 0]))
    ask = mocker.Mock()
    assert lockwait.lock_until(None, threading.get_native_id, time.monotonic() + 3600, ask) == 0
    assert ask.call_count == 2
    wait.assert_not_called()
