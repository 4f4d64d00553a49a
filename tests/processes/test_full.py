"""No memory left: mq_add returns -1 with one line for each refusal, nobody crashes, and room makes all well again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

import mqueue_kemi
from kemi.errors import NoMemory
from kemi.instance import queues
from kemi.queue.shm.naming import SHM_DIR
from kemi.server import refused
from tests.processes import own_shm
from tests.processes.children import Children
from tests.processes.logged import Logged
from tests.processes.moments import die
from tests.processes.own_shm import fill_up, free, make_room
from tests.processes.serve import Serve, file_sizes, items
from tests.processes.sound import faults

if TYPE_CHECKING:
    from kemi.queue.queue import Queue

SIZE = 2 << 20
VALUE = "v" * 1000
NO_ROOM, MAX_MEMORY, BYTE_LIMIT = "/dev/shm is full", "max_memory is reached", "maxbytes of the queue is reached"
MODES = [0, 1, 2]

InShm = Callable[[Callable[[Serve], object]], None]


@pytest.fixture(autouse=True)
def _every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each refusal be told."""
    monkeypatch.setattr(refused, "SECONDS", 0)


def causes(logged: Logged) -> list[str]:
    """Return the limit that each line since the last call names."""
    start = "mqueue_kemi: mq_add('q'): not added: "
    lines = logged.take()
    assert [line for line in lines if not line.startswith(start)] == []
    return [next((cause for cause in (NO_ROOM, MAX_MEMORY, BYTE_LIMIT) if cause in line), line) for line in lines]


@pytest.fixture
def in_small_shm(children: Children) -> InShm:
    """Return what runs a part of a test in a process with a small /dev/shm of its own."""

    def run(part: Callable[[Serve], object]) -> None:
        def act() -> None:
            own_shm.enter(SIZE)
            serve = Serve()
            try:
                part(serve)
            finally:
                serve.stop()
            assert os.listdir(SHM_DIR) == []

        children.fork(act).result()

    return run


def add_until_refused(logged: Logged, start: int = 0) -> int:
    """Add numbered items until one is refused; returns the number of that one. One line says why."""
    number = start
    while mqueue_kemi.mq_add("q", str(number), VALUE) == 1:
        number += 1
        assert number < start + 10_000
    assert len(logged.lines) == 1
    return number


def refuse_and_go_on(queue: Queue, cause: str) -> None:
    """Fill the queue, see every refusal, take some out, and add again; all that was added comes out in order."""
    logged = Logged()
    count = add_until_refused(logged)
    assert count > 50
    for _ in range(20):
        assert mqueue_kemi.mq_add("q", "refused", VALUE) == -1
    assert causes(logged) == [cause] * 21
    assert queue.stats().refused == 21
    assert len(queue) == count
    half = count // 2
    assert [mqueue_kemi.mq_fetch("q") == 1 and mqueue_kemi.mqk_get("q") for _ in range(half)] == list(
        map(str, range(half))
    )
    last = add_until_refused(logged, count)
    assert last > count + half // 2
    assert [key for key, _ in items(queue)] == list(map(str, range(half, last)))
    assert faults(queue) == []
    while mqueue_kemi.mq_fetch("q") == 1:
        pass
    assert causes(logged) == [cause]
    assert mqueue_kemi.mq_add("q", "after", VALUE) == 1


@pytest.mark.parametrize("addmode", MODES)
def test_the_system_has_no_more(in_small_shm: InShm, addmode: int) -> None:
    """/dev/shm itself is full."""

    def part(serve: Serve) -> None:
        refuse_and_go_on(serve(f"name=q;addmode={addmode}"), NO_ROOM)

    in_small_shm(part)


@pytest.mark.parametrize("addmode", MODES)
def test_max_memory_is_reached(serve: Serve, addmode: int) -> None:
    """The instance may not have more."""
    queue = serve(f"name=q;addmode={addmode}", max_memory="1500k")
    refuse_and_go_on(queue, MAX_MEMORY)
    assert file_sizes(queue)[1] <= 1500 << 10


@pytest.mark.parametrize("addmode", MODES)
def test_maxbytes_is_reached(serve: Serve, addmode: int) -> None:
    """The queue may not have more."""
    queue = serve(f"name=q;addmode={addmode};maxbytes=300000")
    refuse_and_go_on(queue, BYTE_LIMIT)
    assert queue.stats().bytes <= 300_000


def test_max_memory_is_for_all_queues_together(serve: Serve) -> None:
    """One queue takes all; another one is refused when it wants to grow, and gets what the first one gives back."""
    queue = serve("name=q", "name=other", max_memory="1500k")
    logged = Logged()
    count = add_until_refused(logged)
    other = queues["other"]
    small = 0
    while mqueue_kemi.mq_add("other", "k", VALUE) == 1:
        small += 1
    assert small < 300  # its first chunk
    assert sum(file_sizes(each)[1] for each in (queue, other)) <= 1500 << 10
    for _ in range(count):
        assert mqueue_kemi.mq_fetch("q") == 1
    assert mqueue_kemi.mq_add("other", "k", VALUE) == 1


@pytest.mark.parametrize("addmode", MODES)
def test_another_program_takes_the_room(in_small_shm: InShm, addmode: int) -> None:
    """A file of somebody else fills /dev/shm, and goes away again."""

    def part(serve: Serve) -> None:
        queue = serve(f"name=q;addmode={addmode}")
        logged = Logged()
        fill_up()
        count = add_until_refused(logged)
        assert count < 300
        make_room()
        assert mqueue_kemi.mq_add("q", str(count), VALUE) == 1
        assert [key for key, _ in items(queue)] == list(map(str, range(count + 1)))
        assert faults(queue) == []

    in_small_shm(part)


@pytest.mark.parametrize("addmode", MODES)
def test_a_giant_item_has_no_room(in_small_shm: InShm, addmode: int) -> None:
    """What is larger than all that is left is refused, and what was taken for it is given back."""

    def part(serve: Serve) -> None:
        queue = serve(f"name=q;addmode={addmode}")
        logged = Logged()
        assert mqueue_kemi.mq_add("q", "first", "") == 1
        before = free()
        assert mqueue_kemi.mq_add("q", "giant", "g" * (SIZE - 1000)) == -1
        assert causes(logged) == [NO_ROOM]
        assert before - free() <= 2 * 262144  # chunks that are kept in reserve
        assert mqueue_kemi.mq_add("q", "second", "") == 1
        assert [key for key, _ in items(queue)] == ["first", "second"]
        assert faults(queue) == []

    in_small_shm(part)


def test_an_item_larger_than_the_queue_can_get(serve: Serve) -> None:
    """What could never fit is refused with a reason of its own."""
    serve("name=q", max_memory="4M")
    logged = Logged()
    assert mqueue_kemi.mq_add("q", "giant", "g" * (8 << 20)) == -1
    (line,) = logged.take()
    assert "too large" in line


def test_the_start_finds_no_room(in_small_shm: InShm) -> None:
    """Queues that cannot be made are an error that says so, nothing is left; the next start finds room."""

    def part(serve: Serve) -> None:
        fill_up()
        with pytest.raises(NoMemory, match=SHM_DIR):
            serve("name=q")
        assert os.listdir(SHM_DIR) == [own_shm.FILLER.name]
        make_room()
        serve("name=q")
        assert mqueue_kemi.mq_add("q", "k", "v") == 1

    in_small_shm(part)


def test_several_processes_meet_the_end(in_small_shm: InShm) -> None:
    """Three fill it at once: none of them dies of a signal, each item that was added is there."""

    def fill(name: str) -> int:
        logged, count = Logged(), 0
        for number in range(1200):
            count += mqueue_kemi.mq_add("q", f"{name}{number}", VALUE) == 1
        assert causes(logged) == [NO_ROOM] * (1200 - count)
        return count

    def part(serve: Serve) -> None:
        queue = serve("name=q")
        own = Children()
        try:
            workers = [own.fork(lambda name=name: fill(name)) for name in "abc"]  # type: ignore[misc]
            counts = [worker.result() for worker in workers]
        finally:
            own.end()
        assert len(queue) == sum(counts) > 1000
        assert len(set(items(queue))) == sum(counts)
        assert faults(queue) == []

    in_small_shm(part)


@pytest.mark.parametrize("addmode", MODES)
def test_one_dies_while_there_is_no_room(in_small_shm: InShm, addmode: int) -> None:
    """A repair in a full /dev/shm keeps every item; if it must wait for room, the error says so."""

    def part(serve: Serve) -> None:
        queue = serve(f"name=q;addmode={addmode}")
        logged = Logged()
        count = add_until_refused(logged)
        if free():
            fill_up()

        def act() -> None:
            queue._mutex.take()
            die()

        own = Children()
        try:
            own.fork(act).wait()
            # A process of its own: whatever comes, it does not die of a signal.
            assert own.fork(lambda: mqueue_kemi.mq_add("q", "k", VALUE)).result() in (1, -1)
            if own_shm.FILLER.exists():
                make_room()
            assert own.fork(lambda: [key for key, _ in items(queue)]).result()[:count] == list(map(str, range(count)))
        finally:
            own.end()
        assert faults(queue) == []

    in_small_shm(part)


def test_the_small_shm_is_seen_by_its_process_only(in_small_shm: InShm) -> None:
    """These tests fill a file system of their own, never that of the host."""
    before = os.stat(SHM_DIR).st_dev

    def part(_serve: Serve) -> None:
        assert Path(SHM_DIR).stat().st_dev != before
        assert free() == SIZE

    in_small_shm(part)
    assert Path(SHM_DIR).stat().st_dev == before
