"""The walks with a kernel that has a fault in it: `python -m tests.kernel.planted PATH` says which one fails."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ExtensionFileLoader

from kemi.names import KERNEL_VARIABLE

_MODULE = "kemi.queue.kernel._kernel_crash"


def use(path: str) -> None:
    """Have the kernel at a path be the one for crash points, before anything imports it."""
    os.environ[KERNEL_VARIABLE] = "crash-points"
    loader = ExtensionFileLoader(_MODULE, path)
    spec = importlib.util.spec_from_loader(_MODULE, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[_MODULE] = module


if __name__ == "__main__":
    use(sys.argv[1])
    from tests.kernel.walks import main

    main()
