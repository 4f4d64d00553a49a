# SPDX-License-Identifier: GPL-2.0-or-later
"""What a worker is: a function, its queue and its options; and the words in which the fate of an item is told.

The modules of this room, each of which imports only those before it:

    spec        the options, checked; Retry and Reject; Failure and Tally
    transient   which errors mean that the backend is away, and not that the item is bad
    board       counters that the processes of a worker share
    judge       what is to become of an item whose function raised
    course      the way of one item, as steps that threads and tasks carry out
    threads     plain functions        tasks       async functions
    supervisor  processes: started, watched, ended
    worker      the decorator, `run` and `arun`
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Union

from kemi.errors import ConfigError

if TYPE_CHECKING:
    from typing import Literal

    from kemi.queue.delivery.reservation import AsyncReservation, Reservation
    from kemi.queue.delivery.reserved import ReservedItem
    from kemi.queue.format.outcome import Stats

    Action = Literal["pause", "retry", "reject", "dead letter"]


class WorkQueue(Protocol):
    """What a worker wants of a queue; every QueueClient is one."""

    def reserve(self, timeout: float | None = 0) -> Reservation[Any]:
        """Reserve the oldest item."""

    def areserve(self, timeout: float | None = 0) -> AsyncReservation[Any]:
        """`reserve` for asyncio."""

    def stats(self) -> Stats:
        """Counts and limits; max_deliveries is looked at."""

    def close(self) -> None:
        """Detach."""


Transient = Union["tuple[type[Exception], ...]", Callable[[Exception], bool]]
PAUSE = (0.25, 5.0)  # seconds: the first pause, and the longest
MAX_LANES = 1024  # what a queue can have in flight
_LONGEST = 86400.0 * 365  # seconds


class Retry(Exception):
    """Raise it in a worker: deliver this item again after seconds (None: the worker's backoff). It is no failure.

    Raises ConfigError when `after` is no number of seconds.
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = str(reason)
        self.after = None if after is None else max(0.0, _number("Retry(after=)", after))


class Reject(Exception):
    """Raise it in a worker: never deliver this item again. It goes to the dead letters; a question fails with this."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = str(reason)


class TimeLimit(Exception):
    """The function did not end within `timeout`."""


@dataclass(frozen=True)
class Failure:
    """What `on_error` is told: the item, what was raised, and what becomes of the item after how many seconds."""

    item: ReservedItem
    error: BaseException
    action: Action
    after: float


@dataclass(frozen=True)
class Tally:
    """What became of items. Each item that ended is in one of done, answered, rejected, failed."""

    done: int = 0
    answered: int = 0
    retried: int = 0  # tries that another one follows: after a pause, a Retry, or a failure with deliveries left
    rejected: int = 0
    failed: int = 0  # the last delivery failed, or max_age was over

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(mine + others for mine, others in zip(_counts(self), _counts(other))))

    def __sub__(self, other: Tally) -> Tally:
        return Tally(*(mine - others for mine, others in zip(_counts(self), _counts(other))))


def _counts(tally: Tally) -> tuple[int, ...]:
    return tally.done, tally.answered, tally.retried, tally.rejected, tally.failed


@dataclass(frozen=True)
class Spec:
    """A worker's function and options."""

    function: Callable[..., Any]
    queue: str
    processes: int = 1
    concurrency: int = 1
    timeout: float | None = None
    retries: int | None = None
    transient: Transient | None = None  # None: `transient.TABLE`
    pause: tuple[float, float] = PAUSE
    max_age: float | None = None
    on_error: Callable[[Failure], object] | None = None
    resource: Callable[[], Any] | None = None
    name: str = field(default="", compare=False)
    is_async: bool = field(default=False, compare=False)


def checked(spec: Spec) -> Spec:
    """The same with its name, when nothing is wrong with it. Raises ConfigError, which names the option."""
    if not callable(spec.function):
        raise ConfigError(f"@worker({spec.queue!r}) must stand above a function, not {type(spec.function).__name__}")
    name = f"{spec.function.__module__}:{getattr(spec.function, '__qualname__', type(spec.function).__name__)}"
    _check_numbers(spec, name)
    _check_callables(spec, name)
    _check_signature(spec, name)
    values = {**vars(spec), "name": name, "is_async": _is_async(spec.function)}
    values["pause"] = tuple(map(float, spec.pause))
    return Spec(**values)


def check_queue(queue: object) -> None:
    """Raises ConfigError where the decorator stands without its parentheses, or the name is none."""
    if callable(queue):
        raise ConfigError(
            f'@worker needs the name of its queue: write @worker("{getattr(queue, "__name__", "calls")}")'
        )
    if not isinstance(queue, str) or not queue:
        raise ConfigError(f'@worker({queue!r}): write the name of a queue, like @worker("calls")')


def _check_numbers(spec: Spec, name: str) -> None:
    for option in ("processes", "concurrency"):
        value = getattr(spec, option)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_LANES:
            raise ConfigError(f"{name}: {option}={value!r}: write a whole number from 1 to {MAX_LANES}")
    if spec.processes * spec.concurrency > MAX_LANES:
        raise ConfigError(
            f"{name}: processes={spec.processes} times concurrency={spec.concurrency} is more than {MAX_LANES}, and a "
            "queue has no more items in flight; lower one of the two"
        )
    retries: Any = spec.retries
    if retries is not None and (not isinstance(retries, int) or isinstance(retries, bool) or retries < 0):
        raise ConfigError(f"{name}: retries={spec.retries!r}: write a whole number, 0 for none, or None for no limit")
    for option in ("timeout", "max_age"):
        value = getattr(spec, option)
        if value is not None and _number(f"{name}: {option}", value) <= 0:
            raise ConfigError(f"{name}: {option}={value!r}: write seconds, more than 0, or None for no limit")
    _check_pause(spec.pause, name)


def _check_pause(pause: Any, name: str) -> None:
    if not isinstance(pause, tuple) or len(pause) != len(PAUSE):
        raise ConfigError(f"{name}: pause={pause!r}: write (first, longest) in seconds, like {PAUSE}")
    first, longest = (_number(f"{name}: pause", value) for value in pause)
    if not 0 < first <= longest:
        raise ConfigError(f"{name}: pause={pause!r}: the first must be more than 0, and not more than the longest")


def _number(what: str, value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value) and value <= _LONGEST:
        return float(value)
    raise ConfigError(f"{what}={value!r}: write a number of seconds, of a year at most")


def _check_callables(spec: Spec, name: str) -> None:
    for option, example in (("on_error", "a function of a Failure"), ("resource", "a function that gives a context")):
        value = getattr(spec, option)
        if value is not None and not callable(value):
            raise ConfigError(f"{name}: {option} must be {example}, not {type(value).__name__}")
    if inspect.iscoroutinefunction(spec.on_error):
        raise ConfigError(f"{name}: on_error must be a plain function: nobody would await what an async one returns")
    one: Any = spec.transient
    classes = isinstance(one, tuple) and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in one)
    if one is not None and not classes and (isinstance(one, (tuple, type)) or not callable(one)):
        raise ConfigError(
            f"{name}: transient={one!r}: write a tuple of exception classes, like (ConnectionError,), or a function "
            "that is given the exception"
        )


def _check_signature(spec: Spec, name: str) -> None:
    function = inspect.unwrap(spec.function)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{name} has a yield in it, so that a call would run nothing; return instead")
    if isinstance(spec.function, type):
        raise ConfigError(f"{name} is a class; @worker must stand above a function")
    given = ("item",) if spec.resource is None else ("item", "resource")
    try:
        inspect.signature(spec.function).bind(*given)
    except TypeError:
        more = "" if spec.resource is None else ", because it has resource="
        raise ConfigError(
            f"{name}{inspect.signature(spec.function)} will be called with ({', '.join(given)}){more}; give it these "
            "parameters"
        ) from None
    except ValueError:  # written in C: nothing is known
        return


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object whose call is async
    )
