"""Queues between processes, ours and others, each as its own documentation says it is used best.

One object is one queue. It is made before the processes are forked; each process then asks for its own `putter` or
`getter`. A getter waits until there is an item. What a queue cannot do is a sentence in the tables, never an omission.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import multiprocessing
import os
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, ClassVar

from mqueue_kemi import Queue, attach
from tests.bench.redis_server import RedisServer, missing_server
from tests.processes.serve import Serve, file_sizes

if TYPE_CHECKING:
    from contextlib import ExitStack

Pair = tuple[str, str]
BATCH = 100
_POLL = 0.0005  # seconds between looks, for queues on disk: they have no way to wake another process
_serial = itertools.count(1)


class Place:
    """What the queues of one run share: a folder, our instance, a Redis server."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder = folder
        self._stack = stack
        self._redis: RedisServer | None = None
        self.serve = Serve()
        stack.callback(self.serve.stop)
        self.serve("name=q0", "name=q1")

    @property
    def redis(self) -> RedisServer:
        """The private server, started when it is first asked for."""
        if self._redis is None:
            self._redis = RedisServer(self.folder)
            self._stack.callback(self._redis.stop)
        return self._redis


class Contender:
    """A queue. `modules`: what has to be installed. `batch`: items that a putter takes, and a getter gives, at once."""

    name: ClassVar[str]
    modules: ClassVar[tuple[str, ...]] = ()
    bounded: ClassVar[str] = ""  # what a full queue holds: an add waits then
    one_consumer: ClassVar[str] = ""  # why several consumer processes cannot share it
    batch: ClassVar[int] = 0
    slow: ClassVar[bool] = False  # fewer items, so that a round stays short

    def __init__(self, place: Place, number: int = 0) -> None:
        """number: tells queues apart that are used at the same time."""

    @classmethod
    def missing(cls) -> str:
        """Why it cannot be measured here; empty if it can."""
        for module in cls.modules:
            try:
                importlib.import_module(module)
            except ImportError as error:
                return f"not installed: {error}"
        return ""

    def putter(self) -> Callable[..., object]:
        """A function that adds a key and a value (or a list of pairs), for the calling process."""
        raise NotImplementedError

    def getter(self) -> Callable[[], Any]:
        """A function that waits for a pair (or a list of pairs), for the calling process."""
        raise NotImplementedError

    def flush(self) -> None:
        """Return when everything that this process added has left it."""

    def held(self) -> int:
        """Bytes that the queue holds outside of its users' own memory."""
        return 0

    def helpers(self) -> list[int]:
        """Pids of processes that work for the queue beside its users."""
        return []

    def close(self) -> None:
        """Remove it."""


class Ours(Contender):
    """A process outside of Kamailio, attached by name."""

    name = "ours"

    def __init__(self, place: Place, number: int = 0) -> None:
        self._queue: Any = attach(f"q{number}", place.serve.instance)
        self._instance = place.serve.instance

    def _attach(self) -> Queue:
        return attach(self._queue.name, self._instance)

    def putter(self) -> Callable[..., object]:
        return self._attach().add

    def getter(self) -> Callable[[], Any]:
        fetch = self._attach().fetch

        def get() -> Pair:
            item = fetch(None)
            return item.key, item.value

        return get

    def held(self) -> int:
        return file_sizes(self._queue._current.queue)[1]

    def close(self) -> None:
        while self._queue.fetch_many(1000):
            pass
        self._queue.close()


class OursPure(Ours):
    """The same without the native kernel, where that is there: `between.round_of_pure` measures it."""

    name = "ours, pure Python"


class OursBatch(Ours):
    """Many items under one lock."""

    name = f"ours, {BATCH} at a time"
    batch = BATCH

    @classmethod
    def missing(cls) -> str:
        return "" if hasattr(Queue, "add_many") else "this version has no add_many"

    def putter(self) -> Callable[..., object]:
        queue: Any = self._attach()
        put: Callable[..., object] = queue.add_many
        return put

    def getter(self) -> Callable[[], Any]:
        queue: Any = self._attach()
        return lambda: [(item.key, item.value) for item in queue.fetch_many(BATCH, None)]


class MultiprocessingQueue(Contender):
    """A pipe, a lock, and a thread in each producer that pickles and writes."""

    name = "multiprocessing.Queue"

    def __init__(self, place: Place, number: int = 0) -> None:
        super().__init__(place, number)
        self._queue: Any = multiprocessing.get_context("fork").Queue()

    def putter(self) -> Callable[..., object]:
        put = self._queue.put
        return lambda key, value: put((key, value))

    def getter(self) -> Callable[[], Any]:
        get: Callable[[], Any] = self._queue.get
        return get

    def flush(self) -> None:
        self._queue.close()
        self._queue.join_thread()

    # A thread that were still there at the next fork could leave the child with a lock that nobody frees.
    close = flush


class SimpleQueue(Contender):
    """A pipe and a lock."""

    name = "multiprocessing.SimpleQueue"
    bounded = "a pipe of 64 KiB"

    def __init__(self, place: Place, number: int = 0) -> None:
        super().__init__(place, number)
        self._queue: Any = multiprocessing.get_context("fork").SimpleQueue()

    def putter(self) -> Callable[..., object]:
        put = self._queue.put
        return lambda key, value: put((key, value))

    def getter(self) -> Callable[[], Any]:
        get: Callable[[], Any] = self._queue.get
        return get

    def close(self) -> None:
        self._queue.close()


class Pipe(Contender):
    """What the kernel alone needs: one write and one read of as many bytes for each item, and no lock of our own."""

    name = "a pipe, read and written"
    bounded = "a pipe of 64 KiB"
    _BYTES = 128

    def __init__(self, place: Place, number: int = 0) -> None:
        super().__init__(place, number)
        self._read, self._write = os.pipe()

    def putter(self) -> Callable[..., object]:
        write, end = os.write, self._write
        return lambda key, value: write(end, f"{key}\0{value}\0".encode().ljust(self._BYTES))

    def getter(self) -> Callable[[], Any]:
        read, end = os.read, self._read
        return lambda: read(end, self._BYTES).decode().split("\0", 2)[:2]

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class FasterFifo(Contender):
    """A ring buffer in shared memory with a mutex and condition variables, in C++."""

    name = "faster-fifo"
    modules = ("faster_fifo", "faster_fifo_reduction")
    bounded = "its buffer, here 8 MiB"

    def __init__(self, place: Place, number: int = 0) -> None:
        super().__init__(place, number)
        self._queue: Any = importlib.import_module("faster_fifo").Queue(8 << 20)

    def putter(self) -> Callable[..., object]:
        put = self._queue.put
        return lambda key, value: put((key, value))

    def getter(self) -> Callable[[], Any]:
        get = self._queue.get
        return lambda: get(True, 60.0)

    def close(self) -> None:
        self._queue.close()


class FasterFifoBatch(FasterFifo):
    """The same with put_many and get_many."""

    name = f"faster-fifo, {BATCH} at a time"
    batch = BATCH

    def putter(self) -> Callable[..., object]:
        put: Callable[..., object] = self._queue.put_many
        return put

    def getter(self) -> Callable[[], Any]:
        get = self._queue.get_many
        return lambda: get(True, 60.0, BATCH)


class PosixQueue(Contender):
    """The kernel's message queue. Bytes only: a text key and value are encoded, divided by a NUL."""

    name = "POSIX message queue"
    modules = ("posix_ipc",)
    bounded = "as many messages as the system allows"

    def __init__(self, place: Place, number: int = 0) -> None:
        super().__init__(place, number)
        self._ipc: Any = importlib.import_module("posix_ipc")
        self._name = f"/mqk-bench-{os.getpid()}-{next(_serial)}"
        # root may go beyond fs.mqueue.msg_max, others may not
        for most in (1000, 10):
            with contextlib.suppress(ValueError, OSError):
                self._ipc.MessageQueue(self._name, self._ipc.O_CREX, max_messages=most, max_message_size=512).close()
                return
        msg = "no POSIX message queue can be made"
        raise OSError(msg)

    def _open(self) -> Any:
        return self._ipc.MessageQueue(self._name)

    def putter(self) -> Callable[..., object]:
        send = self._open().send
        return lambda key, value: send(f"{key}\0{value}".encode())

    def getter(self) -> Callable[[], Any]:
        receive = self._open().receive
        return lambda: receive()[0].decode().split("\0", 1)

    def close(self) -> None:
        self._ipc.unlink_message_queue(self._name)


class RedisList(Contender):
    """RPUSH and BLPOP through a unix socket, one connection for each process; nothing is written to disk."""

    name = "Redis list"
    modules = ("redis", "hiredis")

    def __init__(self, place: Place, number: int = 0) -> None:
        super().__init__(place, number)
        self._server = place.redis
        self._key = f"q{next(_serial)}"
        self._own: Any = None

    @classmethod
    def missing(cls) -> str:
        return super().missing() or missing_server()

    def _connect(self) -> Any:
        return importlib.import_module("redis").Redis(unix_socket_path=self._server.socket, decode_responses=True)

    def putter(self) -> Callable[..., object]:
        push, name = self._connect().rpush, self._key
        return lambda key, value: push(name, f"{key}\0{value}")

    def getter(self) -> Callable[[], Any]:
        pop, name = self._connect().blpop, self._key
        return lambda: pop(name)[1].split("\0", 1)

    def held(self) -> int:
        return int(self._connect().info("memory")["used_memory"])

    def helpers(self) -> list[int]:
        return [self._server.pid]

    def close(self) -> None:
        self._connect().delete(self._key)


class RedisBatch(RedisList):
    """The same with many items a command: RPUSH of a list, BLMPOP."""

    name = f"Redis list, {BATCH} at a time"
    batch = BATCH

    def putter(self) -> Callable[..., object]:
        push, name = self._connect().rpush, self._key
        return lambda pairs: push(name, *[f"{key}\0{value}" for key, value in pairs])

    def getter(self) -> Callable[[], Any]:
        pop, name = self._connect().blmpop, self._key
        return lambda: [text.split("\0", 1) for text in pop(0, 1, name, direction="LEFT", count=BATCH)[1]]


class PersistQueue(Contender):
    """A table of sqlite, one transaction for each call."""

    name = "persist-queue (sqlite)"
    modules = ("persistqueue",)
    slow = True
    one_consumer = "it is made for threads: two consumer processes get the same item"

    def __init__(self, place: Place, number: int = 0) -> None:
        super().__init__(place, number)
        self._module: Any = importlib.import_module("persistqueue")
        self._path = str(place.folder / f"persist-{next(_serial)}")
        self._open()  # the table is there before two processes would make it

    def _open(self) -> Any:
        return self._module.SQLiteQueue(self._path, auto_commit=True, multithreading=True, timeout=60.0)

    def putter(self) -> Callable[..., object]:
        put = self._open().put
        return lambda key, value: put((key, value))

    def getter(self) -> Callable[[], Any]:
        get, empty = self._open().get_nowait, self._module.Empty

        def wait() -> Any:
            while True:
                try:
                    return get()
                except empty:
                    time.sleep(_POLL)

        return wait

    def held(self) -> int:
        return sum(path.stat().st_size for path in Path(self._path).iterdir())


class LiteQueue(Contender):
    """Another one on sqlite, with WAL. A pop marks a row; who is done with it may prune it later."""

    name = "litequeue (sqlite)"
    modules = ("litequeue",)
    slow = True

    def __init__(self, place: Place, number: int = 0) -> None:
        super().__init__(place, number)
        self._path = str(place.folder / f"lite-{next(_serial)}.db")
        self._open().conn.close()

    def _open(self) -> Any:
        return importlib.import_module("litequeue").LiteQueue(self._path, timeout=60.0)

    def putter(self) -> Callable[..., object]:
        put = self._open().put
        return lambda key, value: put(f"{key}\0{value}")

    def getter(self) -> Callable[[], Any]:
        pop = self._open().pop

        def wait() -> Any:
            while True:
                with contextlib.suppress(sqlite3.OperationalError):  # locked by another consumer
                    message = pop()
                    if message is not None:
                        return message.data.split("\0", 1)
                time.sleep(_POLL)

        return wait

    def held(self) -> int:
        return sum(path.stat().st_size for path in Path(self._path).parent.glob(Path(self._path).name + "*"))


ALL: tuple[type[Contender], ...] = (
    Ours,
    OursPure,
    MultiprocessingQueue,
    SimpleQueue,
    Pipe,
    FasterFifo,
    PosixQueue,
    RedisList,
    PersistQueue,
    LiteQueue,
    OursBatch,
    FasterFifoBatch,
    RedisBatch,
)
