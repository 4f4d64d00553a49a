# SPDX-License-Identifier: GPL-2.0-or-later
"""The way of one item through a worker, as steps that its driver carries out: a thread, a task, or `drain`.

    Call(item)            call the function; the answer is a Result
    Pause(seconds)        the backend is away; the answer is None to go on, or seconds: give the item back after these
    Settle(item, how)     settle the item; the answer is whether it was this process's
    Recovered()           the backend is there again: wake those that pause

A failure is one of three. *Transient*: the backend is away. The item stays in hand, so that the order is kept, and the
pauses double; nothing is counted. *Retry* and *Reject*: the function says so. *Permanent*: one delivery is used up, and
the next one follows after a backoff; after the last one it is a dead letter.

What fails permanently is held for a moment, as a suspect: when BREAKER different items fail in a row, they are not to
blame. Then they go back uncounted, and the worker pauses until an item succeeds. Any success between them says that
they are, and so does the end of SUSPECT seconds.

While it pauses so, bad items must not be in the way of good ones for ever: after PROBES pauses the item is parked (kept
in hand), and the next one is tried; PARKED of them at most. The first success closes the breaker. Then the parked ones
are tried again, each by itself: what fails now is to blame.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, Union, final

from kemi.queue.delivery.hold import DONE as SETTLE_DONE
from kemi.queue.delivery.hold import Settlement
from kemi.text import one_line
from kemi.worker import board
from kemi.worker.board import Lane, Place
from kemi.worker.spec import Failure, Reject, Retry, Spec, TimeLimit
from kemi.worker.transient import is_transient

if TYPE_CHECKING:
    from kemi.queue.delivery.reserved import ReservedItem
    from kemi.worker.spec import Action

BREAKER = 5  # items
PROBES = 6  # tries of the first item with which the breaker is open; the next ones have NEXT_PROBES
NEXT_PROBES = 1
PARKED = 32  # items
SUSPECT = 1.0  # seconds
JITTER = 0.2  # of a pause
_REMEMBERED = 4096  # items whose retries are counted
_DOUBLINGS = 30

log = logging.getLogger("mqueue_kemi.worker")


class Result(NamedTuple):
    """What a call gave. opening: it is the resource that could not be entered."""

    value: Any = None
    error: BaseException | None = None
    opening: bool = False


class Call(NamedTuple):
    """See above."""

    item: ReservedItem


class Pause(NamedTuple):
    """See above."""

    seconds: float


class Settle(NamedTuple):
    """See above."""

    item: ReservedItem
    how: Settlement


class Recovered(NamedTuple):
    """See above."""


Step = Union[Call, Pause, Settle, Recovered]
Steps = Generator[Step, Any, None]


class Verdict(NamedTuple):
    """What is to become of an item that failed."""

    action: Action
    after: float = 0.0
    counted: bool = True
    reason: str = ""
    left_to_queue: bool = False  # it is given back, and its max_deliveries decides


class Suspect(NamedTuple):
    """An item that failed, and is held until it is known who is to blame."""

    item: ReservedItem
    error: BaseException
    lane: Lane
    until: float  # monotonic


@final
class Course:
    """What the lanes of one process share: the breaker, its suspects, and how often an item was put off."""

    def __init__(self, spec: Spec, place: Place) -> None:
        self.spec = spec
        self.max_deliveries: int | None = None  # of the queue, where that is known
        self.place = place
        self._lock = threading.Lock()
        self._suspects: list[Suspect] = []
        self._parked: list[ReservedItem] = []
        self._open = False
        self._probes = 0  # that failed since the breaker opened
        self._retries: OrderedDict[str, int] = OrderedDict()
        self._paused_since = 0.0

    def parked(self) -> ReservedItem | None:
        """An item that is to be tried again by itself, before any other."""
        with self._lock:
            return self._parked.pop(0) if self._parked and not self._open else None

    def of(self, item: ReservedItem, lane: Lane, *, was_parked: bool = False) -> Steps:
        """The whole way of an item that was just reserved, or was parked."""
        most = self.spec.retries
        if most is not None and item.deliveries > most + 1:
            died = Verdict("dead letter", reason=f"{item.deliveries - 1} deliveries ended with the process's death")
            yield from self._carry_out(item, RuntimeError(died.reason), died, lane)
            return
        tries = 0
        while not _is_expired(item):
            result = yield Call(item)
            if result.error is None:
                yield from self._succeeded(item, result.value, lane)
                return
            verdict = self._judge(item, result, tries, None if was_parked else lane)
            if verdict is None:
                return  # a suspect now, or parked
            if verdict.action != "pause":
                yield from self._carry_out(item, result.error, verdict, lane)
                return
            yield from self._clear_suspects()
            tries += 1
            lane.count(board.RETRIED)
            self._tell(item, result.error, verdict)
            self._pausing(+1, result.error)
            back = yield Pause(verdict.after)
            self._pausing(-1)
            if back is not None:
                yield Settle(item, Settlement("give back", after=back, counted=False))
                return
        lane.count(board.EXPIRED)
        yield Settle(item, SETTLE_DONE)  # nobody waits for its answer any more

    # --- success ------------------------------------------------------------------------------------------------------

    def _succeeded(self, item: ReservedItem, value: Any, lane: Lane) -> Steps:
        answers = item.asked and not item.settled and value is not None
        answer = b""
        if answers:
            try:
                answer = _bytes(value, self.spec.name)
            except TypeError as error:
                yield from self._carry_out(item, error, Verdict("reject", reason=str(error)), lane)
                return
        if item.settled:
            lane.count(board.DONE)  # by the function itself
        else:
            how = Settlement("answer", value=answer) if answers else SETTLE_DONE
            lane.count(board.ANSWERED if answers else board.DONE)
            yield Settle(item, how)
        with self._lock:
            self._open = False
            self._probes = 0
            self._retries.pop(item.id, None)
            blamed, self._suspects = self._suspects, []
        for suspect in blamed:
            yield from self._blame(suspect)
        if self._paused_since or self.place.read(board.PAUSED) or self.place.others_await():
            yield Recovered()

    # --- failure ------------------------------------------------------------------------------------------------------

    def _judge(self, item: ReservedItem, result: Result, tries: int, lane: Lane | None) -> Verdict | None:
        """What is to become of it; None: it is a suspect of this lane, or parked. lane: None if it cannot be one."""
        error = result.error
        assert error is not None  # noqa: S101 - for the type checker
        if isinstance(error, Reject):
            return Verdict("reject", reason=error.reason)
        if isinstance(error, Retry):
            after = self._backoff(self._again(item)) if error.after is None else error.after
            return self._or_over(item, Verdict("retry", after, counted=False), error)
        away = not isinstance(error, TimeLimit) and (result.opening or self._is_transient(error))
        if not away and (item.asked or lane is None):
            return self._used_up(item, error)  # somebody waits, or others have succeeded meanwhile
        pauses = tries if away else max(tries, self._probes)
        verdict = self._or_over(item, Verdict("pause", self._backoff(pauses)), error)
        if away or lane is None or verdict.action != "pause":
            return verdict
        with self._lock:
            held = self._hold(item, error, tries, lane)
        return None if held else verdict

    def _hold(self, item: ReservedItem, error: BaseException, tries: int, lane: Lane) -> bool:
        """Hold a suspect, or park an item while the breaker is open (locked). False: it stays in its lane's hand."""
        if self._open:
            self._probes += 1
            if tries >= (NEXT_PROBES if self._parked else PROBES) and len(self._parked) < PARKED:
                self._parked.append(item)
                return True
            return False
        if len(self._suspects) < BREAKER - 1:
            self._suspects.append(Suspect(item, error, lane, time.monotonic() + SUSPECT))
            return True
        self._open = True
        log.warning(
            "%s: %d different items failed in a row, the last with %s; taken for an outage: the worker pauses, and "
            "nothing is counted until an item succeeds",
            *(self.spec.name, BREAKER, shown(error)),
        )
        return False

    def _is_transient(self, error: BaseException) -> bool:
        try:
            return is_transient(error, self.spec.transient)
        except BaseException:
            log.exception("%s: transient= raised, which counts as False", self.spec.name)
            return False

    def _or_over(self, item: ReservedItem, verdict: Verdict, error: BaseException) -> Verdict:
        """The verdict, unless it is too late for it."""
        if self.spec.max_age is not None and item.age >= self.spec.max_age:
            return Verdict("dead letter", reason=f"older than max_age={self.spec.max_age:g} s: {shown(error)}")
        if item.asked and item.left is not None and verdict.after >= item.left:
            return Verdict("reject", reason=shown(error))  # a question fails now, not when nobody waits any more
        return verdict

    def _again(self, item: ReservedItem) -> int:
        """How often the item was put off before."""
        with self._lock:
            count = self._retries.pop(item.id, 0)
            self._retries[item.id] = count + 1
            if len(self._retries) > _REMEMBERED:
                self._retries.popitem(last=False)
            return count

    def _backoff(self, tries: int) -> float:
        first, longest = self.spec.pause
        seconds = min(longest, first * 2.0 ** min(tries, _DOUBLINGS))
        return min(longest, seconds * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - no secret

    # --- suspects -----------------------------------------------------------------------------------------------------

    def overdue(self, *, now: float | None = None) -> Steps:
        """Settle the suspects whose time is over; now: math.inf for all of them."""
        moment = time.monotonic() if now is None else now
        with self._lock:
            over = [suspect for suspect in self._suspects if suspect.until <= moment]
            self._suspects = [suspect for suspect in self._suspects if suspect.until > moment]
        for suspect in over:
            yield from self._blame(suspect)

    def end(self) -> Steps:
        """Settle what is held, because the worker ends."""
        yield from self.overdue(now=math.inf)
        with self._lock:
            parked, self._parked = self._parked, []
        for item in parked:
            yield Settle(item, Settlement("give back", counted=False))

    def held(self) -> list[ReservedItem]:
        """Items that are in nobody's hand: suspects, and those that are parked."""
        with self._lock:
            return [*self._parked, *(suspect.item for suspect in self._suspects)]

    def time_limit(self, item: ReservedItem, lane: Lane) -> Steps:
        """The way of an item whose process must end now, because its function took too long."""
        error = TimeLimit(f"{self.spec.name} did not end within timeout={self.spec.timeout:g} s")
        yield from self._blame(Suspect(item, error, lane, 0.0))

    def _blame(self, suspect: Suspect) -> Steps:
        verdict = self._used_up(suspect.item, suspect.error)
        yield from self._carry_out(suspect.item, suspect.error, verdict, suspect.lane)

    def _used_up(self, item: ReservedItem, error: BaseException) -> Verdict:
        """It is the item's own fault: one delivery is used up. A question has one, unless `retries` says more."""
        most = 0 if item.asked and self.spec.retries is None else self.spec.retries
        verdict = Verdict("retry", self._backoff(item.deliveries - 1))
        if most is not None and item.deliveries > most:
            verdict = Verdict("dead letter", reason=shown(error))
        elif self.max_deliveries is not None and item.deliveries >= self.max_deliveries:
            verdict = verdict._replace(action="dead letter", left_to_queue=True)
        return self._or_over(item, verdict, error)

    def _clear_suspects(self) -> Steps:
        """The backend is away: what failed before it was noticed goes back, as if it had not been delivered."""
        with self._lock:
            cleared, self._suspects = self._suspects, []
        for suspect in reversed(cleared):
            suspect.lane.count(board.RETRIED)
            self._tell(suspect.item, suspect.error, Verdict("pause"))
            yield Settle(suspect.item, Settlement("give back", counted=False))

    # --- what is done about it ----------------------------------------------------------------------------------------

    def _carry_out(self, item: ReservedItem, error: BaseException, verdict: Verdict, lane: Lane) -> Steps:
        self._tell(item, error, verdict)
        if verdict.action == "retry" or verdict.left_to_queue:
            lane.count(board.FAILED if verdict.left_to_queue else board.RETRIED)
            yield Settle(item, Settlement("give back", after=verdict.after, counted=verdict.counted))
            return
        lane.count(board.REJECTED if verdict.action == "reject" else board.FAILED)
        with self._lock:
            self._retries.pop(item.id, None)
        yield Settle(item, Settlement("reject", reason=verdict.reason))

    def _tell(self, item: ReservedItem, error: BaseException, verdict: Verdict) -> None:
        """Log it, and tell `on_error`."""
        quiet = isinstance(error, (Retry, Reject))
        level = logging.DEBUG if verdict.action == "pause" else logging.INFO if quiet else logging.WARNING
        fields = {"queue": self.spec.queue, "item": item.id, "deliveries": item.deliveries, "action": verdict.action}
        log.log(
            level,
            "%s: item %s, delivery %d: %s; %s",
            *(self.spec.name, item.id, item.deliveries, shown(error), _what(verdict)),
            extra={"fields": {"worker": self.spec.name, **fields, "after": round(verdict.after, 3)}},
            exc_info=error if level == logging.WARNING and not isinstance(error, TimeLimit) else None,
        )
        if self.spec.on_error is not None:
            try:
                self.spec.on_error(Failure(item, error, verdict.action, verdict.after))
            except BaseException:
                log.exception("%s: on_error raised", self.spec.name)

    def _pausing(self, change: int, error: BaseException | None = None) -> None:
        """One lane more, or less, pauses."""
        with self._lock:
            before = self.place.read(board.PAUSED)
            self.place.store(board.PAUSED, before + change)
            if not before and error is not None and not self._paused_since:
                self._paused_since = time.monotonic()
                log.warning("%s: pauses: %s", self.spec.name, shown(error))

    def recovered(self) -> None:
        """Tell the other processes, and say so, once."""
        self.place.wake_others()
        with self._lock:
            since, self._paused_since = self._paused_since, 0.0
        if since:
            log.warning("%s: works again after %.1f s", self.spec.name, time.monotonic() - since)


def tell_stop(spec: Spec, in_hand: int, grace: float) -> None:
    """Say that a process takes no more items from now on, and what it still has."""
    items = "nothing in hand" if not in_hand else f"{in_hand} item{'s' * (in_hand > 1)} in hand, up to {grace:g} s"
    fields = {"worker": spec.name, "queue": spec.queue, "in_hand": in_hand, "grace": grace}
    log.info("%s: stops: %s", spec.name, items, extra={"fields": fields})


def _what(verdict: Verdict) -> str:
    if verdict.action == "retry":
        return f"delivered again after {verdict.after:.2f} s"
    if verdict.action == "pause":
        return f"tried again after {verdict.after:.2f} s"
    return "rejected" if verdict.action == "reject" else "its last delivery"


def shown(error: BaseException) -> str:
    """An error in one line."""
    try:
        text = one_line(str(error))
    except Exception:
        text = ""  # its own mistake
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _bytes(value: object, name: str) -> bytes:
    """An answer. Raises TypeError, which says what it is instead."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name} returned {type(value).__name__}; an answer is str or bytes")
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise TypeError(f"{name} returned a text that is no UTF-8: {error.reason} at {error.start}") from None


def _is_expired(item: ReservedItem) -> bool:
    return item.asked and item.left == 0
