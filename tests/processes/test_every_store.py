"""kill -9 at every store of every operation, with the lock held; then another process goes on with the queue."""

from __future__ import annotations

import signal
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from kemi.queue import index, layout, mutex
from kemi.queue.ring import ADDED, Ring
from tests.processes.cases import CASES, Case
from tests.processes.children import ChildError
from tests.processes.moments import Moments, die, watch
from tests.processes.serve import items
from tests.processes.snapshot import Snapshot
from tests.processes.sound import Items, brief, exercise, faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mqueue_kemi import Queue
    from tests.processes.children import Child, Children
    from tests.processes.serve import Serve

LIMIT = 600  # moments; no operation here has more
REPAIRED = [
    "small item",
    "giant item",
    "size exceeded",
    "fetch",
    "fetch that gives chunks back",
    "fetch that returns to the front",
    "replaced",
    "a giant replaced between large ones",
    "two chunks merge",
    "buckets get a chunk",
]


class Stage:
    """One operation, ready to be struck again and again."""

    def __init__(self, serve: Serve, children: Children, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(index, "BUCKETS_PER_CHUNK", case.buckets)
        self.case = case
        self.queue: Queue = serve(case.definition, max_memory=case.max_memory, lock_timeout="0.3")
        self._children = children
        case.prepare(self.queue)
        self.snapshot = Snapshot(self.queue)
        before = items(self.queue)
        self.recovered = self.queue.stats().recovered
        case.operate(self.queue)
        after = items(self.queue)
        # Between the two stores of a full queue, the new item is there and the oldest still is, too.
        self.contents = [before, after]
        if case.size and after:
            between = [before + after[-1:], (before + after[-1:])[1:]]
            self.contents[1:1] = [content for content in between if content not in (before, after)]
        self.snapshot.restore()

    def struck(self, moment: int) -> Child:
        """Do the operation in a process that is killed at this moment."""

        def act() -> None:
            watch(self.queue, Moments(moment, die))
            self.case.operate(self.queue)

        return self._children.fork(act)

    def repair_struck(self, moment: int) -> Child:
        """Take the lock of a killed process in one that is itself killed at this moment of the repair."""

        def act() -> None:
            watch(self.queue, Moments(moment, die))
            self.queue.stats()

        return self._children.fork(act)

    def examine(self, *recoveries: int) -> tuple[int, list[str]]:
        """Go on with the queue in one more process, and put the queue back; return what `_examine` does."""
        child = self._children.fork(lambda: self._examine(recoveries))
        try:
            content, wrong = child.result()
        except ChildError as error:
            content, wrong = -1, [str(error)]
        self.snapshot.restore()
        return content, wrong

    def _examine(self, recoveries: tuple[int, ...]) -> tuple[int, list[str]]:
        """Go on with the queue; return which of the contents it has, and what is wrong."""
        recovered = self.queue.stats().recovered - self.recovered
        content = items(self.queue)
        stage = self.contents.index(content) if content in self.contents else -1
        wrong = [] if stage >= 0 else [f"content is {brief(content)}"]
        if recovered not in recoveries:
            wrong.append(f"recovered {recovered} times")
        return stage, wrong + faults(self.queue) + exercise(self.queue, self.case.size)

    def moments(self) -> int:
        """Count the moments of the operation."""

        def act() -> int:
            moments = Moments()
            watch(self.queue, moments)
            self.case.operate(self.queue)
            return moments.count

        total: int = self._children.fork(act).result()
        self.snapshot.restore()
        return total


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


@pytest.fixture
def stage(
    serve: Serve, children: Children, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """Return the operation of that name."""
    made = Stage(serve, children, CASES[request.param], monkeypatch)
    yield made
    made.snapshot.restore()


@pytest.mark.parametrize("stage", CASES, indirect=True)
def test_killed_at_every_store(stage: Stage) -> None:
    """The content is that before or that after the operation, all books agree, and the queue works as ever."""
    assert walk(stage) == []


@pytest.mark.parametrize("stage", REPAIRED, indirect=True)
def test_killed_at_every_store_of_the_repair(stage: Stage) -> None:
    """Who repairs is killed too, at every store; the third process finds what the second would have made."""
    assert walk_repair(stage, stage.moments() // 2 + 1) == []


@pytest.mark.stress
@pytest.mark.parametrize("stage", CASES, indirect=True)
def test_killed_at_every_store_and_at_every_store_of_its_repair(stage: Stage) -> None:
    """The same for every store of every operation."""
    assert [text for first in range(1, stage.moments() + 1) for text in walk_repair(stage, first)] == []


@pytest.mark.parametrize("stage", CASES, indirect=True)
def test_an_exception_at_every_store(stage: Stage, children: Children) -> None:
    """A signal handler may raise anywhere: nothing half done is left, and the lock is free."""

    class HandlerError(Exception):
        pass

    def strike() -> None:
        raise HandlerError

    def act(moment: int) -> list[str] | None:
        watch(stage.queue, Moments(moment, strike))
        mutex_end = stage.queue._mutex.ref
        try:
            stage.case.operate(stage.queue)
        except HandlerError:
            assert mutex.trylock(mutex_end) == 0
            mutex.unlock(mutex_end)
            return stage._examine((1,))[1]
        return None

    wrong: list[str] = []
    # The last moment is the end of the lock itself.
    for moment in range(1, stage.moments()):
        try:
            found = children.fork(lambda: act(moment)).result()  # noqa: B023 it runs at once
        except ChildError as error:
            found = [str(error)]
        wrong += [f"raised at moment {moment}: {text}" for text in found]
        stage.snapshot.restore()
    assert wrong == []


# --- the detector -----------------------------------------------------------------------------------------------------


def _commit_first(ring: Any, record: bytes, step: int) -> int:  # noqa: ANN401 a ring
    """Append in the wrong order: the cursor moves before the record is there."""
    words = ring._words
    tail = words[layout.W_TAIL]
    words[layout.W_TAIL] = tail + step
    ring._bytes[tail : tail + len(record)] = record
    words[layout.W_ADDED] += 1
    return ADDED


def _pop_slowly(ring: Any) -> bytes | None:  # noqa: ANN401 a ring
    """Pop in the wrong order: the bytes are wiped before the cursor moves."""
    head = ring._words[layout.W_HEAD]
    step = ring._halves[head >> 2]
    record = bytes(ring._bytes[head : head + step])
    ring._bytes[head : head + step] = bytes(step)
    ring._words[layout.W_HEAD] = head + step
    ring._words[layout.W_REMOVED] += 1
    return record


def _repair_nothing(ring: Any) -> None:  # noqa: ANN401 a ring
    """Recover without looking."""
    ring._words[layout.W_RECOVERED] += 1


FAULTS = {
    "append commits first": ("append", _commit_first, "small item"),
    "pop wipes first": ("pop", _pop_slowly, "fetch"),
    "add is not recounted": ("recover", _repair_nothing, "small item"),
    "fetch is not recounted": ("recover", _repair_nothing, "fetch"),
    "chunks are not found again": ("recover", _repair_nothing, "item that crosses"),
    "chunks are not given back": ("recover", _repair_nothing, "fetch that gives chunks back"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_walk_finds_a_fault(
    serve: Serve, children: Children, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Each of these orders of stores, or repairs left out, is found by the same walk that finds nothing above."""
    name, function, case = FAULTS[fault]
    with monkeypatch.context() as broken:
        broken.setattr(Ring, name, function)
        stage = Stage(serve, children, CASES[case], broken)
        assert walk(stage) != []
        stage.snapshot.restore()
