# SPDX-License-Identifier: GPL-2.0-or-later
"""Transformations of variables: $(name{class.function,argument}).

A text or a number goes in and comes out; None where the server logs an error and takes null. A name that is not here
is not covered.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable
from typing import Union
from urllib.parse import unquote_to_bytes

from kemi.testing import regex, uri
from kemi.testing.names import InvalidName

Value = Union[str, int, None]
Function = Callable[[str, str], Value]

_URL_SAFE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.!~*'()"
_IN_A_USER = _URL_SAFE + "&=+$,;?/"
_IN_A_PARAM = _URL_SAFE + "[]/:&+$"


_KINDS = (
    "s",
    "uri",
    "param",
    "nameaddr",
    "tobody",
    "re",
    "line",
    "val",
    "num",
    "urialias",
    "sql",
    "xml",
    "json",
    "msrpuri",
)


class UnknownError(Exception):
    """Not covered."""


def apply(value: Value, text: str, release: str) -> Value:
    """Return what `s.len` makes of a value. Raises UnknownError, and InvalidName for what no server knows."""
    name, _, argument = text.partition(",")
    name = name.strip()
    kind = name.partition(".")[0]
    if kind not in _KINDS or (kind == "val" and release == "5.6"):
        raise InvalidName(text)
    if name in _OF_NULL:
        return _OF_NULL[name] if value is None else value
    if name not in _FUNCTIONS:
        raise UnknownError(name)
    return None if value is None else _FUNCTIONS[name](str(value), argument)


# --- s ----------------------------------------------------------------------------------------------------------------


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _number(text: str) -> int:
    found = re.match(r"\s*([+-]?\d+)", text)
    return int(found[1]) if found else 0


def _core_hash(text: str, argument: str) -> Value:
    """The core's own hash, cut to a number of slots where that is given."""
    value, data = 0, _bytes(text)
    whole = len(data) - len(data) % 4
    for place in range(0, whole, 4):
        part = int.from_bytes(data[place : place + 4], "big")
        value = (value + (part ^ (part >> 3))) & 0xFFFFFFFF
    part = int.from_bytes(data[whole:], "big")
    value = (value + (part ^ (part >> 3))) & 0xFFFFFFFF
    value = (value + (value >> 11) + (value >> 13) + (value >> 23)) & 0xFFFFFFFF
    slots = _number(argument)
    return str(value % slots if slots else value)


def _int(text: str, _: str) -> Value:
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else None


def _substr(text: str, argument: str) -> Value:
    """Offset, length; a negative offset counts from the end, length 0 is all that follows."""
    data, parts = _bytes(text), argument.split(",")
    start, length = _number(parts[0]), _number(parts[1]) if len(parts) > 1 else 0
    start = start + len(data) if start < 0 else start
    if not 0 <= start < len(data):
        return None
    return _text(data[start : start + length] if length > 0 else data[start:])


def _select(text: str, argument: str) -> Value:
    index, _, separator = argument.partition(",")
    parts = text.split(separator[:1]) if separator else [text]
    place = _number(index)
    return parts[place] if -len(parts) <= place < len(parts) else ""


def _strip(text: str, argument: str) -> Value:
    return _text(_bytes(text)[_number(argument) :])


def _strip_tail(text: str, argument: str) -> Value:
    data, count = _bytes(text), _number(argument)
    return _text(data[: len(data) - count]) if count < len(data) else ""


def _replace(text: str, argument: str) -> Value:
    old, _, new = argument.partition(",")
    return text.replace(old, new) if old else text


def _remove(text: str, argument: str) -> Value:
    unwanted = argument.strip()
    return text.replace(unwanted, "") if unwanted else text


def _escape(allowed: str) -> Function:
    def escape(text: str, _: str) -> Value:
        return "".join(chr(byte) if chr(byte) in allowed else f"%{byte:02x}" for byte in _bytes(text))

    return escape


def _common(text: str, _: str) -> Value:
    return re.sub(r"(['\"\\])", r"\\\1", text).replace("\0", "\\0")


def _prefixes(text: str, argument: str) -> Value:
    longest = _number(argument) or len(text)
    return ",".join(text[:end] for end in range(1, min(longest, len(text)) + 1))


def _quoted(text: str, argument: str) -> Value:
    longest = _number(argument) or len(text)
    return ",".join(f"'{text[:end]}'" for end in range(1, min(longest, len(text)) + 1))


def _decode(how: Callable[[bytes], bytes]) -> Function:
    def decode(text: str, _: str) -> Value:
        try:
            return _text(how(_bytes(text)))
        except ValueError:
            return None

    return decode


def _digest(name: str) -> Function:
    return lambda text, _: hashlib.new(name, _bytes(text)).hexdigest()


# --- uri, nameaddr, tobody --------------------------------------------------------------------------------------------


def _of_uri(part: Callable[[uri.Uri], Value]) -> Function:
    def give(text: str, _: str) -> Value:
        parsed = uri.parse(text)
        return part(parsed) if parsed else None

    return give


def _uri_param(text: str, argument: str) -> Value:
    parsed = uri.parse(text)
    return None if parsed is None else parsed.param(argument.strip()) or ""


def _known_param(name: str) -> Function:
    return _of_uri(lambda parsed: parsed.param(name) or "")


def _display(text: str) -> str:
    """The name as it is written, with the space behind it."""
    found = re.match(r'\s*("(?:[^"\\]|\\.)*"\s*|[^<"]*)<', text)
    return found[1] if found else ""


def _length(text: str, _: str) -> Value:
    """Of the whole, up to the >."""
    found = re.match(r'\s*(?:"(?:[^"\\]|\\.)*"|[^<"]*)\s*<[^>]*>', text)
    return len(_bytes(found[0] if found else text))


def _parameters(text: str) -> str:
    """What follows the address."""
    found = re.match(r'\s*(?:"(?:[^"\\]|\\.)*"|[^<"]*)\s*<[^>]*>\s*;?(.*)', text, re.DOTALL)
    return (found[1] if found else text.partition(";")[2]).strip()


def _of_address(part: Callable[[uri.Address], Value]) -> Function:
    return lambda text, _: part(uri.address(text))


def _address_part(part: Callable[[uri.Uri], str | None]) -> Function:
    def give(text: str, _: str) -> Value:
        parsed = uri.parse(uri.address(text).uri)
        return (part(parsed) or "") if parsed else ""

    return give


# --- param, line, re --------------------------------------------------------------------------------------------------


def _pairs(text: str, separator: str = ";") -> list[tuple[str, str]]:
    """Names and values, without the quotes around them."""
    found = []
    for part in re.findall(rf'(?:"[^"]*"|[^{re.escape(separator)}"])+', text):
        name, _, value = part.strip().partition("=")
        if name:
            found.append((name.strip(), value.strip().strip('"')))
    return found


def _named(argument: str) -> tuple[str, str]:
    """The name, and the character between the parameters."""
    name, _, separator = argument.partition(",")
    return name.strip().lower(), separator.strip() or ";"


def _param_value(text: str, argument: str) -> Value:
    name, separator = _named(argument)
    return next((value for known, value in _pairs(text, separator) if known.lower() == name), "")


def _param_in(text: str, argument: str) -> Value:
    name, separator = _named(argument)
    return int(any(known.lower() == name for known, _ in _pairs(text, separator)))


def _param_at(place: int) -> Function:
    def give(text: str, argument: str) -> Value:
        index, separator = _named(argument)
        pairs, number = _pairs(text, separator), _number(index)
        return pairs[number][place] if -len(pairs) <= number < len(pairs) else ""

    return give


def _param_count(text: str, argument: str) -> Value:
    return len(_pairs(text, argument.strip() or ";"))


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n")


def _line_at(text: str, argument: str) -> Value:
    lines, place = _lines(text), _number(argument)
    return lines[place] if -len(lines) <= place < len(lines) else ""


def _line_with(text: str, argument: str) -> Value:
    return next((line for line in _lines(text) if line.startswith(argument)), "")


def _re_subst(text: str, argument: str) -> Value:
    return regex.substitute(argument, text)


_FUNCTIONS: dict[str, Function] = {
    "s.len": lambda text, _: len(_bytes(text)),
    "s.int": _int,
    "s.tolower": lambda text, _: text.lower(),
    "s.toupper": lambda text, _: text.upper(),
    "s.substr": _substr,
    "s.select": _select,
    "s.strip": _strip,
    "s.striptail": _strip_tail,
    "s.trim": lambda text, _: text.strip(),
    "s.ltrim": lambda text, _: text.lstrip(),
    "s.rtrim": lambda text, _: text.rstrip(),
    "s.rm": _remove,
    "s.rmws": lambda text, _: re.sub(r"\s", "", text),
    "s.replace": _replace,
    "s.prefixes": _prefixes,
    "s.prefixes.quoted": _quoted,
    "s.numeric": lambda text, _: re.sub(r"[^0-9]", "", text),
    "s.count": lambda text, argument: text.count(argument[:1]) if argument else None,
    "s.before": lambda text, argument: text.partition(argument)[0] if argument else text,
    "s.after": lambda text, argument: text.partition(argument)[2] if argument else "",
    "s.corehash": _core_hash,
    "s.ftime": lambda text, argument: time.strftime(argument, time.localtime(int(text))) if text.isdigit() else None,
    "s.md5": _digest("md5"),
    "s.sha256": _digest("sha256"),
    "s.sha384": _digest("sha384"),
    "s.sha512": _digest("sha512"),
    "s.encode.hexa": lambda text, _: _bytes(text).hex(),
    "s.decode.hexa": _decode(lambda data: bytes.fromhex(data.decode())),
    "s.encode.base64": lambda text, _: base64.b64encode(_bytes(text)).decode(),
    "s.decode.base64": _decode(base64.b64decode),
    "s.encode.base64url": lambda text, _: base64.urlsafe_b64encode(_bytes(text)).decode(),
    "s.encode.base64t": lambda text, _: base64.b64encode(_bytes(text)).decode().rstrip("="),
    "s.escape.common": _common,
    "s.escape.user": _escape(_IN_A_USER),
    "s.escape.param": _escape(_IN_A_PARAM),
    "s.escape.csv": lambda text, _: '"' + text.replace('"', '""') + '"',
    "s.unescape.user": lambda text, _: _text(unquote_to_bytes(text)),
    "s.unescape.param": lambda text, _: _text(unquote_to_bytes(text)),
    "uri.user": _of_uri(lambda parsed: parsed.user or ""),
    "uri.host": _of_uri(lambda parsed: parsed.host),
    "uri.domain": _of_uri(lambda parsed: parsed.host),
    "uri.port": _of_uri(lambda parsed: int(parsed.port or 0)),
    "uri.passwd": _of_uri(lambda parsed: parsed.password or ""),
    "uri.password": _of_uri(lambda parsed: parsed.password or ""),
    "uri.scheme": _of_uri(lambda parsed: parsed.scheme.lower()),
    "uri.params": _of_uri(lambda parsed: parsed.params.removeprefix(";")),
    "uri.headers": _of_uri(lambda parsed: parsed.headers.removeprefix("?")),
    "uri.param": _uri_param,
    **{f"uri.{name}": _known_param(name) for name in ("transport", "ttl", "uparam", "maddr", "m", "lr", "r2")},
    "nameaddr.uri": _of_address(lambda address: address.uri),
    "nameaddr.name": lambda text, _: _display(text),
    "nameaddr.len": _length,
    "tobody.uri": _of_address(lambda address: address.uri),
    "tobody.display": lambda text, _: _display(text).strip(),
    "tobody.tag": _of_address(lambda address: address.params.get("tag", "")),
    "tobody.user": _address_part(lambda parsed: parsed.user),
    "tobody.host": _address_part(lambda parsed: parsed.host),
    "tobody.params": lambda text, _: _parameters(text),
    "param.value": _param_value,
    "param.in": _param_in,
    "param.name": _param_at(0),
    "param.valueat": _param_at(1),
    "param.count": _param_count,
    "line.count": lambda text, _: str(len(_lines(text))),
    "line.at": _line_at,
    "line.sw": _line_with,
    "re.subst": _re_subst,
}

# In 6.0: what stands for null.
_OF_NULL: dict[str, Value] = {"val.n0": 0, "val.ne": "", "val.json": ""}
