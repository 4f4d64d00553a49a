"""The definitions file of a native kamailio.cfg."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kemi import definitions
from kemi.errors import ConfigError
from kemi.spec import QueueSpec, Settings

CHECKOUT = Path(__file__).parents[2]


def read(text: str | bytes) -> Settings:
    """Return the settings that a file with this text makes."""
    settings = Settings()
    with NamedTemporaryFile() as file:
        file.write(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        file.flush()
        definitions.read(file.name, settings)
    return settings


def test_the_lines_of_the_documentation() -> None:
    """Example 1.1 and 1.2, as they are."""
    settings = read(
        'modparam("mqueue", "db_url", "mysql://kamailio:kamailiorw@localhost/kamailio")\n'
        'modparam("mqueue", "mqueue", "name=myq;size=20;")\n'
        'modparam("mqueue", "mqueue", "name=qaz")\n'
    )
    assert settings.db_url == "mysql://kamailio:kamailiorw@localhost/kamailio"
    assert list(settings.queues.values()) == [QueueSpec("myq", 20), QueueSpec("qaz")]


Q = 'modparam("mqueue", "mqueue", "name=q")'


@pytest.mark.parametrize(
    "text",
    [
        Q,
        f"{Q};\n",
        f"# a comment\n{Q} # another\n#",
        f"// a comment\n{Q}// another",
        f"/* a comment\n over lines, {Q} */{Q}/**/",
        f"\n\n\t {Q}\r\n\r\n",
        "modparam('mqueue', 'mqueue', 'name=q')",
        "modparam(\n  'mqueue',\n  'mqueue',\n  \"name=q\"\n)",
        'modparam ( "mqueue" , "mqueue" , "name=q" ) ;',
        'modparam("mqueue","mqueue","n\\ame=q")',
        'modparam("mqueue_kemi","mqueue_name","q")',
        f"#!KAMAILIO\n{Q}",
        f"# as in Kamailio\n#!SER  \r\n{Q}\n#!kamailio",
        f"\ufeff{Q}",
        f"\ufeff#!KAMAILIO\n{Q}",
        f"{Q} # a comment about #!ifdef and !!define\n/* #!ifdef X */ // #!endif",
        f"{Q}\r# the old Macintosh\r",
    ],
)
def test_how_a_line_may_look(text: str) -> None:
    """Comments of all kinds, blanks, both quotes, with and without a semicolon."""
    assert read(text).queues == {"q": QueueSpec("q")}


DIRECTIVES = ["ifdef X", "ifndef X", "else", "endif", "ifexp X", "define X", "define X 1", "redefine X 1", "trydef X 1"]
MORE_DIRECTIVES = ["subst '/a/b/'", 'substdef "/a/b/"', "substdefs '/a/b/'", "defenv X", "trydefenv X", "defexp X 1"]
OTHERS = ["KAMAILIO 6", "KAMAILIOX", "", "/usr/bin/env kamailio", 'include_file "x"', 'import_file "x"']


@pytest.mark.parametrize("sign", ["#!", "!!"])
@pytest.mark.parametrize("directive", [*DIRECTIVES, *MORE_DIRECTIVES, *OTHERS])
@pytest.mark.parametrize("before", [f"{Q}\n", f"{Q} ", "\n\t"])
def test_a_directive_of_the_preprocessor_is_refused(sign: str, directive: str, before: str) -> None:
    """Whatever Kamailio would do with it: a queue in a branch that is off must not come to be silently."""
    line = before.count("\n") + 1
    with pytest.raises(
        ConfigError, match=rf"^/.*, line {line}: {re.escape((sign + directive).strip())}: this file is not"
    ):
        read(f"{before}{sign}{directive}\n{Q}\n#!endif\n")


def test_utf_16_is_told() -> None:
    """As an editor on Windows saves it."""
    for encoding in ("utf-16-le", "utf-16-be"):
        with pytest.raises(ConfigError, match=r"^/.*, line 1: the file is UTF-16; save it as UTF-8"):
            read(f"\ufeff{Q}".encode(encoding))


def test_a_comment_sign_in_a_text_is_text() -> None:
    """Quotes win over #, // and /*; a quote in quotes is written with a backslash."""
    names = ["a#b", "a//b", "a/*b", 'a"b']
    lines = (f'modparam("mqueue", "mqueue_name", "{name}")\n' for name in ["a#b", "a//b", "a/*b", 'a\\"b'])
    assert list(read("".join(lines)).queues) == names


@pytest.mark.parametrize(
    ("value", "size"), [("20", 20), ("'20'", 20), ("0x14", 20), ("024", 20), ("+20", 20), ("0", 0)]
)
def test_numbers(value: str, size: int) -> None:
    """A number is decimal, hexadecimal or octal, as in kamailio.cfg."""
    assert read(f'modparam("mqueue", "mqueue_size", {value})').mqueue_size == size


def test_a_mode_is_octal_in_both_ways() -> None:
    """0640 is the same with and without quotes."""
    assert read('modparam("mqueue", "mode", 0640)').mode == read('modparam("mqueue", "mode", "0640")').mode == 0o640


def test_a_name_that_is_no_utf8() -> None:
    """Its bytes stay what they are."""
    assert list(read(b'modparam("mqueue", "mqueue_name", "a\xff")').queues) == ["a\udcff"]


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("loadmodule mqueue", 1, 'expected modparam("mqueue", "...", ...), found: loadmodule mqueue'),
        (f"{Q}\n# x\n  nonsense here\n", 3, "found: nonsense here"),
        (f"{Q}\n/* over\nthree\nlines */ nonsense", 4, "found: nonsense"),
        ('modparam("mqueue", "mqueue")', 1, "expected modparam"),
        ('modparam("mqueue", "mqueue", "name=q"', 1, "expected modparam"),
        ('modparam("mqueue", "mqueue, "name=q")', 1, "expected modparam"),
        ("\n/* no end\n", 2, "found: /* no end"),
        (f"{Q}\n\n{Q}", 3, "mqueue redefined"),
        ('\n\nmodparam("mqueue", "mqueue", "name=q;size=x")', 3, '"x" is no whole number'),
        ('modparam("tm", "x", "y")', 1, 'the module is "mqueue"'),
        ('\nmodparam("mqueue", "mqueue_size", twenty)', 2, "twenty is neither a number nor a text in quotes"),
        ('modparam("mqueue", "mqueue_size", 09)', 1, "09 is neither a number"),
    ],
)
def test_an_error_has_its_line(text: str, line: int, why: str) -> None:
    """It names file and line and what is wrong there."""
    with pytest.raises(ConfigError, match=rf"^/.*, line {line}: .*{re.escape(why)}"):
        read(text)


@pytest.mark.parametrize("path", ["/nonexistent/mqueue_kemi.cfg", "/"])
def test_a_file_that_cannot_be_read(path: str) -> None:
    """The error names it, and the variable that names another."""
    with pytest.raises(ConfigError, match=f"definitions file {path}: .*MQUEUE_KEMI_CFG"):
        definitions.read(path, Settings())


SIGNS = ["\n", "#", "//", "/*", "*/", '"', "'", "\\", ",", "(", ")", ";", " ", "0x", "-", "\0", "é", "\udcff"]
WORDS = ['modparam("mqueue", "mqueue", "name=', "q", ";size=", "5", '")', "modparam", '"mqueue"', '"mqueue_size"']
PIECES = st.sampled_from([*SIGNS, *WORDS, "9" * 400, '"lock_timeout"'])


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_any_text(text: str) -> None:
    """Whatever a file holds, there are settings or a ConfigError with its line."""
    try:
        read(text)
    except ConfigError as error:
        assert re.search(r", line \d+: ", str(error))  # noqa: PT017


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    """A file that is no text is an error like any other."""
    try:
        read(data)
    except ConfigError as error:
        assert re.search(r", line \d+: ", str(error))  # noqa: PT017


def test_the_example_file() -> None:
    """The definitions in conf/ are what they should be."""
    settings = Settings()
    definitions.read(str(CHECKOUT / "conf" / "mqueue_kemi.cfg"), settings)
    assert settings.queues


@pytest.mark.parametrize("url", ["mysql://u:s3cr3t@h/db", "postgres://u:p@s3cr3t@h/db", "mysql://u:/s3cr3t:@h"])
def test_a_password_is_not_in_the_error(url: str) -> None:
    """A line that cannot be read is shown without it."""
    with pytest.raises(ConfigError, match=r"line 1: expected modparam.*://\*\*\*h") as caught:
        read(f'modparam("mqueue", "db_url", "{url}"')
    assert "s3cr3t" not in str(caught.value)
