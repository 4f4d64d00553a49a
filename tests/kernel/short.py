"""The native kernel in the default run: built in a copy of the checkout, and tried there in some two minutes.

    python -m tests.kernel.short [OPTION OF PYTEST]...

Where it cannot be built, because there is no compiler, one loud line says that it was not tested. A kernel that
does not compile is a failure.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from tests.conftest import CHECKOUT

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


NOT_COPIED = (".git", ".venv*", ".tox", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", "*.egg-info", "*.so")


def why_not() -> str:
    """Why the kernel cannot be built here; "" if it can."""
    if platform.python_implementation() != "CPython" or sys.version_info < (3, 10):
        return "it is for CPython 3.10 and newer"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler}): apt install gcc libc6-dev"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return "" if header.exists() else f"there is no {header}: apt install python3-dev"


def call(place: str, argv: list[str], **env: str) -> int:
    """Run a program of this Python in a folder; return its code."""
    return subprocess.run([sys.executable, *argv], cwd=place, env={**os.environ, **env}, check=False).returncode


def main(options: list[str]) -> int:
    """Build and run; return the code of the first step that failed."""
    if why := why_not():
        sys.stderr.write(f"\n******** NOT TESTED: the native kernel; {why} ********\n\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="mqueue-kemi-kernel-") as folder:
        place = os.path.join(folder, "checkout")
        shutil.copytree(CHECKOUT, place, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
        code = call(place, ["setup.py", "--quiet", "build_ext", "--inplace"], MQUEUE_KEMI_BUILD="crash-points")
        for kernel, files in RUNS.items():
            if not code:
                test = ["-bb", "-X", "dev", "-m", "pytest", "--timeout=300", *options, *files]
                code = call(place, test, MQUEUE_KEMI_KERNEL=kernel)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
