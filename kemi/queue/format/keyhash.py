# SPDX-License-Identifier: GPL-2.0-or-later
"""The hash of the key index: SipHash, keyed with the segment's secret, so the same in every process that uses it.

Callers choose keys and must not choose which of them collide: that is what SipHash was made for. CPython has it built
in, also with a key of the caller's choice (importlib marks .pyc files with it), and a hash takes a third of the time
of what hashlib has. Which of the usual forms it is depends on the version: 1-3 from Python 3.11 on, 2-4 before. A queue
is hashed in the form of the Python that made it; one that has another form, or none, computes it in Python, which costs
10 to 30 µs a key.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from kemi.queue.format.layout import SIPHASH_1_3, SIPHASH_2_4

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kemi.frozen import NamedTuple

KeyHash = Callable[[int, bytes], bytes]  # secret and key → 8 bytes

# The built-in one takes a C long for its key.
_SECRET_BITS = 8 * struct.calcsize("l") - 1
MAX_SECRET = (1 << _SECRET_BITS) - 1
_WORD = (1 << 64) - 1
_START = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


class _Rounds(NamedTuple):
    """How often the state is stirred for each 8 bytes, and at the end."""

    block: int
    end: int


_ROUNDS = {SIPHASH_1_3: _Rounds(1, 3), SIPHASH_2_4: _Rounds(2, 4)}
FORMS = frozenset(_ROUNDS)


def new_secret() -> int:
    """Return a secret for a new segment."""
    import secrets  # which takes longer to import than all the rest of this module

    return secrets.randbits(_SECRET_BITS)


def siphash(form: int) -> KeyHash:
    """Return the hash in this form, in Python. SipHash's key has 128 bits; of a queue's the upper half is 0."""
    rounds = _ROUNDS[form]

    def hashed(secret: int, key: bytes) -> bytes:
        halves = secret & _WORD, secret >> 64
        state = [word ^ halves[number & 1] for number, word in enumerate(_START)]
        whole = key + bytes(-(len(key) + 1) % 8) + bytes([len(key) & 0xFF])
        for (block,) in struct.iter_unpack("<Q", whole):
            state[3] ^= block
            _stir(state, rounds.block)
            state[0] ^= block
        state[2] ^= 0xFF
        _stir(state, rounds.end)
        return struct.pack("<Q", state[0] ^ state[1] ^ state[2] ^ state[3])

    return hashed


def _stir(state: list[int], times: int) -> None:
    a, b, c, d = state
    for _ in range(times):
        a = a + b & _WORD
        b = _turned(b, 13) ^ a
        c = c + d & _WORD
        d = _turned(d, 16) ^ c
        a = _turned(a, 32) + d & _WORD
        d = _turned(d, 21) ^ a
        c = c + b & _WORD
        b = _turned(b, 17) ^ c
        c = _turned(c, 32)
    state[:] = a, b, c, d


def _turned(word: int, bits: int) -> int:
    return (word << bits | word >> 64 - bits) & _WORD


def _built_in() -> tuple[int, KeyHash | None]:
    """Form and function of what this Python has. What it computes decides, not its version."""
    try:
        from _imp import source_hash

        found: bytes = source_hash(4711, b"which form")
    except (ImportError, TypeError, ValueError):
        return SIPHASH_1_3, None
    for form in _ROUNDS:
        if siphash(form)(4711, b"which form") == found:
            return form, source_hash
    return SIPHASH_1_3, None


FORM, _FUNCTION = _built_in()  # what this Python makes new queues with


def function_of(form: int) -> KeyHash:
    """Return the hash of a queue that was made in this form."""
    return _FUNCTION if _FUNCTION and form == FORM else siphash(form)
