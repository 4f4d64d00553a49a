"""The walks with faults planted in the kernel: which one finds each.

    python -m tests.kernel.planted PATH NUMBER:WALK...

WALK: how the names of those that are likely to find it begin, which come first.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import sys
from importlib.machinery import ExtensionFileLoader

from kemi.names import KERNEL_VARIABLE

_MODULE = "kemi.queue.kernel._kernel_crash"
_HANG = 120  # seconds; the walks take a few


def use(path: str) -> None:
    """Have the kernel at a path be the one for crash points, before anything imports it."""
    os.environ[KERNEL_VARIABLE] = "crash-points"
    loader = ExtensionFileLoader(_MODULE, path)
    spec = importlib.util.spec_from_loader(_MODULE, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[_MODULE] = module


def found_by(fault: ctypes.c_int, number: int, first: str) -> str:
    """Walk with a fault, in a process of its own: it may do anything. Returns what fails, or ""."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(_HANG)
        fault.value = number
        os.write(write, first_failure(first).encode()[:200])
        os._exit(0)
    os.close(write)
    with open(read, "rb") as told:
        text = told.read().decode()
    _, status = os.waitpid(child, 0)
    return text if not status else f"it ended with status {status}"


if __name__ == "__main__":
    use(sys.argv[1])
    from tests.kernel.walks import first_failure

    planted = ctypes.c_int.in_dll(ctypes.CDLL(sys.argv[1]), "kernel_fault")
    for each in sys.argv[2:]:
        fault, _, walk = each.partition(":")
        print(fault, found_by(planted, int(fault), walk).replace("\n", " "), flush=True)  # noqa: T201 - its output
