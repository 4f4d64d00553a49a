# SPDX-License-Identifier: GPL-2.0-or-later
"""Items on their way: in groups for an INSERT, and in their order when some of them come from another table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Callable, Optional, Union

from kemi.database.ledger import Kept

Item = tuple[bytes, bytes, Optional[float]]  # key, value, and when it was added
Given = Union[tuple[bytes, bytes], Item]
_PAIR = ("key", "value")
_ROW = 64  # bytes that a row costs in a statement besides key and value


class KeptItems:
    """The items of the ledger, given out before the rows that they stand before."""

    def __init__(self, page: Callable[[int], list[Kept]]) -> None:
        self._page = page
        self._items: list[Kept] = page(0)
        self.count, self.last = 0, 0

    def stand_before(self, row: int) -> bool:
        """Does any of them stand before a row with this id?"""
        return bool(self._items) and self._items[0].after < row

    def before(self, row: int) -> Iterator[Item]:
        """Those that stand before a row with this id."""
        while self._items and self._items[0].after < row:
            for number, item in enumerate(self._items):
                if item.after >= row:
                    del self._items[:number]
                    return
                self.count, self.last = self.count + 1, item.id
                yield item[2:]
            self._items = self._page(self.last)


def batches(items: Iterable[Given], rows: int, limit: int) -> Iterator[list[Item]]:
    """Items in groups of so many rows and bytes at most; one that is larger goes alone."""
    batch: list[Item] = []
    size = 0
    for item in _complete(items):
        needs = len(item[0]) + len(item[1]) + _ROW
        if batch and (len(batch) == rows or size + needs > limit):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += needs
    if batch:
        yield batch


def _complete(items: Iterable[Given]) -> Iterator[Item]:
    """The items, all with a time of adding or all without."""
    given: Iterator[Any] = iter(items)
    first = next(given, None)
    if first is None:
        return iter(())
    everything = itertools.chain([first], given)
    return everything if len(first) > len(_PAIR) else ((key, value, None) for key, value in everything)
