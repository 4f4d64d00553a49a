# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes: each worker has some, which are forked, watched, and started again when they die.

    supervise   the process that was started: forks, waits, tells systemd; touches no queue
    _Child      one process that it starts again: after a pause that doubles, DEATHS times without an item finished
    _child_of   what such a process does: attach, work, end

A SIGTERM (SIGINT, SIGHUP) goes to the supervisor, which passes it on: a process finishes what it has in hand; what is
not done within the grace period is given back, and a second signal shortens that to nothing. Both are passed on as a
word on the board, too: two signals that wait for a process at one time are one to it, and a function may have handlers
of its own. A process whose supervisor is gone ends in the same way. One whose call takes too long settles that item,
gives back the others, and ends itself; where it cannot even do that, because a C function holds the GIL, its supervisor
kills it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, final

from kemi import host, sdnotify
from kemi.errors import ConfigError, MqueueError, NotAllowed, UnknownQueue
from kemi.queue.catalog import ownership
from kemi.worker import board
from kemi.worker.board import Board, Place
from kemi.worker.course import Course, log, shown
from kemi.worker.spec import Spec
from kemi.worker.tasks import Tasks
from kemi.worker.threads import Crew, attached, flush_streams

if TYPE_CHECKING:
    from kemi.worker.spec import WorkQueue

STOPPED, USAGE, MISSING, NOT_ALLOWED, BROKEN = 0, 2, 3, 4, 6  # exit codes; those of the command line
TIME_LIMIT = 75  # of a process that ended itself
_FOR_GOOD = (USAGE, MISSING, NOT_ALLOWED)  # a new start would end in the same way
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LOOK = 0.25  # seconds between two looks at processes and `stop`
DEATHS = 30  # in a row, with no item finished between them
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds before the next start
_MARGIN = 2.0  # seconds that a process has more than its time limit before it is killed
_ENDS_WITHIN = 5.0  # seconds that it has after its grace period, to give back what it has in hand
_SERVER_STARTS = 3.0  # seconds in which a living server may make its queues

Beside = Callable[[Board], int]  # what another process does, until it is ended


@final
class Signals:
    """Signals that ask for an end, counted; `sleep` ends when one comes."""

    def __init__(self, stops: Sequence[int], deaf: Sequence[int] = (), wakes: Sequence[int] = ()) -> None:
        """deaf: signals that another process minds, as Ctrl-C goes to all that a terminal started.

        wakes: signals that end a sleep, and ask for nothing.
        """
        self.count = 0
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, Any] = {}
        for numbers, handler in ((stops, self._note), (deaf, self._ignore)):
            for number in numbers:
                if signal.getsignal(number) != signal.SIG_IGN:  # nohup, or a job in a plain shell's background
                    self._before[number] = signal.signal(number, handler)
        for number in wakes:
            self._before[number] = signal.signal(number, self._ignore)
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1

    def _ignore(self, _number: int, _frame: FrameType | None) -> None:
        """It has woken the sleep."""

    def sleep(self, seconds: float, also: int | None = None) -> None:
        """Sleep, at most until a signal comes, or the descriptor `also` can be read."""
        select.select([self._pipe[0]] if also is None else [self._pipe[0], also], [], [], max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            os.read(self._pipe[0], 4096)

    def restore(self) -> None:
        """As it was before."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for fd in self._pipe:
            os.close(fd)


# --- the supervisor ---------------------------------------------------------------------------------------------------


@final
class _Child:
    """A process that is started again when it dies."""

    def __init__(self, name: str, run: Callable[[], int], place: Place | None) -> None:
        self.name = name
        self.run = run
        self.place = place
        self.pid = 0
        self.due = 0.0  # monotonic: when it is to be started
        self.deaths = 0
        self._finished = -1

    def start(self) -> None:
        """Fork it. Signals wait until it can take them."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        flush_streams()
        try:
            if self.place is not None:
                self.place.reset()
            self.pid = os.fork()
            if self.pid == 0:
                _end(self.run)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def reap(self) -> int | None:
        """How it ended: its exit code, a signal's number as a negative one; None while it runs."""
        if not self.pid:
            return None
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else took it
            pid, status = self.pid, 255 << 8
        if not pid:
            return None
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def kill(self, number: int) -> None:
        """Send it a signal."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def died(self) -> bool:
        """It is to be started again, after a pause. False if it has died too often."""
        finished = 0
        if self.place is not None:
            self.place.add(board.DEATHS)
            tally = self.place.tally()
            finished = tally.done + tally.answered + tally.rejected + tally.failed
        self.deaths = 1 if finished != self._finished else self.deaths + 1
        self._finished = finished
        self.due = time.monotonic() + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (self.deaths - 1))
        return self.deaths < DEATHS

    def is_stuck(self) -> bool:
        """Return True if it should have ended itself, and has not."""
        place = self.place
        if not self.pid or place is None or place.spec.timeout is None:
            return False
        before = time.monotonic_ns() - int((place.spec.timeout + _MARGIN) * 1e9)
        return any(lane.runs_since(before) for lane in place.lanes)


def _end(run: Callable[[], int]) -> None:
    """What a forked process does, to its end: it never returns into what its parent was doing."""
    code = 255
    try:
        code = run()
    except BaseException as error:
        log.exception("this process failed: %s", shown(error))
    finally:
        flush_streams()
        os._exit(code)


@final
class _Supervisor:
    def __init__(self, specs: Sequence[Spec], where: str, grace: float, beside: Sequence[Beside]) -> None:
        self.board = Board(specs)
        self.board.connect()
        self.grace = grace
        self.signals = Signals(_STOPS, wakes=(signal.SIGCHLD,))
        self.code = STOPPED
        self._parent = os.getpid()
        self._until: float | None = None  # monotonic: when what still runs is killed
        self._told = 0  # signals that were passed on
        self._watchdog = sdnotify.watchdog_seconds()
        self._pinged = 0.0
        self.children = [self._worker(place, where) for place in self.board]
        self.children += [_Child(one.__name__, self._besides(one), None) for one in beside]

    def _worker(self, place: Place, where: str) -> _Child:
        def run() -> int:
            code = _child_of(place, where, self.grace, self._parent)
            place.store(board.VERDICT, code + 1)
            return code

        return _Child(place.spec.name, run, place)

    def _besides(self, one: Beside) -> Callable[[], int]:
        def run() -> int:
            for number in _STOPS:
                signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
            return one(self.board)

        return run

    def run(self, stop: Callable[[], bool]) -> int:
        names = sorted({place.spec.name for place in self.board})
        count = len(self.board.places)
        log.info("works with %d process%s: %s", count, "" if count == 1 else "es", ", ".join(names))
        sdnotify.tell("READY=1", f"STATUS=works: {', '.join(names)}")
        try:
            while self._until is None or any(child.pid for child in self.children):
                self._look(stop)
                self.signals.sleep(LOOK)
        finally:
            for child in self.children:
                child.kill(signal.SIGKILL)
                while child.pid and child.reap() is None:
                    time.sleep(0.01)
            self.signals.restore()
            self.board.close()
        log.info("ended: %s", self.board.tally())
        return self.code

    def _look(self, stop: Callable[[], bool]) -> None:
        for child in self.children:
            self._look_at(child)
        if self.signals.count > self._told or (self._until is None and stop()):
            self._told = self.signals.count
            self.stop()
        now = time.monotonic()
        if self._until is not None and now >= self._until:
            for child in self.children:
                child.kill(signal.SIGKILL)
        elif self._until is None:
            for child in self.children:
                if not child.pid and now >= child.due:
                    child.start()
        self._ping(now)

    def _look_at(self, child: _Child) -> None:
        code = child.reap()
        if code is not None:
            self._ended(child, code)
        elif child.is_stuck():
            log.error("%s: process %d did not end at its time limit and is killed", child.name, child.pid)
            child.kill(signal.SIGKILL)

    def stop(self) -> None:
        """Pass on that it is time to end; the second time, at once."""
        again = self._until is not None
        self._until = time.monotonic() + (0.0 if again else self.grace) + _ENDS_WITHIN
        sdnotify.tell("STOPPING=1", f"STATUS={'gives back' if again else 'finishes'} what is in hand")
        for child in self.children:
            if child.place is not None:
                child.place.store(board.STOPS, 2 if again else 1)
            child.kill(signal.SIGTERM)

    def _ended(self, child: _Child, code: int) -> None:
        if self._until is not None:
            return
        is_verdict = child.place is None or child.place.read(board.VERDICT) == code + 1  # no os._exit of a function's
        if is_verdict and code in _FOR_GOOD:
            self.code = code
            self.stop()
        elif is_verdict and code == TIME_LIMIT:
            child.due = 0.0
        else:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
            again = child.died()
            log.error("%s: a process %s", child.name, how)
            if not again:
                log.error("%s: %d processes in a row died, and finished no item: it is given up", child.name, DEATHS)
                self.code = BROKEN
                self.stop()

    def _ping(self, now: float) -> None:
        """Tell systemd's watchdog that all is well, unless a process gives no sign of life."""
        if self._watchdog is None or now < self._pinged + self._watchdog / 4:
            return
        oldest = time.monotonic_ns() - int(self._watchdog * 1e9)
        silent = [
            child.name
            for child in self.children
            if child.pid and child.place is not None and child.place.read(board.HEARTBEAT) < oldest
        ]
        self._pinged = now
        sdnotify.tell(f"STATUS=gives no sign of life: {', '.join(silent)}" if silent else "WATCHDOG=1")


def supervise(
    specs: Sequence[Spec], where: str, grace: float, stop: Callable[[], bool], beside: Sequence[Beside] = ()
) -> int:
    """Run workers until a signal, or `stop`, ends them. Return the exit code. Called in the main thread."""
    return _Supervisor(specs, where, grace, beside).run(stop)


# --- one process of a worker ------------------------------------------------------------------------------------------


def _child_of(place: Place, where: str, grace: float, parent: int) -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signals = Signals((signal.SIGTERM,), deaf=(signal.SIGINT, signal.SIGHUP))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)

    def ends() -> bool:
        place.beat()
        return signals.count > 0 or place.read(board.STOPS) > 0 or os.getppid() != parent

    try:
        queue = _attached(place.spec, where, ends, signals.sleep)
        if queue is None:
            return STOPPED
        place.store(board.ATTACHED, 1)
        if place.spec.is_async:
            asyncio.run(_serve(queue, place, grace, parent, signals))
            return STOPPED
        return _watch(Crew(place.spec, queue, place), signals, ends, grace)
    except ConfigError as error:
        log.error("%s", shown(error))
        return USAGE
    except UnknownQueue as error:
        log.error("%s: %s", place.spec.name, error)
        return MISSING
    except NotAllowed as error:
        log.error("%s: %s", place.spec.name, error)
        return NOT_ALLOWED


def _attached(spec: Spec, where: str, ends: Callable[[], bool], sleep: Callable[[float], None]) -> WorkQueue | None:
    """The queue, once its server is there; None when it is time to end. Raises UnknownQueue, NotAllowed."""
    told, since = "", time.monotonic()
    while not ends():
        try:
            return attached(spec.queue, where)
        except UnknownQueue as error:
            why = str(error)
            if not _has_living_server(where):
                since = time.monotonic()
            elif time.monotonic() > since + _SERVER_STARTS:
                raise UnknownQueue(host.no_queue(where, spec.queue)) from None
        except (ConfigError, NotAllowed):
            raise
        except MqueueError as error:
            why = shown(error)
        if why != told:
            told = why
            log.warning("%s: waits for queue %r: %s", spec.name, spec.queue, why)
        sleep(LOOK)
    return None


def _has_living_server(where: str) -> bool:
    try:
        return "://" not in where and host.find(where).state() == ownership.ALIVE
    except MqueueError:
        return False


def _watch(crew: Crew, signals: Signals, ends: Callable[[], bool], grace: float) -> int:
    """Watch over the threads of this process, in its main thread."""
    timeout = crew.spec.timeout
    look = LOOK if timeout is None else max(0.02, min(LOOK, timeout / 5))
    until: float | None = None
    crew.start()
    while crew.is_working():
        if ends() and until is None:
            until = time.monotonic() + grace
            crew.stop(grace)
        if until is not None and (time.monotonic() >= until or crew.place.read(board.STOPS) > 1):
            crew.give_up()
            return STOPPED
        late = crew.late()
        if late and crew.end_late(late):
            crew.place.add(board.TIME_LIMITS)
            crew.give_up()
            return TIME_LIMIT
        if until is None:
            signals.sleep(look, crew.place.fileno())
            if crew.place.was_woken():
                crew.wake()
        else:
            crew.wait(0.02)
    if isinstance(crew.fatal, ConfigError):
        raise crew.fatal
    return STOPPED if crew.fatal is None else BROKEN


async def _serve(queue: WorkQueue, place: Place, grace: float, parent: int, signals: Signals) -> None:
    """Run the tasks of this process."""
    tasks = Tasks(Course(place.spec, place), queue)
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(tasks.serve(grace))
    loop.add_signal_handler(signal.SIGTERM, tasks.stop)

    def look() -> None:
        if place.was_woken():
            tasks.wake()

    if (fd := place.fileno()) is not None:
        loop.add_reader(fd, look)
    cancelled = False
    while not serving.done():
        place.beat()
        if signals.count or place.read(board.STOPS) or os.getppid() != parent:
            tasks.stop()
        if place.read(board.STOPS) > 1 and not cancelled:
            cancelled = serving.cancel()
        await asyncio.wait({serving}, timeout=LOOK)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
