# SPDX-License-Identifier: GPL-2.0-or-later
"""Which Python this is: for an error about a package that is missing, which is often installed for another one."""

from __future__ import annotations

import os
import platform
import shutil
import sys


def described() -> str:
    """Version and prefix; and where the interpreter is embedded, what decides about its packages.

    An embedded interpreter has no program of its own. It looks for python3 on PATH, and takes packages from where that
    one has them: of a virtual environment, or of another Python.
    """
    about = f"this is Python {platform.python_version()}, sys.prefix {sys.prefix}"
    first = shutil.which("python3")
    if not _is_embedded() or first is None:
        return about
    return (
        f"{about}, which an interpreter inside of a server takes from the first python3 on PATH, {first}; if the "
        "package is installed for another one, start the server with another PATH (in its systemd unit: "
        "Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin)"
    )


def _is_embedded() -> bool:
    """Return True if the program is not Python's own."""
    try:
        program = os.path.basename(os.readlink("/proc/self/exe"))
    except OSError:
        return False
    return not program.startswith(("python", "pypy"))
