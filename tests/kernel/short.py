"""The native kernel in the default run: built in a copy of the checkout, and tried there in some two minutes.

    python -m tests.kernel.short [OPTION OF PYTEST]...

Where it cannot be built, because there is no compiler, one loud line says that it was not tested. A kernel that
does not compile is a failure.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from tests.kernel import copied

RUNS = {
    "native": [
        "tests/kernel",
        "tests/testing/test_blocking.py",
        "tests/unit/test_module.py",
        "tests/unit/test_queue.py",
        "tests/unit/test_life.py",
        "tests/unit/test_reserve.py",
        "tests/unit/test_batch.py",
        "tests/unit/test_section.py",
        "tests/processes/test_broken_lock.py",
        "tests/processes/test_waiting.py",
    ],
    "crash-points": ["tests/kernel/test_crash_points.py", "tests/kernel/test_lock.py"],
}


def why_not() -> str:
    """Why the kernel cannot be built here; "" if it can."""
    if platform.python_implementation() != "CPython" or sys.version_info < (3, 10):
        return "it is for CPython 3.10 and newer"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler}): apt install gcc libc6-dev"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return "" if header.exists() else f"there is no {header}: apt install python3-dev"


def main(options: list[str]) -> int:
    """Build and run; return the code of the first step that failed."""
    if why := why_not():
        sys.stderr.write(f"\n******** NOT TESTED: the native kernel; {why} ********\n\n")
        return 0
    with copied.checkout() as place:
        code = copied.build(place)
        for kernel, files in RUNS.items():
            code = code or copied.test(place, kernel, [*options, *files])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
