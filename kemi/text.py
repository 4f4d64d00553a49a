# SPDX-License-Identifier: GPL-2.0-or-later
r"""Text from elsewhere, made fit to be shown: on a terminal, in a log, in an error.

A name, a segment's header, a database's answer or a SIP message may hold anything: line ends that forge a line of the
log, sequences that a terminal obeys, characters that turn the direction of writing. Whatever is not printable is shown
as in C: \n, \r, \t; a byte that was not UTF-8 as \xNN; the rest as \xNN below 128, as \uNNNN or \UNNNNNNNN above.

    printable   one field of an output: its backslashes are doubled, so that nothing has two meanings
    one_line    a sentence, which may hold fields that are escaped already; a password in a URL is masked

Data for programs (JSON, the text format of Prometheus) is not shown, and stays exact.
"""

from __future__ import annotations

import re

_SHOWN_AS = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_BASIC_PLANE = 0xFFFF  # the last character of four digits
_PLAIN = re.compile(r"[ -\[\]-~]*")
_PLAIN_LINE = re.compile(r"[ -~]*")
# As Kamailio reads a URL: the user ends at the first colon, the password at the last @.
_PASSWORD = re.compile(r"(://[^/:@\s]*):[^\s]*@")


def printable(text: str) -> str:
    """One field: nothing in it that a terminal would obey, or a reader would take for the field's end."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join("\\\\" if character == "\\" else _shown(character) for character in text)


def one_line(text: str) -> str:
    """Return a sentence for a log, a terminal or an error. What it gives, it gives again."""
    if "://" in text:
        text = _PASSWORD.sub(r"\1:***@", text)
    if _PLAIN_LINE.fullmatch(text):
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    known = _SHOWN_AS.get(character)
    if known:
        return known
    if character.isprintable():
        return character
    try:
        data = character.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = b""  # no bytes stand for it
    if len(data) == 1:
        return f"\\x{data[0]:02x}"
    code = ord(character)
    return f"\\U{code:08x}" if code > _BASIC_PLANE else f"\\u{code:04x}"
