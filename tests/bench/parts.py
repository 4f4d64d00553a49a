"""The parts of the bench beside `run`'s own, each measured and written by itself."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.tables import Part

NAMES = ("sizes", "hotpath", "between", "endtoend", "request", "slow", "database")


def load(name: str) -> Part:
    """The part of that name; it is imported only when it is asked for."""
    found: Part = importlib.import_module(f"tests.bench.{name}").part()
    return found


def run(names: list[str], quick: bool, only: str, folder: Path) -> None:
    """Measure these parts one after the other, print and write each as soon as it is there."""
    for name in names:
        print("\n" + load(name).run(quick, only, folder), flush=True)
