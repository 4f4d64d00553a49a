"""What tells a consumer to stop."""

from __future__ import annotations

import threading

import pytest

from kemi.queue.sync.stop import stopper


def test_without_one_it_is_never_time() -> None:
    assert not stopper(None)()


def test_an_event_says_when() -> None:
    event = threading.Event()
    stopped = stopper(event)
    assert not stopped()
    event.set()
    assert stopped()


def test_a_function_says_when() -> None:
    answers = [False, True]
    stopped = stopper(lambda: answers.pop(0))
    assert not stopped()
    assert stopped()


def test_an_event_is_not_called_though_it_could_be() -> None:
    """Its `is_set` counts."""

    class Both:
        def is_set(self) -> bool:
            return True

        def __call__(self) -> bool:
            raise AssertionError("called")

    assert stopper(Both())()


@pytest.mark.parametrize("wrong", [5, "stop", True, object()])
def test_anything_else_is_refused_at_once(wrong: object) -> None:
    """And not when it is looked at for the first time."""
    with pytest.raises(TypeError, match=f"stop must be an Event or a function, not {type(wrong).__name__}"):
        stopper(wrong)  # type: ignore[arg-type]
