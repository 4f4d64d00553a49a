# SPDX-License-Identifier: GPL-2.0-or-later
"""$xavp, $xavi and $xavu: values by name, with values by name inside of them.

Of $xavp(a=>b) there may be several a, the newest first; setting one without an index adds one. $xavi is the same with
names in any case. $xavu keeps one value for each name and goes on from message to message.
"""

from __future__ import annotations

import re
from typing import Union

Value = Union[str, int, None]
_PATH = re.compile(r"([^\[\]=>]+)(?:\[(-?\d+|\*)\])?(?:=>([^\[\]=>]+)(?:\[(-?\d+|\*)\])?)?")


class Item:
    """One value of a name: a text, a number, or more values by name."""

    def __init__(self, value: Value = None, inner: dict[str, Value] | None = None) -> None:
        self.value = value
        self.inner = inner

    @property
    def shown(self) -> Value:
        """As $xavp(name) gives it."""
        return self.value if self.inner is None else f"<<xavp:{id(self):#x}>>"


Tree = dict[str, list[Item]]


def split(text: str) -> tuple[str, str | None, str | None, str | None] | None:
    """Return name, index, inner name, its index of a[0]=>b[1]; None for what is no such path."""
    found = _PATH.fullmatch(text)
    return (found[1], found[2], found[3], found[4]) if found else None


def _item(tree: Tree, name: str, index: str | None) -> Item | None:
    items = tree.get(name, [])
    place = 0 if index in (None, "*") else int(index or 0)
    return items[place] if -len(items) <= place < len(items) else None


def get(tree: Tree, path: str) -> Value:
    """The value of a path; None for null."""
    parts = split(path)
    item = _item(tree, parts[0], parts[1]) if parts else None
    if parts is None or item is None:
        return None
    if parts[2] is None:
        return item.shown
    return (item.inner or {}).get(parts[2]) if parts[3] in (None, "0") else None


def put(tree: Tree, path: str, value: Value) -> bool:
    """Set it, or with None take it away. False when the server refuses."""
    parts = split(path)
    if parts is None:
        return False
    name, index, inner, _ = parts
    if value is None:
        return remove(tree, name, index, inner)
    item = _item(tree, name, index) if index is not None else None
    if inner is None:
        made = Item(value)
        if item is None:
            tree.setdefault(name, []).insert(0, made)
        else:
            tree[name][tree[name].index(item)] = made
        return True
    if item is not None and item.inner is not None:
        item.inner[inner] = value
    elif index is None or not tree.get(name):
        tree.setdefault(name, []).insert(0, Item(inner={inner: value}))
    else:
        return False
    return True


def remove(tree: Tree, name: str, index: str | None = None, inner: str | None = None) -> bool:
    """Take one away, or all of a name with *; it is no error when there is none."""
    if index == "*":
        tree.pop(name, None)
        return True
    item = _item(tree, name, index)
    if item is None:
        return True
    if inner is None:
        tree[name].remove(item)
    elif item.inner is not None:
        item.inner.pop(inner, None)
    return True


def child(tree: Tree, name: str, inner: str, value: Value) -> None:
    """Set a value inside of the newest one of a name, which is made when there is none."""
    item = _item(tree, name, None)
    if item is None or item.inner is None:
        tree.setdefault(name, []).insert(0, Item(inner={inner: value}))
    else:
        item.inner[inner] = value
