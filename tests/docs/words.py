"""Prints what a page tells its reader to type, or to write into a file.

python3 -m tests.docs.words README.md newcomer      the commands with that word above them, one a line
python3 -m tests.docs.words README.md python 0      the first block of that language
"""

from __future__ import annotations

import sys

from tests.docs import pages


def commands(page: str, word: str) -> list[str]:
    """Return the lines of the blocks that have `<!-- not run: WORD -->` above them."""
    chosen = [block for block in pages.blocks(page) if block.detail == word]
    return [line for block in chosen for line in block.code.splitlines() if line and not line.startswith("#")]


def block(page: str, language: str, number: int) -> str:
    """Return a block's code."""
    return [one for one in pages.blocks(page) if one.language == language][number].code


if __name__ == "__main__":
    page, what, *number = sys.argv[1:]
    sys.stdout.write(block(page, what, int(number[0])) if number else "\n".join(commands(page, what)) + "\n")
