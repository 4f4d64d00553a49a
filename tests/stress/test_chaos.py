"""A real server under load while processes are killed and stopped, memory is full, and the database comes and goes.

Of every add that returned 1 the item comes out once, in its producer's order, but for what a process that was killed
had just fetched; what a server that was asked to end throws away is what its documentation says, and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import pytest

from tests.stress import books
from tests.stress.chaos import round_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes.children import Children

KILLS = 20
ROUNDS, KILLS_A_ROUND = 11, 200
SECONDS, LONG = 90, 900  # for a round, on a busy machine


def play(children: Children, folder: Path, seed: int, kills: int, seconds: int) -> str:
    """Play one round in a process of its own; return its figures."""
    folder.mkdir()
    result = children.fork(lambda: round_of(folder, seed, kills, seconds)).result(seconds + 60)
    schedule = "\n".join(result.pop("schedule"))
    text = f"seed {seed}: {result}"
    assert result["wrong"] == [], f"{text}\n{schedule}"
    assert result["kills"] >= kills, text
    assert result["added"] > 20 * kills, text
    assert result["taken"] >= result["added"] - result["in_hand"], text
    return text


@pytest.mark.timeout(SECONDS + 100)
def test_chaos(children: Children, tmp_path: Path, seed: int) -> None:
    """One short round."""
    play(children, tmp_path / "0", seed, KILLS, SECONDS)


@pytest.mark.stress
@pytest.mark.timeout(ROUNDS * LONG)
def test_long_chaos(children: Children, tmp_path: Path, seed: int, say: Callable[[str], None]) -> None:
    """More than 2,000 kills in several rounds."""
    for number in range(ROUNDS):
        say(play(children, tmp_path / str(number), seed + number, KILLS_A_ROUND, LONG))


def test_a_planted_loss_and_a_planted_duplicate_are_found(tmp_path: Path) -> None:
    """The same books: an item that nobody took, one that came twice, one out of order, one that is not its own."""
    producer = books.Producer(str(tmp_path), "q")
    consumer = books.Consumer(str(tmp_path), "q")
    items = []
    for _ in range(6):
        items.append(producer.next_item())
        producer.done(added=True)

    def taken(*numbers: int) -> list[str]:
        path = tmp_path / consumer.name
        path.write_bytes(b"")
        for number in numbers:
            consumer.about_to_fetch()
            consumer.took(*items[number])
        return [text.partition(":")[0].replace(producer.name, "producer") for text in books.read(tmp_path).wrong()]

    assert taken(0, 1, 2, 3, 4, 5) == []
    assert taken(0, 1, 3, 4, 5) == ["1 lost, 0 may be"]
    assert taken(0, 1, 2, 2, 3, 4, 5) == ["producer 2 came twice"]
    assert taken(0, 1, 3, 2, 4, 5) == ["consumer 0 got producer 2 after 3"]
    items[4] = (items[4][0], items[3][1])
    assert "producer -1 was never added" in taken(0, 1, 2, 3, 4, 5)
    # A fetch that never returned may have taken one item, no more.
    consumer_that_died = books.Consumer(str(tmp_path), "q")
    consumer_that_died.about_to_fetch()
    items[4] = (f"{producer.name}:4", producer.next_item()[1].replace("0005:", "0004:"))
    assert taken(0, 1, 2, 3, 5) == []
    assert taken(0, 1, 2, 5) == ["2 lost, 1 may be"]
