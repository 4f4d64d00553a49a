# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameters as plain values: modparam("mqueue", NAME, VALUE) → Settings, "name=...;size=..." → QueueSpec.

Knows no shared memory and no Kamailio. Every refusal is a ConfigError that names the parameter and the text.
"""

from __future__ import annotations

import grp
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Union

from kemi import dbmode
from kemi.errors import ConfigError
from kemi.names import DEFAULT_INSTANCE
from kemi.queue.shm.naming import segment_name

Value = Union[str, int, float]

MODULES = ("mqueue", "mqueue_kemi")
# May the server's C symbols be used? Never; in versions that are known; in any.
CORE_OFF, CORE_KNOWN, CORE_FORCED = 0, 1, 2
_SUFFIXES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_LONGEST_WAIT = 3600  # seconds
_MOST_DELIVERIES = (1 << 16) - 2
_LONGEST_AGE = 100 * 366 * 86400  # seconds
_MOST_ASKED = 1_000_000
_LARGEST = 1 << 46  # bytes; more than a process can map


class QueueSpec(NamedTuple):
    """One queue as it was defined."""

    name: str
    size: int = 0  # items, 0 = limitless
    dbmode: int = 0  # see `kemi.dbmode`
    addmode: int = 0  # 0 append, 1 unique key: the oldest stays, 2 unique key: the newest stays
    maxbytes: int = 0  # bytes, 0 = limitless
    recover: int = 1  # what a server left in memory is taken over: 0 never, 1 after a crash, 2 after every stop
    max_deliveries: int = 0  # of a reserved item, 0 = any number
    dead_letter: str = ""  # the queue for items after that
    maxage: float = 0  # seconds that an item is delivered for, 0 = for ever

    def reads_database(self) -> bool:
        """Return True if rows are loaded at the start."""
        return self.dbmode in (dbmode.BOTH, dbmode.LOAD)

    def writes_database(self) -> bool:
        """Return True if items are saved at the stop."""
        return self.dbmode in (dbmode.BOTH, dbmode.SAVE)


@dataclass
class Settings:
    """All parameters of one instance."""

    queues: dict[str, QueueSpec] = field(default_factory=dict)
    db_url: str = field(default="", repr=False)  # with its password
    db_timeout: float = 40.0  # seconds for all that a start, or a stop, does with the database
    db_retry: float = 0.0  # seconds that a database which is away at the start is tried again
    db_tls: str = ""  # off, on, verify, a file of certificates; "" = as the driver does it
    db_inexact: bool = False  # are tables accepted that take nothing back?
    instance: str = DEFAULT_INSTANCE
    mode: int = 0o600
    group: int = -1  # gid, -1 = the server's own
    lock_timeout: float = 1.0  # seconds
    core: int = CORE_KNOWN
    max_memory: int = 0  # bytes, 0 = what `kemi.queue.shm.limits` finds right
    dbmode_compat: str = ""  # what a bare 2 or 3 means: as documented, "code", or "" where nobody said it
    ambiguous: dict[str, int] = field(default_factory=dict)  # the dbmode of queues that were defined with such a number
    max_asked: int = 5000  # questions that wait for an answer
    mqueue_size: int = 0  # for the next mqueue_name
    mqueue_addmode: int = 0

    def set(self, module: str, name: str, value: Value) -> None:
        """One modparam line. Raises ConfigError."""
        if module not in MODULES:
            raise ConfigError(f'modparam({_quoted(module)}, ...): the module is "mqueue"')
        try:
            parse = _PARAMETERS[name]
        except (KeyError, TypeError):
            raise ConfigError(
                f'modparam("mqueue", {_quoted(name)}): no such parameter; there are {", ".join(sorted(_PARAMETERS))}'
            ) from None
        hides = name == "db_url" and not isinstance(value, (int, float))  # text or bytes, with a password
        shown = "..." if hides else _quoted(value)
        parse(self, f'modparam("mqueue", "{name}", {shown})', value)

    def define(self, where: str, spec: QueueSpec) -> None:
        """One queue more. Raises ConfigError when there is one of that name."""
        if spec.name in self.queues:
            raise ConfigError(f'{where}: mqueue redefined: there is a queue "{spec.name}" already')
        self.queues[spec.name] = spec

    def check(self) -> None:
        """Check what can only be checked when all is known. Raises ConfigError."""
        if self.dbmode_compat == dbmode.CODE:
            for name, number in self.ambiguous.items():
                self.queues[name] = self.queues[name]._replace(dbmode=dbmode.swapped(number))
        for spec in self.queues.values():
            segment_name(self.instance, spec.name)  # refuses what is too long
            if spec.dead_letter and spec.dead_letter not in self.queues:
                raise ConfigError(
                    f'modparam("mqueue", "mqueue", "name={spec.name}..."): dead_letter={spec.dead_letter}: there is '
                    "no such queue; define it too"
                )


def parse_queue(where: str, text: Value) -> QueueSpec:
    """`name=...;size=...;dbmode=...` and so on, as Kamailio's documentation of parameter mqueue has it.

    Attribute names in any case; blanks, quotes around a value, and a `;` at the end are allowed.
    """
    return _spec(where, _attributes(where, text))


def _attributes(where: str, text: Value) -> dict[str, str]:
    found: dict[str, str] = {}
    if not isinstance(text, str):
        raise ConfigError(f"{where}: must be text like name=myq;size=20")
    for part in text.split(";"):
        attribute, equals, value = (piece.strip() for piece in part.partition("="))
        if not attribute and not equals:
            continue
        attribute = attribute.lower()
        if attribute not in QueueSpec._fields:
            raise ConfigError(f'{where}: unknown attribute "{attribute}"; there are {", ".join(QueueSpec._fields)}')
        if attribute in found:
            raise ConfigError(f'{where}: attribute "{attribute}" is given twice')
        found[attribute] = value[1:-1] if len(value) > 1 and value[0] == value[-1] in "\"'" else value
    if not found.get("name"):
        raise ConfigError(f"{where}: no name; write name=...;")
    return found


def _spec(where: str, found: dict[str, str]) -> QueueSpec:
    spec = QueueSpec(
        name=found["name"],
        size=_integer(f"{where}: size", found.get("size", "0"), 0, (1 << 31) - 1),
        dbmode=_dbmode(f"{where}: dbmode", found.get("dbmode", "0")),
        addmode=_integer(f"{where}: addmode", found.get("addmode", "0"), 0, 2),
        maxbytes=_bytes(f"{where}: maxbytes", found.get("maxbytes", "0")),
        recover=_integer(f"{where}: recover", found.get("recover", "1"), 0, 2),
        max_deliveries=_integer(f"{where}: max_deliveries", found.get("max_deliveries", "0"), 0, _MOST_DELIVERIES),
        dead_letter=found.get("dead_letter", ""),
        maxage=_age(f"{where}: maxage", found.get("maxage", "0")),
    )
    _check_dead_letter(where, spec)
    return spec


def _age(where: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,9})?", text):
        raise ConfigError(f"{where}: {_quoted(text)}: write seconds, like 30 or 0.5; 0 is for ever")
    seconds = float(text)
    if seconds > _LONGEST_AGE:
        raise ConfigError(f"{where}: {text} is out of range, 0 to {_LONGEST_AGE} seconds are allowed")
    return seconds


def _dbmode(where: str, text: str) -> int:
    word = dbmode.WORDS.get(text.lower())
    if word is not None:
        return word
    if re.search(r"[0-9]", text):
        return _integer(where, text, dbmode.NONE, dbmode.LOAD)
    raise ConfigError(f"{where}: {_quoted(text)}: write {', '.join(dbmode.WORDS)}, or a number from 0 to 3")


def _check_dead_letter(where: str, spec: QueueSpec) -> None:
    if not spec.dead_letter:
        return
    if not spec.max_deliveries and not spec.maxage:
        raise ConfigError(
            f"{where}: dead_letter needs max_deliveries, after how many of them an item goes there, or maxage, after "
            "how many seconds"
        )
    if spec.dead_letter == spec.name:
        raise ConfigError(f"{where}: dead_letter must name another queue")


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _plain(value: object) -> str:
    """Text without blanks around it, of any value: scripts give what they like."""
    return value.strip() if isinstance(value, str) else repr(value)


def _integer(where: str, value: Value, low: int, high: int) -> int:
    if isinstance(value, (bool, float)) or not re.fullmatch(r"[+-]?[0-9]{1,20}", _plain(value)):
        raise ConfigError(f"{where}: {_quoted(value)} is no whole number")
    number = int(_plain(value))
    if not low <= number <= high:
        raise ConfigError(f"{where}: {number} is out of range, {low} to {high} are allowed")
    return number


def _bytes(where: str, value: Value) -> int:
    match = re.fullmatch(r"([0-9]{1,16})\s*([kmgt]?)i?b?", _plain(value), re.IGNORECASE | re.ASCII)
    if not match or isinstance(value, (bool, float)):
        raise ConfigError(f"{where}: {_quoted(value)} is no number of bytes; write for instance 1000000, 512k or 2G")
    number = int(match[1]) * _SUFFIXES[match[2].lower()]
    if number > _LARGEST:
        raise ConfigError(f"{where}: {number} bytes are more than {_LARGEST}, the most that can be mapped")
    return number


def _text(where: str, value: Value) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where}: must be text")
    return value


def _set_queue(settings: Settings, where: str, value: Value) -> None:
    found = _attributes(where, value)
    spec = _spec(where, found)
    settings.define(where, spec)
    if dbmode.is_ambiguous(found.get("dbmode", ""), spec.dbmode):
        settings.ambiguous[spec.name] = spec.dbmode


def _set_queue_name(settings: Settings, where: str, value: Value) -> None:
    if not _text(where, value):
        raise ConfigError(f"{where}: no name")
    settings.define(where, QueueSpec(str(value), size=settings.mqueue_size, addmode=settings.mqueue_addmode))


def _set_instance(settings: Settings, where: str, value: Value) -> None:
    if not _text(where, value):
        raise ConfigError(f"{where}: an instance needs a name")
    settings.instance = str(value)


def _set_mode(settings: Settings, where: str, value: Value) -> None:
    """0660 as Kamailio writes modes: a text of octal digits; a number means itself."""
    try:
        mode = int(value, 8) if isinstance(value, str) else _integer(where, value, 0, 0o777)
    except ValueError:
        raise ConfigError(f'{where}: write an octal mode like "0660"') from None
    if not mode & 0o400 or not mode & 0o200 or mode & ~0o664:
        raise ConfigError(
            f"{where}: its owner must be able to read and write, nobody to execute, and not everybody to write (who "
            'writes to a queue is trusted like the server itself); like "0660", with a "group"'
        )
    settings.mode = mode


def _set_group(settings: Settings, where: str, value: Value) -> None:
    try:
        settings.group = (
            _integer(where, value, 0, (1 << 32) - 2) if _plain(value).isdigit() else grp.getgrnam(_plain(value)).gr_gid
        )
    except (KeyError, ValueError):  # ValueError: no name could be like that
        raise ConfigError(f"{where}: there is no such group on this host") from None


def _seconds(where: str, value: Value, *, zero: bool = False) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        seconds = math.nan
    if not (0 < seconds <= _LONGEST_WAIT or (zero and seconds == 0)):
        least = "from 0" if zero else "more than 0"
        raise ConfigError(f"{where}: write seconds, {least} and at most {_LONGEST_WAIT}")
    return seconds


def _set_lock_timeout(settings: Settings, where: str, value: Value) -> None:
    settings.lock_timeout = _seconds(where, value)


def _set_max_memory(settings: Settings, where: str, value: Value) -> None:
    settings.max_memory = _bytes(where, value)


def _set_db_url(settings: Settings, where: str, value: Value) -> None:
    settings.db_url = _text(where, value)


def _set_db_timeout(settings: Settings, where: str, value: Value) -> None:
    settings.db_timeout = _seconds(where, value)


def _set_db_retry(settings: Settings, where: str, value: Value) -> None:
    settings.db_retry = _seconds(where, value, zero=True)


def _set_db_tls(settings: Settings, where: str, value: Value) -> None:
    tls = _text(where, value).strip()
    if tls not in ("off", "on", "verify") and not tls.startswith("/"):
        raise ConfigError(f"{where}: write off, on, verify, or the whole path of a file with certificates")
    settings.db_tls = tls


def _set_db_inexact(settings: Settings, where: str, value: Value) -> None:
    settings.db_inexact = bool(_integer(where, value, 0, 1))


def _set_dbmode_compat(settings: Settings, where: str, value: Value) -> None:
    text = _text(where, value).strip().lower()
    if text not in (dbmode.CODE, dbmode.DOCUMENTED):
        raise ConfigError(
            f'{where}: write "{dbmode.CODE}" (2 loads, 3 saves, as in the C module\'s code) or "{dbmode.DOCUMENTED}" '
            "(2 saves, 3 loads, as its documentation in Kamailio 5.6 says; so it is without this parameter)"
        )
    settings.dbmode_compat = text


def _set_max_asked(settings: Settings, where: str, value: Value) -> None:
    settings.max_asked = _integer(where, value, 1, _MOST_ASKED)


def _set_mqueue_size(settings: Settings, where: str, value: Value) -> None:
    settings.mqueue_size = _integer(where, value, 0, (1 << 31) - 1)


def _set_mqueue_addmode(settings: Settings, where: str, value: Value) -> None:
    settings.mqueue_addmode = _integer(where, value, 0, 2)


def _set_core(settings: Settings, where: str, value: Value) -> None:
    if _plain(value) == "force":
        settings.core = CORE_FORCED
    elif _plain(value) in ("0", "1"):
        settings.core = int(value)
    else:
        raise ConfigError(
            f'{where}: write 0 (never), 1 (where Kamailio\'s version is known) or "force" (whatever the version)'
        )


_PARAMETERS: dict[str, Callable[[Settings, str, Value], None]] = {
    "core": _set_core,
    "db_inexact": _set_db_inexact,
    "db_retry": _set_db_retry,
    "db_timeout": _set_db_timeout,
    "db_tls": _set_db_tls,
    "db_url": _set_db_url,
    "dbmode_compat": _set_dbmode_compat,
    "group": _set_group,
    "instance": _set_instance,
    "lock_timeout": _set_lock_timeout,
    "max_asked": _set_max_asked,
    "max_memory": _set_max_memory,
    "mode": _set_mode,
    "mqueue": _set_queue,
    "mqueue_addmode": _set_mqueue_addmode,
    "mqueue_name": _set_queue_name,
    "mqueue_size": _set_mqueue_size,
}
