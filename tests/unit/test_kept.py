"""Queues that were kept beside other files: under which name, and who finds them there."""

from __future__ import annotations

import pytest

from kemi import kept
from kemi.queue.shm.naming import NAME_MAX, segment_name
from tests.conftest import SHM


@pytest.mark.parametrize("length", [1, 100, NAME_MAX])
def test_each_comes_back_under_its_own_name(instance: str, length: int) -> None:
    """Names that differ in their last letter alone, also where a name and what marks it do not fit together."""
    start = segment_name(instance, "q")
    names = [start.ljust(max(length, len(start) + 1) - 1, "q") + letter for letter in "abc"]
    paths = [SHM / kept.beside(name) for name in names]
    for name, path in zip(names, paths):
        assert len(path.name) <= NAME_MAX
        path.write_text(name, "ascii")
    assert kept.files(instance) == sorted(map(str, paths))
    (SHM / names[2]).write_text("another file", "ascii")
    for name in reversed(names):
        kept.bring_back(name, lambda _: True)
    assert [(SHM / name).read_text("ascii") for name in names] == [*names[:2], "another file"]
    assert kept.files(instance) == [str(paths[2])]


def test_what_is_nobody_of_ours_stays(instance: str) -> None:
    name = segment_name(instance, "q")
    path = SHM / kept.beside(name)
    path.touch()
    kept.bring_back(name, lambda _: False)
    assert path.exists()
    assert not (SHM / name).exists()
