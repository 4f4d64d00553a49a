# SPDX-License-Identifier: GPL-2.0-or-later
"""What must be the same in all processes that share a mutex."""

from __future__ import annotations

import os
import struct
import sys


def abi() -> bytes:
    """Architecture, word size, byte order, C library."""
    try:
        libc = (os.confstr("CS_GNU_LIBC_VERSION") or "libc").split()[0]
    except (ValueError, OSError):
        libc = "libc"
    return f"{os.uname().machine}-{struct.calcsize('P') * 8}{sys.byteorder[0]}-{libc}".encode()[:32]
