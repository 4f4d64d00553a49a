"""The light `dataclass(frozen=True)` against the original: the same for whoever uses it."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

import pytest

from kemi import frozen
from tests.conftest import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Mapping


@frozen.dataclass(frozen=True)
class Light:
    """A class."""

    size: int
    limit: int | None = None
    reasons: Mapping[str, int] = frozen.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Original:
    """The same."""

    size: int
    limit: int | None = None
    reasons: Mapping[str, int] = dataclasses.field(default_factory=dict)


class LightTuple(frozen.NamedTuple):
    """A tuple."""

    first: int
    second: str | None = None
    third: tuple[int, ...] = ()

    def sum(self) -> int:
        """Return the numbers' sum."""
        return self.first + sum(self.third)

    @property
    def text(self) -> str:
        """The text."""
        return str(self.second)

    @classmethod
    def empty(cls: Any) -> Any:
        """Return one with nothing in it."""
        return cls(0)


class OriginalTuple(NamedTuple):
    """A tuple."""

    first: int
    second: str | None = None
    third: tuple[int, ...] = ()


def both(*values: Any, **named: Any) -> tuple[Any, Any]:
    """Make one of each."""
    light: Any = Light
    return light(*values, **named), Original(*values, **named)


@pytest.mark.parametrize("arguments", [((1,), {}), ((1, 2, {"a": 3}), {}), ((1,), {"reasons": {"b": 1}})], ids=str)
def test_it_is_as_the_original(arguments: tuple[Any, Any]) -> None:
    light, original = both(*arguments[0], **arguments[1])
    assert repr(light) == repr(original).replace("Original", "Light")
    assert dataclasses.asdict(light) == dataclasses.asdict(original)
    assert dataclasses.astuple(light) == dataclasses.astuple(original)
    assert [field.name for field in dataclasses.fields(light)] == ["size", "limit", "reasons"]
    changed, expected = dataclasses.replace(light, limit=7), dataclasses.replace(original, limit=7)
    assert dataclasses.asdict(changed) == dataclasses.asdict(expected)
    assert (light == changed, light == copy.copy(light), light == original) == (False, True, False)
    assert pickle.loads(pickle.dumps(light)) == light  # noqa: S301 - our own
    assert light != 5


def test_the_default_of_a_factory_is_not_shared() -> None:
    (one, _), (other, _) = both(1), both(1)
    assert one.reasons == {}
    assert one.reasons is not other.reasons


def test_it_cannot_be_changed() -> None:
    light, _ = both(1)
    for name in ("size", "new"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(light, name, 2)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(light, name)
    assert light.size == 1


@pytest.mark.parametrize(
    "arguments", [((), {}), ((1, 2, 3, 4), {}), ((1,), {"unknown": 1}), ((1,), {"size": 2})], ids=str
)
def test_wrong_arguments(arguments: tuple[Any, Any]) -> None:
    with pytest.raises(TypeError):
        both(*arguments[0], **arguments[1])
    light: Any = Light
    with pytest.raises(TypeError, match="Light: missing, unknown or given twice: "):
        light(*arguments[0], **arguments[1])


def test_only_frozen_ones() -> None:
    with pytest.raises(ValueError, match="only frozen"):
        frozen.dataclass(frozen=False)


def test_statistics_need_no_dataclasses() -> None:
    """Which is why it is there."""
    code = "import sys, kemi.queue.catalog.view; print('dataclasses' in sys.modules, 'inspect' in sys.modules)"
    argv = [sys.executable, "-S", "-c", code]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60, cwd=CHECKOUT)
    assert done.stdout == "False False\n"


@pytest.mark.parametrize(
    "arguments", [((1,), {}), ((1, "two", (3, 4)), {}), ((1,), {"third": (5,)}), ((), {"first": 1})], ids=str
)
def test_a_tuple_with_names_is_as_the_original(arguments: tuple[Any, Any]) -> None:
    light: Any = LightTuple
    one, original = light(*arguments[0], **arguments[1]), OriginalTuple(*arguments[0], **arguments[1])
    assert one == original
    assert repr(one) == repr(original).replace("Original", "Light")
    assert (one._asdict(), one._fields) == (original._asdict(), original._fields)
    assert one._replace(second="2") == original._replace(second="2")
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301 - our own
    assert hash(one) == hash(original)


def test_a_tuple_with_names_keeps_what_its_class_has() -> None:
    light: Any = LightTuple
    one = light(1, "two", (3, 4))
    assert (one.sum(), one.text, light.empty()) == (8, "two", (0, None, ()))
    assert (light.__doc__, light.__module__, light.__qualname__) == ("A tuple.", __name__, "LightTuple")
    assert light._field_defaults == OriginalTuple._field_defaults
    hints = get_type_hints(light) if sys.version_info >= (3, 10) else light.__annotations__
    assert list(hints) == ["first", "second", "third"]
    assert isinstance(one, tuple)


@pytest.mark.parametrize("arguments", [((), {}), ((1, "2", (), 4), {}), ((1,), {"fourth": 4}), ((1,), {"first": 1})])
def test_a_tuple_with_names_refuses_what_the_original_does(arguments: tuple[Any, Any]) -> None:
    kinds: tuple[Any, ...] = (LightTuple, OriginalTuple)
    for kind in kinds:
        with pytest.raises(TypeError, match=r"argument|field"):
            kind(*arguments[0], **arguments[1])
