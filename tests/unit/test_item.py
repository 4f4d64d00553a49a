"""Items: whatever text or bytes go in come out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kemi.errors import ItemError
from kemi.queue.format.item import Item, encode, flags_of, key_of, parts_of, record_of, value_of
from kemi.queue.format.layout import KEY_PASS, RECORD, VALUE_PASS

# Every code point, surrogates too; and texts of those that are hard.
ANY = st.text(st.characters(codec=None))
HARD = st.text(st.sampled_from("a\0é\ud800\udbff\udc00\udc7f\udc80\udcff\udd00\udfff\ue000\U0001f600\U0010ffff"))
TEXT = st.one_of(ANY, HARD)


def record(key: str | bytes, value: str | bytes) -> bytes:
    """Return the record of an item as `Queue.add` packs it."""
    key_bytes, value_bytes, flags = encode(key, value)
    step = len(key_bytes) + len(value_bytes) + 31 & -8
    head = RECORD.pack(step, len(key_bytes), len(value_bytes) | flags, 0, 12.5)
    return (head + key_bytes + value_bytes).ljust(step, b"\0")


@given(TEXT, TEXT)
def test_any_text(key: str, value: str) -> None:
    """Any str, with lone surrogates, NULs, or empty, is the same str again."""
    data = record(key, value)
    assert (key_of(data), value_of(data)) == (key, value)
    item = Item(data)
    assert (item.key, item.value) == (key, value) == tuple(item)
    assert item.added == 12.5


@given(st.binary(), st.binary())
def test_any_bytes(key: bytes, value: bytes) -> None:
    """Any bytes are the same bytes again, and as str they are the same bytes behind surrogates."""
    item = Item(record(key, value))
    assert (item.key_bytes, item.value_bytes) == (key, value)
    assert item.key.encode("utf-8", "surrogateescape") == key
    assert item.value.encode("utf-8", "surrogateescape") == value


@given(st.binary())
def test_bytes_as_text_are_the_same_bytes(data: bytes) -> None:
    """A str that stands for bytes, as KSR gives it, is these bytes in the queue."""
    assert Item(record("", data.decode("utf-8", "surrogateescape"))).value_bytes == data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_kinds_of_bytes(kind: type) -> None:
    """Whatever holds bytes is taken."""
    assert Item(record(kind(b"k"), kind(b"\xff\0"))).value_bytes == b"\xff\0"


@pytest.mark.parametrize("wrong", [None, 5, 1.5, [], ["a"], object, ("a",)])
@pytest.mark.parametrize("what", ["key", "value"])
def test_other_types(what: str, wrong: Any) -> None:
    """The error says which of the two it was, and its type."""
    arguments = {"key": "k", "value": "v", what: wrong}
    with pytest.raises(ItemError, match=f"{what} must be str or bytes, not {type(wrong).__name__}"):
        encode(**arguments)


def test_items_are_values() -> None:
    """The same key and value make the same item, whenever it was added."""
    item, other = Item(record("k", "v")), Item(RECORD.pack(32, 1, 1, 7, 99.0) + b"kv")
    assert item == other
    assert len({item, other}) == 1
    assert item != Item(record("k", "w"))
    assert item != ("k", "v")
    assert repr(item) == "Item(key='k', value='v', added=12.5)"


@given(
    st.binary(max_size=40), st.binary(max_size=40), st.sampled_from([0, KEY_PASS, VALUE_PASS, KEY_PASS | VALUE_PASS])
)
def test_a_record_made_of_bytes_is_one_that_an_add_makes(key: bytes, value: bytes, flags: int) -> None:
    """Its step is the next multiple of 8, its link is none, and its parts are what they were."""
    data = record_of(key, value, 12.5, flags)
    assert RECORD.unpack_from(data) == (-(-len(data) // 8) * 8, len(key), len(value) | flags, 0, 12.5)
    assert data == record(key, value)[: len(data)] or flags
    assert (parts_of(data), flags_of(data)) == ((key, value, 12.5), flags)
