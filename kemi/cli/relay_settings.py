# SPDX-License-Identifier: GPL-2.0-or-later
"""What a relay is told: on the command line, or in a file of /etc/mqueue-kemi/relay.d/.

    queue = "cdr"
    url = "rediss://relay@central.example.org:6380/0"
    password_file = "/etc/mqueue-kemi/relay.password"
    durability = "fsync+replicas=1"

The names are those of the options, with _ for -. A file is read before this process becomes the queue's user; the files
that it names are read as that user, each time that a connection is made.
"""

from __future__ import annotations

import importlib
import math
import os
from argparse import Namespace
from dataclasses import dataclass, fields
from typing import Any

from kemi.errors import ConfigError
from kemi.names import RELAY_METRICS_VARIABLE
from kemi.readfile import read_file
from kemi.relay.engine import Durability
from kemi.relay.url import Address, parse

_REPLAY = 5.0  # seconds; what an engine with appendfsync everysec may have lost is younger
_MOST_BATCH = 500  # items: two batches are reserved at a time, and a queue has entries for 1024


@dataclass(frozen=True)
class Settings:
    """One relay."""

    queue: str
    url: str
    instance: str | None = None  # None: as the command line says
    owner: str | None = None
    from_: str = ""  # a queue of the engine: from there to here
    stream: str = ""  # the queue's name there
    durability: str = "fsync"
    replay: float | None = None
    batch: int = 400
    max_len: int | None = None
    host_id: str = ""
    user: str | None = None
    password_file: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    timeout: float | None = None
    metrics: str = ""

    def address(self) -> Address:
        """The engine. Raises ConfigError."""
        names = ("user", "password_file", "tls_ca", "tls_cert", "tls_key", "timeout", "max_len")
        return parse(self.url, **{name: getattr(self, name) for name in names})

    def kept(self) -> Durability:
        """What must have happened before an item leaves the queue. Raises ConfigError."""
        return Durability.parse(self.durability)

    def replayed(self) -> float:
        """Seconds of what was sent that a new connection gets again."""
        if self.replay is not None:
            return self.replay
        return _REPLAY if self.kept() == Durability(fsync=False) else 0.0


_SECRET = ("url", "password_file")  # what stands there by mistake may be a password
_SECONDS, _NUMBERS = ("replay", "timeout"), ("batch", "max_len")


def of(arguments: Namespace) -> Settings:
    """The settings of a command line. Raises ConfigError."""
    given = {one.name: getattr(arguments, one.name, None) for one in fields(Settings)}
    given = {name: value for name, value in given.items() if value is not None and name not in ("instance", "owner")}
    if not arguments.config:
        for name, what in (("queue", "a queue"), ("url", "the URL of an engine, like redis://central:6379/0")):
            if name not in given:
                raise ConfigError(f"relay: name {what}, or a file by --config")
        return checked(given, "")
    if given:
        name = next(iter(given))
        raise ConfigError(f"relay: --config names a file that says all; {name.strip('_')} stands beside it")
    return from_file(arguments.config)


def from_file(path: str) -> Settings:
    """The settings of a file. Raises ConfigError, which names the file."""
    tomllib = _toml()
    try:
        found = tomllib.loads(read_file(path).decode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    named = {("from_" if name == "from" else name): value for name, value in found.items()}
    for name in ("queue", "url"):
        if name not in named:
            raise ConfigError(f'{path}: {name} is missing; write {name} = "..."')
    return checked(named, f"{path}: ")


def _toml() -> Any:
    for name in ("tomllib", "tomli"):  # the first one since Python 3.11
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ConfigError(
        "relay: --config needs the Python package tomli here: apt install python3-tomli, or "
        "pip install 'mqueue-kemi[relay]'"
    )


def _wrong(name: str, value: Any) -> str:
    """What to write in place of a value; "" if it can be meant."""
    number = not isinstance(value, bool)
    if name in _SECONDS:
        return "" if number and isinstance(value, (int, float)) and 0 <= value < math.inf else "seconds, 0 or more"
    if name in _NUMBERS:
        return "" if number and isinstance(value, int) and value > 0 else "a whole number of 1 or more"
    return "" if isinstance(value, str) else "text in quotes"


def checked(given: dict[str, Any], where: str) -> Settings:
    """Settings whose values can be meant. Raises ConfigError."""
    known = {one.name for one in fields(Settings)}
    for name, value in given.items():
        shown = name.strip("_")
        if name not in known or name == "from":
            names = ", ".join(sorted(one.strip("_") for one in known))
            raise ConfigError(f"{where}there is no setting {name}; there are {names}")
        if wrong := _wrong(name, value):
            said = f" = {value!r}" if name not in _SECRET else ""
            raise ConfigError(f"{where}{shown}{said}: write {wrong}")
    settings = Settings(**{"metrics": os.environ.get(RELAY_METRICS_VARIABLE, ""), **given})
    if not 1 <= settings.batch <= _MOST_BATCH:
        raise ConfigError(f"{where}batch = {settings.batch}: write a number from 1 to {_MOST_BATCH}")
    if settings.metrics and not os.path.isabs(settings.metrics):
        raise ConfigError(f"{where}metrics = {settings.metrics}: write the file's whole path")
    try:
        settings.address()
        settings.kept()
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from None
    return settings
