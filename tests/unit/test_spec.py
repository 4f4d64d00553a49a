"""Parameters: what is understood, and what is refused with which words."""

from __future__ import annotations

import grp
import os
import re
from typing import Any, Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kemi.errors import ConfigError
from kemi.spec import CORE_FORCED, CORE_KNOWN, CORE_OFF, QueueSpec, Settings, Value, parse_queue

GIB = 1 << 30
GROUP = grp.getgrgid(os.getgid()).gr_name


def setting(name: str, value: Any) -> Settings:
    """Return settings with one parameter."""
    settings = Settings()
    settings.set("mqueue", name, value)
    return settings


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("name=myq;size=20;", QueueSpec("myq", 20)),
        ("name=qaz", QueueSpec("qaz")),
        ("name=q;size=5;dbmode=3;addmode=2;maxbytes=4096", QueueSpec("q", 5, 3, 2, 4096)),
        ("addmode=1;maxbytes=0;size=0;name=q;dbmode=0", QueueSpec("q", addmode=1)),
        ("NAME=q;Size=5;dBmOdE=1;ADDMODE=1;MaxBytes=1", QueueSpec("q", 5, 1, 1, 1)),
        ("  name = q ;\tsize\n= 5 ; ", QueueSpec("q", 5)),
        (";;name=q;;;size=5;;", QueueSpec("q", 5)),
        ("name=\"q\";size='5'", QueueSpec("q", 5)),
        ("name=' q ';", QueueSpec(" q ")),
        ('name="', QueueSpec('"')),
        ("name=a=b", QueueSpec("a=b")),
        ("name=a b.c/d~é", QueueSpec("a b.c/d~é")),
        ("name=q;size=+5", QueueSpec("q", 5)),
        ("name=q;size=2147483647", QueueSpec("q", 2147483647)),
        ("name=q;maxbytes=512k", QueueSpec("q", maxbytes=512 << 10)),
        ("name=q;maxbytes=3 MB", QueueSpec("q", maxbytes=3 << 20)),
        ("name=q;maxbytes=2GiB", QueueSpec("q", maxbytes=2 * GIB)),
        ("name=q;maxbytes=1t", QueueSpec("q", maxbytes=1 << 40)),
        ("name=q;maxbytes=7b", QueueSpec("q", maxbytes=7)),
        ("name=q;max_deliveries=3;Dead_Letter=bad", QueueSpec("q", max_deliveries=3, dead_letter="bad")),
        ("name=q;max_deliveries=65534", QueueSpec("q", max_deliveries=65534)),
    ],
)
def test_a_definition(text: str, spec: QueueSpec) -> None:
    """Attributes in any case and order, blanks, quotes, empty parts, units of bytes."""
    assert setting("mqueue", text).queues == {spec.name: spec}


@pytest.mark.parametrize(("word", "number"), [("none", 0), ("both", 1), ("save", 2), ("load", 3), ("Save", 2)])
@pytest.mark.parametrize("compat", ["", "code", "documentation"])
def test_words_for_dbmode(word: str, number: int, compat: str) -> None:
    """They mean the same whatever a bare number means."""
    settings = setting("mqueue", f"name=q;dbmode={word}")
    if compat:
        settings.set("mqueue", "dbmode_compat", compat)
    settings.check()
    assert settings.queues["q"].dbmode == number
    assert settings.ambiguous == {}


@pytest.mark.parametrize("compat_first", [False, True])
@pytest.mark.parametrize(
    ("compat", "number", "reads", "writes"),
    [
        ("", "2", False, True),
        ("", "3", True, False),
        ("documentation", "2", False, True),
        ("Code", "2", True, False),
        ("code", "3", False, True),
        ("code", "+3", False, True),
        ("code", "1", True, True),
        ("code", "0", False, False),
    ],
)
def test_numbers_for_dbmode(compat: str, number: str, reads: bool, writes: bool, compat_first: bool) -> None:
    """As the documentation has them, or as the C code does, wherever that is said, and however often it is asked."""
    settings = Settings()
    lines = [("mqueue", f"name=q;dbmode={number}")]
    if compat:
        lines.insert(0 if compat_first else 1, ("dbmode_compat", compat))
    for name, value in lines:
        settings.set("mqueue", name, value)
    for _ in range(2):
        settings.check()
    spec = settings.queues["q"]
    assert (spec.reads_database(), spec.writes_database()) == (reads, writes)


@pytest.mark.parametrize("value", ["", "c", 1, None, "2"])
def test_a_bad_dbmode_compat(value: Any) -> None:
    with pytest.raises(ConfigError, match=r'write "code" .* or "documentation"|must be text'):
        setting("dbmode_compat", value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no name"),
        (";", "no name"),
        ("size=20", "no name"),
        ("name=", "no name"),
        ("name=;size=5", "no name"),
        ("name", "no name"),
        ("name=''", "no name"),
        ("name=q;colour=red", 'unknown attribute "colour"'),
        ("name=q;=5", 'unknown attribute ""'),
        ("myq", 'unknown attribute "myq"'),
        ("name=q;size=5;size=5", '"size" is given twice'),
        ("name=q;NAME=r", '"name" is given twice'),
        ("name=q;size", '"" is no whole number'),
        ("name=q;size=many", '"many" is no whole number'),
        ("name=q;size=1.5", '"1.5" is no whole number'),
        ("name=q;size=1_000", '"1_000" is no whole number'),
        ("name=q;size=٣", '"٣" is no whole number'),
        ("name=q;size=-1", "-1 is out of range"),
        ("name=q;size=2147483648", "out of range"),
        ("name=q;dbmode=4", "4 is out of range"),
        ("name=q;dbmode=yes", '"yes": write none, both, save, load, or a number from 0 to 3'),
        ("name=q;addmode=3", "3 is out of range"),
        ("name=q;addmode=-1", "-1 is out of range"),
        ("name=q;maxbytes=lots", "no number of bytes"),
        ("name=q;maxbytes=-1", "no number of bytes"),
        ("name=q;maxbytes=1.5G", "no number of bytes"),
        ("name=q;maxbytes=65t", "the most that can be mapped"),
        ("name=q;max_deliveries=65535", "out of range"),
        ("name=q;max_deliveries=some", "no whole number"),
        ("name=q;dead_letter=bad", "dead_letter needs max_deliveries"),
        ("name=q;max_deliveries=2;dead_letter=q", "must name another queue"),
    ],
)
def test_a_bad_definition(text: str, why: str) -> None:
    """The error names the parameter and the whole text, and says what is wrong; nothing is defined."""
    settings = Settings()
    with pytest.raises(ConfigError, match=re.escape(why)) as caught:
        settings.set("mqueue", "mqueue", text)
    assert f'modparam("mqueue", "mqueue", "{text}")' in str(caught.value)
    assert settings == Settings()


@pytest.mark.parametrize("value", [None, 5, 1.5, b"name=q", ["name=q"]])
def test_a_definition_is_text(value: Any) -> None:
    """Anything else is refused by the same error."""
    with pytest.raises(ConfigError, match="must be text like name=myq;size=20"):
        setting("mqueue", value)


@pytest.mark.parametrize("second", ["name=q;size=4", "name='q'"])
def test_a_name_twice(second: str) -> None:
    """The first definition stays, the second is an error, also by mqueue_name."""
    settings = setting("mqueue", "name=q;size=3")
    with pytest.raises(ConfigError, match="redefined"):
        settings.set("mqueue", "mqueue", second)
    with pytest.raises(ConfigError, match="redefined"):
        settings.set("mqueue", "mqueue_name", "q")
    assert settings.queues == {"q": QueueSpec("q", 3)}


def test_mqueue_name_takes_what_is_set_then() -> None:
    """It defines a queue with the mqueue_size and mqueue_addmode of that moment."""
    settings = Settings()
    lines: list[tuple[str, Value]] = [("mqueue_name", "a"), ("mqueue_size", 5), ("mqueue_name", "b")]
    lines += [("mqueue_addmode", "2"), ("mqueue_name", "c"), ("mqueue_size", "0"), ("mqueue_name", "d")]
    for name, value in lines:
        settings.set("mqueue", name, value)
    settings.set("mqueue", "mqueue", "name=e")
    expected = [("a", 0, 0), ("b", 5, 0), ("c", 5, 2), ("d", 0, 2), ("e", 0, 0)]
    assert [(spec.name, spec.size, spec.addmode) for spec in settings.queues.values()] == expected


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("instance", "sip1", "instance", "sip1"),
        ("db_url", "sqlite:////tmp/x", "db_url", "sqlite:////tmp/x"),
        ("db_url", "", "db_url", ""),
        ("mode", "0660", "mode", 0o660),
        ("mode", "600", "mode", 0o600),
        ("mode", 0o640, "mode", 0o640),
        ("group", os.getgid(), "group", os.getgid()),
        ("group", str(os.getgid()), "group", os.getgid()),
        ("group", GROUP, "group", os.getgid()),
        ("lock_timeout", "0.25", "lock_timeout", 0.25),
        ("lock_timeout", 3600, "lock_timeout", 3600.0),
        ("max_memory", "2G", "max_memory", 2 * GIB),
        ("max_memory", 4096, "max_memory", 4096),
        ("max_memory", "0", "max_memory", 0),
        ("mqueue_size", "20", "mqueue_size", 20),
        ("mqueue_addmode", 2, "mqueue_addmode", 2),
    ],
)
@pytest.mark.parametrize("module", ["mqueue", "mqueue_kemi"])
def test_a_parameter(module: str, name: str, value: Any, field: str, expected: Any) -> None:
    """Texts and numbers, as Kamailio's own modparam takes both; either name of the module."""
    settings = Settings()
    settings.set(module, name, value)
    assert getattr(settings, field) == expected


# How a value that is no text to be shown stands in an error.
ESCAPED = {"a\0b": "a\\x00b", "\ud800": "\\ud800"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("instance", ""),
        ("instance", 5),
        ("instance", None),
        ("db_url", 5),
        ("mode", "rw-rw----"),
        ("mode", "0400"),
        ("mode", "0700"),
        ("mode", "0668"),
        ("mode", "-0600"),
        ("mode", "7" * 5000),
        ("mode", 0o1600),
        ("mode", None),
        ("mode", 0.5),
        ("group", "no-such-group"),
        ("group", ""),
        ("group", "²"),
        ("group", -1),
        ("group", 1 << 32),
        ("group", None),
        ("group", "a\0b"),
        ("group", "\ud800"),
        ("lock_timeout", "soon"),
        ("lock_timeout", 0),
        ("lock_timeout", "-1"),
        ("lock_timeout", "nan"),
        ("lock_timeout", "inf"),
        ("lock_timeout", 3601),
        ("lock_timeout", 10**400),
        ("lock_timeout", None),
        ("lock_timeout", True),
        ("max_memory", "plenty"),
        ("max_memory", -1),
        ("max_memory", 1.5),
        ("max_memory", True),
        ("max_memory", "9" * 16),
        ("mqueue_size", -1),
        ("mqueue_size", "x"),
        ("mqueue_size", 1.5),
        ("mqueue_size", True),
        ("mqueue_size", "9" * 5000),
        ("mqueue_addmode", 3),
        ("mqueue_addmode", None),
        ("mqueue_name", ""),
        ("mqueue_name", 5),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_bad_parameter(name: str, value: Any) -> None:
    """The error names the parameter and what was given, and nothing has changed."""
    settings = Settings()
    shown = f'"{ESCAPED.get(value, value)}"' if isinstance(value, str) else repr(value)
    with pytest.raises(ConfigError) as caught:
        settings.set("mqueue", name, value)
    assert str(caught.value).startswith(f'modparam("mqueue", "{name}", {shown})')
    assert settings == Settings()


@pytest.mark.parametrize(("module", "name"), [("tm", "mqueue"), ("", "mqueue"), (None, "mqueue"), ([], "mqueue")])
def test_another_module(module: Any, name: str) -> None:
    """A parameter of another module is refused."""
    with pytest.raises(ConfigError, match='the module is "mqueue"'):
        Settings().set(module, name, "name=q")


@pytest.mark.parametrize("name", ["colour", "", "MQUEUE", None, 5, []])
def test_an_unknown_parameter(name: Any) -> None:
    """It is refused, with a list of those that there are."""
    with pytest.raises(
        ConfigError,
        match="there are core, db_inexact, db_retry, db_timeout, db_tls, db_url, dbmode_compat, group",
    ):
        Settings().set("mqueue", name, "x")


NUMBERS = [
    "db_inexact",
    "db_retry",
    "db_timeout",
    "lock_timeout",
    "max_memory",
    "mode",
    "mqueue_addmode",
    "mqueue_size",
]
NAMES = st.sampled_from([*NUMBERS, "db_tls", "db_url", "dbmode_compat", "group", "instance", "mqueue", "mqueue_name"])
VALUES = st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans())


def refusal(action: Callable[[], object]) -> str:
    """Return the text of the ConfigError that an action raises; "" if it raises nothing."""
    try:
        action()
    except ConfigError as error:
        return str(error)
    return ""


@given(NAMES, VALUES)
def test_any_value(name: str, value: Any) -> None:
    """Whatever is given is taken, and changes that parameter alone; or is a ConfigError that names it."""
    settings, before = Settings(), Settings()
    refused = refusal(lambda: settings.set("mqueue", name, value))
    if refused:
        assert refused.startswith(f'modparam("mqueue", "{name}", ')
        assert settings == before
        return
    field = "queues" if name in ("mqueue", "mqueue_name") else name
    assert {key for key in vars(settings) if getattr(settings, key) != getattr(before, key)} <= {field}
    if name in NUMBERS:
        assert isinstance(getattr(settings, name), (int, float))
        assert 0 <= getattr(settings, name) < 1 << 47
    elif name in ("db_url", "instance"):
        assert getattr(settings, name) == value


ATTRIBUTES = st.lists(
    st.tuples(st.sampled_from(["name", "Size", "dbmode", "addmode", "maxbytes"]), st.text(max_size=6))
)


@given(st.one_of(st.text(), ATTRIBUTES.map(lambda pairs: ";".join("=".join(pair) for pair in pairs))))
@example("name=q;size=5")
@example("name=q;size=-1")
def test_any_definition(text: str) -> None:
    """Any text is a queue, whose values are in range, or a ConfigError that says where it stands."""
    refused = refusal(lambda: parse_queue("here", text))
    if refused:
        assert refused.startswith("here: ")
        return
    spec = parse_queue("here", text)
    assert spec.name
    assert spec.name in text
    assert 0 <= spec.size < 1 << 31
    assert 0 <= spec.maxbytes <= 1 << 46
    assert (spec.dbmode in range(4), spec.addmode in range(3)) == (True, True)


def test_a_queue_for_dead_letters_must_be_there() -> None:
    """In whatever order they are defined; what is missing is named."""
    settings = Settings()
    settings.set("mqueue", "mqueue", "name=q;max_deliveries=2;dead_letter=bad")
    with pytest.raises(ConfigError, match="dead_letter=bad: there is no such queue"):
        settings.check()
    settings.set("mqueue", "mqueue_name", "bad")
    settings.check()


def test_blanks_that_only_text_knows() -> None:
    """What Python takes for a blank in text, and not in a number, is taken away before."""
    settings = Settings()
    settings.set("mqueue", "mqueue_size", "\x1e5\x1f")
    assert settings.mqueue_size == 5


@pytest.mark.parametrize(
    ("value", "use"),
    [(0, CORE_OFF), ("0", CORE_OFF), (1, CORE_KNOWN), (" 1 ", CORE_KNOWN), ("force", CORE_FORCED)],
)
def test_use_of_the_core(value: str | int, use: int) -> None:
    """0, 1 or force."""
    settings = Settings()
    assert settings.core == CORE_KNOWN
    settings.set("mqueue", "core", value)
    assert settings.core == use


@pytest.mark.parametrize("value", ["", "2", 2, -1, "Force", "yes", 0.0, True, b"force"])
def test_no_use_of_the_core(value: str | int) -> None:
    """Anything else is refused with what may be written."""
    with pytest.raises(ConfigError, match=r'"core", .*: write 0 \(never\), 1 .* or "force"'):
        Settings().set("mqueue", "core", value)


@pytest.mark.parametrize("name", ["mode", "group", "core", "max_memory", "mqueue_size", "mqueue_addmode"])
def test_bytes_are_no_value(name: str) -> None:
    """A script in Python may give them: a ConfigError, also where Python makes an error of bytes taken for text."""
    with pytest.raises(ConfigError, match=f'modparam\\("mqueue", "{name}"'):
        Settings().set("mqueue", name, b"1")  # type: ignore[arg-type]
