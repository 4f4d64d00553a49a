# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain functions: the threads of one process, each of which takes an item, calls the function, and settles the item.

    Crew     the threads; `look` is for whoever watches over them
    Desk     one thread's resource, and the call
    follow   carries out the steps of a course

A thread is never interrupted. What it has in hand when it may not go on is given back by another thread, and what it
makes of the item later changes nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, final

from kemi.errors import ClientClosed, ConfigError, LockTimeout, MqueueError
from kemi.queue.delivery.hold import Settlement
from kemi.queue.delivery.reserved import settle
from kemi.worker import board
from kemi.worker.board import Lane, Place, alone
from kemi.worker.course import Call, Course, Pause, Recovered, Result, Settle, Step, Steps, log, shown, tell_stop
from kemi.worker.spec import Spec

if TYPE_CHECKING:
    from kemi.queue.delivery.reserved import ReservedItem
    from kemi.worker.spec import WorkQueue

SLICE = 0.5  # seconds of one wait for an item, after which a thread looks whether it should stop
TROUBLE = 0.5  # seconds before a queue that raised is tried again
GIVE_BACK = Settlement("give back", counted=False)


def attached(queue: str, where: str) -> WorkQueue:
    """The queue of an instance, or of an engine. Raises as `attach`."""
    found: WorkQueue = importlib.import_module("mqueue_kemi").attach(queue, where)  # which is above all rooms
    return found


@final
class Desk:
    """What one thread calls the function with."""

    def __init__(self, spec: Spec, lane: Lane) -> None:
        self.at_resource = False  # it is entered or left at this moment
        self._spec = spec
        self._lane = lane
        self._context: Any = None
        self._given: tuple[Any, ...] = ()

    def open(self) -> None:
        """Enter the resource, unless it is. Raises ConfigError for what is no context, and what the resource raises."""
        make = self._spec.resource
        if make is None or self._context is not None:
            return
        with self._resource():
            context = make()
            if not hasattr(type(context), "__enter__"):
                raise ConfigError(no_context(self._spec, context, "__enter__"))
            self._given = (context.__enter__(),)
            self._context = context

    def close(self, error: BaseException | None = None) -> None:
        """Leave the resource, with what was raised in it."""
        context, self._context, self._given = self._context, None, ()
        if context is not None:
            try:
                with self._resource():
                    context.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
            except BaseException as at_end:
                if is_interrupt(at_end):
                    raise
                if at_end is not error:
                    log.info("%s: the resource raised at its end: %s", self._spec.name, shown(at_end))

    @contextlib.contextmanager
    def _resource(self) -> Iterator[None]:
        """What is done with the resource: it may hang as well as the function."""
        self.at_resource = True
        self._lane.watch()
        try:
            yield
        finally:
            self._lane.rest()
            self.at_resource = False

    def call(self, item: ReservedItem) -> Result:
        """Call the function. What it raises is in the result, also SystemExit; ConfigError of the resource passes."""
        try:
            self.open()
        except ConfigError:
            raise
        except BaseException as error:
            if is_interrupt(error):
                raise
            return Result(error=error, opening=True)
        value, raised = self._called(item)
        if raised is not None:
            if is_interrupt(raised):
                raise raised
            return Result(error=raised)
        if inspect.isawaitable(value):
            getattr(value, "close", lambda: None)()
            text = f"{self._spec.name} returned something to await, but is no async function: write async def"
            return Result(error=TypeError(text))
        return Result(value)

    def _called(self, item: ReservedItem) -> tuple[Any, BaseException | None]:
        """What the function returned, and what it raised."""
        value: Any = None
        raised: BaseException | None = None
        pid = os.getpid()
        self._lane.begin(item.age)
        try:
            value = self._spec.function(item, *self._given)
        except BaseException as error:
            raised = error
        if os.getpid() != pid:
            end_fork(self._spec, raised)
        self._lane.end()
        return value, raised


def is_interrupt(error: BaseException) -> bool:
    """Is it Ctrl-C, of a person who runs this in a program or a test of theirs? Then it is no item's failure."""
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


def end_fork(spec: Spec, error: BaseException | None) -> NoReturn:
    """End a process that a function has forked, and that came back from it: two would settle one item, and go on."""
    code = 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        log.error("%s: in a process that it forked: %s", spec.name, shown(error), exc_info=error)
    else:
        log.error("%s: a process that it forked came back from it, and is ended; end it with os._exit()", spec.name)
    flush_streams()
    os._exit(code & 0xFF)


def flush_streams() -> None:
    """Write out what was printed, as far as that can be done: before a fork, or an end that Python is not told of."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def no_context(spec: Spec, context: object, method: str) -> str:
    """Say what is wrong with a resource."""
    kinds = ("async with", "@asynccontextmanager") if spec.is_async else ("with", "@contextmanager")
    return (
        f"{spec.name}: resource= must give a context for `{kinds[0]}`, as a function with {kinds[1]} does; "
        f"{type(context).__name__} has no {method}"
    )


def follow(steps: Steps, carry_out: Callable[[Step], Any]) -> None:
    """Carry out steps, one after the other."""
    answer: Any = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration:
            return
        answer = carry_out(step)


def settle_now(spec: Spec, step: Settle) -> bool:
    """Settle an item. An error is logged: there is nobody who could do more about it."""
    try:
        return settle(step.item, step.how)
    except LockTimeout as error:
        log.warning("%s: %s; kept in mind, and done with the next call", spec.name, shown(error))
        return True
    except MqueueError as error:
        log.error("%s: item %s: %s failed: %s", spec.name, step.item.id, step.how.kind, shown(error))
        return False


def most_deliveries(queue: WorkQueue) -> int | None:
    """The queue's max_deliveries, where that can be known."""
    with contextlib.suppress(MqueueError, AttributeError):
        return queue.stats().max_deliveries or None
    return None


@final
class Crew:
    """The threads of a worker in one process."""

    def __init__(self, spec: Spec, queue: WorkQueue, place: Place | None = None) -> None:
        self.spec = spec
        self.place = place or alone(spec)
        self.course = Course(spec, self.place)
        self.fatal: BaseException | None = None  # why a thread cannot go on
        self._queue = queue
        self._changed = threading.Condition()
        self._recoveries = 0
        self._stopping = False
        self._left = spec.concurrency  # threads that have not ended
        self._hands: dict[int, ReservedItem] = {}
        self._desks = [Desk(spec, lane) for lane in self.place.lanes]
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"{spec.name} {number}", daemon=True)
            for number in range(spec.concurrency)
        ]

    def start(self) -> None:
        """Begin to work."""
        self.course.max_deliveries = most_deliveries(self._queue)
        for thread in self._threads:
            thread.start()

    def stop(self, grace: float | None = None) -> None:
        """Let each thread finish what it has in hand, and begin with nothing more.

        grace: seconds that it is waited for; then this is logged.
        """
        with self._changed:
            self._stopping = True
            in_hand = len(self._hands)
            self._changed.notify_all()
        if grace is not None:
            tell_stop(self.spec, in_hand + len(self.course.held()), grace)

    def is_working(self) -> bool:
        """Return True while a thread runs."""
        return any(thread.is_alive() for thread in self._threads)

    def wait(self, seconds: float) -> bool:
        """Wait for the end of all threads. Return True if they have ended."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX)))
        return not self.is_working()

    def give_up(self) -> None:
        """Give back what is in hand, without counting it as a delivery."""
        for item in [*self.course.held(), *list(self._hands.values())]:
            settle_now(self.spec, Settle(item, GIVE_BACK))

    def late(self) -> list[int]:
        """The lanes whose call takes longer than `timeout`."""
        if self.spec.timeout is None:
            return []
        before = time.monotonic_ns() - int(self.spec.timeout * 1e9)
        return [number for number, lane in enumerate(self.place.lanes) if lane.runs_since(before)]

    def end_late(self, numbers: list[int]) -> bool:
        """Settle the items of these lanes, whose process ends now. False if they have ended meanwhile."""
        found = False
        for number in numbers:
            at_resource, item = self._desks[number].at_resource, self._hands.get(number)
            if number not in self.late():
                continue
            if at_resource:  # no item's fault: what is in hand is given back
                log.error(
                    "%s: its resource was not entered or left within timeout=%g s; the process ends",
                    *(self.spec.name, self.spec.timeout),
                )
                found = True
            elif item is not None and not item.settled:
                found = True
                follow(self.course.time_limit(item, self.place.lanes[number]), self._only_settle)
        return found

    def _only_settle(self, step: Step) -> Any:
        return settle_now(self.spec, step) if isinstance(step, Settle) else None

    # --- one thread ---------------------------------------------------------------------------------------------------

    def _run(self, number: int) -> None:
        desk = self._desks[number]
        try:
            self._open_early(desk)
            while not self._stopping:
                self._work(number, desk)
        except BaseException as error:
            self.fatal = error
            self.stop()
            is_setup = isinstance(error, ConfigError)
            if item := self._hands.get(number):
                settle_now(self.spec, Settle(item, Settlement("give back", counted=not is_setup)))
            if not is_setup:
                log.exception("%s: a thread of this worker failed", self.spec.name)
        finally:
            self._hands.pop(number, None)
            desk.close()
            with self._changed:
                self._left -= 1
                is_last = not self._left
            if is_last:
                follow(self.course.end(), self._only_settle)

    def _open_early(self, desk: Desk) -> None:
        """So that a mistake shows at the start, and not with the first item. What is away now may be there by then."""
        try:
            desk.open()
        except ConfigError:
            raise
        except BaseException as error:
            log.warning("%s: the resource is not there yet: %s", self.spec.name, shown(error))

    def _work(self, number: int, desk: Desk) -> None:
        """Work on one item, if one comes soon."""
        follow(self.course.overdue(), self._only_settle)
        parked = self.course.parked()
        item = parked or self._next()
        if item is None or not self._begin(number, item):
            return
        last: BaseException | None = None
        woken = False  # once for an item: it may be one that fails while all others succeed

        def carry_out(step: Step) -> Any:
            nonlocal last, woken
            if isinstance(step, Call):
                result = desk.call(step.item)
                last = result.error
                return result
            if isinstance(step, Settle):
                return settle_now(self.spec, step)
            if isinstance(step, Pause):
                desk.close(last)
                woken = self._sleep(step.seconds, None if woken else self._recoveries) or woken
                return 0.0 if self._stopping else None
            self._recover()
            return None

        lane = self.place.lanes[number]
        follow(self.course.of(item, lane, was_parked=parked is not None), carry_out)
        del self._hands[number]

    def _begin(self, number: int, item: ReservedItem) -> bool:
        """Have an item in hand. False: a stop came while it was waited for, and it went back."""
        with self._changed:
            self._hands[number] = item
            stopping = self._stopping
        if stopping:
            settle_now(self.spec, Settle(item, GIVE_BACK))
            del self._hands[number]
        return not stopping

    def _next(self) -> ReservedItem | None:
        item: ReservedItem | None = None
        try:
            item = self._queue.reserve(timeout=SLICE).take()
        except ClientClosed:
            self.stop()
        except MqueueError as error:
            log.warning("%s: no item from queue %r: %s", self.spec.name, self.spec.queue, shown(error))
            self._sleep(TROUBLE)
        return item

    def _sleep(self, seconds: float, recoveries: int | None = None) -> bool:
        """Sleep, at most until this stops, or there are more recoveries than so many: then it returns True."""

        def is_there() -> bool:
            return recoveries is not None and recoveries != self._recoveries

        awaits = int(recoveries is not None)
        with self._changed:
            self.place.add(board.AWAITING, awaits)
            self._changed.wait_for(lambda: self._stopping or is_there(), seconds)
            self.place.add(board.AWAITING, -awaits)
            return is_there()

    def _recover(self) -> None:
        self.course.recovered()
        self.wake()

    def wake(self) -> None:
        """Let the threads try again that sleep until the backend is there."""
        with self._changed:
            self._recoveries += 1
            self._changed.notify_all()


def drain(course: Course, queue: WorkQueue) -> None:
    """Work in this thread, without a sleep, until nothing is due, or the worker would pause."""
    spec, lane = course.spec, course.place.lanes[0]
    course.max_deliveries = most_deliveries(queue)
    desk = Desk(spec, lane)
    pauses = False

    def carry_out(step: Step) -> Any:
        nonlocal pauses
        if isinstance(step, Call):
            return desk.call(step.item)
        if isinstance(step, Pause):
            pauses = True
            return step.seconds
        return None if isinstance(step, Recovered) else settle(step.item, step.how)

    try:
        while not pauses and (item := queue.reserve(timeout=0).take()) is not None:
            try:
                follow(course.of(item, lane), carry_out)
            except BaseException:
                settle_now(spec, Settle(item, GIVE_BACK))
                raise
    finally:
        follow(course.end(), carry_out)
        desk.close()
