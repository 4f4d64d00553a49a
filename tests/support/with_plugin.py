"""pytest in a project that knows nothing of this one but the package."""

from __future__ import annotations

import sys


def with_plugin(*arguments: str) -> list[str]:
    """Return the command that runs pytest with the test kit's plugin, as the installed package would bring it."""
    return [sys.executable, "-m", "pytest", "-q", "-p", "kemi.testing.plugin", "-p", "no:cacheprovider", *arguments]
