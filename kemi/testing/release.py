# SPDX-License-Identifier: GPL-2.0-or-later
"""Which Kamailio a fake is: one of those whose functions and behaviour are known."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess

from kemi.testing import api

_VERSION = re.compile(r"\d+(\.\d+)+")
_asked: list[str] = []  # what pytest's command line or ini file says


def known() -> tuple[str, ...]:
    """Return the releases that a fake can be, oldest first."""
    return api.load().releases


def choose(version: str | None = None) -> str:
    """Return the release to be: the one asked for, else pytest's option, else the installed one, else the newest.

    version: 6.0, or 6.0.1. Raises ValueError for one that is not known.
    """
    text = version or (_asked[-1] if _asked else None)
    if text is None:
        return _nearest(installed()) or known()[-1]
    release = api.release_of(text)
    if release not in known():
        raise ValueError(f"kamailio={text!r}: the fake can be {' or '.join(known())}")
    return release


def ask(version: str | None) -> None:
    """Let this be the release where a test names none; None takes back what was said last. Raises ValueError."""
    if version is None:
        _asked.pop()
    else:
        choose(version)
        _asked.append(version)


def _nearest(version: str | None) -> str | None:
    """The newest known release that is not newer than this one; the oldest for one that is older than all."""
    if version is None:
        return None
    key = api.key_of(api.release_of(version))
    return next((release for release in reversed(known()) if api.key_of(release) <= key), known()[0])


@functools.cache
def installed() -> str | None:
    """Return the version of the Kamailio on this machine, None where there is none."""
    path = shutil.which("kamailio", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if path is None:
        return None
    try:
        told = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(told.stdout)
    return found.group() if found else None
