"""What was added against what was taken: nothing lost, nothing twice, nothing strange, each producer's order kept."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

Mark = tuple[str, int]  # producer, number
_FILL = "0123456789abcdef" * 16


def value_of(number: int, length: int) -> str:
    """Make the value of an item: about `length` characters that prove themselves."""
    body = (f"{number}:" + _FILL * (length // len(_FILL) + 1))[: max(length, 12)]
    return f"{zlib.crc32(body.encode()):08x}{body}"


def number_of(value: str) -> int:
    """Return the number in a value; -1 for a value that is not whole."""
    body = value[8:]
    if value[:8] != f"{zlib.crc32(body.encode()):08x}":
        return -1
    return int(body.partition(":")[0])


def check(
    added: Mapping[str, int],
    taken: Sequence[Sequence[Mark]],
    *,
    uncertain: Collection[str] = (),
    may_miss: int = 0,
) -> list[str]:
    """Say what is wrong.

    added: producer → how many adds succeeded, numbered from 0. taken: what each consumer got, in its order.
    uncertain: producers that were killed, and may have added one more. may_miss: items that killed consumers may have
    had in their hands.
    """
    wrong = []
    seen: set[Mark] = set()
    for consumer, marks in enumerate(taken):
        last: dict[str, int] = {}
        for producer, number in marks:
            if (producer, number) in seen:
                wrong.append(f"{producer} {number} came twice")
            seen.add((producer, number))
            limit = added.get(producer, 0) + (producer in uncertain)
            if not 0 <= number < limit:
                wrong.append(f"{producer} {number} was never added")
            if number < last.get(producer, -1):
                wrong.append(f"consumer {consumer} got {producer} {number} after {last[producer]}")
            last[producer] = number
    lost = sorted((name, number) for name, count in added.items() for number in range(count)) if added else []
    lost = [mark for mark in lost if mark not in seen]
    if len(lost) > may_miss:
        wrong.append(f"{len(lost)} lost, {may_miss} may be: {lost[:10]}")
    return wrong
