"""What a signal handler raises comes out of each call, whatever its kind: our code takes it for no error of its own."""

from __future__ import annotations

import functools
import os
import random
import signal
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest

import mqueue_kemi
from kemi import app
from kemi.errors import ClientClosed, LockTimeout, QueueClosed, Reentered, UnknownQueue
from kemi.instance import queues
from kemi.queue import queue as queue_module
from kemi.queue import reserving
from kemi.queue.adding import Adder
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.delivery import hold
from kemi.queue.delivery.reservation import _Owned
from kemi.queue.store import journal
from kemi.queue.sync import openfile
from kemi.queue.sync.handlers import is_from_handler, suppress
from kemi.queue.waiting import Taker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.python_code

# Not KeyError and AttributeError: Python's own os.environ.get and import take them for theirs.
KINDS: list[type[Exception]] = [
    *(TimeoutError, OSError, ProcessLookupError, RuntimeError, ValueError, struct.error),
    *(LockTimeout, Reentered, QueueClosed, ClientClosed, UnknownQueue),
]


class Striker:
    """Its handler raises, once for each time that it is armed."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __call__(self, *_: object) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error

    def strike(self) -> None:
        """Let the handler run in the middle of what calls this."""
        if self.error is not None:
            signal.raise_signal(signal.SIGALRM)
            time.sleep(0)  # a call in which Python looks for signals

    def repeat(self, call: Callable[[], object]) -> None:
        """Call until it was struck; a function, as some Pythons leave the jump of a loop out of the `try` around it."""
        while self.error is not None:
            call()

    def after(self, function: Callable[..., Any], *, number: int = 1) -> Callable[..., Any]:
        """Return a function that is struck after its call of that number."""
        left = [number]

        def struck(*arguments: Any, **named: Any) -> Any:
            result = function(*arguments, **named)
            left[0] -= 1
            if not left[0]:
                self.strike()
            return result

        return struck


@pytest.fixture
def striker() -> Iterator[Striker]:
    striker = Striker()
    before = signal.signal(signal.SIGALRM, striker)
    yield striker
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def client(instance: str, server: Any) -> Iterator[AttachedQueue]:  # noqa: ARG001 - its instance
    app.modparam("mqueue", "mqueue", "name=q")
    mqueue_kemi.mod_init(object())
    client = AttachedQueue(instance, "q")
    yield client
    client.close()


def out_of(striker: Striker, kind: type[BaseException], call: Callable[[], object]) -> None:
    """Fail unless the handler's exception comes out of the call, and no other."""
    error = striker.error = kind("of the handler") if kind is not UnicodeEncodeError else kind("utf-8", "", 0, 1, "no")
    try:
        call()
    except BaseException as found:  # noqa: BLE001 - whatever comes
        assert found is error, f"{found!r} came in place of {error!r}"  # noqa: PT017
    else:
        assert striker.error is not None, f"{error!r} was swallowed"
        pytest.fail("nothing was struck")


# --- where an error comes from ----------------------------------------------------------------------------------------


class _Method:
    def __call__(self, *arguments: object) -> None:
        self.raise_it(*arguments)

    def raise_it(self, *_: object) -> None:
        raise TimeoutError


HANDLERS: dict[str, Callable[..., Any]] = {
    "function": lambda number, frame: _Method().raise_it(number, frame),
    "object": _Method(),
    "method": _Method().raise_it,
    "partial": functools.partial(_Method().raise_it),
}


@pytest.mark.parametrize("how", HANDLERS)
@pytest.mark.parametrize("asleep", [False, True])
def test_a_handlers_error_is_known(how: str, *, asleep: bool) -> None:
    def call() -> None:
        if asleep:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            time.sleep(30)
        else:
            signal.raise_signal(signal.SIGALRM)
            time.sleep(0)

    before = signal.signal(signal.SIGALRM, HANDLERS[how])
    try:
        with pytest.raises(TimeoutError) as caught:
            call()
        assert is_from_handler(caught.value)
        with pytest.raises(TimeoutError), suppress(OSError):
            call()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_the_systems_error_is_none(client: AttachedQueue) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        os.stat("/nowhere")
    assert not is_from_handler(caught.value)
    with suppress(OSError):
        os.stat("/nowhere")
    client.close()
    with pytest.raises(ClientClosed) as closed:
        client.add("k", "v")
    assert not is_from_handler(closed.value)


# --- at any moment ----------------------------------------------------------------------------------------------------


def _reserve(client: AttachedQueue) -> None:
    client.add("k", "v")
    with client.reserve():
        pass


def _reserve_many(client: AttachedQueue) -> None:
    client.add_many([("k", "v")] * 3)
    with client.reserve_many(3):
        pass


CALLS: dict[str, Callable[[AttachedQueue], object]] = {
    "add": lambda client: client.add("k", "v"),
    "add_many": lambda client: client.add_many([("k", "v")] * 3),
    "fetch": lambda client: client.fetch(),
    "fetch with a timeout": lambda client: client.fetch(0.0002),
    "fetch_many": lambda client: client.fetch_many(3),
    "reserve": _reserve,
    "reserve_many": _reserve_many,
    "attach": lambda client: AttachedQueue(client.instance, "q").close(),
    "read_stats": lambda client: mqueue_kemi.read_stats(client.instance),
    "mq_add": lambda _: mqueue_kemi.mq_add("q", "k", "v"),
    "mq_fetch": lambda _: mqueue_kemi.mq_fetch("q"),
}


@pytest.mark.parametrize("name", CALLS)
def test_at_any_moment(client: AttachedQueue, striker: Striker, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind comes out as it is."""
    call, unraisable = CALLS[name], list[Any]()
    monkeypatch.setattr("sys.unraisablehook", lambda about: unraisable.append(about.exc_value))
    call(client)  # once: Python's own import takes an OSError for one of its files
    for kind in KINDS * 4:
        queues["q"].clear()
        error = striker.error = kind("of the handler")
        caught: BaseException | None = None
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-4))  # noqa: S311
            striker.repeat(lambda: call(client))
        except BaseException as found:  # noqa: BLE001 - whatever comes
            caught = found
        assert caught is error or error in unraisable, f"{caught!r} came in place of {error!r}"
        assert not queues["q"].handle.is_locked()


# --- where it was taken for one of ours -------------------------------------------------------------------------------


class Struck(str):  # noqa: SLOT000
    """A key in whose encoding a signal comes."""

    striker: Striker

    def encode(self, *arguments: Any) -> bytes:
        self.striker.strike()
        return super().encode(*arguments)


@pytest.mark.parametrize("kind", [AttributeError, UnicodeEncodeError])
def test_while_a_key_is_encoded(client: AttachedQueue, striker: Striker, kind: type[Exception]) -> None:
    key = Struck("k")
    key.striker = striker
    out_of(striker, kind, lambda: client.add(key, "v"))
    out_of(striker, kind, lambda: client.add_many([(key, "v")]))
    assert len(client) == 0


def test_after_an_add(client: AttachedQueue, striker: Striker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not added again, as it were if the queue had been closed."""
    monkeypatch.setattr(queue_module.Queue, "add", striker.after(queue_module.Queue.add))
    out_of(striker, QueueClosed, lambda: client.add("k", "v"))
    assert len(client) == 1


def test_after_a_fetch(client: AttachedQueue, striker: Striker, monkeypatch: pytest.MonkeyPatch) -> None:
    client.add_many([("1", "v"), ("2", "v")])
    monkeypatch.setattr(queue_module.Queue, "pop", striker.after(queue_module.Queue.pop))
    out_of(striker, QueueClosed, client.fetch)
    assert len(client) == 1


@pytest.mark.parametrize("kind", [LockTimeout, QueueClosed, Reentered])
def test_between_two_batches(
    client: AttachedQueue, striker: Striker, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before is no reason to swallow it."""
    monkeypatch.setattr(Adder, "add_batch", striker.after(Adder.add_batch, number=2))
    out_of(striker, kind, lambda: client.add_many([("k", "v")] * 600))
    client.add_many([("k", "v")] * 600)
    monkeypatch.setattr(Taker, "_take_batch", striker.after(Taker._take_batch, number=2))
    out_of(striker, kind, lambda: client.fetch_many(600))


@pytest.mark.parametrize("kind", [LockTimeout, RuntimeError])
def test_while_a_batch_is_reserved(
    client: AttachedQueue, striker: Striker, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.add_many([("k", "v")] * 30)
    monkeypatch.setattr(queue_module.Queue, "reserve_some", striker.after(queue_module.Queue.reserve_some, number=2))

    def reserve() -> None:
        with client.reserve_many(30):
            pytest.fail("the block began")

    out_of(striker, kind, reserve)
    assert (len(client), client.stats().reserved) == (30, 0)


def test_on_the_way_into_a_block(client: AttachedQueue, striker: Striker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A RuntimeError, too, gives the item back at once; but that of a second use is no reason to."""
    client.add("k", "v")
    monkeypatch.setattr(_Owned, "enter", striker.after(_Owned.enter))
    block = client.reserve()
    out_of(striker, RuntimeError, block.__enter__)
    assert (len(client), client.stats().reserved) == (1, 0)
    with client.reserve() as item:
        assert item is not None
    block = client.reserve()
    block.__enter__()
    with pytest.raises(RuntimeError, match="for one use"):
        block.__enter__()
    block.__exit__(None)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("kind", [LockTimeout, Reentered, ClientClosed, StopIteration, struct.error])
def test_at_the_end_of_a_block(
    client: AttachedQueue, striker: Striker, kind: type[Exception], monkeypatch: pytest.MonkeyPatch, *, many: bool
) -> None:
    """Nothing was done, so it is given back: nobody takes for remembered what is not, or for done."""
    client.add_many([("k", "v")] * 3)

    def reserve() -> None:
        with client.reserve_many(3) if many else client.reserve():
            pid = os.getpid
            monkeypatch.setattr(hold, "_getpid", striker.after(pid))

    out_of(striker, kind, reserve)
    assert (len(client), client.stats().reserved) == (3, 0)
    monkeypatch.undo()

    def settle() -> None:
        with client.reserve_many(3) if many else client.reserve():
            holding = queues["q"].handle.holding.__class__
            monkeypatch.setattr(holding, "finish", striker.after(holding.finish))

    out_of(striker, kind, settle)
    assert client.stats().reserved == 0


def test_while_an_item_is_rejected(client: AttachedQueue, striker: Striker, monkeypatch: pytest.MonkeyPatch) -> None:
    client.add_many([("k", "v")] * 3)

    def reject() -> None:
        with client.reserve_many(3) as batch:
            monkeypatch.setattr(reserving.Reserver, "_reject", striker.after(reserving.Reserver._reject))
            for item in batch:
                item.reject("unfit")

    out_of(striker, StopIteration, reject)
    assert client.stats().reserved == 0


def test_while_a_descriptor_is_looked_at(
    client: AttachedQueue, striker: Striker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for one that a library closed."""
    client.add("k", "v")
    with client.reserve():
        pass
    client.add("k", "v")
    monkeypatch.setattr(openfile, "_lseek", striker.after(openfile._lseek))
    out_of(striker, TimeoutError, client.reserve().__enter__)
    assert len(client) == 1


def test_while_numbers_are_packed(client: AttachedQueue, striker: Striker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue in which nothing is wrong is not said to be corrupted."""
    monkeypatch.setattr(journal, "_PACK", [striker.after(pack) for pack in journal._PACK])
    client.add_many([("k", "v")] * 3)
    out_of(striker, struct.error, lambda: client.fetch_many(2))


@pytest.mark.parametrize("kind", [TimeoutError, FileNotFoundError, UnknownQueue, ValueError])
def test_while_it_attaches(
    client: AttachedQueue, striker: Striker, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for a file that cannot be opened, nor for a queue that is not there yet."""
    fstat = os.fstat
    monkeypatch.setattr(os, "fstat", striker.after(fstat))
    out_of(striker, kind, lambda: AttachedQueue(client.instance, "q", wait=5.0))
    monkeypatch.setattr(os, "fstat", striker.after(fstat))
    out_of(striker, kind, lambda: mqueue_kemi.read_stats(client.instance))


@pytest.mark.parametrize("kind", [TimeoutError, ValueError, Reentered])
def test_in_a_function_of_the_script(
    client: AttachedQueue, striker: Striker, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time limit of the script's own is no failure of the function."""
    queue = queues["q"]
    monkeypatch.setattr(queue, "add", striker.after(queue.add), raising=False)
    out_of(striker, kind, lambda: mqueue_kemi.mq_add("q", "k", "v"))
    assert len(client) == 1
    monkeypatch.setattr(queue, "pop", striker.after(queue.pop), raising=False)
    out_of(striker, kind, lambda: mqueue_kemi.mq_fetch("q"))
