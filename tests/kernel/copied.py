"""Every test with a native kernel, built in a copy of the checkout, which may be another user's or read-only.

    python -m tests.kernel.copied native|crash-points [OPTION OF PYTEST | FILE]...

A kernel that is missing or cannot be built is an error: no test runs in pure Python unseen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_COPIED = (".git", ".venv*", ".tox", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", "*.egg-info", "*.so")


def call(place: Path, argv: list[str], **env: str) -> int:
    """Run a program of this Python in a folder; return its code."""
    return subprocess.run([sys.executable, *argv], cwd=place, env={**os.environ, **env}, check=False).returncode


@contextmanager
def checkout() -> Iterator[Path]:
    """A copy of the checkout that every user may read, for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="mqueue-kemi-kernel-") as folder:
        Path(folder).chmod(0o755)
        place = Path(folder, "checkout")
        shutil.copytree(CHECKOUT, place, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
        yield place


def build(place: Path) -> int:
    """Build both kernels there; return the code."""
    return call(place, ["setup.py", "--quiet", "build_ext", "--inplace"], MQUEUE_KEMI_BUILD="crash-points")


def test(place: Path, kernel: str, argv: list[str]) -> int:
    """Run tests there with that kernel; return the code."""
    return call(place, ["-bb", "-X", "dev", "-m", "pytest", "--timeout=300", *argv], MQUEUE_KEMI_KERNEL=kernel)


def main(kernel: str, *argv: str) -> int:
    """Build and run; return the code of the first step that failed."""
    with checkout() as place:
        return build(place) or test(place, kernel, list(argv))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
