"""The lock of a queue is free after each call, wherever a signal handler raises."""

from __future__ import annotations

import errno
import gc
import inspect
import os
import random
import signal
import sys
import threading
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from kemi.errors import LockTimeout, Reentered
from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.format import layout
from kemi.queue.kernel import choice
from kemi.queue.lock import lockwait, mutex, section
from kemi.queue.lock.mutex import Mutex, trylock, unlock
from kemi.queue.lock.section import Token, hold
from kemi.queue.queue import Queue
from tests.conftest import HANG
from tests.locked import locked
from tests.unit.children import child, fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from pytest_mock import MockerFixture

WINDOW = 16 << 20


without_hold = pytest.mark.skipif(sys.version_info < (3, 10), reason="there add and pop use hold, too")


class Boom(Exception):
    """What the signal handlers below raise."""


def _boom(*_: object) -> None:
    raise Boom


@contextmanager
def handler(number: int, function: Callable[..., object] = _boom) -> Iterator[None]:
    """Have a signal handled for the time of a block."""
    before = signal.signal(number, function)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.fixture
def queue(instance: str) -> Queue:
    return Queue.create(instance, "q", window=WINDOW)


def is_free(queue: Queue) -> bool:
    """Whether another process gets the lock at once."""
    outcome: list[int] = []
    thread = threading.Thread(target=lambda: outcome.append(_take_and_free(queue)))
    thread.start()
    thread.join()
    return not outcome[0]


def _take_and_free(queue: Queue) -> int:
    code = trylock(queue._mutex.ref)
    if not code:
        unlock(queue._mutex.ref)
    return code


def armed(queue: Queue) -> Token:
    token = Token()
    token.guard = weakref.ref(token, queue._mutex.free)
    return token


# --- the token --------------------------------------------------------------------------------------------------------


def test_a_token_unlocks_when_it_dies(queue: Queue) -> None:
    token = armed(queue)
    queue._mutex.take()
    assert not is_free(queue)
    del token
    assert is_free(queue)


def test_a_token_without_the_lock_does_nothing(queue: Queue) -> None:
    with child(queue._mutex.take):
        token = armed(queue)
        del token
        assert not is_free(queue)


def test_a_token_is_for_what_it_was_armed_for_last(instance: str, queue: Queue) -> None:
    other = Queue.create(instance, "other", window=WINDOW)
    token = armed(queue)
    token.guard = weakref.ref(token, other._mutex.free)
    queue._mutex.take()
    other._mutex.take()
    del token
    assert is_free(other)
    assert not is_free(queue)
    armed(queue)
    assert is_free(queue)


# --- hold -------------------------------------------------------------------------------------------------------------


def test_it_is_held_for_the_time_of_the_work(queue: Queue) -> None:
    assert hold(queue._mutex, lambda: (queue._mutex.is_mine(), is_free(queue))) == (True, False)
    assert is_free(queue)


def test_it_is_free_while_the_exception_is_alive(queue: Queue) -> None:
    with pytest.raises(Boom) as caught:
        hold(queue._mutex, _boom)
    assert is_free(queue)
    assert caught.tb is not None


@pytest.mark.python_code
@pytest.mark.parametrize("call", ["peek", "fetch_many", "add_many"])
def test_it_is_free_while_an_exception_is_alive_that_came_with_the_lock(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The handler runs at the beginning of any function on the long way to the lock: a traceback has the arguments."""
    calls: dict[str, Callable[[], object]] = {
        "peek": queue.peek,
        "fetch_many": lambda: queue.fetch_many(2),
        "add_many": lambda: queue.add_many([("k", "v")]),
    }
    monkeypatch.setattr(section, "trylock", lambda _: errno.EBUSY)
    left, booms = 0, 0

    def trace(frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal left
        if frame.f_globals["__name__"].startswith("kemi.") and not frame.f_code.co_flags & inspect.CO_GENERATOR:
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise Boom

    before = sys.gettrace()
    while booms == left:
        queue.add("k", "v")
        booms, left = booms + 1, booms + 1
        try:
            sys.settrace(trace)
            calls[call]()
        except Boom:
            sys.settrace(before)
            assert is_free(queue), booms
            left = booms
        finally:
            sys.settrace(before)
        queue.clear()
    assert booms > 10


def test_a_second_hold_leaves_the_first_alone(queue: Queue) -> None:
    def nested() -> bool:
        with pytest.raises(Reentered, match="this thread holds the lock"):
            hold(queue._mutex, lambda: None)
        return is_free(queue)

    assert not hold(queue._mutex, nested)


def test_a_call_in_a_handler_leaves_a_queue_alone_that_moves(queue: Queue) -> None:
    queue.add("k", "v")
    with queue.moving() as records:
        for call in (queue.stats, queue.pop, lambda: queue.add("k", "v"), lambda: queue.fetch_many(2)):
            with pytest.raises(Reentered, match="this thread holds the lock"):
                call()
            assert not is_free(queue)
        assert len(list(records)) == 1
    assert is_free(queue)
    assert queue.segment.words[layout.W_MUTEX] == 0


@without_hold
def test_what_a_handler_lets_out_is_no_reason_to_keep_the_lock(queue: Queue, mocker: MockerFixture) -> None:
    """A handler uses the queue and does not catch Reentered: it comes out of the call, whose lock is free then."""
    append = queue._append

    def interrupted(record: bytes, step: int) -> object:
        queue.peek()
        return append(record, step)

    choice.detach(queue)  # what is interrupted here is Python
    mocker.patch.object(queue, "_append", interrupted)
    mocker.patch.object(queue, "_tail_end", 0)
    with pytest.raises(Reentered):
        queue.add("k", "v")
    assert is_free(queue)


@without_hold
def test_a_nested_call_that_another_signal_breaks_off_leaves_the_lock_to_the_outer_one(
    queue: Queue, mocker: MockerFixture
) -> None:
    """In a handler an add looks for the lock, which the interrupted call has; another handler raises just then."""

    def broken_off(*_: object) -> object:
        raise Boom

    def nested() -> bool:
        mocker.patch.object(queue._mutex, "take_slowly", broken_off)
        with pytest.raises(Boom):
            queue.add("k", "v")
        mocker.stopall()
        return is_free(queue)

    mutex = queue._mutex
    assert not hold(mutex, nested)
    assert is_free(queue)


def test_what_is_half_done_is_put_right_before_the_lock_is_free(queue: Queue, mocker: MockerFixture) -> None:
    seen: list[bool] = []
    repair = queue._log.recover

    def look_and_repair() -> None:
        seen.append(is_free(queue))
        repair()

    mocker.patch.object(queue._log, "recover", look_and_repair)
    with pytest.raises(Boom):
        queue.handle.work(_boom)
    assert seen == [False]
    assert is_free(queue)


def test_a_second_exception_before_that_is_no_harm(queue: Queue) -> None:
    """Another handler raises when the first exception is being dealt with: it is dealt with all the same."""
    interrupted = iter([True, False])

    def put_right(mutex: Mutex, error: BaseException) -> None:
        if next(interrupted):
            raise Boom
        queue.handle.put_right(mutex, error)

    with pytest.raises(Boom):
        hold(queue._mutex, _boom, put_right)
    assert is_free(queue)
    assert queue.segment.words[layout.W_MUTEX] == 0


def test_exceptions_that_never_end_make_the_next_one_repair(queue: Queue) -> None:
    """What cannot be put right here is left as after a kill, not as if nothing was."""
    queue.add("k", "v")
    with pytest.raises(Boom):
        hold(queue._mutex, _boom, _boom)
    recovered = queue.stats().recovered
    assert recovered == 1
    assert queue.segment.words[layout.W_MUTEX] == 1
    item = queue.fetch()
    assert item is not None
    assert item.key == "k"


def test_a_forked_child_leaves_the_lock_to_its_parent(queue: Queue) -> None:
    """A handler forks in the middle of a call; what the child raises changes nothing for its parent."""
    queue.add("k", "v")

    def fork_and_raise() -> None:
        if not (pid := os.fork()):
            raise SystemExit
        assert os.waitpid(pid, 0)[1] == 0
        assert queue._mutex.is_mine()

    parent = os.getpid()
    try:
        queue.handle.work(fork_and_raise)
    finally:
        if os.getpid() != parent:
            os._exit(0)
    assert is_free(queue)
    assert queue.stats().recovered == 0


# --- every call, under signals at any moment --------------------------------------------------------------------------


def _reserve(queue: Queue) -> None:
    queue.add("k", "v")
    with queue.reserve():
        pass


def _add_and_clear(queue: Queue) -> None:
    queue.add("k", "v")
    queue.clear()


def _attach_and_close(queue: Queue) -> None:
    _, instance, name = queue.segment.name.split(".")
    AttachedQueue(instance, name).close()


CALLS: dict[str, Callable[[Queue], object]] = {
    "add, pop": lambda queue: (queue.add("k", "v" * 50), queue.pop()),
    "large": lambda queue: (queue.add("k", "v" * 70_000), queue.pop()),
    "batches": lambda queue: (queue.add_many([("k", "v")] * 5), queue.fetch_many(5)),
    "reserve": _reserve,
    "fetch with a timeout": lambda queue: queue.fetch(0.0001),
    "pop_if": lambda queue: (queue.add("k", "v"), queue.pop_if(lambda _: False)),
    "peek": lambda queue: queue.peek(3),
    "undone": lambda queue: queue.undone(),
    "stats": lambda queue: queue.stats(),
    "limits": lambda queue: queue.set_limits(100_000, 0),
    "deliveries": lambda queue: queue.set_deliveries(3),
    "open": lambda queue: queue.open(),
    "clear": _add_and_clear,
    "settle": lambda queue: queue.handle.wait_until_unlocked(),
    "attach, close": _attach_and_close,
}


@contextmanager
def _frames_kept() -> Iterator[list[list[FrameType]]]:
    """Run Python at nearly every moment of a block that makes an object, and keep all frames with their variables.

    So do debuggers, and whatever keeps an exception that came in a callback of the garbage collector or a `__del__`.
    """
    kept: list[list[FrameType]] = []

    def collected(_phase: str, _about: object) -> None:
        frames: list[FrameType] = []
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_globals["__name__"] != __name__.partition(".")[0]:
            frames.append(frame)
            if frame.f_globals["__name__"].startswith("kemi."):
                assert frame.f_locals is not None  # makes a dict of them, which the frame keeps
            frame = frame.f_back
        kept.append(frames)

    before = gc.get_threshold()
    gc.callbacks.append(collected)
    gc.set_threshold(1)
    try:
        yield kept
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(collected)


@pytest.mark.parametrize("addmode", [0, 2])
@pytest.mark.parametrize("name", CALLS)
def test_frames_that_live_on_do_not_keep_the_lock(instance: str, name: str, addmode: int) -> None:
    registry = Registry.create(instance, this_process(), 1 << 30)
    queue = Queue.create(instance, "q", window=WINDOW, addmode=addmode, registry=registry)
    with _frames_kept() as kept:
        CALLS[name](queue)
        queue.peek()  # whatever an add and a fetch make
    assert is_free(queue)
    assert kept


def test_frames_that_live_on_do_not_keep_the_lock_of_a_queue_that_moves(queue: Queue) -> None:
    queue.add("k", "v")
    with _frames_kept() as kept, queue.moving() as records:
        assert len(list(records)) == 1
    assert is_free(queue)
    assert kept


def test_frames_that_live_on_do_not_keep_the_lock_of_a_queue_that_ends(queue: Queue) -> None:
    with _frames_kept():
        queue.remove()
    assert is_free(queue)


# Python 3.9 looks for signals between nearly all instructions, also at the beginning of a `finally`.
_AT_ONCE = sys.version_info >= (3, 10)


@pytest.mark.parametrize("addmode", [0, 2])
@pytest.mark.parametrize("name", CALLS)
def test_a_signal_at_any_moment(
    instance: str, name: str, addmode: int, stress: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler raises at random moments: the lock is free then, and nothing but that exception comes out."""
    registry = Registry.create(instance, this_process(), 1 << 30)
    queue = Queue.create(instance, "q", window=WINDOW, addmode=addmode, registry=registry)
    call, mutex = CALLS[name], queue._mutex
    booms = held = 0
    armed = False

    def strike(*_: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Boom

    def call_until_struck() -> None:  # some Pythons leave the jump of a loop out of the `try` around it
        while armed:
            call(queue)

    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # Python ignores what is raised in a `__del__`
    with handler(signal.SIGALRM, strike):
        try:
            while booms < (5000 if stress else 60):
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-4))  # noqa: S311
                    call_until_struck()
                except Boom:
                    booms += 1
                    held += _AT_ONCE and mutex.is_mine()
                held += mutex.is_mine()
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
    assert held == 0
    assert is_free(queue)
    queue.clear()
    assert (len(queue), queue.stats().reserved) == (0, 0)


# --- waiting ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["clocklock", "older C library"])
def _waits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(lockwait, "_clocklock", None)


@pytest.mark.usefixtures("_waits")
def test_who_waits_lets_a_thread_of_its_own_process_go_on(queue: Queue) -> None:
    """It may be the holder, which needs the interpreter in order to unlock."""
    queue._mutex.timeout = HANG
    has = threading.Event()

    def hold_and_compute() -> None:
        with locked(queue._mutex):
            has.set()
            sum(number for number in range(300_000))

    thread = threading.Thread(target=hold_and_compute)
    thread.start()
    assert has.wait(HANG)
    queue.add("k", "v")
    thread.join()
    assert len(queue) == 1


@pytest.mark.usefixtures("_waits")
def test_a_signal_is_served_while_one_waits_for_the_lock(queue: Queue) -> None:
    """At once, not after lock_timeout."""
    queue._mutex.timeout = 10 * HANG

    waits = threading.Event()

    def strike() -> None:
        assert waits.wait(HANG)
        os.kill(os.getpid(), signal.SIGUSR1)

    def add() -> None:
        waits.set()
        queue.add("k", "v")

    thread = threading.Thread(target=strike)
    with child(queue._mutex.take), handler(signal.SIGUSR1):
        thread.start()
        begin = time.monotonic()
        with pytest.raises(Boom):
            add()
        thread.join()
        assert time.monotonic() - begin < HANG / 2


@pytest.mark.usefixtures("_waits")
def test_who_waits_gets_it_when_the_holder_is_done(queue: Queue) -> None:
    queue._mutex.timeout = HANG
    has, tell = os.pipe()

    def hold_a_while() -> None:
        with locked(queue._mutex):
            os.write(tell, b".")
            time.sleep(0.05)

    pid = fork(hold_a_while)
    os.read(has, 1)
    queue.add("k", "v")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(has)
    os.close(tell)


@pytest.mark.usefixtures("_waits")
def test_the_wait_ends_after_lock_timeout(queue: Queue) -> None:
    queue._mutex.timeout = 0.1
    with child(queue._mutex.take):
        begin = time.monotonic()
        with pytest.raises(LockTimeout):
            queue.add("k", "v")
        assert 0.1 <= time.monotonic() - begin < HANG / 2


def test_other_threads_run_while_one_waits(queue: Queue, mocker: MockerFixture) -> None:
    """The interpreter is given up between two slices of a wait: one of them can have the holder end."""
    queue._mutex.timeout = HANG
    begun = threading.Event()
    mocker.patch.object(mutex, "lock_until", _after(begun.set, lockwait.lock_until))
    with child(queue._mutex.take) as pid:

        def work() -> None:
            assert begun.wait(HANG)
            for _ in range(20):
                time.sleep(0.0005)
            os.kill(pid, signal.SIGKILL)

        thread = threading.Thread(target=work)
        thread.start()
        assert queue.add("k", "v")
        thread.join()


def _after(call: Callable[[], object], function: Callable[..., object]) -> Callable[..., object]:
    """Return a function that makes a call first."""

    def called(*arguments: object) -> object:
        call()
        return function(*arguments)

    return called


def test_a_call_in_a_handler_is_refused_while_another_one_is_under_way(queue: Queue) -> None:
    """Neither in the long way nor in another opening of the queue."""
    again = Queue.of_segment(queue.segment.name, None, 1.0, "q")
    refused = []

    def look() -> None:
        for one in (queue, again):
            with pytest.raises(Reentered):
                one.add("k", "v")
            with pytest.raises(Reentered):
                one.peek()
            refused.append(one)

    hold(queue._mutex, look)
    assert refused == [queue, again]
    assert len(queue) == 0
