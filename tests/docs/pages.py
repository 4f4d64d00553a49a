"""The pages of the documentation as data: blocks of code with what is said of them, links, headings."""

from __future__ import annotations

import re
import textwrap
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
README = "README.md"
# Whose code is run: what a user reads.
MANUAL = (README, *sorted(str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "docs").rglob("*.md")))
# Whose links are checked.
ALL = (*MANUAL, "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")

_FENCE = re.compile(
    r"(?P<comment>^[ ]*<!--[ ]*(?P<word>[a-z ]+?)(?::[ ]*(?P<detail>[^\n]*?))?[ ]*-->\n)?"
    r"^(?P<indent>[ ]*)```(?P<language>[a-z]*)\n(?P<code>.*?)^[ ]*```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block, and what the comment above it says: `<!-- WORD: DETAIL -->`."""

    page: str
    line: int
    language: str
    code: str
    word: str = ""
    detail: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def text_of(page: str) -> str:
    return (CHECKOUT / page).read_text("utf-8")


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """Return the fenced blocks of a page, in order."""
    return tuple(parse(page, text_of(page)))


def parse(page: str, text: str) -> Iterator[Block]:
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        code = textwrap.dedent(match["code"])
        yield Block(page, line, match["language"], code, match["word"] or "", match["detail"] or "")


def without_code(text: str) -> str:
    """Return a page's text without blocks and `code`, where brackets are no links."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))


def links(page: str) -> list[str]:
    """Return where the links and pictures of a page lead."""
    return [match["target"] for match in _LINK.finditer(without_code(text_of(page)))]


@cache
def anchors(page: str) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in _HEADING.findall(_FENCE.sub("", text_of(page))):
        plain = _LINK.sub(lambda match: match["text"], heading).replace("`", "")
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found[anchor] = found.get(anchor, -1) + 1
    return frozenset(name if not number else f"{name}-{number}" for name, number in found.items())
