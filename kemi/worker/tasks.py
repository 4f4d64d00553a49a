# SPDX-License-Identifier: GPL-2.0-or-later
"""Async functions: the tasks of one event loop.

One coroutine takes the items, in order, while a lane is free; each item has a task of its own. A task that is
cancelled gives its item back. The resource is shared by all tasks; it is entered and left in one task, as some
contexts demand. After a pause a new one is entered, and the old one is left when nobody uses it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, final

from kemi.errors import ClientClosed, ConfigError, LockTimeout, MqueueError
from kemi.queue.delivery.hold import Settlement
from kemi.queue.delivery.reserved import asettle
from kemi.worker import board
from kemi.worker.board import Lane
from kemi.worker.course import Call, Course, Pause, Result, Settle, Step, Steps, log, shown, tell_stop
from kemi.worker.spec import Spec, TimeLimit
from kemi.worker.threads import (
    GIVE_BACK,
    SLICE,
    TROUBLE,
    end_fork,
    is_interrupt,
    most_deliveries,
    no_context,
    settle_now,
)

if TYPE_CHECKING:
    from kemi.queue.delivery.reserved import ReservedItem
    from kemi.worker.spec import WorkQueue

CANCEL_WITHIN = 1.0  # seconds for a function to end after its time limit


@final
class _Shared:
    """A resource that is entered, and who uses it."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._over = asyncio.Event()
        self.users = 0
        self.given: tuple[Any, ...] = ()
        self.stale = False
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.ensure_future(self._keep())

    async def _keep(self) -> None:
        try:
            context = self._spec.resource() if self._spec.resource is not None else None
            if hasattr(type(context), "__aenter__"):
                async with context as value:  # type: ignore[union-attr] # it is one
                    await self._serve(value)
            elif hasattr(type(context), "__enter__"):
                with context as value:  # type: ignore[union-attr]
                    await self._serve(value)
            else:
                raise ConfigError(no_context(self._spec, context, "__aenter__"))
        except BaseException as error:
            if self._ready.done():
                log.info("%s: the resource raised at its end: %s", self._spec.name, shown(error))
            else:
                self._ready.set_exception(error if isinstance(error, Exception) else RuntimeError(shown(error)))
                self._ready.exception()  # looked at: who waited may have given up
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _serve(self, value: Any) -> None:
        self.given = (value,)
        self._ready.set_result(None)
        await self._over.wait()

    async def ready(self) -> None:
        """Return when it is entered. Raises what it raised."""
        await asyncio.shield(self._ready)

    def retire(self) -> None:
        """Leave it as soon as nobody uses it."""
        self.stale = True
        if not self.users:
            self._over.set()

    def release(self) -> None:
        """One user less."""
        self.users -= 1
        if self.stale and not self.users:
            self._over.set()


async def follow(steps: Steps, carry_out: Callable[[Step], Awaitable[Any]]) -> None:
    """Carry out steps, one after the other."""
    answer: Any = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration:
            return
        answer = await carry_out(step)


@final
class Tasks:
    """The tasks of a worker in one event loop, in which it is made."""

    def __init__(self, course: Course, queue: WorkQueue) -> None:
        self.spec = course.spec
        self.place = course.place
        self.course = course
        self._queue = queue
        self._pid = os.getpid()
        self._stop = asyncio.Event()
        self._recovered = asyncio.Event()
        self._shared: _Shared | None = None
        self._used: dict[int, _Shared | None] = {}  # by lane, the last one
        self._running: dict[asyncio.Task[None], int] = {}
        self._free = set(range(self.spec.concurrency))

    def stop(self) -> None:
        """Let the tasks finish what they have in hand, and take no more."""
        self._stop.set()

    def wake(self) -> None:
        """Let the tasks try again that sleep until the backend is there."""
        self._recovered.set()
        self._recovered = asyncio.Event()

    async def serve(self, grace: float) -> None:
        """Work until `stop`, then at most `grace` seconds longer. Cancelled, it gives back what is not done.

        Raises ConfigError when the resource is none.
        """
        self.course.max_deliveries = most_deliveries(self._queue)
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await self._open_early()
            while not self._stop.is_set():
                await follow(self.course.overdue(), self._only_settle)
                await self._take(stopped)
            tell_stop(self.spec, len(self._running) + len(self.course.held()), grace)
            if self._running:
                await asyncio.wait(set(self._running), timeout=grace)
        finally:
            stopped.cancel()
            await self._give_up()
            await follow(self.course.end(), self._only_settle)

    async def drain(self) -> None:
        """Work on one item after the other until nothing is due, or the worker would pause."""
        self.course.max_deliveries = most_deliveries(self._queue)
        lane, pauses = self.place.lanes[0], False

        async def carry_out(step: Step) -> Any:
            nonlocal pauses
            if isinstance(step, Pause):
                pauses = True
                return step.seconds
            if isinstance(step, Settle):
                return await asettle(step.item, step.how)
            return await self._call(step.item, lane, 0) if isinstance(step, Call) else None

        try:
            while not pauses and (item := await self._queue.areserve(timeout=0).take()) is not None:
                try:
                    await follow(self.course.of(item, lane), carry_out)
                except BaseException:
                    settle_now(self.spec, Settle(item, GIVE_BACK))
                    raise
        finally:
            await follow(self.course.end(), carry_out)
            await self._give_up()

    async def _give_up(self) -> None:
        """End what runs, which gives its items back, and the resource."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(set(self._running), timeout=CANCEL_WITHIN)
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.users = 0
            shared.retire()
            done, _ = await asyncio.wait({shared.task}, timeout=CANCEL_WITHIN)
            if not done:
                shared.task.cancel()

    async def _open_early(self) -> None:
        try:
            await self._resource()
        except ConfigError:
            raise
        except Exception as error:
            log.warning("%s: the resource is not there yet: %s", self.spec.name, shown(error))

    async def _resource(self) -> _Shared | None:
        if self.spec.resource is None:
            return None
        if self._shared is None:
            self._shared = _Shared(self.spec)
        shared = self._shared
        try:
            await asyncio.wait_for(shared.ready(), self.spec.timeout)
        except BaseException as error:
            if self._shared is shared:
                self._shared = None
            if isinstance(error, asyncio.TimeoutError):
                shared.task.cancel()
            raise
        return shared

    # --- taking -------------------------------------------------------------------------------------------------------

    async def _take(self, stopped: asyncio.Future[Any]) -> None:
        """Take the next item, once a lane is free, and begin its task."""
        if not self._free:
            await asyncio.wait({stopped, *self._running}, timeout=SLICE, return_when=asyncio.FIRST_COMPLETED)
            return
        if (parked := self.course.parked()) is not None:
            self._begin(parked, was_parked=True)
            return
        taking = asyncio.ensure_future(self._next())
        try:
            await asyncio.wait({stopped, taking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            item = await self._taken(taking)
        if item is None:
            return
        if self._stop.is_set():
            settle_now(self.spec, Settle(item, GIVE_BACK))
            return
        self._begin(item)

    def _begin(self, item: ReservedItem, *, was_parked: bool = False) -> None:
        number = self._free.pop()
        task = asyncio.ensure_future(self._handle(number, item, was_parked=was_parked))
        self._running[task] = number
        task.add_done_callback(self._ended)

    @staticmethod
    async def _taken(taking: asyncio.Future[ReservedItem | None]) -> ReservedItem | None:
        """What was taken; when nothing was yet, nothing will be."""
        if not taking.done():
            taking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            return await taking
        return None

    async def _next(self) -> ReservedItem | None:
        item: ReservedItem | None = None
        try:
            if os.getpid() != self._pid:
                end_fork(self.spec, None)  # in which the event loop went on
            item = await self._queue.areserve(timeout=SLICE).take()
        except ClientClosed:
            self.stop()
        except MqueueError as error:
            log.warning("%s: no item from queue %r: %s", self.spec.name, self.spec.queue, shown(error))
            await asyncio.sleep(TROUBLE)
        return item

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._free.add(self._running.pop(task))
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: a task of this worker failed: %s", self.spec.name, shown(error), exc_info=error)

    # --- one item -----------------------------------------------------------------------------------------------------

    async def _handle(self, number: int, item: ReservedItem, *, was_parked: bool) -> None:
        lane = self.place.lanes[number]
        woken = False  # once for an item: it may be one that fails while all others succeed

        async def carry_out(step: Step) -> Any:
            nonlocal woken
            if isinstance(step, Call):
                return await self._call(step.item, lane, number)
            if isinstance(step, Settle):
                return await self._settle(step)
            if isinstance(step, Pause):
                woken = await self._pause(number, step.seconds, None if woken else self._recovered) or woken
                return 0.0 if self._stop.is_set() else None
            self.course.recovered()
            self.wake()
            return None

        counted = False
        try:
            await follow(self.course.of(item, lane, was_parked=was_parked), carry_out)
        except (asyncio.CancelledError, ConfigError):
            raise
        except BaseException:
            counted = True  # or it would come at once, again and again
            raise
        finally:
            if not item.settled and not any(item is suspect for suspect in self.course.held()):
                settle_now(self.spec, Settle(item, Settlement("give back", counted=counted)))

    async def _call(self, item: ReservedItem, lane: Lane, number: int) -> Result:
        try:
            shared = self._used[number] = await self._resource()
        except (ConfigError, asyncio.CancelledError):
            raise
        except BaseException as error:
            if is_interrupt(error):
                raise
            return Result(error=error, opening=True)
        if shared is None:
            return await self._call_within(item, (), lane)
        shared.users += 1
        try:
            result = await self._call_within(item, shared.given, lane)
        finally:
            shared.release()
        return result

    async def _call_within(self, item: ReservedItem, given: tuple[Any, ...], lane: Lane) -> Result:
        """Call the function, and end its task when the time is over, or when this one is cancelled."""
        lane.begin(item.age)
        try:
            call = asyncio.ensure_future(self._result(item, given))
            try:
                await asyncio.wait({call}, timeout=self.spec.timeout)
            except asyncio.CancelledError:
                await _ended(call)
                raise
            if not call.done():
                if not await _ended(call):
                    log.error(
                        "%s: it goes on after its time limit, and was cancelled: item %s", self.spec.name, item.id
                    )
                return Result(error=TimeLimit(f"{self.spec.name} did not end within timeout={self.spec.timeout:g} s"))
            if call.cancelled():
                return Result(error=asyncio.CancelledError(f"{self.spec.name} cancelled itself"))
            return call.result()
        finally:
            lane.end()

    async def _result(self, item: ReservedItem, given: tuple[Any, ...]) -> Result:
        """Call the function. What it raises is in the result, also SystemExit, which would end the event loop."""
        raised: BaseException | None = None
        value: Any = None
        try:
            value = await self.spec.function(item, *given)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            raised = error
        if os.getpid() != self._pid:
            end_fork(self.spec, raised)
        if raised is not None and is_interrupt(raised):
            raise raised
        return Result(value, raised)

    async def _pause(self, number: int, seconds: float, recovered: asyncio.Event | None) -> bool:
        """Sleep, at most until this stops, or the backend is there again: then it returns True."""
        shared = self._used.pop(number, None)
        if shared is not None and shared is self._shared:  # else another task has seen to it
            self._shared = None
            shared.retire()
        waits = {asyncio.ensure_future(event.wait()) for event in (self._stop, recovered) if event is not None}
        awaits = int(recovered is not None)
        self.place.add(board.AWAITING, awaits)
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.place.add(board.AWAITING, -awaits)
            for wait in waits:
                wait.cancel()
        return recovered is not None and recovered.is_set()

    async def _settle(self, step: Settle) -> bool:
        try:
            return await asettle(step.item, step.how)
        except LockTimeout as error:
            log.warning("%s: %s; kept in mind, and done with the next call", self.spec.name, shown(error))
            return True
        except MqueueError as error:
            log.error("%s: item %s: %s failed: %s", self.spec.name, step.item.id, step.how.kind, shown(error))
            return False

    async def _only_settle(self, step: Step) -> Any:
        return await self._settle(step) if isinstance(step, Settle) else None


async def _ended(call: asyncio.Future[Any]) -> bool:
    """Cancel a call. Return True if it has ended."""
    call.cancel()
    done, _ = await asyncio.wait({call}, timeout=CANCEL_WITHIN)
    if done and not call.cancelled():
        call.exception()  # looked at, so that nobody says that it was not
    return bool(done)
