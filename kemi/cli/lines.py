r"""Items as lines: for people (key, tab, value) and as JSON, which loses nothing.

{"key": "...", "value": "...", "added": 1754000000.25}, in ASCII. Bytes that are not UTF-8 stand in Base64 under
"key_base64" or "value_base64" in place of "key" or "value", so that every JSON reader can take the line. The rare text
with lone surrogates that no bytes stand for is written with JSON's own \uD800 escapes.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode

from kemi.cli.output import printable
from kemi.queue.item import Item

KNOWN = ("key", "key_base64", "value", "value_base64", "added")


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
        if text == data.decode("utf-8", "surrogateescape"):
            return {f"{name}_base64": b64encode(data).decode()}
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
    encoded = f"{name}_base64"
    if (name in found) == (encoded in found):
        raise BadLine(f'exactly one of "{name}" and "{encoded}" must be there')
    value = found.get(name, found.get(encoded))
    if not isinstance(value, str):
        raise BadLine(f'"{name if name in found else encoded}" must be text')
    if name in found:
        return value
    try:
        return b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadLine(f'"{encoded}" is no Base64: {error}') from None
