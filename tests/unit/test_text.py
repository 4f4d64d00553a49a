"""Text from elsewhere is one line, escaped, wherever it is shown; JSON and the text format of metrics stay exact."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kemi import errors, host
from kemi.cli import call, main, metrics, output
from kemi.database import faults, url
from kemi.errors import ConfigError, MqueueError, NotAllowed, SegmentError, StoreError
from kemi.instance import queues
from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.format import layout
from kemi.queue.queue import Queue
from kemi.queue.shm.naming import path_of, segment_name
from kemi.server import log
from kemi.spec import Settings, parse_queue
from kemi.text import one_line, printable
from mqueue_kemi import attach, mq_add

if TYPE_CHECKING:
    from pathlib import Path

# What forges a line, what a terminal obeys, what turns the direction of writing, what is no character at all.
EVIL = "\n\r\x1b[31m\x9b\u202e\u2028\0\udcff\ud800\x7f\t"
SECRET = "p@ss:w0rd"  # noqa: S105


def is_clean(text: str) -> bool:
    """Is this one line that a terminal shows as it is?"""
    return all(character.isprintable() for character in text)


# --- the function -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 'text' with \\ in it", "plain 'text' with \\ in it"),
        ("é日本", "é日本"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("\x85\u202e", "\\u0085\\u202e"),
        ("\U000e0001", "\\U000e0001"),
        ("mysql://user:p@ss:w0rd@host/db, x", "mysql://user:***@host/db, x"),
        ("b'mysql://user:p/w@host/db'", "b'mysql://user:***@host/db'"),
        ("x://:pw@h y://u:pw@h", "x://:***@h y://u:***@h"),
        ("http://host:9130/metrics of a@b", "http://host:9130/metrics of a@b"),
        ("sip:alice:pw@example.org", "sip:alice:pw@example.org"),
    ],
)
def test_one_line(text: str, shown: str) -> None:
    """A sentence: backslashes stay, since a part of it may be escaped already."""
    assert one_line(text) == shown


@given(st.text(st.characters(codec=None)))
def test_any_text(text: str) -> None:
    """What comes out is clean, and comes out of a second time the same; a field can be read back."""
    line, field = one_line(text), printable(text)
    assert is_clean(line)
    assert is_clean(field)
    assert one_line(line) == line
    assert "\\\\" in field or "\\" not in text
    if all(unicodedata.category(character)[0] in "LN" for character in text):
        assert (line, field) == (text, text)


# --- errors -----------------------------------------------------------------------------------------------------------

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MqueueError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error(kind: type[MqueueError]) -> None:
    """Whoever raises it, and with whatever in it: its text is one clean line, also in a traceback."""
    assert is_clean(str(kind(f"queue {EVIL}: mysql://user:{SECRET}@host/db")))
    assert SECRET not in str(kind(f"mysql://user:{SECRET}@host/db"))
    assert isinstance(kind("x"), Exception)


def test_not_allowed_is_a_permission_error() -> None:
    """As its users expect; and it is a SegmentError as before."""
    with pytest.raises(PermissionError, match="no"):
        raise NotAllowed("no")
    assert issubclass(NotAllowed, SegmentError)


PARAMETERS: list[Callable[[], object]] = [
    lambda: Settings().set(EVIL, "x", "y"),
    lambda: Settings().set("mqueue", EVIL, "y"),
    *(
        (lambda name=name: Settings().set("mqueue", name, EVIL))
        for name in ("mode", "group", "lock_timeout", "max_memory", "mqueue_size", "mqueue_addmode", "core", "mqueue")
    ),
    *((lambda part=part: parse_queue("here", part)) for part in (f"{EVIL}=1", f"name=q;size={EVIL}", f"name=q;{EVIL}")),
    lambda: parse_queue(EVIL, ""),
    lambda: attach(EVIL, "no-such-instance"),
    lambda: attach("q", EVIL),
    lambda: attach("q", owner=EVIL),
    lambda: host.find(EVIL),
    lambda: url.parse(EVIL),
    lambda: url.parse(f"{EVIL}://x"),
    lambda: url.parse(f"mysql://{EVIL}"),
]


@pytest.mark.parametrize("action", PARAMETERS)
def test_every_name_and_parameter(action: Callable[[], object]) -> None:
    """Each is refused with a clean line that shows what was given."""
    with pytest.raises(MqueueError) as caught:
        action()
    assert is_clean(str(caught.value))
    assert str(caught.value)


@pytest.mark.parametrize(
    "value", [f"mysql://user:{SECRET}@host/db", f"mysql://user:{SECRET}@host/db".encode(), [SECRET]]
)
def test_no_password_of_a_db_url_is_shown(value: Any) -> None:
    """In no error about it, whatever its type, nor where it stands in the place of something else."""
    settings: Any = Settings()
    places = [("mqueue", "db_url", value), ("mqueue", "db_url", [value]), ("mqueue", "db_ur1", value)]
    places.append(("tm", "db_url", value))
    if isinstance(value, (str, bytes)):
        places += [("mqueue", name, value) for name in ("mqueue", "mode", "group", "max_memory")]
    refused = 0
    for module, name, what in places:
        try:
            settings.set(module, name, what)
        except ConfigError as error:
            refused += 1
            shown = str(error)
            if name == "db_url":
                shown += repr(error)
            assert SECRET not in shown
    assert refused >= len(places) - 1
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("text", [f"{SECRET}", f"user:{SECRET}@mysql://host", f"mysql:user:{SECRET}@host/db"])
def test_no_password_of_what_is_no_url(text: str) -> None:
    """It is not repeated where it cannot be taken apart."""
    with pytest.raises(ConfigError) as caught:
        url.parse(text)
    assert SECRET not in str(caught.value)


def test_what_a_database_answers() -> None:
    """Its words, the table and the database's name, as one clean line."""
    place = faults.Place(url.DbUrl("mysql", "mysql", f"db{EVIL}", f"host{EVIL}", 1, f"user{EVIL}", SECRET), f"t{EVIL}")
    for error in (RuntimeError(f"no{EVIL}"), OSError(2, EVIL), ValueError(f"mysql://user:{SECRET}@x {SECRET}")):
        found = place.broken(error)
        assert isinstance(found, StoreError)
        assert is_clean(str(found))
        assert SECRET not in str(found)


# --- segments ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(instance: str) -> Callable[[str | None, int, bytes], None]:
    """Return what writes bytes into the header of the instance's segment, or of one of its queues."""
    Registry.create(instance, this_process(), 1 << 30)
    Queue.create(instance, "q", window=layout.CHUNK).add("k", "v")

    def write(queue: str | None, at: int, data: bytes) -> None:
        with open(path_of(segment_name(instance, queue)), "r+b") as file:
            file.seek(at)
            file.write(data)

    return write


FIELDS = {"magic": (0, 8), "version": (8, 4), "free": (12, 4), "abi": (16, 32), "words": (48, 456), "lock": (1024, 64)}
TEXT = ("\n\x1b]0;evil\x07\r\x9b31m\xff\0" * 50).encode("latin-1")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("queue", [None, "q"])
def test_every_field_of_a_header(
    foreign: Callable[..., None],
    instance: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    field: str,
    queue: str | None,
) -> None:
    """Commands and errors show it escaped; JSON is JSON; metrics are the text format."""
    at, length = FIELDS[field]
    foreign(queue, at, TEXT[:length])
    for arguments in (
        ["instances"],
        ["sizes"],
        ["stats"],
        ["stats", "q"],
        ["get_size", "q"],
        ["top", "-n", "1"],
        ["peek", "q"],
        ["check", "--live"],
        ["doctor"],
    ):
        run(instance, *arguments)
        shown = capfd.readouterr()
        # Between two fields stands a tab.
        assert all(is_clean(line.replace("\t", "")) for line in (shown.out + shown.err).split("\n")), (arguments, shown)
        assert "Traceback" not in shown.err
    run(instance, "instances", "--json")
    (found,) = (one for one in json.loads(capfd.readouterr().out) if one["instance"] == instance)
    assert found
    assert metrics.text(instance).endswith("\n")
    with contextlib.suppress(MqueueError):
        attach("q", instance).close()
        return
    with pytest.raises(MqueueError) as caught:
        attach("q", instance)
    assert is_clean(str(caught.value))
    log.error(f"{caught.value} {caught.value!r}")
    assert all(is_clean(record.getMessage()) for record in caplog.records)


def run(instance: str, *arguments: str) -> int:
    return main.main(["--instance", instance, *arguments])


# --- logs and terminals -----------------------------------------------------------------------------------------------


def test_the_log(ksr: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, in Kamailio's log and in Python's, with what a sender wrote in it."""
    log.error(f"x{EVIL}y")
    log.notice(f"x{EVIL}y mysql://user:{SECRET}@host/db")
    for line in (ksr.err.call_args.args[0], ksr.notice.call_args.args[0]):
        assert line.endswith("\n")
        assert is_clean(line[:-1])
        assert SECRET not in line
    monkeypatch.setattr(log, "_ksr", lambda: None)
    with caplog.at_level(logging.WARNING):
        log.error(f"x{EVIL}y")
    assert is_clean(caplog.records[-1].getMessage())


def test_a_name_from_a_script(server: Any) -> None:
    """A routing script may make a queue's name of what a caller sent."""
    assert mq_add(EVIL, "k", "v") == -1
    line = server.err.call_args.args[0]
    assert is_clean(line[:-1])


def test_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command says is one clean line; an item in it is JSON, exact."""
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    item = '{"key": "x://u:p@h", "value": "\\n"}\n'
    output.say(f"x{EVIL}y")
    output.say("not put back: ", item)
    first, second, rest = stderr.getvalue().split("\n")
    assert is_clean(first)
    assert second + "\n" == f"mqueue-kemi: not put back: {item}"
    assert rest == ""
    assert isinstance(call.Failure(1, "x"), Exception)


@pytest.mark.parametrize("arguments", [[EVIL.replace("\0", "")], ["peek", "q", f"mysql://user:{SECRET}@host/db"]])
def test_what_the_command_line_refuses(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """It repeats what was wrong, escaped and without a password."""
    with pytest.raises(SystemExit):
        main.main(arguments)
    shown = capfd.readouterr().err
    assert all(is_clean(line) for line in shown.split("\n"))
    assert SECRET not in shown


def test_names_of_files(instance: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A queue and an instance of any name: in tables and messages escaped, in JSON as they are."""
    name = EVIL.replace("\0", "").replace("\ud800", "")  # what a command line can hold
    evil = f"{instance}{name}"
    Registry.create(evil, this_process(), 1 << 30)
    try:
        Queue.create(evil, name, window=layout.CHUNK).add(EVIL, EVIL)
        for arguments in (
            ["instances"],
            ["sizes"],
            ["stats"],
            ["top", "-n", "1", "--all"],
            ["check", "--live"],
            ["doctor"],
            ["peek", "--", name],
            ["peek", "x"],
        ):
            run(evil, *arguments)
            shown = capfd.readouterr()
            lines = (shown.out + shown.err).split("\n")
            assert all(is_clean(line.replace("\t", "")) for line in lines), (arguments, shown)
        run(evil, "stats", "--json")
        (found,) = json.loads(capfd.readouterr().out)
        assert (found["instance"], found["queue"]) == (os.fsencode(evil).decode("utf-8", "surrogateescape"), name)
    finally:
        queues.clear()
        for path in (path_of(segment_name(evil)), path_of(segment_name(evil, name))):
            os.unlink(path)


def test_a_file_of_definitions(tmp_path: Path) -> None:
    """Its name and its lines are shown escaped, without a password."""
    from kemi import definitions

    path = tmp_path / "a\nb.cfg"
    for line in (f"modparam({EVIL[:2]}", f'modparam("mqueue", "db_url", mysql://user:{SECRET}@host/db)', "x\x1b[31m"):
        path.write_text(line)
        with pytest.raises(ConfigError) as caught:
            definitions.read(str(path), Settings())
        assert is_clean(str(caught.value))
        assert SECRET not in str(caught.value)
