# SPDX-License-Identifier: GPL-2.0-or-later
r"""Items as lines: for people (key, tab, value) and as JSON, which loses nothing.

{"key": "...", "value": "...", "added": 1754000000.25}, in ASCII. Bytes that are not UTF-8 stand in Base64 under
"key_base64" or "value_base64" in place of "key" or "value", so that every JSON reader can take the line. The rare text
with lone surrogates that no bytes stand for is there as "key_surrogatepass": its bytes by Python's surrogatepass, in
Base64, because two surrogates in JSON would become one character.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode

from kemi.queue.format.item import Item
from kemi.text import printable

_FORMS = ("", "_base64", "_surrogatepass")
KNOWN = (*(part + form for part in ("key", "value") for form in _FORMS), "added")


class BadLine(ValueError):
    """The line is no item; says why."""


def text_line(item: Item) -> bytes:
    """Key, tab, value for a person."""
    return f"{printable(item.key)}\t{printable(item.value)}\n".encode()


def json_line(item: Item) -> bytes:
    """The item as a line of JSON."""
    found: dict[str, object] = {
        **_field("key", item.key, item.key_bytes),
        **_field("value", item.value, item.value_bytes),
        "added": round(item.added, 6),
    }
    return json.dumps(found).encode() + b"\n"


def _field(name: str, text: str, data: bytes) -> dict[str, object]:
    try:
        data.decode()
    except UnicodeDecodeError:
        form = "_base64" if text == data.decode("utf-8", "surrogateescape") else "_surrogatepass"
        return {name + form: b64encode(data).decode()}
    return {name: text}


def parse(line: bytes) -> tuple[str | bytes, str | bytes]:
    """Key and value of a line of JSON. Raises BadLine."""
    try:
        found = json.loads(line)
    except RecursionError:
        raise BadLine("nested too deeply") from None
    except ValueError as error:
        raise BadLine(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadLine('not an object like {"key": "...", "value": "..."}')
    unknown = [name for name in found if name not in KNOWN]
    if unknown:
        raise BadLine(f"unknown field {unknown[0]!r}; there are {', '.join(KNOWN)}")
    return _part(found, "key"), _part(found, "value")


def _part(found: dict[str, object], name: str) -> str | bytes:
    given = [name + form for form in _FORMS if name + form in found]
    if len(given) != 1:
        raise BadLine(f'exactly one of "{name}" and "{name}_base64" must be there')
    value = found[given[0]]
    if not isinstance(value, str):
        raise BadLine(f'"{given[0]}" must be text')
    if given[0] == name:
        return value
    try:
        data = b64decode(value, validate=True)
        return data.decode("utf-8", "surrogatepass") if given[0].endswith("pass") else data
    except (binascii.Error, ValueError) as error:
        raise BadLine(f'"{given[0]}" is no Base64: {error}') from None
