"""save and load: what a dead server left crosses to the database and back, each item once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from kemi.errors import CommitUnknown
from kemi.queue.queue import Queue
from tests.cli.command import Command
from tests.conftest import SHM
from tests.processes.serve import items

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.command import Done
    from tests.processes.serve import Serve

ITEMS = [("0", "v"), ("1", "v"), ("2", "v")]


class Dressed:
    """Commands that find the installed packages."""

    def __init__(self, instance: str) -> None:
        self.command = Command(instance)

    def __call__(self, *arguments: str) -> Done:
        return self.command(*arguments, bare=False)


@pytest.fixture
def command(serve: Serve) -> Iterator[Dressed]:
    dressed = Dressed(serve.instance)
    yield dressed
    dressed.command.clean()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "m.db"


def rows(database: Path, table: str = "q") -> list[tuple[str, str]]:
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.execute(f"SELECT key, val FROM {table} ORDER BY id"))  # noqa: S608


def files(serve: Serve) -> list[str]:
    return sorted(path.name[len(f"mqk.{serve.instance}") :] for path in SHM.glob(f"mqk.{serve.instance}*"))


def test_there_and_back(dead: Serve, command: Dressed, database: Path) -> None:
    url = f"--db-url=sqlite:///{database}"
    done = command("save", "q", url)
    assert (done.code, done.out) == (0, "")
    assert "saved 3 items of queue 'q'" in done.err
    assert rows(database) == ITEMS
    assert files(dead) == ["", ".empty"]

    assert "loaded 3 rows into queue 'q'" in command("load", "q", url).err
    assert rows(database) == []
    queue = dead("name=q;recover=0", "name=empty")  # whatever the next server says
    assert items(queue) == ITEMS


def test_rows_come_before_items(dead: Serve, command: Dressed, database: Path) -> None:
    url = f"--db-url=sqlite:///{database}"
    assert command("save", "q", url).code == 0
    assert command("load", "q", url).code == 0
    with Queue.attach(dead.instance, "q") as queue:
        queue.add("new", "v")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO q (key, val) VALUES ('row', 'v')")
        connection.commit()
    assert command("load", "q", url).code == 0
    assert items(dead("name=q")) == [("row", "v"), *ITEMS, ("new", "v")]


def test_an_empty_table_makes_no_queue(dead: Serve, command: Dressed, database: Path) -> None:
    assert "loaded 0 rows" in command("load", "other", f"--db-url=sqlite:///{database}").err
    assert files(dead) == ["", ".empty", ".q"]


def test_nothing_is_saved(dead: Serve, command: Dressed, database: Path) -> None:
    assert "saved 0 items" in command("save", "empty", f"--db-url=sqlite:///{database}").err
    assert files(dead) == ["", ".q"]


@pytest.mark.parametrize("name", ["save", "load"])
def test_a_server_that_lives(serve: Serve, command: Dressed, database: Path, name: str) -> None:
    queue = serve("name=q")
    queue.add("k", "v")
    assert "in use by pid" in command(name, "q", f"--db-url=sqlite:///{database}").failed(6)
    assert items(queue) == [("k", "v")]


@pytest.mark.usefixtures("dead")
def test_wrong_use(command: Dressed, database: Path) -> None:
    assert "no queue 'other'" in command("save", "other", f"--db-url=sqlite:///{database}").failed(3)
    assert "--db-url" in command("save", "q").failed(2)
    assert "sqlite" in command("save", "q", "--db-url=text:///x").failed(2)
    assert "none" in command("save", "q", f"--db-url=sqlite:///{database}/none/x.db").failed(2)


def test_a_save_that_fails_loses_nothing(dead: Serve, command: Dressed, database: Path) -> None:
    database.mkdir()
    assert "folder" in command("save", "q", f"--db-url=sqlite:///{database}").failed(2)
    database.rmdir()
    database.write_text("no database")
    assert "no sqlite database" in command("save", "q", f"--db-url=sqlite:///{database}").failed(6)
    assert items(dead("name=q;recover=0")) == ITEMS


def test_on_their_way(dead: Serve, command: Dressed, database: Path) -> None:
    """A save broke off: nobody can take the items, which is said, before somebody has found out where they are."""
    with Queue.attach(dead.instance, "q") as queue, pytest.raises(CommitUnknown), queue.moving():
        raise CommitUnknown
    for arguments in (("fetch", "q"), ("drain", "q"), ("consume", "q")):
        done = command(*arguments)
        assert (done.code, done.out) == (1, "")
        assert "nobody can take its items" in done.err
    assert "closed" in command("add", "q", "k", "v").failed(5)
    assert command("save", "q", f"--db-url=sqlite:///{database}").code == 0
    assert rows(database) == ITEMS
