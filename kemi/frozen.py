# SPDX-License-Identifier: GPL-2.0-or-later
"""`dataclass(frozen=True)` and `NamedTuple` for what every command loads: the originals take long to import.

A type checker sees the originals. What is made here has the same constructor, comparison, text, and is as immutable;
`dataclasses.fields`, `asdict` and `replace` work on it, and are what imports the original.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    _Made = TypeVar("_Made", bound=type)

_namedtuple: Any = namedtuple  # noqa: PYI024 - a checker wants its arguments spelled out


class _FromClass(type):
    """Makes a tuple with names of a class that lists them, and gives it what else the class has."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
        if not bases:
            return super().__new__(cls, name, bases, body)
        types = body["__annotations__"]
        defaults = [body.pop(field) for field in types if field in body]
        made = _namedtuple(name, types, defaults=defaults, module=body["__module__"])
        for key, value in body.items():
            if key not in ("__module__", "__qualname__"):
                setattr(made, key, value)
        return made


class NamedTuple(metaclass=_FromClass):
    """As `typing.NamedTuple`, to be derived from."""


class _Factory:
    def __init__(self, make: Callable[[], object]) -> None:
        self.make = make


def field(*, default_factory: Callable[[], Any]) -> Any:
    """As `dataclasses.field`."""
    return _Factory(default_factory)


class _Fields:
    """`__dataclass_fields__` of a class, made when it is asked for."""

    def __init__(self, types: dict[str, Any], defaults: dict[str, Any]) -> None:
        self._types = types
        self._defaults = defaults

    def __get__(self, _: object, owner: type) -> Any:
        import dataclasses

        defaults = {
            name: dataclasses.field(default_factory=value.make) if isinstance(value, _Factory) else value
            for name, value in self._defaults.items()
        }
        original: Any = dataclasses.dataclass(type(owner.__name__, (), {"__annotations__": self._types, **defaults}))
        fields = original.__dataclass_fields__
        setattr(owner, "__dataclass_fields__", fields)  # noqa: B010 - a checker knows the original only
        return fields


def dataclass(*, frozen: bool) -> Callable[[_Made], _Made]:
    """As `dataclasses.dataclass`."""
    if not frozen:
        raise ValueError("only frozen classes are made here")

    def make(cls: _Made) -> _Made:
        types = dict(cls.__annotations__)
        defaults = {name: cls.__dict__[name] for name in types if name in cls.__dict__}

        def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807 - it becomes a method
            self.__dict__.update(_bound(cls.__name__, types, defaults, values, named))

        methods: dict[str, Any] = {
            "__init__": __init__,
            "__setattr__": _refuse,
            "__delattr__": _refuse,
            "__eq__": _equal,
            "__hash__": lambda self: hash(tuple(self.__dict__.values())),
            "__repr__": _text,
            "__dataclass_fields__": _Fields(types, defaults),
        }
        for name, method in methods.items():
            setattr(cls, name, method)
        return cls

    return make


def _bound(
    name: str, types: dict[str, Any], defaults: dict[str, Any], values: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    """Return the fields of a new object, in order. Raises TypeError."""
    given = dict(zip(types, values))
    wrong = [*values[len(types) :], *(given.keys() & named.keys()), *(named.keys() - types.keys())]
    given.update(named)
    wrong += types.keys() - given.keys() - defaults.keys()
    if wrong:
        raise TypeError(f"{name}: missing, unknown or given twice: {', '.join(map(str, wrong))}")
    found = {}
    for field_name in types:
        value = given[field_name] if field_name in given else defaults[field_name]
        found[field_name] = value.make() if isinstance(value, _Factory) else value
    return found


def _refuse(_: object, name: str, *_value: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"field {name!r} cannot be changed")


def _equal(self: object, other: object) -> bool:
    return self.__dict__ == other.__dict__ if type(other) is type(self) else NotImplemented


def _text(self: object) -> str:
    return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"
