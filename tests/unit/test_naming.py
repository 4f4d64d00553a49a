"""Names in /dev/shm: how they are made and read, and who makes a draft."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kemi.errors import ConfigError
from kemi.owner import this_process
from kemi.queue.shm.naming import decoded, draft_name, is_left_draft, path_of, queue_name, segment_name


@pytest.mark.parametrize(
    ("instance", "queue", "name"),
    [
        ("kamailio", None, "mqk.kamailio"),
        ("kamailio", "myq", "mqk.kamailio.myq"),
        ("kamailio", "", "mqk.kamailio."),
        ("a.b", "c", "mqk.a%2Eb.c"),
        ("a", "b.c", "mqk.a.b%2Ec"),
        ("..", "../../etc/passwd", "mqk.%2E%2E.%2E%2E%2F%2E%2E%2Fetc%2Fpasswd"),
        ("a~b", "~1", "mqk.a%7Eb.%7E1"),
        ("a b", "%2E", "mqk.a%20b.%252E"),
        ("é", "\0\n*", "mqk.%C3%A9.%00%0A%2A"),
        ("\udcff", "\ud800", "mqk.%ED%B3%BF.%ED%A0%80"),
    ],
)
def test_a_name(instance: str, queue: str | None, name: str) -> None:
    """Dots, slashes, tildes and all that is no ASCII letter or digit are percent-encoded."""
    assert segment_name(instance, queue) == name
    if queue is not None:
        assert queue_name(path_of(name)) == queue


@pytest.mark.parametrize(("queue", "fits"), [("q" * 249, True), ("q" * 250, False), ("é" * 42, False)])
def test_a_name_that_is_too_long(queue: str, fits: bool) -> None:
    """A file's name has 255 characters at most; the error shows the queue's name."""
    if fits:
        assert len(segment_name("a", queue)) == 255
        return
    with pytest.raises(ConfigError, match=f"{queue}.*at most 255"):
        segment_name("a", queue)


@pytest.mark.parametrize(("length", "shown"), [(300, "'" + "q" * 300 + "' is"), (301, "'" + "q" * 300 + r"'\.\.\. is")])
def test_of_a_name_that_is_far_too_long_the_beginning_is_shown(length: int, shown: str) -> None:
    with pytest.raises(ConfigError, match=shown):
        segment_name("a", "q" * length)


TEXT = st.text(st.characters(codec=None), max_size=9)


@given(TEXT, st.none() | TEXT)
def test_any_name(instance: str, queue: str | None) -> None:
    """The parts can be read back from the file's name, so no two queues share one, and none leaves the folder."""
    name = segment_name(instance, queue)
    assert name.isascii()
    assert not set(name) & set("/~\0")
    parts = [unquote(part, errors="surrogatepass") for part in name.split(".")]
    assert parts == ["mqk", instance, *([] if queue is None else [queue])]


@given(TEXT | st.text("%0aAEeFfDd8\u20ac\udcff~.", max_size=9))
def test_names_are_decoded_as_the_standard_library_does_it(part: str) -> None:
    """Also what was never made by us: half an escape, bytes that are no text."""
    assert decoded(segment_name(part).partition(".")[2]) == part
    try:
        expected = unquote(part, errors="surrogatepass")
    except ValueError:
        with pytest.raises(ValueError, match="utf-8"):
            decoded(part)
    else:
        assert decoded(part) == expected


def test_a_draft_of_a_dead_process(instance: str) -> None:
    """It is told from one of a process that lives, or that may live where this one cannot see it.

    Starts that are one tick apart are the same: in a time namespace they are rounded.
    """
    name = segment_name(instance)
    pid, start, namespace = this_process()
    assert not is_left_draft(draft_name(name))
    assert is_left_draft(f"{name}~{pid}.{start + 2}.{namespace}.00000000")
    assert not is_left_draft(f"{name}~{pid}.{start + 2}.{namespace + 1}.00000000")
    assert is_left_draft(f"{name}~{pid}.{start}.{namespace}.00000000~new~{pid}.{start + 2}.{namespace}.00000000")
    assert not is_left_draft(name)
    assert is_left_draft(f"{name}~77")  # of an older version
