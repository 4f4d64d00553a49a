"""What each statement of the hot paths adds to a call: the call is built up, one statement after the other.

The statements are those of `mq_add`, `Queue.add`, `mq_fetch`, `Queue.pop`, `mqk_get` and `mqv_get`, on private memory;
only the lock is that of a real queue. A statement's time is what the call takes with it, less what it takes without.
"""

from __future__ import annotations

import mmap
import statistics
import time
import timeit
from typing import TYPE_CHECKING, Any, Callable

from kemi.queue.format import item, layout
from kemi.queue.lock import mutex

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY, VALUE = "key12345", "v" * 100
LOCK = "lock and unlock"
_STEP = 136
_FREE = 62  # a word that means nothing: stores to cursors go here, so that every call finds the same
_AT = layout.CHUNK_HEAD

Steps = list[tuple[str, str]]

ADD: Steps = [
    ("two calls: mq_add, Queue.add", ""),
    ("key and value to bytes", "k = key.encode(); v = value.encode(); flags = 0"),
    (
        "lengths",
        "key_length = len(k); value_length = len(v); size = key_length + value_length + 24; step = size + 7 & -8",
    ),
    ("the time of day", "added = now()"),
    ("the record's bytes", "record = pack(step, key_length, value_length | flags, 0, added) + k + v"),
    (LOCK, "mutex = self._mutex; ref = mutex.ref"),
    (
        "where it goes",
        "u64 = self._u64; added_ = u64[W_ADDED]; odd = added_ & 1; tail = u64[W_TAIL + odd]; end = tail + step",
    ),
    (
        "a limit, a sleeper, the chunk's end?",
        "flags = u64[W_FLAGS]; plain = self._tail_low <= tail and end < self._tail_end and not flags",
    ),
    ("the bytes to shared memory", "self._bytes[tail : tail + size] = record"),
    ("cursor", "u64[FREE - odd] = end"),
    ("count, which commits", "u64[FREE] = added_ + 1"),
]
FETCH: Steps = [
    ("two calls: mq_fetch, Queue.pop; the slot", "slots['q'] = key"),
    (
        "empty? (without the lock)",
        "u64 = self._u64; removed = u64[W_POPPED]; empty = u64[W_ADDED] == removed and u64[W_FLAGS] < FETCH_FLAGS",
    ),
    (LOCK, "mutex = self._mutex; ref = mutex.ref"),
    (
        "where it lies",
        "u64 = self._u64; popped = u64[W_POPPED]; odd = popped & 1; head = u64[W_HEAD + odd]",
    ),
    (
        "in the chunk that is known, no more than ever?",
        "plain = u64[W_FLAGS] < 8 and self._head_low <= head < self._head_end and u64[W_ADDED] - popped <= self._high",
    ),
    ("a whole record?", "end = head + self._u32[head >> 2]; plain = head + RECORD_HEAD <= end < self._head_end"),
    ("the bytes out of shared memory", "record = self._bytes[head:end]"),
    ("cursor", "u64[FREE - odd] = end"),
    ("count, which commits", "u64[FREE] = popped + 1"),
]
READ: Steps = [
    ("two calls twice: mqk_get, key_of; mqv_get, value_of", "record = slots['record']; record = slots['record']"),
    ("lengths", "end = RECORD_HEAD + key_length_of(record)[0]; length, rest = lengths_of(record)"),
    ("the key to str", "key = record[RECORD_HEAD:end].decode()"),
    (
        "the value to str",
        "start = RECORD_HEAD + length; value = record[start : start + (rest & LENGTH_MASK)].decode()",
    ),
]
CALLS: dict[str, Steps] = {"add": ADD, "fetch": FETCH, "key and value": READ}


class _Parts:
    """What the statements have at hand."""

    def __init__(self, lock: Any) -> None:
        self._mutex = lock
        self._bytes = mmap.mmap(-1, 2 * layout.CHUNK)
        view = memoryview(self._bytes)
        self._u64 = view.cast("Q")
        self._u32 = view.cast("I")
        self._tail_low = self._head_low = layout.CHUNK + _AT
        self._tail_end = self._head_end = 2 * layout.CHUNK
        self._high = 2
        self._u64[layout.W_HEAD] = layout.CHUNK + _AT
        self._u64[layout.W_TAIL] = layout.CHUNK + _AT + 2 * _STEP
        self._u64[layout.W_ADDED] = 2
        self._u32[layout.CHUNK + _AT >> 2] = _STEP


def _built(steps: Steps, own: _Parts, calls: int) -> Callable[[int], float]:
    """A function with these statements. calls: how often its two frames are entered."""
    lines = ["def inner(self, key, value):"]
    indent = " "
    for label, text in steps:
        lines.append(f"{indent}{text or 'pass'}")
        if label == LOCK:
            lines += [" try:", "  if code := trylock(ref):", "   ref = mutex.take_slowly(code)"]
            indent = "  "
    if indent == "  ":
        lines += ["  return 1", " except BaseException:", "  raise", " finally:", "  unlock(ref)"]
    lines += [" return 1", "def outer(key, value):", " return own.inner(key, value)", "def nothing(): return 1"]
    lines += ["def once_more(): return nothing()"]
    record = layout.RECORD.pack(_STEP, len(KEY), len(VALUE), 0, 1.5) + KEY.encode() + VALUE.encode()
    names: dict[str, Any] = {
        **vars(layout),
        "own": own,
        "FREE": _FREE,
        "now": time.time,
        "pack": layout.RECORD.pack,
        "trylock": mutex.trylock,
        "unlock": mutex.unlock,
        "slots": {"record": record},
        "key_length_of": item._key_length,
        "lengths_of": item._lengths,
    }
    exec("\n".join(lines), names)  # noqa: S102 our own text
    own.__class__ = type("Parts", (_Parts,), {"inner": names["inner"]})
    again = "; once_more()" * (calls - 1)
    return timeit.Timer(f"outer({KEY!r}, {VALUE!r}){again}", globals=names, timer=time.thread_time).timeit


def measure(lock: Any, rounds: int, count: int) -> dict[str, dict[str, float]]:
    """Nanoseconds of CPU that each step adds, medians of rounds in which all of them take turns."""
    growing: dict[str, list[Callable[[int], float]]] = {
        call: [
            _built(steps[: length + 1], _Parts(lock), 2 if call == "key and value" else 1)
            for length in range(len(steps))
        ]
        for call, steps in CALLS.items()
    }
    found: dict[str, list[list[float]]] = {call: [[] for _ in steps] for call, steps in CALLS.items()}
    for _ in range(rounds):
        for call, some in growing.items():
            _one_round(some, found[call], count)
    return {
        call: {label: statistics.median(times) for (label, _), times in zip(CALLS[call], found[call])} for call in CALLS
    }


def _one_round(growing: Sequence[Callable[[int], float]], found: list[list[float]], count: int) -> None:
    before = 0.0
    for timer, times in zip(growing, found):
        took = timer(count) / count * 1e9
        times.append(took - before)
        before = took
