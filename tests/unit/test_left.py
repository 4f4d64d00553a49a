"""A call of ours in which an exception came up that is not ours is made again, and nothing else is.

What Kamailio does is tried in tests/server/test_left_behind.py; here the exception comes up where it does there.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import TYPE_CHECKING, Any, Callable

import pytest

from kemi.errors import LockTimeout
from kemi.instance import queues
from kemi.queue import hot
from kemi.server import left
from mqueue_kemi import mod_init, modparam, mq_add, mq_fetch, mq_size, mqk_get

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

pytestmark = pytest.mark.python_code


@pytest.fixture
def started(server: Any, mocker: MockerFixture) -> Any:
    """Return the KSR of a server with the queue q, in a process that has told nothing yet."""
    mocker.patch.object(left, "_told", set())
    modparam("mqueue", "mqueue", "name=q")
    mod_init(object())
    return server


def lines(server: Any) -> list[str]:
    return [call.args[0] for call in server.err.call_args_list]


_library = ctypes.PyDLL(None)
_again = left.again


def pending(mocker: MockerFixture, error: BaseException, *, for_good: bool = False) -> None:
    """Let it come up where Kamailio's comes up at the latest: the lock is taken, and C raises after that.

    Once, or for good.
    """
    if sys.version_info < (3, 10):
        pytest.skip(
            "a queue takes its lock elsewhere there, and no Kamailio with app_python3 that we know has that Python"
        )
    raise_it = _library["PyErr_SetObject"]
    raise_it.argtypes = [ctypes.py_object] * 5  # type and value; and what `errcheck` gets
    raising = _library["pthread_mutex_trylock"]  # not the one in use: each look-up makes a new one
    raising.errcheck = functools.partial(raise_it, type(error), error)
    patch = mocker.patch.object(hot, "trylock", raising)

    def again_without(error: BaseException, call: Callable[..., Any], *arguments: Any) -> Any:
        mocker.stop(patch)
        return _again(error, call, *arguments)

    if not for_good:
        mocker.patch.object(left, "again", again_without)


LEFT = [
    AttributeError("'Script' object has no attribute 'ksr_missing'"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    SystemError("returned a result with an exception set"),
]


@pytest.mark.parametrize("error", LEFT, ids=lambda error: type(error).__name__)
def test_the_work_is_done_and_it_is_told_once(started: Any, mocker: MockerFixture, error: Exception) -> None:
    """Nothing is lost or doubled, the lock is free, and the queue is not taken for damaged."""
    for number in range(3):
        pending(mocker, error)
        assert mq_add("q", str(number), "v") == 1
    assert mq_size("q") == 3
    for number in range(3):
        pending(mocker, error)
        assert mq_fetch("q") == 1
        assert mqk_get("q") == str(number)
    assert mq_fetch("q") == -2
    assert not queues["q"].handle.is_locked()
    assert len(lines(started)) == 1
    assert f"{type(error).__name__}: {error}" in lines(started)[0]


def test_the_cause_of_a_system_error_is_told(started: Any, mocker: MockerFixture) -> None:
    """Python wraps it when it finds it after a call that had worked."""
    error = SystemError("<built-in method> returned a result with an exception set")
    error.__cause__ = LEFT[0]
    pending(mocker, error)
    assert mq_add("q", "k", "v") == 1
    assert "ksr_missing" in lines(started)[0]
    assert "built-in" not in lines(started)[0]


def test_an_error_of_ours_is_ours(started: Any, mocker: MockerFixture) -> None:
    """What comes up at both attempts is reported as before, in one line."""
    pending(mocker, AttributeError("a mistake"), for_good=True)
    assert mq_add("q", "k", "v") == -1
    assert len(lines(started)) == 1
    assert "mq_add('q'): AttributeError: a mistake" in lines(started)[0]


@pytest.mark.parametrize("error", [LockTimeout("held"), MemoryError(), RecursionError()], ids=repr)
def test_what_says_something_is_not_tried_again(started: Any, mocker: MockerFixture, error: Exception) -> None:
    """A lock that was not had once is not waited for twice."""
    add = mocker.patch.object(queues["q"], "add", side_effect=error)
    assert mq_add("q", "k", "v") == -1
    assert add.call_count == 1
    assert len(lines(started)) == 1


def test_what_a_signal_handler_raises_is_not_tried_again(started: Any, mocker: MockerFixture) -> None:
    """It comes from the script's own code."""
    add = mocker.patch.object(queues["q"], "add", side_effect=_raise_here)
    assert mq_add("q", "k", "v") == -1
    assert add.call_count == 1
    assert len(lines(started)) == 1


def _raise_here(*_: object) -> None:
    raise TimeoutError("the script's alarm")


def test_a_look_finds_nothing_where_nothing_is(started: Any) -> None:
    """And says nothing."""
    left.clear()
    assert lines(started) == []


def test_a_look_tells_what_it_finds(started: Any, mocker: MockerFixture) -> None:
    """And goes on."""
    mocker.patch.object(left, "_look", side_effect=LEFT[0])
    left.clear()
    left.clear()
    assert len(lines(started)) == 1


def test_not_everything_is_told_for_ever(started: Any, mocker: MockerFixture) -> None:
    """Texts that differ each time do not fill the memory."""
    mocker.patch.object(left, "_look", side_effect=[AttributeError(str(number)) for number in range(500)])
    for _ in range(500):
        left.clear()
    assert len(lines(started)) == len(left._told) == 100


@pytest.mark.skipif(sys.version_info < (3, 10), reason="what an AttributeError is of is known since 3.10")
def test_an_attribute_that_is_there_is_not_said_to_be_missing(started: Any, mocker: MockerFixture) -> None:
    """Python dropped the exception at the look-up of an attribute: which one it was is not known, nor made up."""
    dropped = AttributeError("'Queue' object has no attribute '_take'", name="add", obj=queues["q"])
    for _ in range(2):
        pending(mocker, dropped)
        assert mq_add("q", "k", "v") == 1
    (line,) = lines(started)
    assert "not of this module: which one is not known; is there a callback" in line
    pending(mocker, LEFT[0])
    assert mq_add("q", "k", "v") == 1
    pending(mocker, dropped)
    assert mq_add("q", "k", "v") == 1
    assert [("ksr_missing" in line) for line in lines(started)] == [False, True]
