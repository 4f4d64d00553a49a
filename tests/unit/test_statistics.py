"""A queue's statistics, computed from the words of a header, whatever these are."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from kemi.queue.format import layout
from kemi.queue.format.outcome import AddResult, Waited
from kemi.queue.format.statistics import details_of, mean_wait, numbers_of, stats_of, wait_within


def header(**words: int) -> list[int]:
    """Return the words of a header."""
    u64 = [0] * (layout.PAGE // 8)
    for name, value in words.items():
        u64[getattr(layout, f"W_{name}")] = value
    return u64


def test_what_left_is_counted_once() -> None:
    """Fetched is what left the log and neither is in flight nor went another way."""
    u64 = header(
        ADDED=1000, POPPED=500, BURIED=100, IN_FLIGHT=50, RETURNED=20, DROPPED=7, DISCARDED=5, DEAD_LETTERS=3, EXPIRED=2
    )
    stats = stats_of(u64, 4096, 12.5, 4)
    assert (stats.size, stats.reserved, stats.due) == (1000 - 500 - 100 + 20 - 4, 50 - 20, 4)
    assert stats.fetched == 500 - 50 - 7 - 5 - 3 - 2
    assert (stats.replaced, stats.dropped, stats.dead_lettered, stats.expired) == (105, 7, 3, 2)
    assert (stats.added, stats.memory, stats.oldest, stats.high_water) == (1000, 4096, 12.5, stats.size)


def test_each_refusal_has_its_reason() -> None:
    u64 = header()
    for number in range(layout.REFUSALS):
        u64[layout.W_REFUSED + number] = 10 + number
    stats = stats_of(u64, 0, None, 0)
    assert stats.refused == sum(range(10, 10 + layout.REFUSALS))
    assert stats.refusals[AddResult(layout.FIRST_REFUSAL)] == 10
    assert details_of(stats)["refusals"] == {"no_memory": 10, "too_large": 11, "full": 12, "closed": 13}


def test_no_words_make_a_number_that_cannot_be() -> None:
    """Of no one moment, or corrupted: at least 0, and what Python's len can be."""
    most = (1 << 64) - 1
    for u64 in (header(POPPED=most, IN_FLIGHT=most, RETURNED=5), header(ADDED=most, RETURNED=most), [most] * 512):
        stats = stats_of(u64, 0, None, most)
        assert 0 <= stats.size <= sys.maxsize
        assert min(stats.bytes, stats.fetched, stats.reserved, stats.due) >= 0
        assert stats.due <= u64[layout.W_RETURNED]


def test_no_limit_is_shown_as_0_and_no_oldest_item_as_none() -> None:
    stats = stats_of(header(), 0, None, 0)
    shown = numbers_of(stats)
    assert (stats.size_limit, stats.byte_limit, stats.max_deliveries, stats.maxage) == (None, None, None, None)
    assert (shown["size_limit"], shown["byte_limit"], shown["maxage"], shown["oldest"]) == (0, 0, 0, None)
    shown = numbers_of(replace(stats, size_limit=5, oldest=1.5, maxage=2.5))
    assert (shown["size_limit"], shown["oldest"], shown["maxage"]) == (5, 1.5, 2.5)
    assert "refusals" not in shown
    assert "waited" not in shown


WAITED = Waited((1.0, 2.0, 4.0), (2, 0, 1, 1), 10.0)


def test_the_mean_wait_is_of_all_or_of_those_since_a_look() -> None:
    assert mean_wait(WAITED) == 2.5
    assert mean_wait(WAITED, Waited(WAITED.bounds, (1, 0, 1, 1), 9.5)) == 0.5
    assert mean_wait(WAITED, WAITED) is None
    assert mean_wait(Waited(WAITED.bounds, (0, 0, 0, 0), 0.0)) is None
    assert mean_wait(WAITED, Waited(WAITED.bounds, (1, 0, 1, 1), 11.0)) == 0.0


@pytest.mark.parametrize(("share", "bound"), [(0.25, 1.0), (0.5, 1.0), (0.51, 4.0), (0.75, 4.0), (0.76, None)])
def test_a_share_of_the_items_left_within_a_bound(share: float, bound: float | None) -> None:
    """Exactly that share counts as well; beyond the last bound it is not known."""
    assert wait_within(WAITED, share) == bound
    assert wait_within(Waited(WAITED.bounds, (0, 0, 0, 0), 0.0), share) is None


@pytest.mark.parametrize(("added", "popped"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_bytes_are_counted_from_head_to_tail(added: int, popped: int) -> None:
    """By the words that count, over all chunks, without tombstones, with what is held."""
    bits = layout.CHUNK_BITS
    base = 16 << bits
    u64 = header(ADDED=added, POPPED=popped, CHUNK_BITS=bits, CHUNKS=3, DEAD=100, HELD_BYTES=40)
    u64[layout.W_HEAD + popped] = base + 64
    u64[layout.W_TAIL + added] = base + (5 << bits) + 464
    room = (1 << bits) - layout.CHUNK_HEAD
    assert stats_of(u64, 0, None, 0).bytes == 2 * room + 400 - 100 + 40
