"""Damaged segments by the thousand in one process: `python -m tests.stress.mutants INSTANCE SEED FIRST END PROGRESS`.

Each is made from a sound one, looked at, attached, read, taken over (which recovers it) and used. Allowed are errors of
the package, and a queue that is consistent. What fails is printed as one JSON line; the number of the mutant under way
stands in the file PROGRESS, so that a crash or a hang (SIGALRM ends it) tells what it came from.
"""

from __future__ import annotations

import faulthandler
import glob
import json
import mmap
import os
import random
import resource
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from kemi.errors import MqueueError
from kemi.owner import this_process
from kemi.queue.catalog import header, view
from kemi.queue.catalog.registry import Registry
from kemi.queue.catalog.view import look_at_instance, look_at_queue
from kemi.queue.format import layout
from kemi.queue.format.layout import CHUNK, CHUNK_HEAD, CHUNK_ROOM, PAGE, RECORD, RECORD_HEAD, TOMBSTONE
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from kemi.queue.shm.naming import path_of, segment_name

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 10  # that one mutant may take on a busy machine
SPARE_MEMORY = 8 << 20  # bytes that a process may take beside what the segment holds
ADDRESS_SPACE = 6 << 30  # keeps the machine from harm when a mutant asks for more
MANY = 100_000  # more items than any of these segments can hold
WINDOW = 12 * CHUNK
WARM_UP = 50  # mutants until a process has the memory that it needs for itself
_U32, _U64 = 4, 8

Span = tuple[int, int]  # offset, bytes


class Template(NamedTuple):
    """A sound segment, and where the numbers lie that lead somewhere."""

    name: str
    addmode: int
    length: int
    parts: tuple[tuple[int, bytes], ...]  # its bytes that are not zero
    places: dict[str, tuple[Span, ...]]

    def original(self, span: Span) -> int:
        """Return the number at a place."""
        at, size = span
        for offset, data in self.parts:
            if offset <= at < offset + len(data):
                return int.from_bytes(data[at - offset : at - offset + size], sys.byteorder)
        return 0

    def restore(self, fd: int) -> None:
        """Write it again."""
        os.ftruncate(fd, 0)
        os.ftruncate(fd, self.length)
        for offset, data in self.parts:
            os.pwrite(fd, data, offset)


class Mutant(NamedTuple):
    """What is done to a template."""

    stores: tuple[tuple[int, bytes], ...]
    length: int  # -1: as it is
    what: str


# --- templates --------------------------------------------------------------------------------------------------------


def build(instance: str, name: str, addmode: int) -> Template:
    """Make a queue with a free chunk, records that cross, dead ones, a used index; return its bytes."""
    queue = Queue.create(instance, name, window=WINDOW, addmode=addmode)
    # Zeros, because they need no memory: what must be written again for each mutant is little.
    for key, length in (("out", CHUNK_ROOM), ("fill", CHUNK_ROOM - 3000)):
        queue.add(key, "\0" * length)
    for number in range(6):
        queue.add(f"key{number}", "x" * number * 40)
    queue.add("cross", "\0" * 4000)
    for key in ("key6", "key7", "key3", "key8", "key9", "key6"):
        queue.add(key, key)
    for _ in range(3):
        queue.pop()
    queue.add("middle", "\0" * (CHUNK_ROOM - 5000))
    for number, length in ((10, 3000), (11, 0), (12, 20)):
        queue.add(f"key{number}", "\0" * length)
    held = [queue.reserve() for _ in range(2)]
    for block in held:
        block.__enter__()
    for block in held:
        block.__exit__(MqueueError)  # given back
    with open(path_of(queue.segment.name), "rb") as file:
        data = file.read()
    places = places_of(queue, data)
    queue.segment.unlink()
    return Template(name, addmode, len(data), parts_of(data), places)


def build_instance(instance: str) -> Template:
    """Make an instance's own segment; return its bytes."""
    registry = Registry.create(instance, this_process(), 1 << 30)
    registry.open_line(PAGE, 1)
    with open(path_of(registry.segment.name), "rb") as file:
        data = file.read()
    registry.segment.unlink()
    words = tuple((at, _U64) for at in [*range(0, 64 * 8, 8), *range(PAGE, PAGE + 64, 8)])
    holders = tuple((layout.QUOTA_IDS_AT + at, _U64) for at in range(0, 64, 8))
    return Template("", 0, len(data), parts_of(data), {"header": words, "table": holders, "lock": lock_places()})


def parts_of(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """Return the pages that are not all zeros or all filling."""
    parts: list[tuple[int, bytes]] = []
    for at in range(0, len(data), PAGE):
        page = data[at : at + PAGE]
        if page.count(0) == len(page):
            continue
        if parts and parts[-1][0] + len(parts[-1][1]) == at:
            parts[-1] = (parts[-1][0], parts[-1][1] + page)
        else:
            parts.append((at, page))
    return tuple(parts)


def lock_places() -> tuple[Span, ...]:
    return tuple((at, _U32) for at in range(layout.MUTEX_AT, layout.MUTEX_AT + 40, _U32))


def places_of(queue: Queue, data: bytes) -> dict[str, tuple[Span, ...]]:
    """Return the numbers of each region: offset and size."""
    words, log = queue.segment.words, queue._log
    base = words[layout.W_DATA]
    chunks = range(base, len(data), CHUNK)
    places: dict[str, tuple[Span, ...]] = {
        "header": tuple((at, _U64) for at in range(0, layout.W_COMMIT * 8, _U64)),
        "journal": ((layout.W_FLAGS * 8, _U64), *((layout.W_COMMIT * 8 + at, _U64) for at in (0, 64, 72, 80, 88))),
        "entries": tuple((words[layout.W_ENTRIES_AT] + at, _U64) for at in range(0, 128, 8)),
        "heap": tuple((words[layout.W_HEAP_AT] + at, _U32) for at in range(0, 8, 4)),
        "cursors": tuple(
            (word * 8, _U64)
            for word in (layout.W_HEAD, layout.W_HEAD_ODD, layout.W_TAIL, layout.W_TAIL_ODD, layout.W_CHUNKS)
        ),
        "lock": lock_places(),
        "map": tuple((PAGE + number, 1) for number in range(WINDOW // CHUNK)),
        "chunks": tuple((at + word * 8, _U64) for at in chunks for word in range(CHUNK_HEAD // 8)),
        "records": tuple((at + half * _U32, _U32) for at in log.scan() for half in range(6)),
    }
    if queue.addmode:
        directory = words[layout.W_DIRECTORY_AT]
        buckets = words[directory >> 3]
        used = [at for at in range(buckets, buckets + CHUNK, _U32) if queue.segment.halves[at >> 2]]
        places["directory"] = tuple((at, _U64) for at in range(directory, directory + 32, 8))
        places["index"] = tuple((at, _U32) for at in [*used, buckets, buckets + 4])
    return places


# --- mutants ----------------------------------------------------------------------------------------------------------

_POWERS = tuple(1 << power for power in range(64))
_NEAR = (-CHUNK, -PAGE, -8, -4, -1, 1, 4, 8, 16, 24, 32, PAGE, CHUNK, CHUNK_ROOM, TOMBSTONE, 1 << 30, 1 << 35)


def led_astray(template: Template, old: int, chance: random.Random) -> int:
    """Return a number that leads somewhere else: near, far, or where another number of the segment leads."""
    kind = chance.randrange(6)
    if kind == 0:
        return chance.choice(_POWERS) - chance.randrange(2)
    if kind == 1:
        return old + chance.choice(_NEAR)
    if kind == 2:
        return old ^ 1 << chance.randrange(64)
    if kind == 3:  # what another number is
        places = template.places[chance.choice(tuple(template.places))]
        return template.original(chance.choice(places))
    if kind == 4:
        starts = (CHUNK + CHUNK_HEAD, 2 * CHUNK + CHUNK_HEAD)
        return chance.choice((0, CHUNK, *starts, 3 * CHUNK, (1 << 64) - 1, (1 << 64) - CHUNK))
    return chance.getrandbits(chance.choice((3, 8, 19, 20, 21, 32, 64)))


def number_store(template: Template, chance: random.Random) -> tuple[int, bytes]:
    """Change one number."""
    region = chance.choice(tuple(template.places))
    if region == "lock" and chance.random() < 0.7:  # each call on a lock that is not free waits
        region = "header"
    at, size = chance.choice(template.places[region])
    value = led_astray(template, template.original((at, size)), chance)
    return at, (value % (1 << 8 * size)).to_bytes(size, sys.byteorder)


def forged_record(template: Template, chance: random.Random) -> list[tuple[int, bytes]]:
    """Make a record's own numbers agree on a length that is not its own, in a chain that may go in a circle."""
    at = chance.choice(template.places["records"])[0] & ~7
    length = chance.choice((CHUNK_ROOM, 2 * CHUNK, 1 << 22, 1 << 26, (1 << 30) - 8, 1 << 30, (1 << 31) - 8)) & ~7
    key = chance.choice((0, 4, length - RECORD_HEAD))
    dead = chance.choice((0, 0, TOMBSTONE))
    record = RECORD.pack(length | dead, key % (1 << 32), (length - RECORD_HEAD - key) % (1 << 30), 0, 0.0)
    stores = [(at, record)]
    chunk = at & ~(CHUNK - 1)
    stores.append((chunk, chance.choice((chunk, chunk + CHUNK, 2 * CHUNK)).to_bytes(8, sys.byteorder)))
    if chance.random() < 0.5:
        larger = chance.choice((WINDOW, 64 * CHUNK, 1 << 30)).to_bytes(8, sys.byteorder)
        stores.append((layout.W_MAP_SIZE * 8, larger))
    return stores


def noise(template: Template, chance: random.Random) -> tuple[int, bytes]:
    """Write random bytes over a piece of what is in use."""
    offset, data = chance.choice(template.parts)
    length = min(chance.choice((1, 4, 8, 24, 64, 512)), len(data))
    return offset + chance.randrange(len(data) - length + 1), chance.randbytes(length)


def mutate(template: Template, chance: random.Random) -> Mutant:
    """Think of something to do to the template."""
    kind = chance.randrange(20)
    if kind == 0:
        near = chance.choice((0, 1, PAGE, CHUNK, 2 * CHUNK, template.length))
        length = max(0, near + chance.choice((-PAGE, -8, -1, 0, 1, 8, PAGE, 100_000)))
        return Mutant((), length, f"length {length}")
    if kind == 1 and "records" in template.places:
        stores = forged_record(template, chance)
    elif kind < 4:
        stores = [noise(template, chance)]
    else:
        stores = [number_store(template, chance) for _ in range(chance.choice((1, 1, 1, 2, 3, 5)))]
    what = "; ".join(f"{at}: {data[:24].hex()}" for at, data in stores)
    return Mutant(tuple(stores), -1, what)


# --- what is done with one --------------------------------------------------------------------------------------------


def consistent(queue: Queue) -> str:
    """Say what is wrong with a queue that was recovered; an error of the package may come instead."""
    queue.set_limits(0, 0)
    if any(entry.due for entry in queue._log.core.in_flight.entries()):
        return ""  # what is to come later does not come now
    there = [(item.key_bytes, item.value_bytes) for item in queue.peek(MANY)]
    if len(queue) != len(there):
        return f"its size is {len(queue)}, and it has {len(there)} items"
    if queue.addmode and len({key for key, _ in there}) != len(there):
        return "a key is there twice"
    if queue.add("fuzz", "new") == ADDED:
        there = [item for item in there if not queue.addmode or item[0] != b"fuzz"]
        there.append((b"fuzz", b"new"))
    for number, expected in enumerate(there):
        item = queue.fetch()
        if item is None or (item.key_bytes, item.value_bytes) != expected:
            return f"item {number} of {len(there)} did not come as it was shown"
    if queue.fetch() is not None or len(queue):
        return "there is more than was shown"
    return ""


def use(queue: Queue) -> None:
    """Call what a process calls, whatever was said before."""
    for call in (
        lambda: repr(queue),
        lambda: queue.peek(3),
        queue.stats,
        lambda: queue.add("new", "value"),
        lambda: queue.add("key6", "x" * 20_000),
        lambda: queue.pop_if(lambda _: False),
        lambda: [queue.fetch() for _ in range(4)],
        lambda: queue.add("key5", ""),
        lambda: len(queue),
        queue.clear,
    ):
        with suppress(MqueueError):
            call()


class Fuzz:
    """The templates of one process, and the files that mutants are written into."""

    def __init__(self, instance: str, seed: int) -> None:
        self._instance = instance
        self._seed = seed
        # So that a few keys make a directory with something in it.
        header._BUCKET_BYTES = CHUNK // 8
        header._LOOKS = view._LOOKS = 1  # nobody else changes what is looked at
        for path in glob.glob(path_of(segment_name(instance)) + "*"):
            os.unlink(path)  # of a process that crashed
        self._registry = build_instance(instance)
        self._queues = [build(instance, name, addmode) for name, addmode in (("plain", 0), ("first", 1), ("last", 2))]
        self._fds = {template.name: self._file(template) for template in (self._registry, *self._queues)}
        self.outcomes = {"refused": 0, "error": 0, "consistent": 0}

    def _file(self, template: Template) -> int:
        name = segment_name(self._instance, template.name) if template.name else segment_name(self._instance)
        fd = os.open(path_of(name), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        template.restore(fd)
        return fd

    def end(self) -> None:
        """Take the files away."""
        for name, fd in self._fds.items():
            os.close(fd)
            os.unlink(path_of(segment_name(self._instance, name) if name else segment_name(self._instance)))

    def mutant(self, number: int) -> tuple[Template, Mutant, random.Random]:
        """Return mutant `number` of this seed: always the same."""
        chance = random.Random(self._seed << 40 | number)  # noqa: S311 no secret
        template = self._registry if chance.randrange(16) == 0 else self._queues[chance.choice((0, 0, 1, 2))]
        return template, mutate(template, chance), chance

    def attempt(self, number: int) -> str:
        """Try one; say what was wrong with it."""
        template, mutant, chance = self.mutant(number)
        fd = self._fds[template.name]
        template.restore(fd)
        if mutant.length >= 0:
            os.ftruncate(fd, mutant.length)
        for at, data in mutant.stores:
            os.pwrite(fd, data, at)
        try:
            return self._try_queue(template.name, chance) if template.name else self._try_instance(chance)
        finally:
            if not template.name:
                template.restore(fd)  # the queues' own

    def _try_queue(self, name: str, chance: random.Random) -> str:
        with suppress(MqueueError):
            look_at_queue(self._instance, name)
        registry = None
        if chance.random() < 0.3:
            registry = Registry.attach(self._instance, 0.002)
        try:
            queue = Queue.attach(self._instance, name, registry, lock_timeout=0.002)
        except MqueueError as error:
            self.outcomes["refused"] += 1
            return "" if "mqk." in str(error) else f"the error does not name the file: {error}"
        # To build a key index anew costs most of all.
        recovers = chance.random() < (0.3 if queue.addmode else 0.6)
        if chance.random() < 0.5:
            use(queue)
        wrong = self._recover(queue) if recovers else ""
        if chance.random() < 0.3:
            use(queue)
        return wrong

    def _recover(self, queue: Queue) -> str:
        try:
            queue.adopt(this_process())
            wrong = consistent(queue)
        except MqueueError:
            self.outcomes["error"] += 1
            return ""
        self.outcomes["consistent"] += 1
        return wrong

    def _try_instance(self, chance: random.Random) -> str:
        with suppress(MqueueError):
            look_at_instance(self._instance)
        self._queues[-1].restore(self._fds["last"])
        try:
            registry = Registry.attach(self._instance, 0.002)
            queue = Queue.attach(self._instance, "last", registry, lock_timeout=0.002)
        except MqueueError as error:
            self.outcomes["refused"] += 1
            return "" if "mqk." in str(error) else f"the error does not name the file: {error}"
        with suppress(MqueueError):
            registry.claim(this_process(), 1 << 30)
        wrong = self._recover(queue) if chance.random() < 0.5 else ""
        use(queue)
        return wrong


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """End this process with SIGALRM when it takes longer."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


def most_memory() -> int:
    """Return the most memory that this process ever had, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main(instance: str, numbers: list[str], progress_path: str) -> None:
    """Try mutants. numbers: seed, first, and the end."""
    seed, first, end = map(int, numbers)
    faulthandler.enable()
    faulthandler.register(signal.SIGALRM, chain=True)  # says where, and then the process ends
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    fuzz = Fuzz(instance, seed)
    with open(progress_path, "r+b") as file:
        progress = mmap.mmap(file.fileno(), 8)
    peak = most_memory()
    for number in range(first, end):
        progress[:8] = number.to_bytes(8, sys.byteorder)
        with limited(SECONDS):
            try:
                wrong = fuzz.attempt(number)
            except Exception as error:  # noqa: BLE001 whatever it is, it is no error of the package
                wrong = f"{type(error).__name__}: {error}"[:300]
        now = most_memory()
        if number >= first + WARM_UP and now > peak + SPARE_MEMORY:
            wrong = wrong or f"it took {now - peak >> 20} MiB"
        peak = max(peak, now)
        if wrong:
            report(fuzz, number, wrong)
    progress[:8] = end.to_bytes(8, sys.byteorder)
    fuzz.end()
    print(json.dumps({"outcomes": fuzz.outcomes}), flush=True)  # noqa: T201 its output


def report(fuzz: Fuzz, number: int, wrong: str) -> None:
    """Print what failed."""
    template, mutant, _ = fuzz.mutant(number)
    line = {"number": number, "queue": template.name, "what": mutant.what, "wrong": wrong}
    print(json.dumps(line), flush=True)  # noqa: T201 its output


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:5], sys.argv[5])
