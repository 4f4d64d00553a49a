"""The hash of keys: the same in every Python, whichever form it has built in."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kemi.errors import SegmentError
from kemi.queue.format import keyhash, layout
from kemi.queue.format.layout import SIPHASH_1_3, SIPHASH_2_4
from kemi.queue.queue import Queue

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

FORMS = [SIPHASH_1_3, SIPHASH_2_4]
# From the paper and the reference implementation: the key 00 01 .. 0f, messages 00 01 .. of these lengths.
PUBLISHED = {0: 0x726FDB47DD0E0E31, 8: 0x93F5F5799A932462, 15: 0xA129CA6149BE45E5}


@pytest.mark.parametrize(("length", "expected"), PUBLISHED.items())
def test_published_values(length: int, expected: int) -> None:
    """What is computed in Python is SipHash-2-4."""
    secret = int.from_bytes(bytes(range(16)), "little")
    assert keyhash.siphash(SIPHASH_2_4)(secret, bytes(range(length))) == struct.pack("<Q", expected)


@given(st.integers(0, keyhash.MAX_SECRET), st.binary(max_size=70))
def test_the_built_in_form(secret: int, key: bytes) -> None:
    """What this Python has built in gives what is computed in Python."""
    assert keyhash.function_of(keyhash.FORM)(secret, key) == keyhash.siphash(keyhash.FORM)(secret, key)


def test_the_forms_differ() -> None:
    """One is not taken for the other."""
    assert keyhash.siphash(SIPHASH_1_3)(1, b"key") != keyhash.siphash(SIPHASH_2_4)(1, b"key")


@pytest.mark.parametrize("form", FORMS)
def test_a_queue_of_another_python(instance: str, mocker: MockerFixture, form: int) -> None:
    """A queue keeps the form of the Python that made it, and every other one finds its keys."""
    mocker.patch.object(keyhash, "FORM", form)
    mocker.patch.object(keyhash, "_FUNCTION", None)
    queue = Queue.create(instance, "q", window=8 << 20, addmode=2)
    for number in range(50):
        queue.add(str(number), "old")
    mocker.stopall()
    other = Queue.attach(instance, "q")
    for number in range(50):
        other.add(str(number), "new")
    assert len(queue) == 50
    assert [item.value for item in iter(queue.fetch, None)] == ["new"] * 50


@pytest.mark.parametrize("found", [ImportError, None, b"12345678"])
def test_a_python_that_has_none(mocker: MockerFixture, found: object) -> None:
    """Without the built-in function, or with one that computes something else, it is done in Python."""
    source_hash = mocker.patch("_imp.source_hash", side_effect=lambda *_: found)
    if found is ImportError:
        source_hash.side_effect = TypeError
    assert keyhash._built_in() == (SIPHASH_1_3, None)


def test_a_python_that_has_one_uses_it() -> None:
    """Its own function, in the form that this computes: a hash takes a hundredth of the time then."""
    source_hash = pytest.importorskip("_imp").source_hash
    forms = [form for form in FORMS if keyhash.siphash(form)(5, b"any key") == source_hash(5, b"any key")]
    assert len(forms) == 1  # CPython's, of any version until now
    assert keyhash._built_in() == (forms[0], source_hash)
    assert keyhash.function_of(forms[0])(5, b"any key") == keyhash.siphash(forms[0])(5, b"any key")


@pytest.mark.parametrize(("word", "value"), [(layout.W_HASH, 0), (layout.W_HASH, 25), (layout.W_SECRET, 1 << 63)])
def test_a_form_that_nobody_has(instance: str, word: int, value: int) -> None:
    """It is said so, and the segment stays as it is."""
    queue = Queue.create(instance, "q", window=8 << 20, addmode=1)
    queue.segment.words[word] = value
    with pytest.raises(SegmentError, match="its keys are hashed in form"):
        Queue.attach(instance, "q")
    assert queue.segment.words[word] == value
