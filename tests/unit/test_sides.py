"""On which side the items of an unfinished transfer are, where one row decides; two loads of the same rows.

The database may not be able to keep a token (an older one, or a user without that right). Then the ids of the rows
tell, and the border is one row wide.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from kemi.crossing import Crossings
from kemi.errors import StoreError
from kemi.instance import Instance, queues
from kemi.queue.catalog import keeping
from kemi.queue.catalog.keeping import LOADED, SAVING, Crossing
from kemi.queue.format import layout
from kemi.queue.queue import Queue
from kemi.queue.shm.segment import PRIVATE
from kemi.spec import QueueSpec, Settings
from kemi.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("sqlalchemy")
SPEC = QueueSpec("q", dbmode=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m.db"


@pytest.fixture
def crossings(instance: str, file: Path) -> Iterator[Crossings]:
    """Give the way between an instance of this process and the table q."""
    store = Store.open(f"sqlite:///{file}")
    yield Crossings(Instance.open(Settings(instance=instance)), store, lambda _text: None, lambda: None)
    store.close()
    queues.clear()


def rows(file: Path, *ids: int) -> None:
    """Let the table have rows with these ids, and no others."""
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS q (id INTEGER PRIMARY KEY, key TEXT, val TEXT)")
        database.execute("DELETE FROM q")
        database.executemany("INSERT INTO q VALUES (?, 'k', 'v')", [(number,) for number in ids])


@pytest.mark.parametrize(("last", "saved"), [(4, False), (5, True), (6, True)])
def test_a_save_of_one_item(instance: str, crossings: Crossings, file: Path, last: int, saved: bool) -> None:
    """The mark says that its rows begin at 5. A row with that id is all that was saved; the one before is another's."""
    rows(file, 4, *range(5, last + 1))
    queue = Queue.create(instance, "q", window=layout.CHUNK)
    queue.add("k", "v")
    keeping.set_crossing(queue.segment.words, Crossing(SAVING, 5))
    settled = crossings.settle(SPEC, queue)
    assert (settled.queue is queue, settled.saved) == (True, saved)
    queue.remove()


@pytest.mark.parametrize(("left", "committed"), [((), True), ((5,), False), ((4, 6), True), ((4, 5, 6), False)])
def test_a_load_of_one_row(
    instance: str, crossings: Crossings, file: Path, left: tuple[int, ...], committed: bool
) -> None:
    """A draft says that it has row 5. As long as that one is in the table, the load was not committed."""
    rows(file, *left)
    queue = Queue.create(instance, "q", window=layout.CHUNK)
    draft = crossings._instance.draft(SPEC)
    draft.add("k", "v")
    keeping.set_crossing(draft.segment.words, Crossing(LOADED, 5, 5))
    crossings._instance.keep_draft(draft)
    settled = crossings.settle(SPEC, queue)
    assert (settled.queue is not queue) == committed
    assert settled.saved is False
    for each in {settled.queue, queue}:
        each.remove()
    with closing(sqlite3.connect(file)) as database:  # it only looked
        assert [number for (number,) in database.execute("SELECT id FROM q")] == list(left)


@pytest.mark.parametrize("taken", [[1], [2], [3], [1, 2, 3]])
def test_two_servers_load_the_same_rows(file: Path, taken: list[int]) -> None:
    """One deletes rows that the other has read and not yet deleted: the load fails, and what is left stays."""
    rows(file, 1, 2, 3)
    store = Store.open(f"sqlite:///{file}")

    def load() -> None:
        with store.begin("q") as ours:
            items = ours.drain()
            assert next(items)[:2] == (b"k", b"v")
            # As it is seen in a database in which the other one's transaction is not locked out.
            connection: Any = ours._connection
            for number in taken:
                connection.exec_driver_sql("DELETE FROM q WHERE id = ?", (number,))
            assert len(list(items)) == 2

    with pytest.raises(StoreError, match="another process took rows of it meanwhile; start again"):
        load()
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT count(*) FROM q").fetchone() == (3,)
    store.close()


@pytest.mark.parametrize("addmode", [0, 1, 2])
def test_high_water_after_reserving(instance: str, addmode: int) -> None:
    """Reserving is taking: how many there were at most is known, though nothing was ever popped."""
    queue = Queue.create(instance, "q", window=4 * layout.CHUNK, addmode=addmode, access=PRIVATE)
    for number in range(5):
        queue.add(str(number), "v")
    for number in range(5):
        with queue.reserve() as item:
            assert item is not None
            assert item.key == str(number)
        assert queue.stats().high_water == 5
    for number in range(3):
        queue.add(str(number), "v")
    with queue.reserve() as first, queue.reserve():
        assert first is not None
    assert (queue.stats().high_water, queue.stats().size) == (5, 1)
    queue.remove()
