"""The functions of a routing script: every return code, and one line in the log for each failure."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

import mqueue_kemi
from kemi.instance import queues
from kemi.queue.format.item import Item
from kemi.server import log
from mqueue_kemi import (
    UnknownQueue,
    attach,
    mod_init,
    modparam,
    mq_add,
    mq_fetch,
    mq_pv_free,
    mq_size,
    mqk_get,
    mqk_gete,
    mqk_getw,
    mqv_get,
    mqv_gete,
    mqv_getw,
)
from tests.unit.children import child

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

GETTERS = [mqk_get, mqk_gete, mqk_getw, mqv_get, mqv_gete, mqv_getw]
STARTED = pytest.mark.usefixtures("started")
NULLS = [None, "", "<null>"] * 2


@pytest.fixture
def started(server: Any) -> Any:
    """Return the KSR of a server with some queues."""
    for definition in (
        "name=q",
        "name=small;size=2",
        "name=bytes;maxbytes=64",
        "name=one;addmode=1",
        "name=two;addmode=2",
    ):
        assert modparam("mqueue", "mqueue", definition) == 1
    modparam("mqueue", "lock_timeout", "0.1")
    handler = object()
    assert mod_init(handler) is handler
    assert server.err.call_count == 0
    return server


def lines(server: Any) -> list[str]:
    """Return what was logged as an error since the last call."""
    found = [call.args[0] for call in server.err.call_args_list]
    server.err.reset_mock()
    assert all(line.startswith("mqueue_kemi: ") and line.endswith("\n") and line.count("\n") == 1 for line in found)
    return found


def one_line(server: Any, *words: str) -> None:
    """Check that exactly one line was logged, with these words."""
    found = lines(server)
    assert len(found) == 1, found
    assert all(word in found[0] for word in words), found


# --- codes ------------------------------------------------------------------------------------------------------------


def test_an_item_goes_through(started: Any) -> None:
    """1 for what is there, -2 and -1 for nothing; the last item's key and value until the next fetch."""
    assert (mq_size("q"), mq_fetch("q")) == (-1, -2)
    assert mq_add("q", "key", "value") == mq_add("q", "k2", "v2") == 1
    assert mq_size("q") == 2
    assert [get("q") for get in GETTERS] == NULLS
    assert mq_fetch("q") == 1
    assert [get("q") for get in GETTERS] == ["key"] * 3 + ["value"] * 3
    assert mq_fetch("q") == 1
    assert (mqk_get("q"), mqv_get("q"), mq_size("q")) == ("k2", "v2", -1)
    assert mq_fetch("q") == -2
    assert [get("q") for get in GETTERS] == NULLS
    assert not lines(started)


@STARTED
def test_an_empty_text_is_a_text() -> None:
    """An item with empty key and value is an item: '' and not null."""
    mq_add("q", "", "")
    assert mq_fetch("q") == 1
    assert [get("q") for get in GETTERS] == [""] * 6


@STARTED
@pytest.mark.parametrize("text", ["a\0b", "é\udcff", "\ud800", "x" * 300_000])
def test_any_text_goes_through(text: str) -> None:
    """What KSR can give is given back."""
    assert mq_add("q", text, text) == mq_fetch("q") == 1
    assert mqk_get("q") == mqv_get("q") == text


def test_free(started: Any) -> None:
    """It forgets what was fetched, and is 1 in any case; for an unknown queue too, as in Kamailio."""
    mq_add("q", "k", "v")
    mq_fetch("q")
    assert mq_pv_free("q") == mq_pv_free("q") == mq_pv_free("nowhere") == 1
    assert [get("q") for get in GETTERS] == NULLS
    assert not lines(started)


@STARTED
def test_each_queue_has_its_slot() -> None:
    """What is fetched from one does not change what was fetched from another."""
    for name in ("q", "small"):
        mq_add(name, f"key of {name}", "")
        mq_fetch(name)
    assert mq_fetch("q") == -2
    assert (mqk_get("q"), mqk_get("small")) == (None, "key of small")


@STARTED
def test_each_process_has_its_slots() -> None:
    """What another process fetches is not fetched here."""
    mq_add("q", "k", "v")
    with child(lambda: mq_fetch("q") == 1 or os._exit(1)):
        assert mqk_get("q") is None
        assert mq_size("q") == -1


def test_size_and_bytes(started: Any) -> None:
    """The oldest goes when size is exceeded, with code 1; past maxbytes an add is -1 with a line."""
    assert [mq_add("small", key, "") for key in "abc"] == [1, 1, 1]
    assert mq_fetch("small") == 1
    assert mqk_get("small") == "b"
    assert [mq_add("bytes", key, "") for key in "ab"] == [1, 1]
    assert not lines(started)
    assert mq_add("bytes", "c", "") == -1
    one_line(started, "mq_add('bytes'): not added: maxbytes of the queue is reached")


def test_addmodes(started: Any) -> None:
    """1 for every outcome; the oldest or the newest item of a key is there."""
    for name, value in (("one", "first"), ("two", "second")):
        assert mq_add(name, "k", "first") == mq_add(name, "k", "second") == 1
        assert (mq_size(name), mq_fetch(name), mqv_get(name)) == (1, 1, value)
    assert not lines(started)


@STARTED
def test_a_fetch_that_waits() -> None:
    """A timeout makes it wait for an item that comes, or for the time."""
    assert mq_fetch("q", 0.01) == -2
    with child(lambda: mq_add("q", "k", "v") == 1 or os._exit(1)):
        assert mq_fetch("q", 5) == 1


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nowhere", "", "Q", "q\n", "\ud800", "a\0b"])
def test_an_unknown_queue(started: Any, name: str) -> None:
    """Its code, and one line that names it and those that there are."""
    calls: list[tuple[str, Any, int]] = [
        ("mq_add", lambda: mq_add(name, "k", "v"), -1),
        ("mq_fetch", lambda: mq_fetch(name), -1),
        ("mq_fetch", lambda: mq_fetch(name, 1), -1),
        ("mq_size", lambda: mq_size(name), -2),
    ]
    for function, call, code in calls:
        assert call() == code
        one_line(started, function, "mqueue not found; defined are: bytes, one, q, small, two")


@pytest.mark.parametrize("name", ["nowhere", ""])
def test_variables_of_an_unknown_queue(started: Any, name: str) -> None:
    """They are null, with one line each."""
    for get, null in zip(GETTERS, NULLS):
        assert get(name) == null
        one_line(started, "mqueue not found")


@pytest.mark.parametrize("name", [None, 5, 1.5, ["q"], {}])
def test_a_name_of_another_type(started: Any, name: Any) -> None:
    """Its code, and one line that says what it must be."""
    calls: list[tuple[Any, int]] = [(mq_fetch, -1), (mq_size, -2), (lambda name: mq_add(name, "k", "v"), -1)]
    for call, code in calls:
        assert call(name) == code
        one_line(started, f"must be str, not {type(name).__name__}")
    for get, null in zip(GETTERS, NULLS):
        assert get(name) == null
        one_line(started, f"must be str, not {type(name).__name__}")
    assert mq_pv_free(name) == 1
    assert len(lines(started)) <= 1


@pytest.mark.parametrize("wrong", [None, 5, ["v"], 1.5])
def test_an_item_of_another_type(started: Any, wrong: Any) -> None:
    """It is -1, one line names which of the two it is, and nothing is added."""
    assert mq_add("q", wrong, "v") == -1
    one_line(started, f"mq_add('q'): key must be str or bytes, not {type(wrong).__name__}")
    assert mq_add("q", "k", wrong) == -1
    one_line(started, f"mq_add('q'): value must be str or bytes, not {type(wrong).__name__}")
    assert mq_size("q") == -1


@pytest.mark.parametrize("name", ["q", "one", "two"])
def test_an_item_that_is_too_long(started: Any, mocker: MockerFixture, name: str) -> None:
    """It is -1, with one line."""
    mocker.patch("kemi.queue.hot.MAX_STEP", 300_000)
    mocker.patch("kemi.queue.log.plain.MAX_STEP", 300_000)
    mocker.patch("kemi.queue.log.keyed.MAX_STEP", 300_000)
    assert mq_add(name, "k", "x" * 300_000) == -1
    one_line(started, f"mq_add({name!r}): not added: the item is too large")


@pytest.mark.parametrize("name", ["q", "one", "two"])
def test_no_memory(started: Any, mocker: MockerFixture, name: str) -> None:
    """While /dev/shm is full adds are -1, told once; when it is not, they are 1 again, and nothing was lost."""
    mocker.patch("os.posix_fallocate", side_effect=OSError(errno.ENOSPC, "No space left on device"))
    codes = [mq_add(name, str(number), "x" * 100_000) for number in range(6)]
    one_line(started, f"mq_add({name!r}): not added: no memory: ", "/dev/shm is full")
    good = codes.count(1)
    assert codes == [1] * good + [-1] * (6 - good)
    mocker.stop(os.posix_fallocate)  # type: ignore[arg-type]
    assert mq_add(name, "again", "x" * 100_000) == 1
    assert mq_size(name) == good + 1
    assert not lines(started)


def test_a_lock_that_is_not_had(started: Any) -> None:
    """Each function gives its code and one line; afterwards all is as before, but no old item seems to be fetched."""
    mq_add("q", "old", "v")
    assert (mq_fetch("q"), mqk_get("q")) == (1, "old")
    mq_add("q", "k", "v")
    with child(queues["q"]._mutex.take) as pid:
        os.kill(pid, signal.SIGSTOP)
        assert mq_add("q", "k", "v") == -1
        one_line(started, "mq_add('q'): ", "lock not had within 0.1 s")
        assert mq_fetch("q") == -1
        one_line(started, "mq_fetch('q'): ", "lock not had")
        assert mqk_get("q") is None
        assert mq_size("q") == 1
    assert mq_fetch("q") == 1
    assert not lines(started)


@pytest.mark.parametrize("timeout", ["soon", None, []])
def test_a_timeout_of_another_type(started: Any, timeout: Any) -> None:
    """It is -1 with one line, or no wait at all; the queue goes on."""
    assert mq_fetch("q", timeout) in (-1, -2)
    assert len(lines(started)) <= 1
    assert mq_add("q", "k", "v") == 1


@pytest.mark.python_code
def test_an_error_that_nobody_foresaw(started: Any, mocker: MockerFixture) -> None:
    """It does not reach the routing script: its kind is in the line."""
    mocker.patch.object(queues["q"], "add", side_effect=ZeroDivisionError("by zero"))
    assert mq_add("q", "k", "v") == -1
    one_line(started, "mq_add('q'): ZeroDivisionError: by zero")


def test_before_a_start(server: Any) -> None:
    """Without mod_init there is no queue, and the line says so."""
    modparam("mqueue", "mqueue", "name=q")
    assert mq_add("q", "k", "v") == -1
    one_line(server, "mqueue not found; mod_init of mqueue_kemi was not called: end your own with `return mqueue_kemi.")


def test_started_without_queues(server: Any) -> None:
    """The line has what to write."""
    mod_init(object())
    assert mq_add("cdr", "k", "v") == -1
    one_line(server, 'no queue is defined: write mqueue_kemi.modparam("mqueue", "mqueue", "name=cdr") before mod_init')


@STARTED
def test_defined_too_late(started: Any) -> None:
    """A modparam after mod_init waits for the next one."""
    modparam("mqueue", "mqueue", "name=late")
    assert mq_size("late") == -2
    one_line(started, "mq_size('late'): mqueue not found; its modparam came after mod_init of mqueue_kemi")


def test_without_a_server(caplog: pytest.LogCaptureFixture) -> None:
    """Outside of Kamailio lines go to Python's own log."""
    assert mq_add("nowhere", "k", "v") == -1
    (record,) = caplog.records
    assert record.getMessage().startswith("mqueue_kemi: mq_add('nowhere'): mqueue not found; mod_init of mqueue_")


def test_the_log_takes_any_text(started: Any) -> None:
    """KSR takes C strings: what is no UTF-8, and a NUL, are written out."""
    log.error("\udcff\0\ud800é")
    log.notice("\0")
    assert started.err.call_args.args == ("mqueue_kemi: \\xff\\x00\\ud800é\n",)
    assert started.notice.call_args.args == ("mqueue_kemi: \\x00\n",)


# --- outside ----------------------------------------------------------------------------------------------------------


@STARTED
def test_attach(instance: str) -> None:
    """A process outside of Kamailio adds and takes what the routing script takes and adds."""
    with attach("q", instance) as queue:
        queue.add("from", "outside")
        assert (mq_fetch("q"), mqk_get("q"), mqv_get("q")) == (1, "from", "outside")
        mq_add("q", "from", "inside")
        item = queue.fetch(1)
        assert isinstance(item, Item)
        assert item.value == "inside"


@STARTED
def test_attach_to_what_is_not_there(instance: str) -> None:
    """The error says whether the instance or the queue is missing."""
    with pytest.raises(UnknownQueue, match=f"instance '{instance}' has no queue 'nowhere'"):
        attach("nowhere", instance)
    with pytest.raises(UnknownQueue, match=r"no instance 'unit-none' on this host.*is its server running"):
        attach("q", "unit-none")


def test_what_is_public() -> None:
    """Everything that is named as public is there."""
    assert all(hasattr(mqueue_kemi, name) for name in mqueue_kemi.__all__)
