"""The structure's rules: data goes one way, a room fits in the head, and what a class is stands in one place.

A room is a package. What does not meet a rule yet is listed here; a listed one that meets it is to be taken off.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.unit.test_rules import CHECKOUT, MODULES, imports

MOST_FILES = 8  # of a room, beside its __init__
MOST_LEVELS = 8
UNIT_TESTS = Path(__file__).parent

# Rooms with more files. No new one may come to them.
FULL_ROOMS = {
    "kemi",
    "kemi.answers",
    "kemi.cli",
    "kemi.database",
    "kemi.server",
    "kemi.testing",
    "kemi.testing.functions",
    "kemi.testing.stubgen",
}
# Rooms whose modules lie on more levels.
DEEP_ROOMS = {"kemi.testing"}
# Rooms that import one another: the floor of the package, which has what puts a server together, and its sides.
ENTANGLED_ROOMS = {"kemi", "kemi.database", "kemi.server", "kemi.check", "kemi.relay", "kemi.remote", "kemi.testing"}
# Concrete classes that others inherit from.
BASES = {
    "kemi.queue.kernel.choice.Base",  # the native kernel's part of a queue
    "kemi.queue.kernel.choice.Client",  # as that
    "kemi.queue.format.item.Item",  # a reserved item is an item
    "kemi.queue.delivery.reserved.ReservedItem",  # the test kit's is a reserved item
    "kemi.queue.delivery.hold.Hold",  # the same object with a __del__, as long as it is needed
    "kemi.queue.delivery.reservation._Owned",  # as Hold
    "kemi.frozen.NamedTuple",  # as typing's, to whoever derives from it
}
TESTS_OWN = "kemi.testing"  # doubles may build on one another


def room_of(module: str) -> str:
    """Return the package in which a module lies; a package lies in itself."""
    return module if (CHECKOUT / module.replace(".", "/")).is_dir() else module.rpartition(".")[0]


ROOMS: dict[str, set[str]] = defaultdict(set)
for _module in MODULES.keys() - {"mqueue_kemi"}:
    ROOMS[room_of(_module)].add(_module)
USES = {module: imports(module, everywhere=True) & MODULES.keys() - {module} for module in MODULES}


def levels(uses: dict[str, set[str]]) -> dict[str, int]:
    """Return on which level each lies: one above the highest of those that it uses. Raises ValueError in a circle."""
    found: dict[str, int] = {}
    left = dict(uses)
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            found[name] = 1 + max((found[need] for need in left[name] if need in found), default=0)
            uses_of = left.pop(name)
            assert uses_of <= found.keys() | {name}
    if left:
        raise ValueError(f"these use one another: {', '.join(sorted(left))}")
    return found


def test_levels_are_counted() -> None:
    """What finds nothing wrong must be able to."""
    assert levels({"a": set(), "b": {"a"}, "c": {"a", "b"}}) == {"a": 1, "b": 2, "c": 3}
    with pytest.raises(ValueError, match="these use one another: a, b"):
        levels({"a": {"b"}, "b": {"a"}, "c": set()})


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_has_few_files(room: str) -> None:
    assert (len(ROOMS[room] - {room}) > MOST_FILES) == (room in FULL_ROOMS)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_has_few_levels(room: str) -> None:
    found = levels({module: USES[module] & ROOMS[room] for module in ROOMS[room]})
    assert (max(found.values()) > MOST_LEVELS) == (room in DEEP_ROOMS)


def test_the_kernels_rooms_in_c_go_one_way() -> None:
    """A file includes those of its own room, and of the rooms below it; a room has few files."""
    folder = CHECKOUT / "kemi" / "queue" / "kernel"
    rooms = ["segment", "log", "delivery", "calls"]  # from the bottom
    assert sorted(path.parent.name for path in folder.glob("*/*.h")) == sorted(
        room for room in rooms for _ in (folder / room).glob("*.h")
    )
    for level, room in enumerate(rooms):
        files = sorted((folder / room).glob("*.h"))
        assert 0 < len(files) <= MOST_FILES
        used = {
            (path.parent / name).resolve().parent.name
            for path in files
            for name in re.findall(r'#include "(.*)"', path.read_text("ascii"))
        }
        assert used <= set(rooms[: level + 1])


def test_the_queues_rooms_go_one_way() -> None:
    """No two rooms use one another, on whatever way, and there are few levels of them."""
    rooms = [room for room in ROOMS if room.startswith("kemi.queue")]
    uses = {
        room: {room_of(need) for module in ROOMS[room] for need in USES[module]} & set(rooms) - {room} for room in rooms
    }
    found = levels(uses)
    assert max(found.values()) <= MOST_LEVELS
    assert found["kemi.queue.format"] == 1
    assert found["kemi.queue.client"] == max(found.values())


def test_all_other_rooms_go_one_way() -> None:
    """But those that are listed, which are one place until they are put apart."""
    one = {room: "kemi" if room in ENTANGLED_ROOMS or room.startswith(TESTS_OWN) else room for room in ROOMS}
    uses: dict[str, set[str]] = defaultdict(set)
    for room, modules in ROOMS.items():
        if not room.startswith("kemi.queue"):
            uses[one[room]] |= {
                one[room_of(need)] for module in modules for need in USES[module] if need != "mqueue_kemi"
            } - {one[room]}
    uses = {room: {need for need in needs if not need.startswith("kemi.queue")} for room, needs in uses.items()}
    uses["kemi"] = set()
    assert levels(uses)


def bases_of(module: str) -> set[str]:
    """Return the classes of ours from which classes of a module inherit, with their modules."""
    places: dict[str, str] = {}
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.ImportFrom):
            places.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
        elif isinstance(node, ast.ClassDef):
            places[node.name] = f"{module}.{node.name}"
    found = set()
    for node in ast.walk(MODULES[module]):
        for base in node.bases if isinstance(node, ast.ClassDef) else []:
            first, _, rest = ast.unparse(base).partition("[")[0].partition(".")
            found.add(places.get(first, first) + (f".{rest}" if rest else ""))
    return {base for base in found if base.startswith("kemi.")}


def is_concrete(name: str) -> bool:
    """Return True for a class that is no Protocol and no error."""
    module, _, own = name.rpartition(".")
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.ClassDef) and node.name == own:
            texts = [ast.unparse(base).partition("[")[0] for base in node.bases]
            parents = bases_of(module) if texts else set()
            errors = (
                any(text.endswith(("Error", "Exception")) for text in [*texts, *parents]) or module == "kemi.errors"
            )
            return not errors and "Protocol" not in texts
    return True


def test_no_class_is_made_to_be_inherited_from() -> None:
    """A class has its parts: it is none of them."""
    found = {
        base for module in MODULES if not module.startswith(TESTS_OWN) for base in bases_of(module) if is_concrete(base)
    }
    assert found - BASES == set()
    assert BASES - found - {"kemi.queue.delivery.reserved.ReservedItem"} == set(), "take these off the list"


def file_for(module: str) -> Path:
    """Return the file with the unit tests of a module: its room is in the name where others have the same name."""
    *_, room, name = module.split(".")
    with_room = UNIT_TESTS / f"test_{room}_{name}.py"
    return with_room if with_room.exists() else UNIT_TESTS / f"test_{name}.py"


def test_each_module_of_the_queue_has_a_file_of_tests_of_its_own() -> None:
    """What it promises is said in one place, which is found by its name. (The kernel's is under tests/kernel.)"""
    modules = [module for room in ROOMS if room.startswith("kemi.queue") for module in ROOMS[room] - ROOMS.keys()]
    files = {module: file_for(module) for module in sorted(modules) if not module.startswith("kemi.queue.kernel")}
    assert {module: path.name for module, path in files.items() if not path.exists()} == {}
    twice = {path.name for path, count in Counter(files.values()).items() if count > 1}
    assert twice == set(), "one of the modules of this name needs its room in the name of its tests"


@pytest.mark.parametrize("room", sorted(room for room in ROOMS if room.startswith("kemi.queue")))
def test_the_picture_of_the_queue_has_each_module(room: str) -> None:
    """In docs/architecture.md, a line for each room: the modules that are there, and no others."""
    text = (CHECKOUT / "docs" / "architecture.md").read_text("utf-8")
    start = "queue, " if room == "kemi.queue" else room.rpartition(".")[2] + "/ "
    (line,) = (line.strip() for line in text.splitlines() if line.startswith(f"  {start}"))
    names = line if room == "kemi.queue" else line.partition("/")[2].strip()
    told = set(names.partition("   ")[0].split(", ")) - {"C sources"}
    assert told == {module.rpartition(".")[2] for module in ROOMS[room] - {room}}
