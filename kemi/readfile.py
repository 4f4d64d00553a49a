# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that a person names, read whole: whatever lies in their place makes nobody wait, and fills no memory."""

from __future__ import annotations

import errno
import os
import stat

MOST = 64 << 20  # bytes
_OTHERS = {
    stat.S_IFIFO: "it is a pipe, not a file; write it to a file first",
    stat.S_IFCHR: "it is a device, not a file",
    stat.S_IFBLK: "it is a device, not a file",
    stat.S_IFDIR: os.strerror(errno.EISDIR),
}


def read_file(path: str) -> bytes:
    """Return what is in a file. Raises OSError, whose strerror says what is wrong."""
    with open(path, "rb", opener=_opened) as file:
        data = file.read(MOST + 1)
    if len(data) > MOST:
        raise OSError(errno.EFBIG, f"it has more than {MOST >> 20} MB", path)
    return data


def _opened(path: str, flags: int) -> int:
    # A pipe is waited for otherwise, until somebody writes to it: no signal ends that.
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise OSError(errno.EINVAL, _OTHERS.get(kind, "it is no file"), path)
    return descriptor


def text_of(data: bytes) -> str:
    """Return the text, with line ends as Python's own `open` has them; what is not UTF-8 stays as it is."""
    return data.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
