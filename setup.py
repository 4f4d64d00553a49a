"""What pyproject.toml cannot say so that setuptools 66 (Debian 12's) and today's both take it without a warning.

The description on a package index is the README, in which a relative link leads nowhere. MQUEUE_KEMI_SOURCE_URL says
where this version's files can be read, for instance https://example.org/mqueue_kemi/raw/v0.1.0: links and pictures lead
there. Without it a link is its text alone, and a picture is left out.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from setuptools import setup

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


def description(readme: str, source: str) -> str:
    """Return the README as it can be read elsewhere."""

    def elsewhere(link: re.Match[str]) -> str:
        mark, text, path = link.groups()
        if source:
            return f"{mark}[{text}]({source.rstrip('/')}/{path})"
        return "" if mark else text

    return _LINK.sub(elsewhere, readme)


if __name__ == "__main__":
    setup(
        # From 77 on it would be license = "GPL-2.0-or-later" there, which older ones refuse; theirs is deprecated.
        license="GPL-2.0-or-later",
        long_description=description(
            (Path(__file__).parent / "README.md").read_text("utf-8"), os.environ.get("MQUEUE_KEMI_SOURCE_URL", "")
        ),
        long_description_content_type="text/markdown",
    )
