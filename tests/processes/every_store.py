"""The engine of test_every_store: strikes a process at every store of an operation, and looks at what is left.

A program of its own, `python -m tests.processes.every_store`: each line of its input is WHAT and CASE as JSON, each
line of its output the list of what was wrong. It forks thousands of times, and a small process forks five times as fast
as one with pytest in it; and should it crash, only it does.
"""

from __future__ import annotations

import json
import signal
import sys
import traceback
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Callable

from kemi.errors import SegmentError
from kemi.queue.catalog import header
from kemi.queue.format import layout
from kemi.queue.format.layout import CHUNK, W_ADDED, W_HEAD_ODD, W_POPPED, W_RECOVERED, W_TAIL_ODD
from kemi.queue.kernel import choice
from kemi.queue.lock import mutex
from kemi.queue.log.core import ADDED
from kemi.queue.log.plain import PlainLog
from tests.processes.cases import CASES, Case
from tests.processes.children import Child, ChildError, Children
from tests.processes.moments import Moments, die, watch
from tests.processes.serve import Serve
from tests.processes.snapshot import Snapshot
from tests.processes.sound import brief, exercise, faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kemi.queue.queue import Queue

LIMIT = 600  # moments; no operation here has more


class Stage:
    """One operation, ready to be struck again and again."""

    def __init__(self, serve: Serve, children: Children, case: Case) -> None:
        self.case = case
        self.queue = serve(case.definition, max_memory=case.max_memory, lock_timeout="0.3")
        self.children = children
        case.prepare(self.queue)
        self.snapshot = Snapshot(self.queue)
        before = undone(self.queue)
        self.recovered = self.queue.stats().recovered
        case.operate(self.queue)
        after = undone(self.queue)
        self.contents = [before, after]
        # Of several that go, because the limit was lowered, the first goes with the commit of the new one.
        if case.size and after and (between := (before + after[-1:])[1:]) not in (before, after):
            self.contents.insert(1, between)
        self.snapshot.restore()

    def struck(self, moment: int) -> Child:
        """Do the operation in a process that is killed at this moment."""

        def act() -> None:
            watch(self.queue, Moments(moment, die))
            self.case.operate(self.queue)

        return self.children.fork(act)

    def repair_struck(self, moment: int) -> Child:
        """Take the lock of a killed process in one that is itself killed at this moment of the repair."""

        def act() -> None:
            watch(self.queue, Moments(moment, die))
            self.queue.stats()

        return self.children.fork(act)

    def examine(self, *recoveries: int) -> tuple[int, list[str]]:
        """Go on with the queue in one more process, and put the queue back; return what `_examine` does."""
        child = self.children.fork(lambda: self._examine(recoveries))
        try:
            content, wrong = child.result()
        except ChildError as error:
            content, wrong = -1, [str(error)]
        self.snapshot.restore()
        return content, wrong

    def _examine(self, recoveries: tuple[int, ...]) -> tuple[int, list[str]]:
        """Go on with the queue; return which of the contents it has, and what is wrong."""
        wrong = self._refused()
        recovered = self.queue.stats().recovered - self.recovered
        content = undone(self.queue)
        stage = self.contents.index(content) if content in self.contents else -1
        wrong += [] if stage >= 0 else [f"content is {brief(content)}"]
        if recovered not in recoveries:
            wrong.append(f"recovered {recovered} times")
        return stage, wrong + faults(self.queue) + exercise(self.queue, self.case.size)

    def _refused(self) -> list[str]:
        """Say why the next server, or any process, could not attach to what was left."""
        segment = self.queue.segment
        try:
            header.checker(layout.MAGIC, "queue")(segment.fd, segment.name)
        except SegmentError as error:
            return [str(error)]
        return []

    def moments(self, *, native: bool = True) -> int:
        """Count the moments of the operation; of that in Python alone, if not native."""

        def act() -> int:
            if not native:
                use_first(self.queue)
                choice.detach(self.queue)
            moments = Moments()
            watch(self.queue, moments)
            self.case.operate(self.queue)
            return moments.count

        total: int = self.children.fork(act).result()
        self.snapshot.restore()
        return total


def use_first(queue: Queue) -> None:
    """Take the lock for the first time in this process: from then on it is what `ref` says, and the kernel is there."""
    queue._mutex.take()
    mutex.unlock(queue._mutex.ref)


def undone(queue: Queue) -> list[tuple[str, str]]:
    """Return what is there or reserved. What the dead held is there again, as for the next one who takes an item."""
    queue._taker.take_now(lambda: None)
    return [(item.key, item.value) for item in queue.undone()]


def killed(child: Child) -> bool:
    """Wait for a process, and say whether it was killed; ChildError if it came to a bad end by itself."""
    if child.killed_by() == signal.SIGKILL:
        return True
    child.result()
    return False


def walk(stage: Stage) -> list[str]:
    """Kill at every moment of the operation; say what was wrong afterwards."""
    wrong: list[str] = []
    reached: list[int] = []
    for moment in count(1):
        if not killed(stage.struck(moment)):
            break
        content, found = stage.examine(1)
        reached.append(content)
        wrong += [f"killed at moment {moment}: {text}" for text in found]
        assert moment < LIMIT
    if len(reached) < 1:
        wrong.append("no moment was there to be killed at")
    if reached != sorted(reached):
        wrong.append(f"it was done, and then not: {reached}")
    return wrong


def walk_repair(stage: Stage, first: int) -> list[str]:
    """Kill at one moment of the operation, then at every moment of its repair; say what was wrong afterwards."""
    wrong: list[str] = []
    for moment in count(1):
        assert killed(stage.struck(first))
        try:
            last = not killed(stage.repair_struck(moment))
        except ChildError as error:
            return [*wrong, f"killed at {first}, the repair: {error}"]
        _, found = stage.examine(1) if last else stage.examine(1, 2)
        wrong += [f"killed at {first}, and the repair at {moment}: {text}" for text in found]
        if last:
            return wrong
    raise AssertionError


class StruckError(Exception):
    """What a signal handler raises."""


def _raise() -> None:
    raise StruckError


def walk_exceptions(stage: Stage) -> list[str]:
    """Raise an exception at every moment but the last, which is the end of the operation; say what was wrong."""

    def act(moment: int) -> list[str]:
        use_first(stage.queue)
        choice.detach(stage.queue)  # no exception comes in the native kernel
        moments = Moments(moment, _raise)
        watch(stage.queue, moments)
        reference = stage.queue._mutex.ref
        try:
            stage.case.operate(stage.queue)
        except StruckError:
            if code := mutex.trylock(reference):
                return [f"the lock is not free: error {code}"]
            mutex.unlock(reference)
        return stage._examine((0,) if moments.struck_at_end else (1,))[1]

    wrong: list[str] = []
    for moment in range(1, stage.moments(native=False)):
        try:
            found = stage.children.fork(lambda: act(moment)).result()  # noqa: B023 it runs at once
        except ChildError as error:
            found = [str(error)]
        wrong += [f"raised at moment {moment}: {text}" for text in found]
        stage.snapshot.restore()
    return wrong


def walk_repair_in_the_middle(stage: Stage) -> list[str]:
    """Kill in the middle of the operation, and at every moment of the repair."""
    return walk_repair(stage, stage.moments() // 2 + 1)


def walk_all_repairs(stage: Stage) -> list[str]:
    """Kill at every moment of the operation, and for each at every moment of the repair."""
    return [text for first in range(1, stage.moments() + 1) for text in walk_repair(stage, first)]


WALKS: dict[str, Callable[[Stage], list[str]]] = {
    "kill": walk,
    "kill the repair": walk_repair_in_the_middle,
    "kill all repairs": walk_all_repairs,
    "raise": walk_exceptions,
}


# --- faults, planted to show that they are found ----------------------------------------------------------------------


def _commit_first(log: Any, record: bytes, step: int) -> int:
    """Append in the wrong order: it counts before the record is there."""
    u64, at, added = log._u64, log.core.tail(), log._u64[W_ADDED]
    u64[W_TAIL_ODD - (added & 1)] = at + step
    u64[W_ADDED] = added + 1
    log._bytes[at : at + len(record)] = record
    return ADDED


def _wipe_first(log: Any) -> bytes | None:
    """Pop in the wrong order: the bytes are wiped before the cursor moves."""
    u64, head, popped = log._u64, log.core.head(), log._u64[W_POPPED]
    record: bytes = log.core.records.read(head)
    log._bytes[head : head + len(record)] = bytes(len(record))
    u64[W_HEAD_ODD - (popped & 1)] = head + len(record)
    u64[W_POPPED] = popped + 1
    return record


def _repair_nothing(log: Any) -> None:
    """Recover without looking."""
    log._u64[W_RECOVERED] += 1


FAULTS: dict[str, tuple[str, Callable[..., object]]] = {
    "append commits first": ("append", _commit_first),
    "pop wipes first": ("pop", _wipe_first),
    "nothing is repaired": ("recover", _repair_nothing),
}


@contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """Give something another value for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def run(what: str, name: str) -> list[str]:
    """Walk through one case; `what` is a walk, or the name of a fault."""
    with ExitStack() as stack:
        if what in FAULTS:
            method, function = FAULTS[what]
            stack.enter_context(replaced(PlainLog, method, function))
        case = CASES[name]
        stack.enter_context(replaced(header, "_BUCKET_BYTES", CHUNK // case.buckets))
        serve, children = Serve(), Children()
        stack.callback(serve.stop)
        stack.callback(children.end)
        stage = Stage(serve, children, case)
        stack.callback(stage.snapshot.restore)
        return WALKS.get(what, walk)(stage)


def main() -> None:
    """Answer each line of the input."""
    for line in sys.stdin:
        try:
            wrong = run(*json.loads(line))
        except Exception:  # noqa: BLE001 it is handed to the test
            wrong = [traceback.format_exc()]
        print(json.dumps(wrong), flush=True)  # noqa: T201 its output


if __name__ == "__main__":
    main()
