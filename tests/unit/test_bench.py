"""The bench's own judgement: a lost and a doubled item are seen, a rate is found, figures become tables and plots."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from tests.bench import between, crew, endtoend, request, sizes, tables
from tests.bench.contenders import ALL, Ours, Place

if TYPE_CHECKING:
    from pathlib import Path

SOME: Any = SimpleNamespace(name="some")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([[0, 1, 2], []], ""),
        ([[0, 2], []], "2 arrived, 0 of them twice"),
        ([[0, 1], [1]], "3 arrived, 1 of them twice"),
    ],
)
def test_what_did_not_arrive_once_is_seen(found: list[list[int]], why: str) -> None:
    """Three items of one producer, in the hands of two consumers."""
    taken = [{"p0": numbers} for numbers in found]
    if not why:
        crew.check(SOME, taken, 1, 3)
        return
    with pytest.raises(crew.WrongError, match=why):
        crew.check(SOME, taken, 1, 3)


def test_a_crew_counts_every_item(tmp_path: Path) -> None:
    """Two producers and two consumers of our queue; each add is timed."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        place = Place(stack, tmp_path)
        queue = Ours(place)
        done = crew.run(queue, 2, 2, 300, timed=True)
        queue.close()
    assert done.items == len(done.adds) == 600
    assert done.rate > 0
    assert done.cpu > 0


def test_every_contender_can_say_why_it_is_not_there() -> None:
    """A name, a class of its own, and a reason or none."""
    assert len({kind.name for kind in ALL}) == len(ALL)
    assert all(isinstance(kind.missing(), str) for kind in ALL)


def test_who_is_missing_is_in_the_table() -> None:
    """A contender without figures has its reason in its row."""
    figures = {"ours": {"1→1": [2000.0], "1→1 cpu": [3.0]}, "other": {}}
    text = between.tables(
        {"rounds": 1, "bytes a value": 100, "figures": figures, "reasons": {"other": "not installed"}, "notes": {}}
    )
    rows = [line for line in text.splitlines() if line.startswith("| other")]
    assert rows
    assert all("not installed" in row for row in rows)


@pytest.mark.parametrize("limit", [10.0, 1000.0, 4321.0])
def test_rates_rise_until_one_is_not_sustained(limit: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And that one is tried again first."""

    def step(_server: object, rate: float, _calls: int, _under_way: int, _folder: Path) -> endtoend.Step:
        return endtoend.Step(rate, rate, 0.0 if rate <= limit else 0.5, 1.0, 1.0, 1.0)

    monkeypatch.setattr(endtoend, "step", step)
    monkeypatch.setattr(endtoend, "_PAUSE", 0)
    rise = endtoend.Rise(SOME)
    assert sum(1 for _ in range(60) if rise.go_on(1.0, tmp_path)) < 20
    rates = [one.rate for one in rise.steps]
    assert rates[0] == endtoend.FIRST
    assert rates[-1] > limit
    assert rates.count(rates[-1]) == endtoend.TRIES
    assert all(one.sustained == (one.rate <= limit) for one in rise.steps)


def test_differences_lie_between_bounds() -> None:
    """What is the same in each run has no bounds but itself; one that is far off moves none."""
    assert request.bounds([2.0] * 9) == (2.0, 2.0, 2.0)
    middle, low, high = request.bounds([*(float(number) for number in range(101)), 10_000.0])
    assert middle == 50.5
    assert 30 < low < middle < high < 70


def test_what_an_item_costs_is_beside_what_a_request_without_one_costs() -> None:
    """Each run is compared with the run of its own round, and so is the time at the clock."""
    cpu = {"no queue": [50.0, 60.0], "C module": [55.0, 65.0], "ours": [52.0, 62.0]}
    taken = {"no queue": [100, 100], "C module": [500, 500], "ours": [200, 200]}
    found = request.tables(
        {"starts": 1, "rounds": 2, "seconds a run": 0.3, "cpu": {"native": cpu}, "taken": {"native": taken}}
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found.splitlines() if line.startswith("| ")]
    assert rows[-2] == ["C module, beside native", "5.0", "5.0 to 5.0", "400", "1.00"]
    assert rows[-1] == ["ours, native", "2.0", "2.0 to 2.0", "100", "0.25"]


def test_numbers_and_ratios() -> None:
    """Three digits; a ratio is the median of the rounds' own."""
    assert [tables.number(value) for value in (None, 0.1234, 12.345, 999.4, 1234.0, 123456.0)] == [
        "-",
        "0.123",
        "12.3",
        "999",
        "1,230",
        "123,000",
    ]
    assert tables.ratio([1.0, 4.0, 9.0], [2.0, 2.0, 3.0]) == "2.00"
    assert [tables.ratio([one], [1.0]) for one in (99.5, 0.5, 0.034, 0.00272)] == ["99.5", "0.50", "0.034", "0.0027"]
    assert tables.ratio([1.0], None) == "-"


def test_plots_are_sound_svg() -> None:
    """Also with names that mean something in XML."""
    texts = [
        tables.bars("a < b", ["x"], {"ours": [10.0], "other & more": [0.0]}),
        tables.lines("t", "x", {"ours": [(10.0, 5.0), (1000.0, 7.0)], "one": [(10.0, 5.0)]}),
    ]
    assert all(ET.fromstring(text).tag.endswith("svg") for text in texts)  # noqa: S314 our own


def test_what_was_written_can_be_shown_again(tmp_path: Path) -> None:
    """Tables and plots are made of what is in the JSON file."""
    beside = {sizes.beside(kernel): [2.0, 2.0] for kernel in ("native", "pure Python")}
    rounds = {"addmode 2, key is there@10": {"native": [1.0, 2.0], "pure Python": [2.0, 4.0], **beside}}
    rounds["addmode 2, key is there@1000"] = {"native": [1.0, 3.0], "pure Python": [4.0, 4.0]}
    call = {"size": {"native": [1.0], "pure Python": [4.0], **beside}}
    results = {
        "machine": {"cores": "2"},
        "rounds": 2,
        "calls a round": 10,
        "calls": {"default": {200: call}},
        "keyed": {"default": {200: rounds}},
    }
    first = sizes.part().write(results, tmp_path)
    assert sizes.part().write(json.loads(json.dumps(results)), tmp_path) == first
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in first.splitlines()]
    assert ["size", "1 / 4 / 2", "0.50 / 2.00"] in rows
    cells = ["1.5 / 3 / 2 x 0.75 / 1.50", "2 / 4 / -", "-", "-", "1.25 / 1.50"]
    assert ["addmode 2, key is there, 200 bytes", *cells] in rows
    assert ET.parse(tmp_path / "sizes-addmode.svg").getroot().tag  # noqa: S314 our own
