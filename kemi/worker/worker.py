# SPDX-License-Identifier: GPL-2.0-or-later
"""`@worker` and what runs workers: `run` (processes), `arun` (an event loop), `Worker.start` and `Worker.drain`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union, final, overload

from kemi.errors import ConfigError
from kemi.names import DEFAULT_INSTANCE
from kemi.worker import tasks, threads
from kemi.worker.board import Place, alone
from kemi.worker.course import Course
from kemi.worker.spec import PAUSE, Failure, Spec, Tally, Transient, check_queue, checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import ParamSpec

    from kemi.queue.delivery.reserved import ReservedItem
    from kemi.queue.sync.stop import Stop
    from kemi.worker.board import Board
    from kemi.worker.spec import WorkQueue
else:
    try:
        from typing import ParamSpec
    except ImportError:  # Python 3.9: what is written as Worker[...] in an annotation is a text

        def ParamSpec(name: str) -> Any:  # noqa: N802 - it stands for the class
            """Return something that Generic takes."""
            return TypeVar(name)


P = ParamSpec("P")
T = TypeVar("T")
Answerable = Union[str, bytes, None]
R = TypeVar("R", bound=Union[Answerable, Awaitable[Answerable]])
Resource = Union[Callable[[], "AbstractContextManager[T]"], Callable[[], "AbstractAsyncContextManager[T]"]]
_ENDS_WITHIN = 2.0  # seconds for an event loop to end what it cancelled


@final
class Worker(Generic[P, R]):
    """A function with what `@worker` says of it. It can be called as before, for instance in a unit test."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._courses: weakref.WeakKeyDictionary[WorkQueue, Course] = weakref.WeakKeyDictionary()  # of `drain`
        functools.update_wrapper(self, spec.function, updated=())

    @property
    def queue(self) -> str:
        """The name of the queue that it works on."""
        return self._spec.queue

    @property
    def spec(self) -> Spec:
        """The function and the options."""
        return self._spec

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself."""
        result: R = self._spec.function(*args, **kwargs)
        return result

    def drain(self, queue: WorkQueue) -> Tally:
        """Work here, in this thread, until nothing is due, or the worker would pause. For tests: it never sleeps.

        One item after the other, whatever `concurrency` is; the `timeout` of a plain function is not watched. What
        failed is given back, so that a later call tries it again. Raises what the queue raises, and ConfigError.
        """
        if self._spec.is_async and _loop_runs():
            raise ConfigError("drain() would block the event loop: write await asyncio.to_thread(worker.drain, queue)")
        course = self._courses.get(queue)
        if course is None:
            course = self._courses[queue] = Course(self._spec, alone(self._spec))
        before = course.place.tally()
        if self._spec.is_async:
            asyncio.run(_drained(course, queue))
        else:
            threads.drain(course, queue)
        return course.place.tally() - before

    def start(self, queue: WorkQueue, *, grace: float = 10) -> Running:
        """Work in threads of this process, until `Running.stop`.

        `processes` does not count here. The `timeout` of a plain function is not watched, because only the end of the
        process could end it. grace: seconds that `stop` waits for what is in hand.
        """
        return Running(self._spec, queue, checked_grace(grace))

    def __repr__(self) -> str:
        return f"<Worker {self._spec.name} on queue {self._spec.queue!r}>"


async def _drained(course: Course, queue: WorkQueue) -> None:
    await tasks.Tasks(course, queue).drain()


def _loop_runs() -> bool:
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        return True
    return False


@final
class Running:
    """A worker that works in threads of this process. The end of a `with` block stops it."""

    def __init__(self, spec: Spec, queue: WorkQueue, grace: float) -> None:
        self._spec = spec
        self._queue = queue
        self._grace = grace
        self._place = alone(spec)
        self._tally: Tally | None = None
        self._crew: threads.Crew | None = None
        self._fatal: BaseException | None = None
        if spec.is_async:
            self._loop: asyncio.AbstractEventLoop | None = None
            self._tasks: tasks.Tasks | None = None
            self._ready = threading.Event()
            self._thread = threading.Thread(target=self._run_loop, name=spec.name, daemon=True)
            self._thread.start()
            self._ready.wait()
        else:
            self._crew = threads.Crew(spec, queue, self._place)
            self._crew.start()

    def _run_loop(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._fatal = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks.Tasks(Course(self._spec, self._place), self._queue)
        self._ready.set()
        await self._tasks.serve(self._grace)

    def stop(self) -> Tally:
        """Take no more; what is not done within the grace period is given back. Return what became of all items.

        Raises ConfigError when the resource was no context.
        """
        if self._tally is None:
            if self._crew is not None:
                self._stop_crew(self._crew)
            else:
                self._stop_loop()
            self._tally = self._place.tally()
        if isinstance(self._fatal, ConfigError):
            raise self._fatal
        return self._tally

    def _stop_crew(self, crew: threads.Crew) -> None:
        crew.stop(self._grace)
        if not crew.wait(self._grace):
            crew.give_up()
        self._fatal = crew.fatal

    def _stop_loop(self) -> None:
        if self._loop is not None and self._tasks is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._tasks.stop)
        self._thread.join(self._grace + _ENDS_WITHIN)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Running {self._spec.name} on queue {self._spec.queue!r}: {self._place.tally()}>"


@overload
def worker(
    queue: str,
    *,
    processes: int = 1,
    concurrency: int = 1,
    timeout: float | None = None,
    retries: int | None = None,
    transient: Transient | None = None,
    pause: tuple[float, float] = PAUSE,
    max_age: float | None = None,
    on_error: Callable[[Failure], object] | None = None,
) -> Callable[[Callable[[ReservedItem], R]], Worker[[ReservedItem], R]]: ...
@overload
def worker(
    queue: str,
    *,
    resource: Callable[[], AbstractContextManager[T]] | Callable[[], AbstractAsyncContextManager[T]],
    processes: int = 1,
    concurrency: int = 1,
    timeout: float | None = None,
    retries: int | None = None,
    transient: Transient | None = None,
    pause: tuple[float, float] = PAUSE,
    max_age: float | None = None,
    on_error: Callable[[Failure], object] | None = None,
) -> Callable[[Callable[[ReservedItem, T], R]], Worker[[ReservedItem, T], R]]: ...
def worker(queue: str, **options: Any) -> Callable[[Callable[..., Any]], Worker[..., Any]]:
    """A consumer that is its function: an item whose call returns is done. str or bytes are the answer, where asked.

    processes: how many are forked by `run`. concurrency: threads of each, or tasks of an async function.
    timeout: seconds for one item; ends its task, or of a plain function the whole process.
    retries: deliveries after the first that a failure, a death or a time limit may cost; then the item goes to the
    dead letters. None: as many as the queue's max_deliveries allows. The smaller of both counts.
    transient: which exceptions mean that the backend is away: classes, or a function; by default a table of what
    databases, HTTP, Redis and others raise. The worker then pauses, keeps the item and the order, and counts nothing.
    pause: the first pause and the longest one, seconds; it doubles. Also the delay of an item that failed.
    max_age: seconds after which an item is not tried again, whatever it fails with.
    on_error: is told each Failure. resource: gives a context that is entered once a thread (of an async function: once
    a process); what it gives is the function's second argument. After a pause it is entered anew.

    Raises ConfigError, which names the option.
    """
    check_queue(queue)
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise ConfigError(f"@worker({queue!r}) has no option {unknown[0]!r}; there are {', '.join(sorted(_OPTIONS))}")

    def decorate(function: Callable[..., Any]) -> Worker[..., Any]:
        if isinstance(function, Worker):
            raise ConfigError(f"{function!r} is a worker already: one @worker for a function; define another function")
        return Worker(checked(Spec(function, queue, **options)))

    return decorate


_OPTIONS = {
    *("processes", "concurrency", "timeout", "retries", "transient", "pause", "max_age", "on_error", "resource"),
}


# --- running ----------------------------------------------------------------------------------------------------------


def checked_grace(grace: Any) -> float:
    """Seconds. Raises ConfigError."""
    if isinstance(grace, (int, float)) and not isinstance(grace, bool) and 0 <= grace < threading.TIMEOUT_MAX:
        return float(grace)
    raise ConfigError(f"grace={grace!r}: write seconds, 0 to give back at once what is not done")


def specs_of(workers: Sequence[Any]) -> list[Spec]:
    """The functions and options of workers. Raises ConfigError for what is none."""
    if not workers:
        raise ConfigError("no worker: name at least one function that has @worker(...) above it")
    for one in workers:
        if not isinstance(one, Worker):
            name = getattr(one, "__name__", type(one).__name__)
            raise ConfigError(f'{name} is no worker: write @worker("QUEUE") above the function')
    return [one.spec for one in workers]


def run(
    *workers: Worker[..., Any],
    where: str = DEFAULT_INSTANCE,
    grace: float = 10,
    stop: Stop = None,
    beside: Sequence[Callable[[Board], int]] = (),
) -> int:
    """Run workers in processes of their own, until SIGTERM, SIGINT or `stop`; then at most `grace` seconds longer.

    What `mqueue-kemi work` calls. It waits for the server, and starts processes again that died. Called in the main
    thread. beside: what other processes do meanwhile, for instance serve metrics. Returns the exit status: 0; 2 when an
    option is wrong, 3 when there is no such queue, 4 when this user may not use it, 6 when processes died again and
    again. Raises ConfigError.
    """
    from kemi.queue.sync.stop import stopper
    from kemi.worker.supervisor import supervise

    specs = specs_of(workers)
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("run() takes signals, and so needs the main thread; in another thread use Worker.start()")
    if _loop_runs():
        raise ConfigError("run() would block the event loop; write await arun(...)")
    return supervise(specs, where, checked_grace(grace), stopper(stop), beside)


async def arun(
    *workers: Worker[..., Any], where: str = DEFAULT_INSTANCE, grace: float = 10, stop: Stop = None
) -> Tally:
    """Run workers in this event loop (plain functions in threads), until `stop`; no processes, and no signals.

    It waits for the server. Cancelled, it gives back what is not done. Returns what became of all items.
    Raises ConfigError, UnknownQueue, NotAllowed, SegmentError.
    """
    from kemi.queue.sync.stop import STOP_LOOK, stopper

    specs, seconds, stopped = specs_of(workers), checked_grace(grace), stopper(stop)
    places = [alone(spec) for spec in specs]
    ends = asyncio.Event()
    running = [
        asyncio.ensure_future(_serve(spec, place, _attacher(spec.queue, where), seconds, ends))
        for spec, place in zip(specs, places)
    ]
    try:
        while not ends.is_set():
            if stopped():
                ends.set()
            done, _ = await asyncio.wait(running, timeout=STOP_LOOK, return_when=asyncio.FIRST_EXCEPTION)
            if len(done) == len(running) or any(not one.cancelled() and one.exception() for one in done):
                ends.set()
        await asyncio.wait(running)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    for one in running:
        one.result()
    return sum((place.tally() for place in places), Tally())


def _attacher(queue: str, where: str) -> Callable[..., Awaitable[WorkQueue]]:
    return functools.partial(importlib.import_module("mqueue_kemi").aattach, queue, where)


async def _serve(
    spec: Spec, place: Place, attached: Callable[..., Awaitable[WorkQueue]], grace: float, ends: asyncio.Event
) -> None:
    """Run one worker in this event loop."""
    attaching = asyncio.ensure_future(attached(wait=None))
    stopping = asyncio.ensure_future(ends.wait())
    try:
        await asyncio.wait({attaching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not attaching.done():
            return
        queue = attaching.result()
        try:
            if spec.is_async:
                await _serve_tasks(tasks.Tasks(Course(spec, place), queue), stopping, grace)
            else:
                await _serve_crew(threads.Crew(spec, queue, place), stopping, grace)
        finally:
            queue.close()
    finally:
        attaching.cancel()
        stopping.cancel()


async def _serve_tasks(one: tasks.Tasks, stopping: asyncio.Future[Any], grace: float) -> None:
    serving = asyncio.ensure_future(one.serve(grace))
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        one.stop()
        await serving
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _serve_crew(crew: threads.Crew, stopping: asyncio.Future[Any], grace: float) -> None:
    crew.start()
    waiting = asyncio.get_running_loop().run_in_executor
    try:
        while crew.is_working() and not stopping.done():
            await asyncio.wait({stopping}, timeout=threads.SLICE)
        crew.stop(grace)
        await waiting(None, crew.wait, grace)
    finally:
        crew.stop()
        if crew.is_working():
            crew.give_up()
    if isinstance(crew.fatal, ConfigError):
        raise crew.fatal


__all__ = ["Running", "Worker", "arun", "run", "worker"]
