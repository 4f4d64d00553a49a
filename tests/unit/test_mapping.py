"""A window into a file: which memory it is, and what an error says that keeps it from being mapped."""

from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING

import pytest

from kemi.errors import NoMemory
from kemi.queue.shm import mapping
from kemi.queue.shm.naming import segment_name
from kemi.queue.shm.segment import Segment
from tests.conftest import SHM

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


@pytest.fixture
def name(instance: str) -> str:
    """Return a name that no other test has."""
    return segment_name(instance, "q")


def create(name: str) -> Segment:
    """Make a segment of two pages in a window of a megabyte."""
    return Segment.create(name, 8192, 1 << 20, lambda _: None)


def attach(name: str) -> Segment:
    """Map it once more."""
    return Segment.attach(name, lambda *_: 1 << 20)


def test_a_window_over_a_private_mapping(name: str, mocker: MockerFixture) -> None:
    """Where a mmap object is not as expected: the same bytes, in another way."""
    mocker.patch.object(mapping, "_fields_of", return_value=None)
    one, other = create(name), attach(name)
    one.words[1] = 5
    other.bytes[0:4] = b"here"
    assert (other.words[1], one.bytes[0:4]) == (5, b"here")
    assert len(one.bytes) == one.window


def test_a_window_is_no_private_mapping(name: str, mocker: MockerFixture) -> None:
    """Which would count as memory; the page that the object had at first is given back."""
    other_way = mocker.patch.object(mapping, "_over_a_private_one")
    given_back = mocker.patch.object(mapping._libc, "munmap", wraps=mapping._libc.munmap)
    segment = create(name)
    assert not other_way.called
    ((place, length),) = [call.args for call in given_back.call_args_list]
    assert length == mmap.PAGESIZE < place
    assert not place % mmap.PAGESIZE
    assert len(segment.bytes) == segment.window


def test_no_address_space(name: str, mocker: MockerFixture) -> None:
    """Where a window cannot be mapped, the error says which parameter to lower, and nothing is left."""
    mocker.patch.object(mapping, "_map", side_effect=OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
    with pytest.raises(NoMemory, match=r"cannot be mapped .*ulimit -v.*max_memory"):
        create(name)
    assert not list(SHM.glob(f"{name}*"))
