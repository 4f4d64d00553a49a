"""An engine's URL: what it means, and that no text of it shows a password."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kemi.cli.relay_settings import checked
from kemi.errors import ConfigError
from kemi.relay.engine import Durability
from kemi.relay.link import Backoff
from kemi.relay.url import Address, is_engine, parse
from kemi.text import one_line

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "hosts", "socket", "db", "tls"),
    [
        ("redis://h", (("h", 6379),), "", 0, False),
        ("redis://h:1/3", (("h", 1),), "", 3, False),
        ("rediss://a,b:7/0", (("a", 6379), ("b", 7)), "", 0, True),
        ("valkey://[::1]:7", (("::1", 7),), "", 0, False),
        ("valkeys://h?db=2", (("h", 6379),), "", 2, True),
        ("unix:///run/r.sock?db=1", (), "/run/r.sock", 1, False),
        ("unix://u:p@/run/r.sock", (), "/run/r.sock", 0, False),
    ],
)
def test_where_it_is(text: str, hosts: tuple[tuple[str, int], ...], socket: str, db: int, tls: bool) -> None:
    address = parse(text)
    assert (address.hosts, address.socket, address.db, address.tls) == (hosts, socket, db, tls)
    assert is_engine(text)


def test_no_text_shows_the_password() -> None:
    address = parse("redis://user:s3%40cret@h/0")
    assert (address.user, address.secret()) == ("user", "s3@cret")
    assert "s3" not in f"{address} {address!r}"
    assert parse(f"{address}").user == "user"


_NAMES = st.text(st.characters(codec="utf-8"), min_size=1)


@given(user=_NAMES, password=_NAMES, path=_NAMES)
def test_what_is_shown_is_a_url_of_the_same_place(user: str, password: str, path: str) -> None:
    """Whatever the user and the socket are called; and a name that looks like an end does not let a password out."""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    for text in (f"redis://{login}@h:1,[::1]:2/3", f"unix://{login}@/{quote(path)}?db=3"):
        address = parse(text)
        assert (address.user, address.password) == (user, password)
        shown = parse(f"{address}")
        assert (shown.user, shown.password) == (user, "")
        assert (shown.scheme, shown.hosts, shown.socket, shown.db) == (
            address.scheme,
            address.hosts,
            address.socket,
            address.db,
        )
        assert one_line(f"{address}") == f"{address}"


@pytest.mark.parametrize("name", ["a@b", "a:b", "a/b", "a?db=1", "a b", "%40", "ä", "a\n"])
def test_a_user_with_special_characters(name: str) -> None:
    address = parse(f"redis://{quote(name, safe='')}:s3cret@h/0")
    assert f"{address}" == f"redis://{quote(name, safe='')}@h:6379/0"


def test_what_may_be_a_password_is_not_repeated() -> None:
    """It was written in a wrong place."""
    for wrong in ({"password_file": "s3cret"}, {"password_file": 3}, {"url": ["redis://u:s3cret@h"]}):
        with pytest.raises(ConfigError) as caught:
            checked({"queue": "q", "url": "redis://h", **wrong}, "")
        assert "s3cret" not in str(caught.value)
        assert next(iter(wrong)) in str(caught.value)


@pytest.mark.parametrize("rest", ["u:s3?cret@h", "u:s3?cret=1@h/0", "u:s3?db=cret@h", "u:x?db=1&cret@h?timeout=2"])
def test_a_question_mark_in_a_password(rest: str) -> None:
    with pytest.raises(ConfigError, match="write %3F") as caught:
        parse(f"redis://{rest}")
    assert "cret" not in str(caught.value)


def test_the_password_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    file.write_text("one\n")
    address = parse(f"redis://h?password_file={file}")
    assert address.secret() == "one"
    file.write_text("two")
    assert address.secret() == "two"
    file.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        address.secret()
    monkeypatch.setenv("MQUEUE_KEMI_ENGINE_PASSWORD", "three")
    monkeypatch.setenv("MQUEUE_KEMI_ENGINE_USER", "me")
    address = parse("redis://h")
    assert (address.user, address.secret()) == ("me", "three")


def test_an_option_that_is_given_elsewhere_counts_first() -> None:
    address = parse("redis://a@h?timeout=3&max_len=7", user="b", timeout=2, max_len=None)
    assert (address.user, address.timeout, address.max_len) == ("b", 2.0, 7)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("h:6379", "not of the form"),
        ("amqp://h", '"amqp" is no engine'),
        ("se cret://h", "what stands before"),
        ("redis://", "names no host"),
        ("redis://h:0", "wrong port"),
        ("redis://h:99999", "wrong port"),
        ("redis://h/db", "number of a database"),
        ("redis://h?speed=1", "option speed"),
        ("redis://h?db=1&db=2", "twice"),
        ("redis://h?timeout=0", "timeout=0"),
        ("redis://h?timeout=nan", "timeout=nan"),
        ("redis://h?lease=x", "lease=x"),
        ("redis://h?max_len=0", "max_len=0"),
        ("redis://h?password_file=p", "whole path"),
        ("redis://h?tls_ca=/ca", "rediss://"),
        ("unix://run/r.sock", "names no socket"),
    ],
)
def test_what_is_wrong_is_said(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(text)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("fsync", Durability(fsync=True)),
        ("replicas=2", Durability(fsync=False, replicas=2)),
        ("fsync+replicas=1", Durability(fsync=True, replicas=1)),
        ("memory", Durability(fsync=False)),
    ],
)
def test_durability(text: str, means: Durability) -> None:
    assert Durability.parse(text) == means
    assert str(means) == text


@pytest.mark.parametrize("text", ["", "disk", "replicas", "replicas=0", "fsync=1", "memory+fsync", "replicas=100"])
def test_no_durability(text: str) -> None:
    with pytest.raises(ConfigError, match="durability="):
        Durability.parse(text)


def test_pauses_double_up_to_a_bound_with_jitter() -> None:
    backoff = Backoff()
    pauses = [backoff.seconds() for _ in range(20)]
    assert all(0.5 <= pause / min(30.0, 0.05 * 2**n) <= 1.0 for n, pause in enumerate(pauses))
    backoff.reset()
    assert backoff.seconds() <= 0.05


def test_an_address_is_data() -> None:
    assert parse("redis://h") == Address("redis", (("h", 6379),))
