"""What each dbmode loads and saves in a real server: words, numbers, and numbers as the C module's code has them."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.server.harness import Kamailio

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.harness import Servers

# Name of the queue: its dbmode. What it does: are rows loaded, are items saved?
MODES = {"words_0": "none", "words_1": "both", "words_2": "save", "words_3": "load", "number_2": "2", "number_3": "3"}
DOES = {"none": (False, False), "both": (True, True), "save": (False, True), "load": (True, False)}
NOTICE = "cannot be misread"


@pytest.mark.parametrize(
    ("compat", "two", "three"), [("", "save", "load"), ("documentation", "save", "load"), ("code", "load", "save")]
)
def test_what_is_loaded_and_saved(servers: Servers, tmp_path: Path, compat: str, two: str, three: str) -> None:
    """One line at the start tells of bare numbers, if nobody has said what they mean."""
    path = tmp_path / "m.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        for name in MODES:
            database.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, val TEXT)")
            database.execute(f"INSERT INTO {name} (key, val) VALUES ('row', '')")  # noqa: S608
    params = [("db_url", f"sqlite:///{path}"), *([("dbmode_compat", compat)] if compat else [])]
    server = servers.start(Kamailio([f"name={name};dbmode={mode}" for name, mode in MODES.items()], params=params))
    sizes = server.run(f"return {{name: max(0, mq.mq_size(name)) for name in {list(MODES)}}}")
    assert set(server.run(f"return [mq.mq_add(name, 'item', '') for name in {list(MODES)}]")) == {1}
    server.stop()
    words = {**MODES, "number_2": two, "number_3": three}
    with contextlib.closing(sqlite3.connect(path)) as database:
        for name, word in words.items():
            loads, saves = DOES[word]
            assert sizes[name] == int(loads), name
            keys = [key for (key,) in database.execute(f"SELECT key FROM {name} ORDER BY id")]  # noqa: S608
            expected = ["row", "item"] * saves if loads else ["row", *["item"] * saves]
            assert keys == expected, name
    notices = [line for line in server.told() if NOTICE in line]
    assert len(notices) == (not compat)
    if notices:
        assert "'number_2' (dbmode=2: save), 'number_3' (dbmode=3: load)" in notices[0]


def test_nothing_is_told_of_words(servers: Servers, tmp_path: Path) -> None:
    url = ("db_url", f"sqlite:///{tmp_path}/m.db")
    server = servers.start(Kamailio(["name=a;dbmode=both", "name=b;dbmode=save", "name=c;dbmode=1"], params=[url]))
    assert server.told() == []
